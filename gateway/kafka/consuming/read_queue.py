"""Reads of one consumer that wait for their answer, and the records that were fetched for them.

Where the records are: buffer -> a read that is not accepted yet -> returned.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka_gateway.kafka.consuming.buffer import Partition, RecordBuffer, last_offsets, partition_of
from kafka_gateway.kafka.consuming.questions import Questions
from kafka_gateway.kafka.consuming.reads import HandedOut, Read, batch_of, longest_encodable
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.kafka.unfinished import Unfinished


class ReadQueue:
    """Belongs to the thread of the consumer."""

    def __init__(
        self, questions: Questions, most_records: int, returned: Callable[[Mapping[Partition, int]], None]
    ) -> None:
        """``most_records``: for any read. ``returned`` hears the positions behind records that were accepted."""
        self._questions = questions
        self._most_records = most_records
        self._returned = returned
        self.buffer = RecordBuffer()
        self.waiting: collections.deque[Read] = collections.deque()
        self.unsettled: HandedOut | None = None
        """The read that was answered last, until its records are accepted or put back."""
        self._out: Unfinished[None] = Unfinished()
        """What it was answered with."""

    def most(self, limits: ReadLimits) -> int:
        """Records for a read with these limits, at most."""
        return min(limits.max_records or self._most_records, self._most_records)

    def answer(self, read: Read) -> None:
        """Answers a read with what the buffer has for it, encoded."""
        records, size = self.buffer.take(read.limits, self.most(read.limits))
        if self.unsettled is not None:  # only at the end: a second read gets nothing more
            records, size = [], 0
        batch = batch_of(records, size)
        try:
            batch.encode(read.encoder)
        except Exception as error:
            good = longest_encodable(self.buffer, len(batch), read.encoder)
            if not len(good):
                self.fail(read, error)
                return
            batch = good
        self.buffer.remove(len(batch), batch.size_bytes)
        read.batch = batch
        read.last = last_offsets(records if len(batch) == len(records) else records[: len(batch)])
        self.waiting.remove(read)
        if records:
            self.adopt(read)
        self._questions.answer(read.future, None, None)

    def adopt(self, read: HandedOut) -> None:
        """Its records are out from now on, until `settle`."""
        self.unsettled = read
        for place, offset in read.last.items():
            self._out.sent(place, offset, None)

    def answer_late(self, now: float) -> None:
        """Answers the reads whose time is up, in turn; a later one may be due before the first."""
        for read in [read for read in self.waiting if read.deadline <= now]:
            if self.unsettled is None:
                self.answer(read)

    def fail(self, read: Read, error: Exception) -> None:
        """Answers a read with an error."""
        self.waiting.remove(read)
        self._questions.answer(read.future, None, error)

    def settle(self, read: HandedOut, accepted: bool) -> None:
        """Its records were returned, or are the first of the next read; a read that waits is given up."""
        if read is not self.unsettled:
            if isinstance(read, Read) and read in self.waiting:
                self.waiting.remove(read)
            return
        self.unsettled = None
        if not accepted:
            # Not those of partitions that were taken away or moved meanwhile.
            back: Any = [record for record in read.batch.records if partition_of(record) in self._out]  # type: ignore[arg-type]  # our own Messages
            self.buffer.put_back(back)
        else:
            moved = {place: self._out.end(place, offset) for place, offset in read.last.items()}
            self._returned({place: position for place, position in moved.items() if position is not None})
        self._out.keep(())

    def settle_now(self, partitions: Collection[Partition], until: float) -> None:
        """Settles what is out of these partitions, if that is known by then (`time.monotonic`)."""
        read = self.unsettled
        if read is not None and any(place in self._out for place in partitions) and read.is_known(until):
            self.settle(read, bool(read.outcome))

    def goes_on(self) -> dict[Partition, int]:
        """The next offset of each partition of which records are here, or out with a read."""
        out = {name: offset + 1 for name in self._out.partitions if (offset := self._out.last(name)) is not None}
        return self.buffer.first_offsets() | out

    def stands(self) -> dict[Partition, int]:
        """As `goes_on`, for whoever reads on in place of this consumer: what is out with a read has been returned when
        that is settled, and not before."""
        out: dict[Partition, int] = {}
        for record in reversed(self.unsettled.batch.records if self.unsettled is not None else ()):
            place = partition_of(record)  # type: ignore[arg-type]  # our own Messages
            if place in self._out:
                out[place] = record.offset() or 0
        return self.buffer.first_offsets() | out

    def forget(self, partitions: Collection[Partition]) -> None:
        """Drops the records of partitions that start anew or belong to others."""
        self.buffer.drop(partitions)
        self._out.drop(partitions)

    def forget_all(self) -> None:
        self.buffer.clear()
        self._out.keep(())
