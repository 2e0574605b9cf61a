"""Records that were fetched and not returned yet, and how many of them a read may take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias, cast

from confluent_kafka import Message

from kafka_gateway.kafka.ports.consuming import ReadLimits

Partition: TypeAlias = tuple[str, int]


class RecordBuffer:
    """A queue of records, kept in the order of fetching. Belongs to the worker thread of its consumer.

    Taking does not remove: a read first encodes what it would return, and only then removes it, so a record that cannot
    be encoded is still here. Works on whole lists where it can: a Python loop over the records would cost more than
    librdkafka spends on them.
    """

    def __init__(self) -> None:
        self._records: list[Message] = []
        self.size_bytes = 0
        """Keys and values."""

    def __len__(self) -> int:
        return len(self._records)

    def extend(self, records: list[Message]) -> None:
        self._records.extend(records)
        self.size_bytes += size_of(records)

    def put_back(self, records: Sequence[Message]) -> None:
        """Puts records at the head that had been removed."""
        self._records[:0] = records
        self.size_bytes += size_of(records)

    def take(self, limits: ReadLimits, most: int) -> tuple[list[Message], int]:
        """The records that a read with these limits returns now, ``most`` at most, and their size. They stay here."""
        if len(self._records) <= most and not self._reaches(self.size_bytes, limits):
            return self._records.copy(), self.size_bytes
        total = count = 0
        for record in self._records[:most]:
            size = total + _size(record)
            if (count or not limits.oversized) and self._reaches(size, limits):
                break
            total = size
            count += 1
        return self._records[:count], total

    def remove(self, count: int, size_bytes: int) -> None:
        """Removes that many records, of that size, from the head."""
        del self._records[:count]
        self.size_bytes -= size_bytes

    def enough(self, limits: ReadLimits, most: int) -> bool:
        """Whether a read with these limits need not wait for more (kafka-rest-http.md §5.6, §6.8)."""
        if not self._records:
            return False
        if not limits.oversized and self._reaches(_size(self._records[0]), limits):
            return False  # it finds nothing, and must not find it again and again at full speed
        if limits.min_bytes == -1 or len(self._records) >= most or self._reaches(self.size_bytes, limits):
            return True
        return limits.min_bytes is not None and self.size_bytes > limits.min_bytes

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forgets the records of these partitions."""
        if self._records:
            self._records = without(self._records, partitions)
            self.size_bytes = size_of(self._records)

    def first_offsets(self) -> dict[Partition, int]:
        """The offset of the first record of each partition."""
        return last_offsets(self._records[::-1])

    def clear(self) -> None:
        self._records = []
        self.size_bytes = 0

    @staticmethod
    def _reaches(size_bytes: int, limits: ReadLimits) -> bool:
        return size_bytes > limits.max_bytes if limits.inclusive else size_bytes >= limits.max_bytes


def partition_of(record: Message) -> Partition:
    """Where a consumed record comes from."""
    return record.topic() or "", record.partition() or 0


def without(records: Sequence[Message], partitions: Collection[Partition]) -> list[Message]:
    """The records that are not of these partitions."""
    return [record for record in records if partition_of(record) not in partitions]


def size_of(records: Sequence[Message]) -> int:
    """Length of all keys and values."""
    # len() of a Message is that of its value; both sums run in C, 0.06 µs a record.
    return sum(map(len, records)) + sum(map(len, filter(None, map(Message.key, records))))


def last_offsets(records: Sequence[Message]) -> dict[Partition, int]:
    """The offset of the last record of each partition."""
    # Offsets rise within a partition, so the last record of each stays.
    topics = list(map(Message.topic, records))
    if topics and topics.count(topics[0]) == len(topics):
        # Nearly always. Each record has its topic as a text of its own, which is compared faster than it is hashed.
        topic = cast(str, topics[0])
        lasts = dict(zip(map(Message.partition, records), records, strict=True))
        return {(topic, cast(int, partition)): cast(int, last.offset()) for partition, last in lasts.items()}
    places = zip(topics, map(Message.partition, records), strict=True)
    return dict(zip(cast(Iterable[Partition], places), cast(Iterable[int], map(Message.offset, records)), strict=True))


def _size(record: Message) -> int:
    key = record.key()
    return len(record) + (len(key) if key else 0)
