"""Counting the records that a group's work is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.members import GroupWork
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.metrics.numbers import Traffic
from kafka_gateway.records import ConsumedRecord


class CountedWork(GroupWork):
    """Stands before what is done with a group's records."""

    def __init__(self, work: GroupWork, counts: Traffic, kind: str) -> None:
        self._work, self._counts, self._kind = work, counts, kind

    def records(self, records: Sequence[ConsumedRecord]) -> None:
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for record in records:  # each of them is a request to somebody, or as much work
            total = sums[record.topic() or ""]
            total[0] += 1
            total[1] += len(record.value() or b"") + len(record.key() or b"")
        for topic, (count, size_bytes) in sums.items():
            self._counts.add(self._kind, topic, count, size_bytes)
        self._work.records(records)

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._work.assigned(partitions)

    async def revoked(self, partitions: Sequence[TopicPartition]) -> Sequence[PartitionOffset]:
        return await self._work.revoked(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._work.lost(partitions)

    def failed(self, error: ServiceError) -> None:
        self._work.failed(error)
