"""A train: one feed that takes tails from the past to the live edge. On the event loop.

All members travel together, at the pace of the slowest; one that stays away for too long is left behind and takes a
later train. Whoever is further ahead than the train gets records from its own position on. Near the live edge the
members change over: as soon as nothing is missing between their positions and what the live feed still has.
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
"""How long the members of a train wait for one that has paused."""
PATIENCE_ALONE_S = 1.0
"""How long a train without other members waits for it: opening another feed costs more."""
BUDGET_S = 0.01
"""How long the loop may be held at a time."""
AHEAD_RECORDS = 50_000
"""Who is further ahead than this waits for another train."""


class CatchUpReader:
    def __init__(
        self,
        cohorts: Sequence[Cohort],
        open_feed: Callable[[Mapping[int, int], Callable[[list[Item]], None]], Fetcher],
        live: Callable[[], LiveEdge | None],
        edge: Callable[[], None],
        lost: Callable[[CatchUpReader, Lost], None],
        failed: Callable[[ServiceError], None],
        ended: Callable[[CatchUpReader], None],
    ) -> None:
        """Departs with these cohorts. ``edge`` hears that the end of the log is near, and makes ``live`` answer one."""
        self._loop = asyncio.get_running_loop()
        self._live = live
        self._edge = edge
        self._lost = lost
        self._failed = failed
        self._ended = ended
        self._front = starts_of(cohorts)
        """The next chunk to be given begins here."""
        self._cohorts: list[Cohort] = []
        self._boarding = list(cohorts)
        self._items: collections.deque[Item] = collections.deque()
        self._chunk: Chunk | None = None
        self._todo: collections.deque[Cohort] = collections.deque()
        """Who has not got that chunk yet."""
        self._absent: dict[KafkaTail, float] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._scheduled = False
        self.stopped = False
        self.feed = open_feed(self._front, self._take)
        self._encode_for(cohorts)

    def admits(self, cohort: Cohort) -> bool:
        """Whether it comes past these positions, and soon."""
        far = 0
        for partition, place in cohort.positions.items():
            front = self._front.get(partition)
            if front is None or place.offset < front:
                return False
            far += place.offset - front
        return not self.stopped and far <= AHEAD_RECORDS

    def board(self, cohort: Cohort) -> None:
        """From the next chunk on; only what it `admits`."""
        cohort.train = self
        self._boarding.append(cohort)
        self._encode_for([cohort])
        self._schedule()

    def absent(self, tail: KafkaTail) -> None:
        """A member has paused."""
        self._absent[tail] = self._loop.time()
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)

    def left(self, tail: KafkaTail) -> None:
        """A member has closed, or has resumed and boards again if it can."""
        self._absent.pop(tail, None)
        self._schedule()

    def try_live(self) -> None:
        """There is a live feed now: whoever is there changes over."""
        if self._chunk is None:
            self._change_over()

    def grow(self, starts: Mapping[int, int]) -> None:
        """The topic has new partitions. Members that follow all have them in their positions already."""
        self._front = {**self._front, **starts}
        self.feed.add(starts)

    def skip(self, partition: int, offset: int, back: bool = False) -> None:
        """The feed goes on at another offset: further ahead, or ``back``."""
        self._front = {**self._front, partition: offset}
        for cohort in [*self._cohorts, *self._boarding]:
            cohort.skip(partition, offset, back)
        self.try_live()

    def cohorts(self) -> list[Cohort]:
        return [*self._cohorts, *self._boarding]

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.feed.stop()
        self._items.clear()
        if self._patience is not None:
            self._patience.cancel()
        self._ended(self)

    def _encode_for(self, cohorts: Sequence[Cohort]) -> None:
        wanted = dict.fromkeys(self.feed.audience)
        for cohort in cohorts:
            wanted |= dict.fromkeys((cohort.partitions, tail.encoder) for tail in cohort.tails)
        self.feed.audience = tuple(wanted)

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
        self._cohorts += self._boarding
        self._boarding = []
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
        self.feed.taken(chunk.size_bytes)
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
            cohorts, self._cohorts, self._boarding = self.cohorts(), [], []
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
    """Where a feed must start so that it misses nothing for any of them."""
    starts: dict[int, int] = {}
    for cohort in cohorts:
        for partition, place in cohort.positions.items():
            starts[partition] = min(place.offset, starts.get(partition, place.offset))
    return dict(sorted(starts.items()))
