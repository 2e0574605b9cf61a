"""What the properties of a librdkafka producer mean for its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka_gateway.kafka.ports.producing import SizeLimit


def patience_s(config: Mapping[str, Any]) -> float:
    """How long a record may be on its way."""
    named = [config[name] for name in ("delivery.timeout.ms", "message.timeout.ms") if name in config]
    return max(map(float, named)) / 1000 if named else 300.0


def size_limit(config: Mapping[str, Any]) -> SizeLimit:
    """What the producer takes of a record."""
    codec = config.get("compression.codec") or config.get("compression.type") or "none"
    return SizeLimit(int(config.get("message.max.bytes", 1_000_000)), codec != "none")


def largest_batch(config: Mapping[str, Any]) -> int:
    """How large its batches become, in bytes."""
    return min(int(config.get(name, 1_000_000)) for name in ("batch.size", "message.max.bytes"))
