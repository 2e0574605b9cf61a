"""Tails of a topic on a real Kafka: every record from the position on, once, in order, and gaps announced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.errors import PartitionNotFound, ServiceError, ShuttingDown, TopicNotFound
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.tails import Gap, Tail, TailBatch, TailStart
from kafka_gateway.records import RecordsEncoder
from tests.kafka.conftest import Position, Topic, is_mock, open_cluster, places, places_of
from tests.kafka_cluster import KafkaCluster as RealKafka
from tests.waiting import PATIENCE_S, wait_until
from tests.waiting import until as until_true


class Follower:
    """A client of a tail that writes down what it hears."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.opened: Tail | None = None
        self.batches: list[TailBatch] = []
        self.found: list[Position] = []
        self.gaps: list[Gap] = []
        self.caught_up_at: list[int] = []
        self.error: ServiceError | None = None
        self.heard = asyncio.Event()
        self.pause_after: int | None = None

    @property
    def tail(self) -> Tail:
        assert self.opened is not None
        return self.opened

    def records(self, batch: TailBatch) -> None:
        self.batches.append(batch)
        new = places_of(batch.records.records)
        assert new, "no empty batches"
        self.found += new
        assert self.opened is None or self.tail.positions == batch.positions
        if self.pause_after is not None and len(self.found) >= self.pause_after:
            self.tail.pause()
        self.heard.set()

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.heard.set()

    def caught_up(self) -> None:
        self.caught_up_at.append(len(self.found))
        self.heard.set()

    def failed(self, error: ServiceError) -> None:
        self.error = error
        self.heard.set()

    async def until(self, condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    async def count(self, count: int) -> list[Position]:
        await self.until(lambda: len(self.found) >= count)
        return self.found

    async def has(self, *places: Position, within_s: float = PATIENCE_S) -> None:
        await self.until(lambda: self.error or all(place in self.found[-100:] for place in places), within_s)
        assert self.error is None

    async def catches_up(self) -> None:
        await self.until(lambda: self.caught_up_at)

    async def fails(self) -> None:
        await self.until(lambda: self.error)

    def of(self, partition: int) -> list[int]:
        return [offset for number, offset in self.found if number == partition]


class Opener:
    def __init__(self, cluster: KafkaCluster, topic: str) -> None:
        self.cluster = cluster
        self.topic = topic

    async def __call__(
        self,
        at: str = "latest",
        value: int = 0,
        *,
        positions: dict[int, int] | None = None,
        partitions: set[int] | None = None,
        until_end: bool = False,
        run: bool = True,
        encoder: RecordsEncoder = places,
        follower: Follower | None = None,
    ) -> Follower:
        follower = follower or Follower()
        follower.opened = await self.cluster.tails.open(
            self.topic,
            TailStart(at, value, positions or {}),
            follower,
            encoder,
            None if partitions is None else frozenset(partitions),
            until_end,
        )
        if run:
            follower.tail.resume()
        return follower


@pytest.fixture
async def cluster(bootstrap: str) -> AsyncIterator[KafkaCluster]:
    # The mock cluster looks for new records only when this time is up.
    quick = ["consumer.fetch.wait.max.ms=20"] if is_mock(bootstrap) else []
    async with open_cluster(bootstrap, *quick) as opened:
        yield opened


@pytest.fixture
def follow(cluster: KafkaCluster, filled: Topic) -> Opener:
    return Opener(cluster, filled.name)


def offsets(follower: Follower) -> list[int]:
    return [one.offset for one in follower.tail.positions]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# --- where a tail begins ---------------------------------------------------------------------------------------------


async def test_latest_gives_what_comes_and_nothing_before(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(5))
    tail = await follow()
    assert offsets(tail) == [5, 0, 0, 0]
    await tail.until(lambda: tail.caught_up_at == [0])
    filled.write(numbers(3))
    filled.write(numbers(2), partition=2)
    assert sorted(await tail.count(5)) == [(0, 5), (0, 6), (0, 7), (2, 0), (2, 1)]
    assert offsets(tail) == [8, 0, 2, 0]
    assert tail.batches[0].records.encode(places) == repr(places_of(tail.batches[0].records.records)).encode()


async def test_who_reads_for_it_is_counted(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(10))
    counts = follow.cluster.numbers
    seen: list[tuple[int, int]] = []

    class Watching(Follower):
        def records(self, batch: TailBatch) -> None:
            seen.append((counts.shared_readers, counts.catchup_readers))
            super().records(batch)

    tail = await follow("earliest", follower=Watching())
    await tail.count(10)
    await tail.until(lambda: tail.caught_up_at)
    assert seen[0][1] == 1
    filled.write(numbers(1))
    await tail.count(11)
    await until_true(lambda: (counts.shared_readers, counts.catchup_readers) == (1, 0))
    await follow.cluster.tails.aclose()
    assert (counts.shared_readers, counts.catchup_readers) == (0, 0)


async def test_a_record_behind_the_opening_is_never_missed(filled: Topic, follow: Opener) -> None:
    for number in range(20):
        tail = await follow(run=False)
        filled.write(numbers(1), partition=number % 4)
        tail.tail.resume()
        await tail.count(1)
        tail.tail.close()


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        ("earliest", 0, [0, 0, 0, 0]),
        ("offset", 3, [3, 2, 0, 0]),
        ("last", 2, [8, 0, 0, 0]),
        ("last", 100, [0, 0, 0, 0]),
        ("time", 4102444800000, [10, 2, 0, 0]),
    ],
)
async def test_starts(filled: Topic, follow: Opener, at: str, value: int, expected: list[int]) -> None:
    filled.write(numbers(10))
    filled.write(numbers(2), partition=1)
    tail = await follow(at, value)
    assert offsets(tail) == expected
    await tail.until(lambda: tail.caught_up_at)
    assert tail.of(0) == list(range(expected[0], 10))
    assert tail.of(1) == list(range(expected[1], 2))
    assert tail.caught_up_at == [len(tail.found)]
    filled.write(numbers(1), partition=3)
    await tail.count(len(tail.found) + 1)
    assert tail.found[-1] == (3, 0)


