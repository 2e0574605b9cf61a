"""Configuration keys of the push and pull endpoints (docs/push-pull.md)."""

from __future__ import annotations

from gateway.config import ConfigKey, section

PUSH_PULL: tuple[ConfigKey, ...] = section("Push and pull")
