"""Offsets on their way to Kafka."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

import confluent_kafka

from kafka_gateway.errors import PartlyCommitted, ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.offset_queries import NO_COORDINATOR
from kafka_gateway.kafka.errors import to_consumer_error
from kafka_gateway.kafka.ports.topics import PartitionOffset

_log = logging.getLogger("gateway.kafka.consumer")

COMMIT_S = 5.0
"""How long a commit may take before it counts as failed."""
_AGAIN_S = 0.2

_GONE = (confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART, confluent_kafka.KafkaError.UNKNOWN_TOPIC_ID)

Done = Callable[[ServiceError | None], None]


@dataclasses.dataclass(slots=True)
class _Commit:
    """A commit whose sender has not been told the outcome yet."""

    partitions: list[confluent_kafka.TopicPartition]
    content: frozenset[tuple[str, int, int]]
    number: int
    until: float
    done: Done
    again_at: float = math.inf
    """When it is sent again; never, while it is on its way."""


class Commits:
    """The commits of one consumer, all asynchronous. Belongs to the worker thread.

    A synchronous one held its thread for over 130 s when the broker was frozen (reliability.md §3b).

    librdkafka reports every commit to one callback, which is called during ``consume()``; a report is matched with its
    commit by the offsets in it. One that the group's coordinator has not taken, because it is another one now or has
    only begun to be it, is sent again within its time, as Java's client does; unless a newer one of the same partition
    has been sent meanwhile, which it would take back.
    """

    def __init__(self) -> None:
        self._open: list[_Commit] = []
        self._newest: dict[Partition, int] = {}
        self._count = 0
        self._sent_at = 0.0
        self.on_their_way = 0
        """Commits that librdkafka has not reported yet, those included whose time is up, and those to be sent again."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def send(
        self,
        consumer: confluent_kafka.Consumer,
        offsets: Sequence[PartitionOffset],
        done: Done,
        within_s: float = COMMIT_S,
    ) -> None:
        """Sends a commit; ``done`` is called within that time. Raises KafkaException if it cannot even be sent."""
        # The binding takes a text as metadata, not None.
        partitions = [
            confluent_kafka.TopicPartition(*one) if one.metadata else confluent_kafka.TopicPartition(*one[:3])
            for one in offsets
        ]
        consumer.commit(offsets=partitions, asynchronous=True)
        self.on_their_way += 1
        self._sent_at = time.monotonic()
        self._count += 1
        self._newest.update(((one.topic, one.partition), self._count) for one in offsets)
        self._open.append(_Commit(partitions, _content(partitions), self._count, self._sent_at + within_s, done))

    def reported(
        self, error: confluent_kafka.KafkaError | None, partitions: list[confluent_kafka.TopicPartition]
    ) -> None:
        """librdkafka's ``on_commit``. Never raises: what a callback raises costs the records of that ``consume()``."""
        self.on_their_way -= 1
        try:
            content = _content(partitions)
            for commit in self._open:
                if commit.content == content and commit.again_at == math.inf:
                    break
            else:
                return  # its time was up
            now = time.monotonic()
            if _was_not_taken(error, partitions) and now + _AGAIN_S < commit.until and not self._is_outdated(commit):
                commit.again_at = now + _AGAIN_S
                self.on_their_way += 1
                return
            self._open.remove(commit)
            commit.done(_outcome(error, partitions))
        except Exception:
            _log.exception("The report of a commit could not be handled")

    def _is_outdated(self, commit: _Commit) -> bool:
        newest = self._newest
        return any(newest[one.topic, one.partition] != commit.number for one in commit.partitions)

    def patience_s(self) -> float:
        """How long to wait before looking for a report again: little for a new commit, more for one that hangs."""
        age = time.monotonic() - self._sent_at
        return 0.002 if age < 0.1 else 0.05

    def tend(self, consumer: confluent_kafka.Consumer, now: float) -> None:
        """Fails the commits whose time is up, and sends those again that the coordinator has not taken."""
        self.expire(now)
        for commit in [one for one in self._open if one.again_at <= now]:
            if self._is_outdated(commit):
                self._fail(commit, confluent_kafka.KafkaError(confluent_kafka.KafkaError.NOT_COORDINATOR))
                continue
            try:
                consumer.commit(offsets=commit.partitions, asynchronous=True)
            except confluent_kafka.KafkaException as error:
                self._fail(commit, error)
            else:
                self._sent_at, commit.again_at = now, math.inf

    def expire(self, now: float) -> None:
        """Fails the commits whose time is up."""
        for commit in [one for one in self._open if one.until <= now]:
            self._fail(commit, confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))

    def _fail(self, commit: _Commit, error: confluent_kafka.KafkaError | confluent_kafka.KafkaException) -> None:
        self._open.remove(commit)
        if commit.again_at != math.inf:
            self.on_their_way -= 1
        commit.done(to_consumer_error(error))


def next_offsets(positions: Mapping[Partition, int]) -> list[PartitionOffset]:
    """Positions as what is to be committed."""
    return [PartitionOffset(topic, partition, offset) for (topic, partition), offset in positions.items()]


def not_stored(sent: Sequence[PartitionOffset], stored: Sequence[PartitionOffset]) -> set[Partition]:
    """The partitions whose offsets were not committed, of those that were reported so: librdkafka reports one's failure
    for all. ``stored``: what the group has committed now of the same partitions."""
    kept = {(each.topic, each.partition): each.offset for each in stored}
    return {(each.topic, each.partition) for each in sent if kept.get((each.topic, each.partition)) != each.offset}


def _was_not_taken(
    error: confluent_kafka.KafkaError | None, partitions: Sequence[confluent_kafka.TopicPartition]
) -> bool:
    codes = {one.error.code() for one in partitions if one.error is not None}
    if error is not None:
        codes.add(error.code())
    return bool(codes) and codes.issubset(NO_COORDINATOR)


def _outcome(
    error: confluent_kafka.KafkaError | None, partitions: Sequence[confluent_kafka.TopicPartition]
) -> ServiceError | None:
    """What a report says. ``error`` is the one of some partition if others went well, so these are looked at first."""
    failed = [(one, one.error) for one in partitions if one.error is not None]
    others = [failure for _, failure in failed if failure.code() not in _GONE]
    if failed and not others:
        offsets = [PartitionOffset(one.topic, one.partition, one.offset) for one, _ in failed]
        return PartlyCommitted({(one.topic, one.partition) for one in offsets}, offsets)
    cause = others[0] if others else error
    return to_consumer_error(cause) if cause else None


def _content(partitions: Sequence[confluent_kafka.TopicPartition]) -> frozenset[tuple[str, int, int]]:
    return frozenset((one.topic, one.partition, one.offset) for one in partitions)