REAL = pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)
"""For what the mock cluster does not have."""


@REAL
async def test_time(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(3))
    filled.write(numbers(3), partition=1)
    await asyncio.sleep(0.01)  # time itself: records before and behind it differ
    now = int(time.time() * 1000)
    await asyncio.sleep(0.01)  # time itself: records before and behind it differ
    filled.write(numbers(4))
    tail = await follow("time", now)
    assert offsets(tail) == [3, 3, 0, 0]
    assert await tail.count(4) == [(0, 3), (0, 4), (0, 5), (0, 6)]
    assert offsets(await follow("time", 0)) == [0, 0, 0, 0]


async def test_resume_token(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(10))
    filled.write(numbers(10), partition=1)
    filled.write(numbers(10), partition=3)
    # It names the first two: what comes behind them is newer.
    tail = await follow("latest", positions={0: 7, 1: 10})
    assert offsets(tail) == [7, 10, 0, 0]
    assert sorted(await tail.count(13)) == [(0, n) for n in (7, 8, 9)] + [(3, n) for n in range(10)]
    # It names one that is not the first: the others start as asked for.
    tail = await follow("latest", positions={1: 4})
    assert offsets(tail) == [10, 4, 0, 10]
    tail = await follow("last", 1, positions={1: 4}, partitions={1, 3})
    assert offsets(tail) == [4, 9]


async def test_what_is_not_there_any_more_is_a_gap(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(3))
    before = follow.cluster.numbers.stream_gaps
    tail = await follow("latest", positions={0: 9, 1: 0, 2: 0, 3: 0})
    assert offsets(tail) == [0, 0, 0, 0], "of another life of the topic: all of this one is new"
    await tail.count(3)
    assert tail.gaps == [Gap(filled.name, 0, 9, 0)]
    tail = await follow("offset", 5, partitions={0})
    await tail.until(lambda: tail.caught_up_at)
    assert tail.gaps == [Gap(filled.name, 0, 5, 3)]
    assert follow.cluster.numbers.stream_gaps == before + 2


async def test_refusals(filled: Topic, follow: Opener, unique: Callable[..., str]) -> None:
    with pytest.raises(PartitionNotFound):
        await follow(partitions={0, 4})
    name = unique("unknown")
    with pytest.raises(TopicNotFound):
        await Opener(follow.cluster, name)()
    assert name not in [one.name for one in await follow.cluster.admin.topics()]


# --- until the end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
async def test_until_end_gives_exactly_what_was_there(filled: Topic, follow: Opener, paused: bool) -> None:
    filled.write(numbers(2500))
    filled.write(numbers(3), partition=2)
    other = await follow()  # the live fetcher begins here
    tail = await follow("last", 2400, until_end=True, run=False)
    filled.write(numbers(10))
    filled.write(numbers(10), partition=2)
    await other.count(20)
    assert dict(tail.tail.ends) == {0: 2500, 1: 0, 2: 3, 3: 0}
    if paused:
        tail.pause_after = 1
    tail.tail.resume()
    while not tail.caught_up_at:
        tail.heard.clear()
        await asyncio.wait_for(tail.heard.wait(), 15)
        tail.tail.resume()
    assert sorted(tail.found) == [(0, n) for n in range(100, 2500)] + [(2, n) for n in range(3)]
    assert tail.caught_up_at == [2403]


