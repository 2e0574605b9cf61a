"""What goes to Kafka, comes from it, and what librdkafka says of itself, as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from kafka_gateway.metrics.families import counter, gauge, histogram
from kafka_gateway.metrics.numbers import KafkaNumbers
from kafka_gateway.metrics.registry import Families, Source


class ClientStatistics(Protocol):
    """The last statistics of librdkafka's clients (gateway/kafka/clients/statistics.py)."""

    def brokers(self) -> dict[str, tuple[bool, float]]:
        """Address → whether some client is connected, and the round trip in seconds. Works while Kafka is away, too."""

    def queues(self) -> dict[str, tuple[int, int]]:
        """Kind of client → records and bytes that wait in librdkafka."""

    def lags(self) -> Iterable[tuple[tuple[str, str], int]]:
        """(group, topic), and the records of it that the group has not read. Computed while it is iterated."""


_PART: Final = 20
"""Topics whose lag is computed before the event loop may do something else."""


def kafka(numbers: KafkaNumbers, told: ClientStatistics, is_there: Callable[[], bool]) -> Source:
    """A source of `Metrics`. ``is_there``: whether Kafka answers, which is known even without statistics."""

    async def families() -> Families:
        lags: dict[tuple[str, str], int] = {}
        for place, ((group, name), lag) in enumerate(told.lags()):
            key = numbers.groups.label(group), numbers.topics.label(name)
            lags[key] = lags.get(key, 0) + lag
            if not place % _PART:
                await asyncio.sleep(0)
        return told_now(lags)

    def told_now(lags: Mapping[tuple[str, str], int]) -> Families:
        way, kind, topic = "transport", "kind", "topic"
        produced, consumed = numbers.produced, numbers.consumed
        yield counter("produced_records", "Records that Kafka has acknowledged", (way, topic), produced.records())
        yield counter("produced_bytes", "Bytes of their keys and values", (way, topic), produced.sizes())
        errors = [((name,), count) for name, count in numbers.produce_errors.items()]
        yield counter("produce_errors", "Records that Kafka did not take, by the error's name", ("code",), errors)
        seconds = [((), numbers.produce_seconds)]
        yield histogram("produce_seconds", "From librdkafka's queue to the report of a batch", (), seconds)
        yield counter("consumed_records", "Records that were handed on", (kind, topic), consumed.records())
        yield counter("consumed_bytes", "Bytes of their keys and values", (kind, topic), consumed.sizes())
        rebalances = [((group,), count) for group, count in numbers.rebalances.items()]
        yield counter("rebalances", "New assignments to members of this gateway", ("group",), rebalances)
        live, past = numbers.shared_readers, numbers.catchup_readers
        yield gauge("stream_shared_readers", "Readers at the end of a topic, one for all its streams", (), [((), live)])
        yield gauge("stream_catchup_readers", "Readers for streams that are behind", (), [((), past)])
        gaps = [((), numbers.stream_gaps)]
        yield counter("stream_gaps", "Gaps that streams were told of: records that are not there any more", (), gaps)
        there = int(is_there())
        yield gauge("kafka_up", "Whether Kafka answers: 0 from when none of its brokers does", (), [((), there)])
        brokers = told.brokers()
        up = [((name,), int(is_up)) for name, (is_up, _) in brokers.items()]
        yield gauge("kafka_broker_up", "Whether a client is connected to the broker", ("broker",), up)
        times = [((name,), seconds) for name, (is_up, seconds) in brokers.items() if is_up]
        yield gauge("kafka_broker_rtt_seconds", "Average round trip to the broker", ("broker",), times)
        queues = told.queues()
        records = [((name,), count) for name, (count, _) in queues.items()]
        yield gauge("kafka_queue_records", "Records that wait in librdkafka", ("client",), records)
        sizes = [((name,), size) for name, (_, size) in queues.items()]
        yield gauge("kafka_queue_bytes", "Bytes of records that wait in librdkafka", ("client",), sizes)
        yield gauge(
            "group_lag_records", "Records that groups with members here have not read", ("group", topic), lags.items()
        )

    return families
