"""The promise of tails against a model: every record from the position on, once, in order, and gaps announced.

Random clients (every kind of start, slow ones, some that leave) follow a topic to which random things happen. The log
and the fetchers are made up, and the clock of the loop is, too: what is read arrives exactly when the model says so, in
any order of the partitions. The real fetcher's turn is in test_tails.py.
"""

from __future__ import annotations

import asyncio
import bisect
import selectors
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.tails import Gap, TailBatch, TailStart
from kafka_gateway.kafka.tails.fetcher import RECORD_BYTES, Audience, Chunk, Fetcher, Item, Lost
from kafka_gateway.kafka.tails.log_offsets import LogOffsets
from kafka_gateway.kafka.tails.tail import KafkaTail
from kafka_gateway.kafka.tails.tails import starting_positions
from kafka_gateway.kafka.tails.topic_readers import TailTopic, Turns
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.records import ConsumedRecord

NAME = "topic"


class Partition:
    """A log: which offsets hold a record (others are markers, or compacted), where it starts and ends."""

    def __init__(self) -> None:
        self.first = 0
        self.end = 0
        self.offsets: list[int] = []

    def between(self, start: int, end: int) -> list[int]:
        return self.offsets[bisect.bisect_left(self.offsets, start) : bisect.bisect_left(self.offsets, end)]


class Log:
    def __init__(self, partitions: int) -> None:
        self.life = 0
        self.partitions = [Partition() for _ in range(partitions)]

    def bounds(self) -> LogOffsets:
        numbered = list(enumerate(self.partitions))
        return LogOffsets({n: one.first for n, one in numbered}, {n: one.end for n, one in numbered})


