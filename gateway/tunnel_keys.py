"""Configuration keys of the tunnel for native Kafka clients (docs/tunnel.md)."""

from __future__ import annotations

from gateway.config import ConfigKey, section

TUNNEL: tuple[ConfigKey, ...] = section("Tunnel")
