"""Reads a topic from old positions up to the live edge, for several tails at once. On the event loop.

All members get the same chunks, at the pace of the slowest. A member that pauses for too long is left out, and joins a
later catch-up reader. A member that is further ahead gets records from its own position on. Near the live edge members
move to its fetcher, as soon as nothing is missing between their positions and what that fetcher still keeps.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping, Sequence

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.tails.fetcher import Chunk, Fetcher, Item, Lost
from kafka_gateway.kafka.tails.live_edge import LiveEdge
from kafka_gateway.kafka.tails.tail import Cohort, KafkaTail

PATIENCE_S = 0.1
"""How long all members wait for one that has paused."""
PATIENCE_ALONE_S = 1.0
"""The same when there is no other member: opening another fetcher costs more."""
BUDGET_S = 0.01
"""How long the loop may be held at a time."""
AHEAD_RECORDS = 50_000
"""A tail that is further ahead than this waits for another catch-up reader."""


class CatchUpReader:
    def __init__(
        self,
        cohorts: Sequence[Cohort],
        open_fetcher: Callable[[Mapping[int, int], Callable[[list[Item]], None]], Fetcher],
        live: Callable[[], LiveEdge | None],
        edge: Callable[[], None],
        lost: Callable[[CatchUpReader, Lost], None],
        failed: Callable[[ServiceError], None],
        ended: Callable[[CatchUpReader], None],
    ) -> None:
        """Starts with these cohorts. ``edge`` is called near the end of the log: then ``live`` has a live edge."""
        self._loop = asyncio.get_running_loop()
        self._live = live
        self._edge = edge
        self._lost = lost
        self._failed = failed
        self._ended = ended
        self._front = starts_of(cohorts)
        """The next chunk to be given begins here."""
        self._cohorts: list[Cohort] = []
        self._joining = list(cohorts)
        self._items: collections.deque[Item] = collections.deque()
        self._chunk: Chunk | None = None
        self._todo: collections.deque[Cohort] = collections.deque()
        """Cohorts that have not got that chunk yet."""
        self._absent: dict[KafkaTail, float] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._scheduled = False
        self.stopped = False
        self.fetcher = open_fetcher(self._front, self._take)
        self._encode_for(cohorts)

    def admits(self, cohort: Cohort) -> bool:
        """Whether it will reach these positions, and soon."""
        far = 0
        for partition, place in cohort.positions.items():
            front = self._front.get(partition)
            if front is None or place.offset < front:
                return False
            far += place.offset - front
        return not self.stopped and far <= AHEAD_RECORDS

    def join(self, cohort: Cohort) -> None:
        """Takes the cohort in from the next chunk on; only one that it `admits`."""
        cohort.catch_up = self
        self._joining.append(cohort)
        self._encode_for([cohort])
        self._schedule()

    def absent(self, tail: KafkaTail) -> None:
        """A member has paused."""
        self._absent[tail] = self._loop.time()
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)

    def left(self, tail: KafkaTail) -> None:
        """A member has closed, or has resumed and joins again if it can."""
        self._absent.pop(tail, None)
        self._schedule()

    def try_live(self) -> None:
        """There is a live edge now: members that are near enough move to it."""
        if self._chunk is None:
            self._change_over()

    def grow(self, starts: Mapping[int, int]) -> None:
        """The topic has new partitions. Members that follow all have them in their positions already."""
        self._front = {**self._front, **starts}
        self.fetcher.add(starts)

    def skip(self, partition: int, offset: int, back: bool = False) -> None:
        """The fetcher goes on at another offset: further ahead, or ``back``."""
        self._front = {**self._front, partition: offset}
        for cohort in [*self._cohorts, *self._joining]:
            cohort.skip(partition, offset, back)
        self.try_live()

    def cohorts(self) -> list[Cohort]:
        return [*self._cohorts, *self._joining]

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.fetcher.stop()
        self._items.clear()
        if self._patience is not None:
            self._patience.cancel()
        self._ended(self)

    def _encode_for(self, cohorts: Sequence[Cohort]) -> None:
        wanted = dict.fromkeys(self.fetcher.audience)
        for cohort in cohorts:
            wanted |= dict.fromkeys((cohort.partitions, tail.encoder) for tail in cohort.tails)
        self.fetcher.audience = tuple(wanted)

    def _take(self, items: list[Item]) -> None:
        self._items.extend(items)
        if not self._scheduled:
            self._go_on()

    def _schedule(self) -> None:
        if not self._scheduled and not self.stopped:
            self._scheduled = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        until = self._loop.time() + BUDGET_S
        while not self.stopped:
            if self._chunk is not None:
                if self._todo:
                    self._todo.popleft().take(self._chunk)
                else:
                    self._given(self._chunk)
            elif not self._anybody():
                self.stop()
            elif self._absent or not self._items:
                return
            else:
                self._begin(self._items.popleft())
            if self._loop.time() >= until:
                self._schedule()
                return

    def _begin(self, item: Item) -> None:
        self._cohorts += self._joining
        self._joining = []
        if isinstance(item, Chunk):
            self._chunk = item
            self._todo.extend(self._cohorts)
            self._front = {**self._front, **item.nexts}
        elif isinstance(item, Lost):
            if item.first is None:
                self._lost(self, item)
            else:
                self.skip(item.partition, item.first)
        else:
            self._failed(item)

    def _given(self, chunk: Chunk) -> None:
        """Everybody has the chunk."""
        self._chunk = None
        self.fetcher.taken(chunk.size_bytes)
        if len(self._cohorts) > 1:
            merged: dict[object, Cohort] = {}
            for cohort in self._cohorts:
                if cohort.tails and (first := merged.setdefault(cohort.key(), cohort)) is not cohort:
                    first.merge(cohort)
            self._cohorts = list(merged.values())
        if not chunk.firsts or any(not cohort.behind and cohort.until is None for cohort in self._cohorts):
            self._edge()
        self._change_over()

    def _change_over(self) -> None:
        live = self._live()
        if live is not None:
            # Those too that wait for the next chunk: at the end of the log there may be none for long.
            cohorts, self._cohorts, self._joining = self.cohorts(), [], []
            for cohort in cohorts:
                if cohort.tails and not live.admit(cohort):
                    self._cohorts.append(cohort)
            for cohort in self._cohorts[:1]:
                live.near(cohort.positions)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.tails]
        self._schedule()

    def _anybody(self) -> bool:
        return bool(self._absent) or any(cohort.tails for cohort in self.cohorts())

    def _lose_patience(self) -> None:
        self._patience = None
        now = self._loop.time()
        alone = not any(cohort.tails for cohort in self.cohorts())
        patience = PATIENCE_ALONE_S if alone else PATIENCE_S
        self._absent = {tail: since for tail, since in self._absent.items() if now - since < patience}
        if self._absent:
            wait_s = min(self._absent.values()) + patience - now
            self._patience = self._loop.call_later(max(0.001, wait_s), self._lose_patience)
        self._schedule()


def starts_of(cohorts: Sequence[Cohort]) -> dict[int, int]:
    """Where a fetcher must start so that it misses nothing for any of them."""
    starts: dict[int, int] = {}
    for cohort in cohorts:
        for partition, place in cohort.positions.items():
            starts[partition] = min(place.offset, starts.get(partition, place.offset))
    return dict(sorted(starts.items()))
