"""All tails of one topic: their positions, and which fetcher reads for each of them. On the event loop.

A tail that resumes gets a reader: the live edge if nothing is missing between its positions and what the live edge
still keeps, else a catch-up reader that will reach its positions, else it waits for a new one. Catch-up readers are
limited over all topics (`Turns`); tails of a topic that wait share a new one if their positions are near each other.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.tails import Gap, TailListener
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka.tails.catch_up import AHEAD_RECORDS, CatchUpReader
from kafka_gateway.kafka.tails.fetcher import Fetcher, Filter, Item, Lost
from kafka_gateway.kafka.tails.live_edge import LiveEdge
from kafka_gateway.kafka.tails.log_offsets import LogOffsets
from kafka_gateway.kafka.tails.tail import NO_ENDS, Cohort, KafkaTail, Positions
from kafka_gateway.metrics.numbers import KafkaNumbers
from kafka_gateway.records import RecordsEncoder

_log = logging.getLogger("gateway.kafka.streams")

FRESH_S = 5.0
"""For how long a live fetcher may begin at ends that were asked for before; it reads what has come since."""
GATHER_S = 0.01
"""Tails that need a catch-up reader within this time share it."""
GATHER_MORE_S = 0.25
"""The same while another one of the topic is at work."""
_AGAIN_S = 1.0


class Turns:
    """How many catch-up readers may work at a time; who needs one more waits, first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._queue: collections.deque[Callable[[], None]] = collections.deque()

    def ask(self, granted: Callable[[], None]) -> None:
        if self._free:
            self._free -= 1
            granted()
        else:
            self._queue.append(granted)

    def give_back(self) -> None:
        if self._queue:
            self._queue.popleft()()
        else:
            self._free += 1