async def test_until_end_of_nothing(filled: Topic, follow: Opener) -> None:
    tail = await follow(until_end=True)
    await tail.until(lambda: tail.caught_up_at)
    assert not tail.found


# --- clients that are slow, leave and come ---------------------------------------------------------------------------


async def test_pause_and_resume_lose_and_double_nothing(filled: Topic, follow: Opener) -> None:
    slow = await follow()
    quick = await follow()
    for round_ in range(10):
        slow.tail.pause()
        before = len(slow.found)
        filled.write(numbers(300), partition=round_ % 4)
        await quick.count(300 * (round_ + 1))
        assert len(slow.found) == before, "nothing while it pauses"
        slow.tail.resume()
        if round_ % 2:
            await slow.count(300 * (round_ + 1))
    await slow.count(3000)
    assert slow.of(1) == quick.of(1) == list(range(900))
    assert sorted(slow.found) == sorted(quick.found)


async def test_tails_in_step_get_the_same_batch(filled: Topic, follow: Opener) -> None:
    def other(records: Sequence[object]) -> bytes:
        return b"%d" % len(records)

    tails = [await follow(encoder=other if number % 2 else places) for number in range(6)]
    filled.write(numbers(10))
    for tail in tails:
        await tail.count(10)
    assert all(tail.batches[-1] is tails[0].batches[-1] for tail in tails)
    past = [await follow("earliest", run=False) for _ in range(3)]
    for tail in past:
        tail.tail.resume()
    for tail in past:
        await tail.count(10)
        assert tail.batches == past[0].batches


async def test_partitions_are_a_filter(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(5), partition=1)
    filled.write(numbers(5), partition=2)
    one = await follow("earliest", partitions={1})
    two = await follow("latest", partitions={2, 3})
    three = await follow("latest", partitions={3, 2})
    every = await follow("earliest")
    for partition in range(4):
        filled.write(numbers(3), partition=partition)
    assert await one.count(8) == [(1, n) for n in range(8)]
    assert sorted(await two.count(6)) == [(2, 5), (2, 6), (2, 7), (3, 0), (3, 1), (3, 2)]
    await three.count(6)
    assert three.batches == two.batches
    await every.count(22)


async def test_one_listener_may_end_another_while_it_is_told(filled: Topic, follow: Opener) -> None:
    first, second, third = [await follow() for _ in range(3)]

    class Killer(Follower):
        def records(self, batch: TailBatch) -> None:
            super().records(batch)
            second.tail.pause()
            third.tail.close()

    first.tail.close()
    killer = await follow(follower=Killer())
    again = await follow()
    # The killer is behind the others; those that come later in the round must not lose its batch.
    second.tail.pause()
    third.tail.pause()
    second.tail.resume()
    third.tail.resume()
    await asyncio.sleep(0)
    filled.write(numbers(2))
    await again.count(2)
    assert await killer.count(2) == [(0, 0), (0, 1)]
    second.tail.resume()
    assert (await second.count(2))[:2] == [(0, 0), (0, 1)]
    assert not third.found


async def test_a_listener_that_fails_harms_nobody_else(filled: Topic, follow: Opener) -> None:
    class Broken(Follower):
        def records(self, batch: TailBatch) -> None:
            raise RuntimeError("on purpose")

    broken = await follow(follower=Broken())
    fine = await follow()
    filled.write(numbers(1))
    await fine.count(1)
    await broken.until(lambda: broken.error)
    filled.write(numbers(1))
    await fine.count(2)


async def test_an_encoder_that_refuses_harms_nobody_else(filled: Topic, follow: Opener) -> None:
    def refuses(_: Sequence[object]) -> bytes:
        raise ValueError("on purpose")

    await follow(encoder=refuses)
    fine = await follow()
    filled.write(numbers(1))
    await fine.count(1)


# --- changes of the topic --------------------------------------------------------------------------------------------


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


def trim(admin: AdminClient, topic: str, partition: int, offset: int) -> None:
    """What retention does: the log starts here now."""
    place = confluent_kafka.TopicPartition(topic, partition, offset)
    admin.delete_records([place])[place].result()


