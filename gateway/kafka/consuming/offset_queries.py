"""Questions about offsets that a consumer asks Kafka. All of them block, for up to the time that is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import confluent_kafka
from confluent_kafka import KafkaException, TopicPartition

from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.ports.topics import PartitionOffset

QUERY_S = 5.0
"""How long Kafka may take to answer a question of a client."""
START_S = 2.0
"""How long each of the three questions for starts may take; they are asked while the group is being rebalanced. And
the one for the ends of logs that are sought."""

_NO_TOPIC = (confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART, confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED)

NO_COORDINATOR = (
    confluent_kafka.KafkaError.NOT_COORDINATOR,
    confluent_kafka.KafkaError.COORDINATOR_NOT_AVAILABLE,
    confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
"""The coordinator of a group is being chosen, or moves, and has done nothing: whoever asks again is heard."""
_AGAIN_S = 0.1

_EARLIEST, _LATEST = -2, -1
"""ListOffsets' timestamps for the ends of the log; `offsets_for_times` hands them on as they are."""
_RESET = {"smallest": _EARLIEST, "earliest": _EARLIEST, "beginning": _EARLIEST} | {
    "largest": _LATEST,
    "latest": _LATEST,
    "end": _LATEST,
}


def begins_at_end(reset: str) -> bool:
    """Whether a group that has committed nothing begins behind the last record, by librdkafka's ``auto.offset.reset``:
    one that comes back before its first commit would skip what was written meanwhile."""
    return _RESET.get(reset) == _LATEST


class Starts(NamedTuple):
    """See `starting_offsets`."""

    stored: dict[Partition, int]
    """What the group has committed, whether a log still has that or not."""
    committed: dict[Partition, int]
    """Where those start that go on at it."""
    others: dict[Partition, int]
    """Where those start that do not."""


def starting_offsets(consumer: confluent_kafka.Consumer, partitions: Sequence[Partition], reset: str) -> Starts:
    """Where each partition starts: those at their committed offset, and those where ``reset`` (librdkafka's
    ``auto.offset.reset``) sends them. What librdkafka would find out by itself, but does not tell.

    Blocks for up to three times `START_S`. Partitions that have no start (reset "error") are left out. Raises
    KafkaException if Kafka does not answer for one.
    """
    if not partitions:
        return Starts({}, {}, {})
    found = _offsets(consumer.committed(places(partitions), timeout=START_S))
    stored = {name: offset for name, offset in found.items() if offset >= 0}
    first = _bounds(consumer, partitions, _EARLIEST)
    # Retention may have passed what was committed.
    committed = {name: offset for name, offset in stored.items() if offset >= first[name]}
    bound = _RESET.get(reset)
    others = [name for name in partitions if name not in committed]
    if bound == _EARLIEST:
        return Starts(stored, committed, {name: first[name] for name in others})
    if bound == _LATEST and others:
        return Starts(stored, committed, _bounds(consumer, others, _LATEST))
    return Starts(stored, committed, {})


def ends_without_commits(consumer: confluent_kafka.Consumer, topic: str, until: float) -> dict[Partition, int]:
    """The ends of those partitions of a topic of which the group has committed nothing.

    Blocks until that time (`time.monotonic`) at most, and hardly longer. Raises KafkaException.
    """

    def left_s() -> float:
        return max(0.01, until - time.monotonic())

    found = consumer.list_topics(topic, timeout=left_s()).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    partitions = [(topic, number) for number in found.partitions]
    committed = _offsets(consumer.committed(places(partitions), timeout=left_s()))
    others = [name for name in partitions if committed[name] < 0]
    return _bounds(consumer, others, _LATEST, left_s()) if others else {}


def committed_offsets(
    consumer: confluent_kafka.Consumer, partitions: Collection[Partition], within_s: float = QUERY_S
) -> list[PartitionOffset]:
    """What the group has committed, without partitions of which it has nothing. Raises KafkaException."""
    if not partitions:
        return []
    found = consumer.committed(places(partitions), timeout=within_s)
    _raise_first_error(found)
    return [
        PartitionOffset(one.topic, one.partition, one.offset, one.metadata or "") for one in found if one.offset >= 0
    ]


def offsets_of_a_group(
    build: Callable[[], confluent_kafka.Consumer], partitions: Collection[Partition], within_s: float
) -> list[PartitionOffset]:
    """What a group has committed of these partitions, asked by a consumer of it that never joins.

    Partitions that were deleted meanwhile, or whose topic is not to be known, are left out. Blocks; raises
    KafkaException.
    """
    until = time.monotonic() + within_s
    consumer = build()
    try:
        while True:
            try:
                found = consumer.committed(places(partitions), timeout=max(0.1, until - time.monotonic()))
                break
            except KafkaException as error:
                # The group's coordinator is being chosen, or moves: librdkafka looks for it anew, but does not ask.
                if error.args[0].code() not in NO_COORDINATOR or time.monotonic() + _AGAIN_S > until:
                    raise
                time.sleep(_AGAIN_S)
    finally:
        consumer.close()
    known = [one for one in found if one.error is None or one.error.code() not in _NO_TOPIC]
    _raise_first_error(known)
    return [
        PartitionOffset(one.topic, one.partition, one.offset, one.metadata or "") for one in known if one.offset >= 0
    ]


def offsets_at_times(consumer: confluent_kafka.Consumer, times: Mapping[Partition, int]) -> dict[Partition, int]:
    """The first record at or after each time (epoch ms), or the end of the log if there is none. Raises
    KafkaException."""
    asked = [TopicPartition(*place, time_ms) for place, time_ms in times.items()]
    found = consumer.offsets_for_times(asked, timeout=QUERY_S)
    _raise_first_error(found)
    for one in found:
        if one.offset == confluent_kafka.OFFSET_END:
            # Seeking to OFFSET_END behind this question left the partition without a position for ever (librdkafka
            # 2.16.0); seeking to the number works.
            _, one.offset = consumer.get_watermark_offsets(one, timeout=QUERY_S)
    return {(one.topic, one.partition): one.offset for one in found}


def log_bounds(consumer: confluent_kafka.Consumer, ends: Mapping[Partition, int]) -> dict[Partition, int]:
    """The offsets that librdkafka's names for the ends of the log (``OFFSET_BEGINNING``, ``OFFSET_END``) stand for.
    Raises KafkaException."""
    # The names are those of ListOffsets' timestamps, too.
    return _offsets(
        consumer.offsets_for_times([TopicPartition(*one, end) for one, end in ends.items()], timeout=START_S)
    )


def places(partitions: Iterable[Partition]) -> list[TopicPartition]:
    """Partitions as the binding wants them."""
    return [TopicPartition(*one) for one in partitions]


def _bounds(
    consumer: confluent_kafka.Consumer, partitions: Iterable[Partition], bound: int, within_s: float = START_S
) -> dict[Partition, int]:
    return _offsets(consumer.offsets_for_times([TopicPartition(*one, bound) for one in partitions], timeout=within_s))


def _offsets(found: Sequence[TopicPartition]) -> dict[Partition, int]:
    _raise_first_error(found)
    return {(one.topic, one.partition): one.offset for one in found}


def _raise_first_error(partitions: Iterable[TopicPartition]) -> None:
    for one in partitions:
        if one.error is not None:
            raise KafkaException(one.error)
