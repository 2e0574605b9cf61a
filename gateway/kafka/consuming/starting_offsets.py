"""Where a consumer's new partitions start: what librdkafka would find out by itself, but does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import confluent_kafka
from confluent_kafka import KafkaException

from gateway.kafka.consuming.buffer import Partition

QUERY_S = 2.0
"""How long each of the three questions may take; they are asked while the group is being rebalanced."""

_EARLIEST, _LATEST = -2, -1
"""ListOffsets' timestamps for the ends of the log; `offsets_for_times` hands them on as they are."""
_RESET = {"smallest": _EARLIEST, "earliest": _EARLIEST, "beginning": _EARLIEST} | {
    "largest": _LATEST,
    "latest": _LATEST,
    "end": _LATEST,
}


def starting_offsets(
    consumer: confluent_kafka.Consumer, partitions: Sequence[Partition], reset: str
) -> dict[Partition, int]:
    """The committed offset of each partition, or where ``reset`` (librdkafka's ``auto.offset.reset``) sends it.

    Blocks for up to three times `QUERY_S`, on the consumer's own thread. Partitions that have no start (reset "error")
    are left out. Raises KafkaException if Kafka does not answer for one.
    """
    if not partitions:
        return {}
    places = [confluent_kafka.TopicPartition(*one) for one in partitions]
    committed = _offsets(consumer.committed(places, timeout=QUERY_S))
    first = _bounds(consumer, partitions, _EARLIEST)
    # Retention may have passed what was committed.
    starts = {name: offset for name, offset in committed.items() if offset >= first[name]}
    bound = _RESET.get(reset)
    others = [name for name in partitions if name not in starts]
    if bound == _EARLIEST:
        starts |= {name: first[name] for name in others}
    elif bound == _LATEST and others:
        starts |= _bounds(consumer, others, _LATEST)
    return starts


def _bounds(consumer: confluent_kafka.Consumer, partitions: Iterable[Partition], bound: int) -> dict[Partition, int]:
    return _offsets(
        consumer.offsets_for_times([confluent_kafka.TopicPartition(*one, bound) for one in partitions], timeout=QUERY_S)
    )


def _offsets(found: Iterable[confluent_kafka.TopicPartition]) -> dict[Partition, int]:
    offsets = {}
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
        offsets[one.topic, one.partition] = one.offset
    return offsets