class Clock(asyncio.SelectorEventLoop):
    """A loop that never waits: its time jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                loop.now += timeout or 0
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


class FakeFetcher:
    """Stands in for `Fetcher`; hands over what the model tells it to."""

    def __init__(self, log: Log, starts: Mapping[int, int], deliver: Callable[[list[Item]], None]) -> None:
        self.audience: Audience = ()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = False
        self.outstanding = 0
        self._log = log
        self._life = log.life
        self._deliver = deliver
        self._next = dict(starts)
        self._told = dict.fromkeys(starts, -1)
        self._waiting: set[int] = set()

    def taken(self, size_bytes: int) -> None:
        self.outstanding -= size_bytes
        assert self.outstanding >= 0

    def add(self, starts: Mapping[int, int]) -> None:
        assert not set(starts) & set(self._next)
        self._next |= starts
        self._told |= dict.fromkeys(starts, -1)

    def move(self, partition: int, offset: int) -> None:
        self._waiting.remove(partition)
        self._next[partition] = offset

    def stop(self) -> None:
        self.stopped = True
        if not self.ended.done():
            self.ended.set_result(None)

    def pump(self, order: Sequence[int], most: int) -> bool:
        """Reads up to ``most`` records of each partition in this order; whether there was anything to tell."""
        items: list[Item] = []
        records: list[Message] = []
        nexts: dict[int, int] = {}
        for number in order:
            if self._life != self._log.life or number not in self._next or number in self._waiting:
                continue
            partition, at = self._log.partitions[number], self._next[number]
            if at < partition.first:
                items.append(Lost(number, at, partition.first, partition.end))
                self._next[number] = partition.first
            elif at > partition.end:
                items.append(Lost(number, at, None, partition.end))
                self._waiting.add(number)
            elif found := partition.between(at, partition.end)[:most]:
                records += [record(number, offset, self._log.life) for offset in found]
                self._next[number] = found[-1] + 1
            elif self._told[number] != partition.end:
                self._told[number] = nexts[number] = self._next[number] = partition.end
        if records or nexts:
            chunk = Chunk(records, nexts)
            chunk.encode(self.audience)
            self.outstanding += chunk.size_bytes
            items.append(chunk)
        if items and not self.stopped:
            self._deliver(items)
        return bool(items)


def record(partition: int, offset: int, life: int) -> Message:
    make: Callable[..., Message] = Message
    return make(topic=NAME, partition=partition, offset=offset, key=b"%d" % life, value=b"v")


def plain(records: Sequence[ConsumedRecord]) -> bytes:
    return b"%d" % len(records)


def other(records: Sequence[ConsumedRecord]) -> bytes:
    return b"other %d" % len(records)


def told(method: Callable[..., None]) -> Callable[..., None]:
    """Keeps what a listener raises: a tail puts up with it."""

    def keep(self: Client, *args: object) -> None:
        try:
            method(self, *args)
        except AssertionError as error:
            self.errors.append(error)
            raise

    return keep


class Client:
    """Follows, and says at once when the promise is broken."""

    def __init__(self, log: Log, until_end: bool, errors: list[BaseException]) -> None:
        self.log = log
        self.errors = errors
        self.renewed: set[int] = set()
        self.truncated: set[int] = set()
        self.excused = False
        self.victim: Client | None = None
        """Whom it makes pause when it gets its next batch."""
        self.life = log.life
        self.until_end = until_end
        self.tail: KafkaTail
        self.expected: dict[int, int] = {}
        self.patience = 10**9
        """After so many batches it pauses, in the middle of one."""
        self.caught_up_before = False
        self.closed = False
        self.ends: dict[int, int] = {}
        self.paused = True

    def opened(self, tail: KafkaTail, gaps: Sequence[Gap]) -> None:
        self.tail = tail
        self.expected = {place.partition: place.offset for place in tail.positions}
        self.pending = list(gaps)
        for gap in gaps:
            self.expected[gap.partition] = gap.start
        self.ends = dict(tail.ends)

    def nothing_between(self, partition: int, start: int, end: int) -> None:
        missing = self.log.partitions[partition].between(start, end)
        assert not missing, f"records {missing} of partition {partition} were left out"

    @told
    def records(self, batch: TailBatch) -> None:
        assert not self.closed
        assert not self.paused
        assert batch.records.records
        for one in batch.records.records:
            partition, offset = one.partition() or 0, one.offset() or 0
            expected = self.expected[partition]
            assert partition not in self.renewed
            assert one.key() == b"%d" % self.log.life, "a record of another life of the topic"
            assert offset >= expected, f"{partition}:{offset} came when {expected} was next"
            self.nothing_between(partition, expected, offset)
            self.expected[partition] = offset + 1
            if self.until_end and self.life == self.log.life:
                assert offset < self.ends[partition]
        for place in batch.positions:
            assert place.offset >= self.expected[place.partition]
            self.nothing_between(place.partition, self.expected[place.partition], place.offset)
            self.expected[place.partition] = place.offset
        assert batch.positions == self.tail.positions
        if self.victim is not None and not self.victim.closed:
            self.victim.pause()
            self.victim = None
        self.patience -= 1
        if self.patience <= 0:
            self.pause()

    def grown(self, partition: int) -> None:
        if self.tail.partitions is None and not self.until_end:
            self.expected[partition] = 0

    def pause(self) -> None:
        self.paused = True
        self.tail.pause()

    def resume(self, patience: int) -> None:
        self.paused = False
        self.patience = patience
        self.tail.resume()

    @told
    def gap(self, gap: Gap) -> None:
        assert not self.paused
        assert gap.start != gap.end
        partition = self.log.partitions[gap.partition]
        assert gap.start >= self.expected[gap.partition]
        if gap in self.pending:
            self.pending.remove(gap)
            if not gap.end:
                self.renewed.discard(gap.partition)
        elif gap.partition in self.renewed:
            self.renewed.remove(gap.partition)
            assert gap.end == 0
        else:
            back = gap.end < gap.start and gap.partition in self.truncated
            assert gap.start < partition.first or gap.start > partition.end or back
            self.nothing_between(gap.partition, self.expected[gap.partition], gap.start)
        self.expected[gap.partition] = gap.end

    def again(self) -> None:
        """A new life of the topic; nothing of it may come before a gap, but where nothing of the old one was read."""
        self.renewed |= {partition for partition, offset in self.expected.items() if offset}

    @told
    def caught_up(self) -> None:
        assert not self.paused
        assert not self.caught_up_before
        self.caught_up_before = True
        if self.life == self.log.life:
            for partition, end in self.ends.items():
                self.nothing_between(partition, self.expected[partition], end)
        self.closed = self.until_end

    @told
    def failed(self, error: ServiceError) -> None:
        raise AssertionError(error)


class TailsModel(RuleBasedStateMachine):
    """Also stands in for what the topics of a process share."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clock()
        self.errors: list[BaseException] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context.get("exception") or Broken()))
        self.clients: list[Client] = []
        self.fetchers: list[FakeFetcher] = []
        self.ring_bytes = 5 * RECORD_BYTES
        self.linger_s = 5.0
        self.topic: TailTopic | None = None
        self.numbers = KafkaNumbers(Names(0), Names(0))

    # --- what the topics share

    def open_fetcher(
        self, topic: str, starts: Mapping[int, int], deliver: Callable[[list[Item]], None], past: bool
    ) -> Fetcher:
        fetcher = FakeFetcher(self.log, starts, deliver)
        self.fetchers.append(fetcher)
        return cast(Fetcher, fetcher)

    async def bounds(self, topic: str) -> LogOffsets:
        await asyncio.sleep(0.001)  # time itself: a simulated answer takes some
        return self.log.bounds()

    async def look(self, topic: TailTopic) -> bool:
        await asyncio.sleep(0.001)  # time itself: a simulated answer takes some
        topic.grow(len(self.log.partitions))
        return True

    def unused(self, topic: TailTopic) -> None:
        assert all(client.closed for client in self.clients)
        self.topic = None

    # --- what happens

    @initialize(partitions=st.integers(1, 3), catch_ups=st.sampled_from([1, 2, 16]))
    def begin(self, partitions: int, catch_ups: int) -> None:
        self.log = Log(partitions)
        self.turns = Turns(catch_ups)

    @rule(data=st.data(), count=st.integers(1, 6), hole=st.booleans())
    def produce(self, data: st.DataObject, count: int, hole: bool) -> None:
        partition = data.draw(st.sampled_from(self.log.partitions))
        partition.end += hole
        partition.offsets += range(partition.end, partition.end + count)
        partition.end += count

    @rule(data=st.data(), markers=st.integers(1, 2))
    def mark(self, data: st.DataObject, markers: int) -> None:
        data.draw(st.sampled_from(self.log.partitions)).end += markers

    @rule(data=st.data(), keep=st.integers(0, 3))
    def retention(self, data: st.DataObject, keep: int) -> None:
        partition = data.draw(st.sampled_from(self.log.partitions))
        partition.first = max(partition.first, partition.end - keep)
        partition.offsets = partition.between(partition.first, partition.end)

    @rule(data=st.data(), by=st.integers(1, 4))
    def truncate(self, data: st.DataObject, by: int) -> None:
        """An unclean election: the log ends earlier than it did."""
        number = data.draw(st.sampled_from(range(len(self.log.partitions))))
        partition = self.log.partitions[number]
        partition.end = max(partition.first, partition.end - by)
        partition.offsets = partition.between(partition.first, partition.end)
        for client in self.clients:
            place = client.tail.places.get(number)
            if place is not None and place.offset > partition.end:
                client.truncated.add(number)
            # Whoever had not read what is gone may wait for the ends of its opening until there are new records.
            client.excused |= client.ends.get(number, 0) > partition.end

    @rule()
    def add_partition(self) -> None:
        if len(self.log.partitions) < 5:
            self.log.partitions.append(Partition())
            for client in self.clients:
                client.grown(len(self.log.partitions) - 1)
            if self.topic is not None:
                self.run(self.look(self.topic))

    @rule()
    def make_again(self) -> None:
        self.log.life += 1
        for client in self.clients:
            client.again()
        self.log.partitions = [Partition() for _ in self.log.partitions]
        if self.topic is not None:
            self.run(self.begin_again())

    async def begin_again(self) -> None:
        assert self.topic is not None
        self.topic.begin_again(str(self.log.life), len(self.log.partitions))

    @rule(
        data=st.data(),
        at=st.sampled_from(["latest", "latest", "earliest", "offset", "last", "token"]),
        value=st.integers(0, 12),
        until_end=st.sampled_from([False, False, False, True]),
        narrow=st.sampled_from([False, False, False, True]),
        encoder=st.sampled_from([plain, other]),
        count=st.integers(1, 3),
        patience=st.sampled_from([0, 1, 2, 10**9, 10**9]),
        disturb=st.booleans(),
    )
    def open(
        self,
        data: st.DataObject,
        at: str,
        value: int,
        until_end: bool,
        narrow: bool,
        encoder: Callable[[Sequence[ConsumedRecord]], bytes],
        count: int,
        patience: int,
        disturb: bool,
    ) -> None:
        bounds = self.log.bounds()
        numbers = tuple(range(len(self.log.partitions)))
        if narrow:
            numbers = tuple(sorted(data.draw(st.sets(st.sampled_from(numbers), min_size=1))))
        named: dict[int, int] = {}
        if at == "token":
            named = {one: data.draw(st.integers(0, bounds.end[one])) for one in numbers}
        start = TailStart("latest" if at == "token" else at, value, named)
        opening = starting_positions(NAME, start, numbers, bounds, {})
        self.run(self.open_tails(opening, bounds, frozenset(numbers) if narrow else None, until_end, encoder, count))
        if disturb:
            self.clients[-count].victim = self.clients[-1]
        for client in self.clients[-count:]:
            if patience:
                self.call(client.resume, patience)
        self.tick(0)

    async def open_tails(
        self,
        opening: Any,
        bounds: LogOffsets,
        partitions: frozenset[int] | None,
        until_end: bool,
        encoder: Any,
        count: int,
    ) -> None:
        for _ in range(count):
            if self.topic is None:
                self.topic = TailTopic(NAME, self)
            self.topic.knows(bounds)
            client = Client(self.log, until_end, self.errors)
            client.opened(self.topic.open(opening, client, encoder, partitions, until_end), opening.gaps)
            self.clients.append(client)

    @rule(data=st.data(), patience=st.sampled_from([1, 2, 10**9]))
    def resume(self, data: st.DataObject, patience: int) -> None:
        client = self.some_client(data)
        if client is not None:
            self.call(client.resume, patience)

    @rule(data=st.data(), soon=st.booleans())
    def pause(self, data: st.DataObject, soon: bool) -> None:
        client = self.some_client(data)
        if client is not None and soon:
            client.patience = 1
        elif client is not None:
            self.call(client.pause)

    @rule(data=st.data())
    def disturb(self, data: st.DataObject) -> None:
        client = self.some_client(data)
        if client is not None:
            client.victim = self.some_client(data)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = self.some_client(data)
        if client is not None:
            client.closed = True
            self.call(client.tail.close)

    @rule(data=st.data(), most=st.integers(1, 4), times=st.integers(1, 3))
    def read(self, data: st.DataObject, most: int, times: int) -> None:
        fetchers = self.open_fetchers()
        if fetchers:
            fetcher = data.draw(st.sampled_from(fetchers))
            order = data.draw(st.permutations(range(len(self.log.partitions))))
            self.run(self.pump(fetcher, order, most, times, data.draw(st.booleans())))

    async def pump(self, fetcher: FakeFetcher, order: Sequence[int], most: int, times: int, at_once: bool) -> None:
        for _ in range(times):
            if fetcher.stopped or fetcher.outstanding > 20 * RECORD_BYTES:
                return
            fetcher.pump(order, most)
            if not at_once:
                await asyncio.sleep(0)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.02, 0.15, 0.3, 2.0, 6.0]))
    def tick(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))  # time itself: of the simulated clock

    @rule()
    def settle(self) -> None:
        """When everybody goes on and everything is read, everybody has everything."""
        for client in self.clients:
            client.victim = None
            if not client.closed:
                self.call(client.resume, 10**9)
        for _ in range(200):
            self.tick(0.3)
            busy = False
            for fetcher in self.open_fetchers():
                busy = fetcher.pump(range(len(self.log.partitions)), 5) or busy
            self.tick(0.1)
            if not busy and not any(client.tail.running and client.tail.cohort is None for client in self.clients):
                break
        else:
            raise AssertionError("it does not come to rest")
        for client in self.clients:
            assert client.caught_up_before or client.closed or client.excused
            if client.closed or client.until_end:  # what the latter have was looked at when they had caught up
                continue
            for number, place in client.expected.items():
                partition = self.log.partitions[number]
                if number in client.truncated:  # and filled again before anybody could see it
                    place = max(place, client.tail.places[number].offset)
                assert not partition.between(place, partition.end), f"{number}:{place} is missing records"
            if client.tail.partitions is None and not client.until_end:
                assert len(client.tail.positions) == len(self.log.partitions)
        if not any(client.excused and client.until_end for client in self.clients):
            assert len(self.open_fetchers()) <= 1, "all are on the live edge"

    # --- helpers

    def some_client(self, data: st.DataObject) -> Client | None:
        here = [client for client in self.clients if not client.closed]
        return data.draw(st.sampled_from(here)) if here else None

    def open_fetchers(self) -> list[FakeFetcher]:
        return [fetcher for fetcher in self.fetchers if not fetcher.stopped]

    def call(self, what: Callable[..., object], *args: object) -> None:
        async def do() -> None:
            what(*args)

        self.run(do())

    def run(self, work: Any) -> None:
        async def do() -> None:
            await work
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(do())
        if self.errors:
            raise self.errors[0]

    def teardown(self) -> None:
        try:
            if not self.errors:
                self.settle()
                for client in self.clients:
                    client.closed = True
                    self.call(client.tail.close)
                self.tick(10)
                assert not self.open_fetchers(), "a topic without tails has no consumer"
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()


class Broken(Exception):
    """The loop told of an error without an exception."""


TailsModel.TestCase.settings = settings(
    max_examples=min(50, settings().max_examples),
    print_blob=False,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTails = TailsModel.TestCase
