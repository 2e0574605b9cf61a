"""When the records of the embedded Kafka were made: librdkafka's mock cluster keeps them, and cannot be asked.

It answers every produce with the timestamp 1234, and every question for a time with "nothing there". The gateway knows
what it has produced itself; other clients' records have the time of the one before.
"""

from __future__ import annotations

import bisect
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import confluent_kafka

from kafka_gateway.kafka.producing.batch import Batch
from kafka_gateway.kafka.producing.sender import Queued, Sender
from kafka_gateway.records import OutgoingRecord, RecordToSend

_KEPT = 200_000
"""Records of a partition; the mock keeps fewer."""


class StoredAt:
    """A produced record with the timestamp that it really has."""

    __slots__ = ("_message", "_timestamp_ms")

    def __init__(self, message: confluent_kafka.Message, timestamp_ms: int) -> None:
        self._message = message
        self._timestamp_ms = timestamp_ms

    def partition(self) -> int | None:
        return self._message.partition()

    def offset(self) -> int | None:
        return self._message.offset()

    def timestamp(self) -> tuple[int, int]:
        return confluent_kafka.TIMESTAMP_CREATE_TIME, self._timestamp_ms


class EmbeddedTimes:
    """The times of records by place. Written to by a poll thread, read on the event loop."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, int], tuple[int, array[int]]] = {}
        """By topic and partition the first offset, and for each record the latest time up to it: the first record at
        or after a moment is the first for which that is so."""

    def add(self, topic: str, partition: int, offset: int, timestamp_ms: int) -> None:
        """A record was stored."""
        first, latest = self._latest.setdefault((topic, partition), (offset, array("q")))
        behind = first + len(latest)
        if offset < behind:
            return
        before = latest[-1] if latest else 0
        latest.extend([before] * (offset - behind))
        latest.append(max(before, timestamp_ms))
        if len(latest) > _KEPT:
            self._latest[topic, partition] = (first + _KEPT // 2, latest[_KEPT // 2 :])

    async def at_time(self, question: tuple[str, tuple[int, ...], int]) -> Mapping[int, int]:
        """Topic, partitions and epoch milliseconds: the first record at or after it; -1 where there is none."""
        topic, partitions, time_ms = question
        found = {}
        for partition in partitions:
            first, latest = self._latest.get((topic, partition), (0, array("q")))
            index = bisect.bisect_left(latest, time_ms)
            found[partition] = first + index if index < len(latest) else -1
        return found


class EmbeddedSender(Sender):
    """A sender that gives every record a timestamp, and remembers it when the record is stored."""

    times: EmbeddedTimes

    def send_all(self, queued: Sequence[Queued], count: int, cost_bytes: int) -> list[Batch]:
        now_ms = int(time.time() * 1000)
        stamped = [(batch, _stamped(records, now_ms), partition) for batch, records, partition in queued]
        return super().send_all(stamped, count, cost_bytes)

    def reports(
        self, batch: Batch, records: Sequence[RecordToSend]
    ) -> tuple[Callable[[int, Any, Any], None], Callable[[Any, Any], None]]:
        delivered, alone = super().reports(batch, records)
        stamps = [each.timestamp_ms for each in records]

        def stored(index: int, message: Any) -> StoredAt:
            self.times.add(batch.topic, message.partition(), message.offset(), stamps[index])
            return StoredAt(message, stamps[index])

        return (
            lambda index, error, message: delivered(index, error, message if error else stored(index, message)),
            lambda error, message: alone(error, message if error else stored(0, message)),
        )


def _stamped(records: Sequence[RecordToSend], now_ms: int) -> Sequence[RecordToSend]:
    return [
        OutgoingRecord(each.key, each.value, each.partition, each.timestamp_ms or now_ms, each.headers)
        for each in records
    ]
