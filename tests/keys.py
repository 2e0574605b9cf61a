"""Every key of the built-in plugins, as one table for tests that need no plugin manager."""

from __future__ import annotations

from kafka_gateway.assembly.built_in import built_in_keys

BUILTIN_KEYS = built_in_keys()
