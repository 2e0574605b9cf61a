"""Configuration keys of Kafka WebSocket Proxy's protocol (docs/websocket-proxy.md)."""

from __future__ import annotations

from gateway.config import ConfigKey, section

WEBSOCKET_PROXY: tuple[ConfigKey, ...] = section("Kafka WebSocket Proxy")