@REAL
async def test_retention_passes_tails(filled: Topic, follow: Opener, admin: AdminClient) -> None:
    filled.write(numbers(100))
    slow, quick = await follow("earliest"), await follow("earliest")
    late = await follow("offset", 20, run=False, partitions={0})
    await slow.count(100)
    await quick.count(100)
    slow.tail.pause()
    filled.write(numbers(9000))  # more than the ring has
    await quick.count(9100)
    trim(admin, filled.name, 0, 3000)
    slow.tail.resume()
    late.tail.resume()
    for tail, position in ((slow, 100), (late, 20)):
        await tail.has((0, 9099))
        assert tail.gaps == [Gap(filled.name, 0, position, 3000)]
        assert [n for n in tail.of(0) if n >= 100] == list(range(3000, 9100))
    assert not quick.gaps
    old = await follow("offset", 2000, partitions={0})
    await old.count(6100)
    assert old.gaps == [Gap(filled.name, 0, 2000, 3000)]


@REAL
async def test_new_partitions_join_at_their_beginning(filled: Topic, follow: Opener, admin: AdminClient) -> None:
    filled.write(numbers(3))
    live, past = await follow(), await follow("earliest")
    paused, narrow = await follow(), await follow(partitions={0, 1})
    end = await follow(until_end=True, run=False)
    await past.count(3)
    paused.tail.pause()
    admin.create_partitions([NewPartitions(filled.name, 6)])[filled.name].result()
    await asyncio.to_thread(write_when_known, filled, 5)
    await live.until(lambda: (5, 0) in live.found)
    assert len(offsets(live)) == 6
    await past.until(lambda: (5, 0) in past.found)
    paused.tail.resume()
    await paused.until(lambda: (5, 0) in paused.found)
    filled.write(numbers(2), partition=5)
    filled.write(numbers(2), partition=1)
    for tail in (live, past, paused):
        await tail.has((5, 2), (1, 1))
        assert tail.of(5) == [0, 1, 2]
    assert await narrow.count(2) == [(1, 0), (1, 1)]
    end.tail.resume()
    await end.until(lambda: end.caught_up_at)
    assert not end.found


def write_when_known(topic: Topic, partition: int) -> None:
    """A producer learns of a new partition late; a new one knows it at once."""

    def write() -> bool:
        Topic(topic.bootstrap, topic.name).write(numbers(1), partition=partition)
        return True

    wait_until(write, but=confluent_kafka.KafkaException)
    topic.renew()


@pytest.mark.timing
@REAL
async def test_a_deleted_topic_ends_its_tails(
    filled: Topic, follow: Opener, admin: AdminClient, bootstrap: str
) -> None:
    filled.write(numbers(3))
    live, paused, idle = await follow(), await follow(), await follow(run=False)
    await live.until(lambda: live.caught_up_at)
    paused.tail.pause()
    start = time.monotonic()
    admin.delete_topics([filled.name])[filled.name].result()
    for tail in (live, paused):
        await tail.fails()
        assert isinstance(tail.error, TopicNotFound)
    assert time.monotonic() - start < 5
    idle.tail.resume()
    await idle.until(lambda: idle.error)
    with pytest.raises(TopicNotFound):
        await follow()
    assert filled.name not in [one.name for one in await follow.cluster.admin.topics()]


@REAL
@pytest.mark.parametrize("more", [3, 20])
async def test_a_topic_made_again_is_read_from_its_beginning_behind_a_gap(
    filled: Topic, follow: Opener, admin: AdminClient, bootstrap: str, more: int
) -> None:
    filled.write(numbers(10))
    live, paused = await follow("earliest"), await follow()
    await live.count(10)
    await asyncio.sleep(1.5)  # time itself: the first look at the topic's id
    paused.tail.pause()
    admin.delete_topics([filled.name])[filled.name].result()
    await asyncio.to_thread(make_again, admin, filled.name)
    new = Topic(bootstrap, filled.name)
    new.write([b"new"] * more)
    gap = Gap(filled.name, 0, 10, 0)
    await live.until(lambda: live.gaps)
    assert live.gaps[0].end == 0
    at = live.found[10:].index((0, 0)) + 10 if (0, 0) in live.found[10:] else None
    await live.until(lambda: live.found[-1] == (0, more - 1) and live.found.count((0, 0)) == 2)
    again = len(live.found) - 1 - live.found[::-1].index((0, 0))
    assert live.found[again:] == [(0, n) for n in range(more)]
    assert at is None or at == again
    if more < 10:
        assert live.gaps == [gap]
    paused.tail.resume()
    assert await paused.count(more) == [(0, n) for n in range(more)]
    assert paused.gaps == [gap]


