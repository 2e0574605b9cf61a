"""The live edge of a topic: one fetcher for all tails that keep up. On the event loop.

It waits for no tail. It keeps the last chunks in a ring, so that a tail whose positions are in the ring goes on without
another fetch: one that was just opened, one that paused for a moment, and those that a catch-up reader brings. A tail
may also be ahead: it gets nothing until the fetcher has reached its positions.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterator, Mapping

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka.tails.fetcher import Audience, Chunk, Fetcher, Filter, Item, Lost
from kafka_gateway.kafka.tails.tail import Cohort, Positions

HOLD_S = 2.0
HOLD_TIMES = 16
"""While a catch-up reader comes near, the ring is kept for this long and may be this many times as large."""
NEAR_RECORDS = 50_000


class LiveEdge:
    def __init__(
        self,
        topic: str,
        starts: Mapping[int, int],
        open_fetcher: Callable[[Mapping[int, int], Callable[[list[Item]], None]], Fetcher],
        ring_bytes: int,
        lost: Callable[[Fetcher, Lost], None],
        failed: Callable[[ServiceError], None],
    ) -> None:
        """Starts the fetcher. ``lost`` is called with positions that Kafka does not have yet, ``failed`` with the
        error that ends it."""
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._failed = failed
        self._ring: collections.deque[Chunk] = collections.deque()
        self._ring_bytes = ring_bytes
        self._size = 0
        self._from = dict(starts)
        """The ring holds everything from here on."""
        self.head: Positions = {
            partition: PartitionOffset(topic, partition, offset) for partition, offset in sorted(starts.items())
        }
        self._held_until = 0.0
        self._in_step: dict[Filter, Cohort] = {}
        self._ahead: list[Cohort] = []
        self.fetcher = open_fetcher(starts, self._take)

    def cohorts(self) -> Iterator[Cohort]:
        yield from self._in_step.values()
        yield from self._ahead

    def encode_for(self, audience: Audience) -> None:
        self.fetcher.audience = audience

    def admit(self, cohort: Cohort) -> bool:
        """Takes the tails of a cohort over if nothing is missing between their positions and the ring.

        They get what the ring has for them at once. Tails that read until an end may be taken over, too.
        """
        starts = self._from
        for partition, place in cohort.positions.items():
            start = starts.get(partition)
            if start is None or place.offset < start:
                return False
        cohort.catch_up = None
        for chunk in list(self._ring):
            if not cohort.tails:
                return True
            cohort.take(chunk)
        # Behind the last record there may be markers, which are in no chunk.
        cohort.positions = {
            partition: self._later(place, self.head[partition], cohort.until)
            for partition, place in cohort.positions.items()
        }
        cohort.check_ends()
        if cohort.tails:
            self._ahead.append(cohort)
            self._settle()
        return True

    def near(self, positions: Positions) -> None:
        """A catch-up reader is at these positions: if they are near, the ring is kept for it for a while."""
        head = self.head
        far = sum(max(0, head[one].offset - place.offset) for one, place in positions.items() if one in head)
        if far < NEAR_RECORDS:
            self._held_until = self._loop.time() + HOLD_S

    def grow(self, starts: Mapping[int, int]) -> None:
        """Follows new partitions from their beginning. Tails that are in step and follow all get them, too."""
        for partition, offset in starts.items():
            self._from[partition] = offset
            place = PartitionOffset(self._topic, partition, offset)
            self.head = {**self.head, partition: place}
            for cohort in self.cohorts():
                if cohort.partitions is None and cohort.until is None:
                    cohort.positions = {**cohort.positions, partition: place}
        self.fetcher.add(starts)

    def skip(self, partition: int, offset: int, back: bool = False) -> None:
        """The fetcher goes on at another offset: further ahead, or ``back``."""
        self.head = {**self.head, partition: PartitionOffset(self._topic, partition, offset)}
        self._ring.clear()
        self._size = 0
        self._from = {number: place.offset for number, place in self.head.items()}
        for cohort in list(self.cohorts()):
            cohort.skip(partition, offset, back)
        self._settle()

    @property
    def kept_bytes(self) -> int:
        """Of the records that are kept for those who are a little behind."""
        return self._size

    def stop(self) -> None:
        self.fetcher.stop()

    def _take(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, Chunk):
                self._take_chunk(item)
                self.fetcher.taken(item.size_bytes)
            elif isinstance(item, Lost):
                if item.first is None:
                    self._lost(self.fetcher, item)
                else:
                    self.skip(item.partition, item.first)
            else:
                self._failed(item)

    def _take_chunk(self, chunk: Chunk) -> None:
        head = self.head.copy()
        for partition, offset in chunk.nexts.items():
            head[partition] = PartitionOffset(self._topic, partition, offset)
        self.head = head
        if chunk.firsts:
            self._ring.append(chunk)
            self._size += chunk.size_bytes
        for cohort in self._in_step.values():
            if cohort.tails:
                cohort.take(chunk)
        if self._ahead:
            for cohort in self._ahead:
                cohort.take(chunk)
            self._settle()
        if self._size > self._ring_bytes:
            self._trim()

    def _trim(self) -> None:
        room = self._ring_bytes * (HOLD_TIMES if self._loop.time() < self._held_until else 1)
        while self._size > room and self._ring:
            chunk = self._ring.popleft()
            self._size -= chunk.size_bytes
            self._from |= chunk.nexts

    def _settle(self) -> None:
        """Moves tails that are in step now to those that always were, and forgets groups without tails."""
        self._in_step = {filter_: cohort for filter_, cohort in self._in_step.items() if cohort.tails}
        ahead = []
        for cohort in self._ahead:
            if not cohort.tails:
                continue
            if cohort.until is not None or any(
                place.offset != self.head[partition].offset for partition, place in cohort.positions.items()
            ):
                ahead.append(cohort)
            elif (found := self._in_step.get(cohort.partitions)) is not None:
                found.merge(cohort)
            else:
                self._in_step[cohort.partitions] = cohort
        self._ahead = ahead

    @staticmethod
    def _later(place: PartitionOffset, head: PartitionOffset, until: Mapping[int, int] | None) -> PartitionOffset:
        offset = head.offset if until is None else min(head.offset, until.get(place.partition, head.offset))
        return place if place.offset >= offset else PartitionOffset(place.topic, place.partition, offset)