class Environment(Protocol):
    """What the topics of a process share."""

    turns: Turns
    ring_bytes: int
    linger_s: float
    numbers: KafkaNumbers
    """What is counted of the records that are handed on."""

    def open_fetcher(
        self, topic: str, starts: Mapping[int, int], deliver: Callable[[list[Item]], None], past: bool
    ) -> Fetcher: ...
    async def bounds(self, topic: str) -> LogOffsets: ...
    async def look(self, topic: TailTopic) -> bool:
        """Asks for the topic's metadata and tells it what has changed; False if Kafka did not answer."""

    def unused(self, topic: TailTopic) -> None: ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What is fixed when a tail opens."""

    positions: Positions
    ends: Mapping[int, int]
    gaps: tuple[Gap, ...]


class TailTopic:
    def __init__(self, name: str, environment: Environment) -> None:
        self.name = name
        self.topic_id: str | None = None
        """Of the life of the topic that is being read, once it is known."""
        self.missed = 0
        """How often in a row Kafka did not know the topic."""
        self._environment = environment
        self.numbers = environment.numbers
        self._loop = asyncio.get_running_loop()
        self._tails: dict[KafkaTail, None] = {}
        self._audience: collections.Counter[tuple[Filter, RecordsEncoder]] = collections.Counter()
        self._ready: dict[KafkaTail, None] = {}
        self._live: LiveEdge | None = None
        self._catch_ups: list[CatchUpReader] = []
        self._waiting: list[Cohort] = []
        self._catch_up_asked = False
        self._partitions = 0
        self._ends: Mapping[int, int] = NO_ENDS
        self._ends_at = 0.0
        self._looking = False
        self._linger: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetchers: set[Fetcher] = set()
        self._over = False

    @property
    def held_bytes(self) -> int:
        """Of the records at the live edge, and of those that its fetchers have ready."""
        kept = self._live.kept_bytes if self._live is not None else 0
        return kept + sum(fetcher.held_bytes for fetcher in self._fetchers)

    # --- opening and closing ------------------------------------------------------------------------------------------

    def knows(self, bounds: LogOffsets) -> None:
        """Somebody has asked Kafka for the bounds just now."""
        now = self._loop.time()
        if self._live is None and now - self._ends_at > FRESH_S:
            self._ends, self._ends_at = bounds.end, now
        if not self._partitions:
            self._partitions = len(bounds.end)
        else:
            self.grow(len(bounds.end))

    def open(
        self,
        opening: Opening,
        listener: TailListener,
        encoder: RecordsEncoder,
        partitions: Filter,
        until_end: bool,
    ) -> KafkaTail:
        tail = KafkaTail(self, listener, encoder, partitions, opening.positions, opening.ends, until_end)
        tail.gaps.extend(opening.gaps)
        self._tails[tail] = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._audience[partitions, encoder] += 1
        self._encode()
        return tail

    def fail(self, error: ServiceError) -> None:
        """Ends all tails with this error, and everything that reads for them."""
        self._end()
        for tail in list(self._tails):
            tail.fail(error)
        self._waiting.clear()

    async def aclose(self) -> None:
        """Ends all that reads; waits until the consumers are gone."""
        self._over = True
        if self._linger is not None:
            self._linger.cancel()
        self._stop_reading()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(fetcher.ended for fetcher in self._fetchers), return_exceptions=True)

    def resumed(self, tail: KafkaTail) -> None:
        if not self._ready:
            self._loop.call_soon(self._place_ready)
        self._ready[tail] = None

    def paused(self, tail: KafkaTail, cohort: Cohort) -> None:
        if isinstance(cohort.catch_up, CatchUpReader) and not cohort.catch_up.stopped:
            tail.catch_up = cohort.catch_up
            cohort.catch_up.absent(tail)

    def closed(self, tail: KafkaTail) -> None:
        self._ready.pop(tail, None)
        self._tails.pop(tail, None)
        key = (tail.partitions, tail.encoder)
        self._audience[key] -= 1
        if not self._audience[key]:
            del self._audience[key]
            self._encode()
        for catch_up in self._catch_ups:
            catch_up.left(tail)
        if not self._tails and self._linger is None and not self._over:
            self._linger = self._loop.call_later(self._environment.linger_s, self._end)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._environment.unused(self)
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self.numbers.shared_readers -= 1
        for catch_up in list(self._catch_ups):
            catch_up.stop()

    def _encode(self) -> None:
        if self._live is not None:
            self._live.encode_for(tuple(self._audience))

    # --- placing ------------------------------------------------------------------------------------------------------

    def _place_ready(self) -> None:
        ready, self._ready = self._ready, {}
        cohorts: dict[object, Cohort] = {}
        for tail in ready:
            if isinstance(tail.catch_up, CatchUpReader):
                tail.catch_up.left(tail)
                tail.catch_up = None
            if not self._greet(tail):
                continue
            cohort = Cohort(
                self.name,
                tail.partitions,
                tail.places,
                tail.ends if tail.until_end else None,
                self.numbers.consumed,
            )
            cohorts.setdefault(cohort.key(), cohort).add([tail])
        for cohort in cohorts.values():
            self._place(cohort)

    def _greet(self, tail: KafkaTail) -> bool:
        """Tells a tail what it should know before records; whether it still wants any."""
        if tail.failure is not None:
            tail.fail(tail.failure)
        while tail.gaps and tail.running:
            tail.tell_gap(tail.gaps.pop(0))
        if tail.running and tail.behind is not None and tail.reached(tail.places):
            tail.caught_up()
        return tail.running and tail.cohort is None

    def _place(self, cohort: Cohort) -> None:
        if self._live is not None and self._live.admit(cohort):
            return
        for catch_up in self._catch_ups:
            if catch_up.admits(cohort):
                catch_up.join(cohort)
                return
        if self._live is None and self._loop.time() - self._ends_at < FRESH_S and self._at_the_end(cohort):
            self._open_live()
            self._place(cohort)
            return
        self._waiting.append(cohort)
        self._ask_catch_up()

    def _at_the_end(self, cohort: Cohort) -> bool:
        return all(
            place.offset >= self._ends.get(partition, place.offset + 1) for partition, place in cohort.positions.items()
        )

    # --- the live edge ------------------------------------------------------------------------------------------------

    def _open_live(self) -> None:
        live = LiveEdge(
            self.name,
            self._ends,
            lambda starts, deliver: self._open_fetcher(starts, deliver, past=False),
            self._environment.ring_bytes,
            self._lost_live,
            self.fail,
        )
        self._live = live
        self.numbers.shared_readers += 1
        self._encode()
        for catch_up in self._catch_ups:
            catch_up.try_live()

    def _near_edge(self) -> None:
        """A catch-up reader comes to the end of the log."""
        if self._live is None and not self._looking:
            self._looking = True
            self._spawn(self._look_for_edge())

    async def _look_for_edge(self) -> None:
        try:
            while self._wants_edge():
                try:
                    bounds = await self._environment.bounds(self.name)
                except ServiceError as error:
                    _log.info("Reading topic %s: %s", self.name, error.message)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                if self._wants_edge():
                    self._ends, self._ends_at = bounds.end, self._loop.time()
                    self.grow(len(bounds.end))
                    self._open_live()
        finally:
            self._looking = False

    def _wants_edge(self) -> bool:
        return self._live is None and bool(self._catch_ups)

    # --- catching up --------------------------------------------------------------------------------------------------

    def _ask_catch_up(self) -> None:
        if self._catch_up_asked or self._over or len(self._catch_ups) >= max(1, self._environment.turns.limit // 2):
            return
        self._catch_up_asked = True
        self._loop.call_later(
            GATHER_MORE_S if self._catch_ups else GATHER_S, lambda: self._environment.turns.ask(self._start_catch_up)
        )

    def _start_catch_up(self) -> None:
        """It is our turn: those who have waited longest go, and all who start near them."""
        self._catch_up_asked = False
        waiting = [cohort for cohort in self._waiting if cohort.tails]
        self._waiting = []
        if not waiting or self._over:
            self._environment.turns.give_back()
            return
        first = waiting[0]
        going = [cohort for cohort in waiting if _distance(first, cohort) <= AHEAD_RECORDS]
        catch_up = CatchUpReader(
            going,
            lambda starts, deliver: self._open_fetcher(starts, deliver, past=True),
            lambda: self._live,
            self._near_edge,
            self._lost_catch_up,
            self.fail,
            self._catch_up_ended,
        )
        for cohort in going:
            cohort.catch_up = catch_up
        self._catch_ups.append(catch_up)
        self.numbers.catchup_readers += 1
        self._waiting = [cohort for cohort in waiting if cohort not in going]
        if self._waiting:
            self._ask_catch_up()

    def _catch_up_ended(self, catch_up: CatchUpReader) -> None:
        self._catch_ups.remove(catch_up)
        self.numbers.catchup_readers -= 1
        for cohort in catch_up.cohorts():
            # Only if it was stopped on the way.
            self._ready_again(cohort)
        self._environment.turns.give_back()
        if self._waiting:
            self._ask_catch_up()

    def _ready_again(self, cohort: Cohort) -> None:
        for tail in list(cohort.tails):
            tail.leave()
            self.resumed(tail)

    # --- what happens to the topic ------------------------------------------------------------------------------------

    def grow(self, count: int) -> None:
        """The topic has this many partitions; new ones are read from their beginning by all who follow the topic."""
        if count <= self._partitions or not self._partitions:
            return
        starts = dict.fromkeys(range(self._partitions, count), 0)
        self._partitions = count
        self._ends = {**dict.fromkeys(starts, 0), **self._ends}
        new = {partition: PartitionOffset(self.name, partition, 0) for partition in starts}
        for tail in self._tails:
            if tail.cohort is None and tail.partitions is None and not tail.until_end:
                tail.move({**tail.places, **new})
        cohorts = [*self._waiting, *(cohort for catch_up in self._catch_ups for cohort in catch_up.cohorts())]
        for cohort in cohorts:
            if cohort.partitions is None and cohort.until is None:
                cohort.positions = {**cohort.positions, **new}
        for catch_up in self._catch_ups:
            catch_up.grow(starts)
        if self._live is not None:
            self._live.grow(starts)

    def begin_again(self, topic_id: str, count: int) -> None:
        """The topic was deleted and made again: everybody goes on at the beginning of its new life."""
        _log.warning("Topic %s was deleted and made again; streams go on at its beginning", self.name)
        self.topic_id = topic_id
        self._partitions = count
        self._ends_at = 0.0
        running = [tail for tail in self._tails if tail.running]
        places = {tail: tail.places for tail in self._tails}
        for tail in self._tails:
            tail.leave()
        self._waiting = []
        self._stop_reading()
        for tail, old in places.items():
            wanted = range(count) if tail.partitions is None else [one for one in old if one < count]
            tail.move({one: PartitionOffset(self.name, one, 0) for one in wanted})
            tail.gaps += [Gap(self.name, one, old[one].offset, 0) for one in wanted if one in old and old[one].offset]
            if tail.behind is not None:
                tail.behind = NO_ENDS
        for tail in running:
            self.resumed(tail)

    def _lost_live(self, fetcher: Fetcher, lost: Lost) -> None:
        self._spawn(self._find_again(fetcher, lost, lambda: self._live))

    def _lost_catch_up(self, catch_up: CatchUpReader, lost: Lost) -> None:
        self._spawn(self._find_again(catch_up.fetcher, lost, lambda: None if catch_up.stopped else catch_up))

    async def _find_again(
        self, fetcher: Fetcher, lost: Lost, reader: Callable[[], LiveEdge | CatchUpReader | None]
    ) -> None:
        """Kafka has no record yet with the offset that was to be read next: truncated, or another life."""
        while True:
            known = await self._environment.look(self)
            found = reader()
            if found is None or found.fetcher is not fetcher or self._over:
                return
            if known and not self.missed:
                break
            await asyncio.sleep(_AGAIN_S)
        found.skip(lost.partition, lost.end, back=True)
        fetcher.move(lost.partition, lost.end)
        self._truncated(lost.partition, lost.end)

    def _truncated(self, partition: int, end: int) -> None:
        """The log ends earlier than it did: nobody waits for what was there, and tails that are not reading go back."""
        _log.warning("Partition %d of topic %s was truncated to %d", partition, self.name, end)
        shorter: dict[int, Mapping[int, int]] = {}  # as before, the same object for many
        for tail in self._tails:
            place = tail.places.get(partition)
            if tail.cohort is None and place is not None and place.offset > end:
                tail.gaps.append(Gap(self.name, partition, place.offset, end))
                tail.move({**tail.places, partition: PartitionOffset(self.name, partition, end)})
            if tail.behind is not None and tail.behind.get(partition, 0) > end:
                tail.behind = shorter.setdefault(id(tail.behind), {**tail.behind, partition: end})
        for cohort in list(self._waiting):
            cohort.skip(partition, end, back=True)
        for cohort in [*self._cohorts()]:
            cohort.check_ends()
        for catch_up in list(self._catch_ups):
            catch_up.try_live()

    def _cohorts(self) -> Iterator[Cohort]:
        yield from self._waiting
        for catch_up in self._catch_ups:
            yield from catch_up.cohorts()
        if self._live is not None:
            yield from self._live.cohorts()

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _open_fetcher(self, starts: Mapping[int, int], deliver: Callable[[list[Item]], None], *, past: bool) -> Fetcher:
        fetcher = self._environment.open_fetcher(self.name, starts, deliver, past)
        self._fetchers.add(fetcher)
        fetcher.ended.add_done_callback(lambda _: self._fetchers.discard(fetcher))
        return fetcher

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _distance(one: Cohort, other: Cohort) -> int:
    return sum(
        abs(one.positions[p].offset - place.offset) for p, place in other.positions.items() if p in one.positions
    )