def make_again(admin: AdminClient, name: str) -> None:
    def made() -> bool:
        admin.create_topics([NewTopic(name, 4, 1)])[name].result()
        return True

    wait_until(made, but=confluent_kafka.KafkaException)


async def test_shutting_down(filled: Topic, bootstrap: str) -> None:
    filled.write(numbers(5000))
    async with open_cluster(bootstrap) as cluster:
        follow = Opener(cluster, filled.name)
        live, past, idle = await follow(), await follow("earliest"), await follow(run=False)
    assert isinstance(live.error, ShuttingDown)
    assert isinstance(past.error, ShuttingDown)
    assert idle.error is None, "nothing before it was resumed"
    idle.tail.resume()
    await idle.until(lambda: idle.error)
    with pytest.raises(ShuttingDown):
        await follow()


def readers() -> set[str]:
    """Threads that read for tails."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kafka-fetcher")}


async def test_a_topic_without_tails_has_no_consumer(filled: Topic, bootstrap: str) -> None:
    filled.write(numbers(3))
    mine = {f"kafka-fetcher-{filled.name}"}
    async with open_cluster(bootstrap, "stream.linger.ms=300") as cluster:
        follow = Opener(cluster, filled.name)
        tails = [await follow("latest"), await follow("earliest")]
        for tail in tails:
            await tail.catches_up()
        assert readers() >= mine
        for tail in tails:
            tail.tail.close()
            tail.tail.close()
        await asyncio.sleep(0.15)  # time itself: half of what it lingers for
        again = await follow()
        await asyncio.sleep(0.3)  # time itself: what it lingers for
        assert readers() >= mine, "it lingers for who comes back"
        again.tail.close()
        await until_true(lambda: not readers() & mine)


@REAL
async def test_many_from_the_past_share_a_few_consumers(filled: Topic, follow: Opener) -> None:
    for partition in range(4):
        filled.write(numbers(2000), partition=partition)
    most = 0

    class Counting(Follower):
        def records(self, batch: TailBatch) -> None:
            nonlocal most
            super().records(batch)
            most = max(most, sum(thread.name.startswith("kafka-fetcher") for thread in threading.enumerate()))

    tails = [
        await follow("latest", positions=dict.fromkeys(range(4), number % 50), follower=Counting(), run=False)
        for number in range(200)
    ]
    for tail in tails:
        tail.tail.resume()
    for number, tail in enumerate(tails):
        await tail.count(8000 - 4 * (number % 50))
        assert [tail.of(partition) for partition in range(4)] == [list(range(number % 50, 2000))] * 4
    assert most <= 4
    filled.write(numbers(1))
    for tail in tails:
        await tail.has((0, 2000))
        assert tail.batches[-1] is tails[0].batches[-1], "all have changed over to the live edge"


@pytest.mark.timing
@pytest.mark.slow
async def test_broker_away_for_a_while(
    own_kafka: RealKafka, kafka_topic: Callable[[str, str, int], None], topic: str
) -> None:
    kafka_topic(own_kafka.bootstrap, topic, 4)
    log = Topic(own_kafka.bootstrap, topic)
    log.write(numbers(3000))
    async with open_cluster(own_kafka.bootstrap) as cluster:
        follow = Opener(cluster, topic)
        live, paused = await follow("earliest"), await follow("earliest")
        end = 3000
        for how in ("freeze", "kill"):
            past = await follow("earliest", run=False)
            await live.count(end)
            paused.pause_after = 1
            log.write(numbers(10))
            await live.count(end + 10)
            own_kafka.pause(1) if how == "freeze" else await asyncio.to_thread(own_kafka.kill, 1)
            past.tail.resume()
            paused.pause_after = None
            paused.tail.resume()
            await asyncio.sleep(3)  # time itself: so long the broker is away
            own_kafka.resume(1) if how == "freeze" else await asyncio.to_thread(own_kafka.restart, 1)
            await asyncio.to_thread(log.write, numbers(10))
            end += 20
            for tail in (live, paused, past):
                await tail.has((0, end - 1), within_s=30)
                assert tail.of(0) == list(range(end))
                assert not tail.gaps
            past.tail.close()
        own_kafka.pause(1)
        start = time.monotonic()
        await cluster.tails.aclose()
        assert time.monotonic() - start < 4
        assert isinstance(live.error, ShuttingDown)
        own_kafka.resume(1)
