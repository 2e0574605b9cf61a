"""A bridge's work, as simply as can be."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.members import GroupReader
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import ConsumedRecord
from tests.kafka.conftest import places_of


class Work:
    """Notes what it hears, and pauses all that it has with every batch if it is `pausing`."""

    def __init__(self) -> None:
        self.reader: GroupReader | None = None
        self.found: list[tuple[int, int]] = []
        self.mine: set[TopicPartition] = set()
        self.pausing = False
        self.failures: list[ServiceError] = []

    def records(self, records: Sequence[ConsumedRecord]) -> None:
        self.found += places_of(records)
        if self.pausing and self.reader is not None:
            self.reader.pause(self.mine)

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.mine.update(partitions)

    async def revoked(self, partitions: Sequence[TopicPartition]) -> Sequence[PartitionOffset]:
        self.mine.difference_update(partitions)
        return []

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.mine.difference_update(partitions)

    def failed(self, error: ServiceError) -> None:
        self.failures.append(error)
