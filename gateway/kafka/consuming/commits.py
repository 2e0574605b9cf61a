"""Offsets on their way to Kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import confluent_kafka

from kafka_gateway.errors import PartlyCommitted, ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.topics import PartitionOffset

_log = logging.getLogger("gateway.kafka.consumer")

COMMIT_S = 5.0
"""How long a commit may take before it counts as failed."""

_GONE = (confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART, confluent_kafka.KafkaError.UNKNOWN_TOPIC_ID)

Done = Callable[[ServiceError | None], None]


class Commits:
    """The commits of one consumer, all asynchronous. Belongs to the worker thread.

    A synchronous one held its thread for over 130 s when the broker was frozen (reliability.md §3b).

    librdkafka reports every commit to one callback, which is called during ``consume()``; a report is matched with its
    commit by the offsets in it.
    """

    def __init__(self) -> None:
        self._open: list[tuple[frozenset[tuple[str, int, int]], float, Done]] = []
        self._sent_at = 0.0
        self.on_their_way = 0
        """Commits that librdkafka has not reported yet, those included whose time is up."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def send(
        self,
        consumer: confluent_kafka.Consumer,
        offsets: Sequence[PartitionOffset],
        done: Done,
        within_s: float = COMMIT_S,
    ) -> None:
        """Sends a commit; ``done`` hears of it within that time. Raises KafkaException if it cannot even be sent."""
        # The binding takes a text as metadata, not None.
        partitions = [
            confluent_kafka.TopicPartition(*one) if one.metadata else confluent_kafka.TopicPartition(*one[:3])
            for one in offsets
        ]
        consumer.commit(offsets=partitions, asynchronous=True)
        self.on_their_way += 1
        self._sent_at = time.monotonic()
        self._open.append((_content(partitions), self._sent_at + within_s, done))

    def reported(
        self, error: confluent_kafka.KafkaError | None, partitions: list[confluent_kafka.TopicPartition]
    ) -> None:
        """librdkafka's ``on_commit``. Never raises: what a callback raises costs the records of that ``consume()``."""
        self.on_their_way -= 1
        try:
            content = _content(partitions)
            for number, (sent, _, _) in enumerate(self._open):
                if sent == content:
                    _, _, done = self._open.pop(number)
                    break
            else:
                return  # its time was up
            done(_outcome(error, partitions))
        except Exception:
            _log.exception("The report of a commit could not be handled")

    def patience_s(self) -> float:
        """How long to wait before looking for a report again: little for a new commit, more for one that hangs."""
        age = time.monotonic() - self._sent_at
        return 0.002 if age < 0.1 else 0.05

    def expire(self, now: float) -> None:
        """Fails the commits whose time is up."""
        late = [one for one in self._open if one[1] <= now]
        if late:
            self._open = [one for one in self._open if one[1] > now]
            for _, _, done in late:
                done(to_service_error(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)))


def next_offsets(positions: Mapping[Partition, int]) -> list[PartitionOffset]:
    """Positions as what is to be committed."""
    return [PartitionOffset(topic, partition, offset) for (topic, partition), offset in positions.items()]


def not_stored(sent: Sequence[PartitionOffset], stored: Sequence[PartitionOffset]) -> set[Partition]:
    """The partitions whose offsets were not committed, of those that were reported so: librdkafka reports one's failure
    for all. ``stored``: what the group has committed now of the same partitions."""
    kept = {(each.topic, each.partition): each.offset for each in stored}
    return {(each.topic, each.partition) for each in sent if kept.get((each.topic, each.partition)) != each.offset}


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
    return to_service_error(cause) if cause else None


def _content(partitions: Sequence[confluent_kafka.TopicPartition]) -> frozenset[tuple[str, int, int]]:
    return frozenset((one.topic, one.partition, one.offset) for one in partitions)
