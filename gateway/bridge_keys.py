"""Configuration keys of the header-preserving HTTP bridges (docs/bridges.md)."""

from __future__ import annotations

from gateway.config import ConfigKey, section

BRIDGES: tuple[ConfigKey, ...] = section("HTTP bridges")
