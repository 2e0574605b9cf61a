"""What bridges count, for Prometheus: in ``/bridges/metrics`` under older names, in ``/metrics`` with the prefix."""

from __future__ import annotations

from typing import Final

from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families
from kafka_gateway.services.bridges.replies import BridgesReply

_PRODUCER: Final = (
    ("records", counter, "stored", "Records that Kafka has confirmed"),
    ("bytes", counter, "stored_bytes", "Their bytes"),
    ("failed_requests", counter, "failed", "Requests that were answered with an error after their body had come"),
    ("requests_in_flight", gauge, "in_flight", "Requests on their way to Kafka"),
)
_CONSUMER: Final = (
    ("records_consumed", counter, "consumed", "Records that were read"),
    ("records_delivered", counter, "delivered", "Records that the sink has taken"),
    ("attempts", counter, "attempts", "Posts to the sink"),
    ("retries_pending", gauge, "retrying", "Records that wait for another attempt"),
    ("dead_letters", counter, "dead_letters", "Records that went to the topic for dead letters"),
    ("dropped_records", counter, "dropped_records", "Records that were given up"),
    ("dropped_headers", counter, "dropped_headers", "Headers that HTTP cannot carry"),
    ("records_at_work", gauge, "at_work", "Records that were read and are not done"),
    ("oldest_record_seconds", gauge, "oldest_s", "How long the oldest of them has been at work"),
)


def families(bridges: BridgesReply, prefix: str) -> Families:
    """All series of all bridges; ``prefix`` stands before ``bridge_``."""
    producers, consumers = bridges.producers, bridges.consumers
    for name, kind, member, text in _PRODUCER:
        rows = [((each.name,), getattr(each, member)) for each in producers]
        yield kind(f"bridge_producer_{name}", text, ("bridge",), rows, prefix)
    for name, kind, member, text in _CONSUMER:
        rows = [((each.name,), getattr(each, member)) for each in consumers]
        yield kind(f"bridge_consumer_{name}", text, ("bridge",), rows, prefix)
    yield counter(
        "bridge_consumer_posts",
        "Answers of the sink by their class; none: without an answer",
        ("bridge", "status"),
        [((each.name, word), count) for each in consumers for word, count in each.posts.items()],
        prefix,
    )
    yield gauge(
        "bridge_consumer_lag_records",
        "Records of the topic that are not done",
        ("bridge", "partition"),
        [((each.name, name), count) for each in consumers for name, count in each.lag.items()],
        prefix,
    )
    yield gauge(
        "bridge_consumer_silent_partitions",
        "Partitions of which no record can come at present",
        ("bridge",),
        [((each.name,), len(each.silent)) for each in consumers],
        prefix,
    )
    yield gauge(
        "bridge_consumer_running",
        "Whether the bridge reads",
        ("bridge",),
        [((each.name,), int(each.state == "running")) for each in consumers],
        prefix,
    )
