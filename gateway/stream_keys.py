"""Configuration keys of record streams (docs/streaming.md)."""

from __future__ import annotations

from gateway.config import ConfigKey, section

STREAMS: tuple[ConfigKey, ...] = section("Streams")
