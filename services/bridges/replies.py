"""The state of the bridges: the body of ``GET /bridges``."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway import jsonio


class ProducerReply(jsonio.Struct):
    """A bridge into Kafka, as ``GET /bridges`` shows it."""

    name: str
    topic: str
    paths: Sequence[str]
    stored: int
    stored_bytes: int
    failed: int
    in_flight: int


class ConsumerReply(jsonio.Struct):
    """A bridge out of Kafka."""

    name: str
    topics: Sequence[str]
    group: str
    state: str
    trouble: str
    consumed: int
    delivered: int
    attempts: int
    posts: dict[str, int]
    retrying: int
    dead_letters: int
    dropped_records: int
    dropped_headers: int
    at_work: int
    oldest_s: float
    lag: dict[str, int]
    silent: dict[str, str]


class BridgesReply(jsonio.Struct):
    producers: Sequence[ProducerReply]
    consumers: Sequence[ConsumerReply]
