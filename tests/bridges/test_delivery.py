"""Order, attempts, back-pressure and offsets, with a sink and a Kafka that do as they are told (bridges.md A3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest

from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import KafkaRetriable
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import Rights
from kafka_gateway.services.bridges.dead_letters import DeadLetters
from kafka_gateway.services.bridges.delivery import Delivery, DeliverySettings
from kafka_gateway.services.bridges.outcomes import RetryRules
from tests.services.fake_kafka import FakeRecord
from tests.waiting import PATIENCE_S, until

QUICK = RetryRules(0.001, 1.0, 0.002, 0.0, 3)
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Answer(NamedTuple):
    status: int
    text: str = ""
    retry_after: str = ""


class FakeSink:
    """Answers as ``script`` says: a status, or a future of one, for a body and the number of its attempt."""

    def __init__(self, script: Callable[[bytes, int], Any] = lambda body, attempt: 200) -> None:
        self.script = script
        self.posts: list[bytes] = []
        self.taken: list[bytes] = []
        self.running = self.most = 0

    async def post(self, body: bytes, headers: list[tuple[str, str]]) -> Answer:
        self.posts.append(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            status = self.script(body, self.posts.count(body))
            status = await status if asyncio.isfuture(status) else status
        finally:
            self.running -= 1
        if 200 <= status < 300:
            self.taken.append(body)
        return Answer(status, "words of the sink")


class FakeReader:
    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()
        self.calls: list[str] = []

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= set(partitions)
        self.calls.append("pause")

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= set(partitions)
        self.calls.append("resume")


class FakeProducer:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent: list[tuple[str, OutgoingRecord]] = []

    def ready(self, topic: str, rights: Rights) -> None:
        return None

    def send(self, topic: str, records: Sequence[OutgoingRecord]) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if self.failures:
            future.set_result([self.failures.pop(0)])
        else:
            self.sent.append((topic, records[0]))
            future.set_result([object()])
        return future


def records(partition: int, *bodies: str, first: int = 0, key: bytes | None = None) -> list[FakeRecord]:
    return [
        FakeRecord("t", partition, first + n, OutgoingRecord(key, body.encode(), None, 17, [("X", b"1")]))
        for n, body in enumerate(bodies)
    ]


Make = Callable[..., Delivery]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Delivery] = []

    def make(sink: FakeSink, dead_letters: Any = None, stopped: Any = lambda: None, **settings: Any) -> Delivery:
        delivery = Delivery(DeliverySettings("b", **{"retry": QUICK, **settings}), sink, dead_letters, stopped)
        delivery.reader = FakeReader()  # type: ignore[assignment]
        delivery.assigned([P0, P1])
        made.append(delivery)
        return delivery

    yield make
    for delivery in made:
        await delivery.aclose(0)
        assert not delivery.at_work
        assert not delivery._lanes


def positions(delivery: Delivery) -> dict[int, int]:
    return {partition: offset for _, partition, offset, _ in delivery.uncommitted()}


async def test_a_partition_is_posted_in_order_and_holds_up_no_other(make: Make) -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sink = FakeSink(lambda body, attempt: gate if body == b"a0" else 200)
    delivery = make(sink)
    delivery.records([*records(0, "a0", "a1", "a2"), *records(1, "b0", "b1", first=5)])
    await until(lambda: positions(delivery) == {1: 7})
    assert sink.taken == [b"b0", b"b1"]
    assert sink.posts.count(b"a0") == 1
    assert b"a1" not in sink.posts
    gate.set_result(200)
    await until(lambda: positions(delivery) == {0: 3, 1: 7})
    assert sink.taken[2:] == [b"a0", b"a1", b"a2"]
    delivery.committed([PartitionOffset("t", 0, 3)])
    assert positions(delivery) == {1: 7}


async def test_a_key_under_retry_holds_up_itself_alone_and_the_commit(make: Make) -> None:
    well = False
    sink = FakeSink(lambda body, attempt: 200 if well or not body.startswith(b"sick") else 503)
    delivery = make(sink, ordering="key")
    delivery.records(records(0, "fine0", key=b"fine"))
    delivery.records(records(0, "sick0", "sick1", first=1, key=b"sick"))
    delivery.records(records(0, "fine1", "fine2", first=3, key=b"fine"))
    await until(lambda: sink.taken == [b"fine0", b"fine1", b"fine2"] and sink.posts.count(b"sick0") > 5)
    assert positions(delivery) == {0: 1}
    assert b"sick1" not in sink.posts
    well = True
    await until(lambda: positions(delivery) == {0: 5})
    assert sink.taken[3:] == [b"sick0", b"sick1"]


async def test_without_order_so_many_go_at_once_as_may(make: Make) -> None:
    sink = FakeSink()
    delivery = make(sink, ordering="none", max_concurrency=4)
    delivery.records(records(0, *map(str, range(50))))
    await until(lambda: positions(delivery) == {0: 50})
    assert sink.most == 4


async def test_null_keys_keep_the_order_of_their_partition(make: Make) -> None:
    sink = FakeSink()
    delivery = make(sink, ordering="key")
    bodies = [str(n) for n in range(30)]
    delivery.records(records(0, *bodies))
    await until(lambda: positions(delivery) == {0: 30})
    assert sink.taken == [body.encode() for body in bodies]


async def test_attempts_until_it_is_taken(make: Make) -> None:
    sink = FakeSink(lambda body, attempt: [500, 0, 429, 200][attempt - 1])
    delivery = make(sink, retry=RetryRules(0.03, 1.0, 0.03, 0.0, 10))
    delivery.records(records(0, "a"))
    await until(lambda: bool(delivery.trouble))
    assert "t-0 offset 0, attempt 1: status 500: words of the sink" in delivery.trouble
    await until(lambda: positions(delivery) == {0: 1})
    counters = delivery.counters
    assert (counters.attempts, counters.delivered) == (4, 1)
    assert counters.posts == {"5xx": 1, "none": 1, "4xx": 1, "2xx": 1}
    assert delivery.trouble == ""


@pytest.mark.parametrize("status", [500, 400])
async def test_block_is_the_default_and_loses_nothing(make: Make, status: int) -> None:
    well = False
    sink = FakeSink(lambda body, attempt: 200 if well else status)
    delivery = make(sink)
    delivery.records(records(0, "a", "b"))
    await until(lambda: len(sink.posts) > 10)
    assert positions(delivery) == {}
    assert set(sink.posts) == {b"a"}
    well = True
    await until(lambda: sink.taken == [b"a", b"b"])


async def test_drop_must_be_asked_for_and_is_counted(make: Make) -> None:
    sink = FakeSink(lambda body, attempt: 404 if body == b"a" else 200)
    delivery = make(sink, retry=RetryRules(on_permanent="drop"))
    delivery.records(records(0, "a", "b"))
    await until(lambda: positions(delivery) == {0: 2})
    assert (sink.posts, delivery.counters.dropped_records) == ([b"a", b"b"], 1)


async def test_stop_leaves_the_record_where_it_is(make: Make) -> None:
    stopped = asyncio.Event()
    sink = FakeSink(lambda body, attempt: 400 if body == b"b" else 200)
    delivery = make(sink, stopped=stopped.set, retry=RetryRules(on_permanent="stop"))
    delivery.records(records(0, "a", "b", "c"))
    async with asyncio.timeout(PATIENCE_S):
        await stopped.wait()
    assert await delivery.aclose(1) == [PartitionOffset("t", 0, 1)]
    assert sink.posts == [b"a", b"b"]


async def test_a_dead_letter_is_the_record_and_its_story(make: Make) -> None:
    producer = FakeProducer(KafkaRetriable("away"), KafkaRetriable("still away"))
    rules = RetryRules(0.05, 1.0, 0.05, 0.0, 2, on_exhausted="dlq")
    delivery = make(FakeSink(lambda body, attempt: 503), DeadLetters(producer, "dead"), retry=rules)  # type: ignore[arg-type]
    delivery.records(records(0, "a", first=40, key=b"k"))
    await until(lambda: len(producer.failures) == 1)
    assert positions(delivery) == {}  # only when Kafka has it
    await until(lambda: positions(delivery) == {0: 41})
    ((topic, letter),) = producer.sent
    assert (topic, letter.key, letter.value, letter.headers[0]) == ("dead", b"k", b"a", ("X", b"1"))  # type: ignore[index]
    story = dict(letter.headers[1:])  # type: ignore[index]
    assert story.pop("gw.dlq.failed-at").startswith(b"20")
    assert story == {
        "gw.dlq.topic": b"t", "gw.dlq.partition": b"0", "gw.dlq.offset": b"40", "gw.dlq.timestamp": b"17",
        "gw.dlq.attempts": b"2", "gw.dlq.status": b"503", "gw.dlq.error": b"words of the sink",
    }  # fmt: skip
    assert delivery.counters.dead_letters == 1


async def test_too_much_pauses_and_half_of_it_resumes(make: Make) -> None:
    gates: dict[bytes, asyncio.Future[int]] = {}
    loop = asyncio.get_running_loop()
    sink = FakeSink(lambda body, attempt: gates.setdefault(body, loop.create_future()))
    delivery = make(sink, max_records=8, ordering="none", max_concurrency=99)
    reader: FakeReader = delivery.reader  # type: ignore[assignment]
    delivery.records(records(0, "0", "1", "2"))
    assert not reader.paused
    delivery.records(records(0, "3", first=3))
    assert reader.paused == {P0}  # its share of the two partitions
    delivery.records(records(1, *"abcd"))
    assert reader.paused == {P0, P1}
    await until(lambda: len(gates) == 8)
    for body in (b"0", b"1", b"2"):
        gates[body].set_result(200)
        await until(lambda body=body: body in sink.taken)  # type: ignore[misc]
    assert reader.paused == {P0, P1}  # over half of all
    gates[b"3"].set_result(200)
    await until(lambda: reader.paused == {P1})


async def test_bytes_pause_as_well(make: Make) -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    delivery = make(FakeSink(lambda body, attempt: gate), max_bytes=10_000)
    reader: FakeReader = delivery.reader  # type: ignore[assignment]
    delivery.records(records(0, "x" * 20_000))
    assert reader.paused == {P0, P1}
    gate.set_result(200)
    await until(lambda: not reader.paused)


async def test_a_revoked_partition_waits_for_what_was_sent_and_begins_nothing(make: Make) -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sink = FakeSink(lambda body, attempt: gate if body == b"b" else 500 if body == b"y" else 200)
    delivery = make(sink, retry=RetryRules(60, 1, 60, 0))
    delivery.records([*records(0, "a", "b", "c"), *records(1, "x", "y", "z")])
    await until(lambda: delivery.counters.retrying == 1 and b"b" in sink.posts)
    revoking = asyncio.ensure_future(delivery.revoked([P0, P1]))
    await until(lambda: delivery.counters.retrying == 0)  # the pause of y ends at once
    assert not revoking.done()
    gate.set_result(200)
    assert sorted(await revoking) == [PartitionOffset("t", 0, 2), PartitionOffset("t", 1, 1)]
    await until(lambda: not delivery.at_work)
    assert sink.posts == [b"a", b"x", b"b", b"y"] or set(sink.posts) == {b"a", b"x", b"b", b"y"}
    delivery.records(records(0, "d", first=3))  # what was on its way belongs to the next owner
    assert not delivery.at_work
    delivery.assigned([P0])
    delivery.records(records(0, "c", first=2))
    await until(lambda: positions(delivery) == {0: 3})


async def test_what_a_bridge_that_ends_has_done_is_told_to_the_group_that_takes_it_away(make: Make) -> None:
    """A rebalance does not wait until the end has committed it, and the next owner asks where it begins."""
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sink = FakeSink(lambda body, attempt: gate if body == b"b" else 200)
    delivery = make(sink)
    delivery.records(records(0, "a", "b", "c"))
    await until(lambda: b"b" in sink.posts)
    ending = asyncio.ensure_future(delivery.aclose(30))
    await asyncio.sleep(0)
    delivery.assigned([TopicPartition("t", 2)])
    delivery.records(records(2, "late"))  # nobody would commit it
    gate.set_result(200)
    assert await ending == [PartitionOffset("t", 0, 2)]
    assert await delivery.revoked([P0, P1, TopicPartition("t", 2)]) == [PartitionOffset("t", 0, 2)]
    assert sink.posts == [b"a", b"b"]


async def test_a_post_that_hangs_is_given_up_at_revocation(make: Make) -> None:
    sink = FakeSink(lambda body, attempt: asyncio.get_running_loop().create_future())
    delivery = make(sink, revoke_timeout_s=0.05)
    delivery.records(records(0, "a"))
    await until(lambda: sink.running == 1)
    assert await delivery.revoked([P0]) == []
    await until(lambda: sink.running == 0 and not delivery.at_work)


async def test_lost_partitions_are_dropped_at_once(make: Make) -> None:
    sink = FakeSink(lambda body, attempt: asyncio.get_running_loop().create_future() if body == b"b" else 200)
    delivery = make(sink)
    delivery.records(records(0, "a", "b", "c"))
    await until(lambda: sink.running == 1 and sink.posts[-1] == b"b")
    delivery.lost([P0])
    assert delivery.uncommitted() == []
    await until(lambda: sink.running == 0 and not delivery.at_work)
    assert sink.posts == [b"a", b"b"]


@pytest.mark.timing
async def test_the_end_does_not_wait_for_a_pause(make: Make) -> None:
    delivery = make(FakeSink(lambda body, attempt: 503), retry=RetryRules(120, 1, 120, 0))
    delivery.records(records(0, "a"))
    await until(lambda: delivery.counters.retrying == 1)
    began = time.monotonic()
    assert await delivery.aclose(30) == []
    assert time.monotonic() - began < 1


async def test_a_mistake_of_ours_stops_a_partition_and_loses_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def script(body: bytes, attempt: int) -> int:
        if body == b"b":
            raise RuntimeError("a bug")
        return 200

    sink = FakeSink(script)
    delivery = make(sink)
    delivery.records([*records(0, "a", "b", "c"), *records(1, "x")])
    await until(lambda: positions(delivery) == {0: 1, 1: 1} and not delivery.at_work)
    assert b"c" not in sink.posts
    assert "its partition stops here" in caplog.text


async def test_a_record_that_cannot_be_read_holds_the_offset(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Poison(FakeRecord):
        def headers(self) -> None:
            raise SystemError("the binding gives up")

    sink = FakeSink()
    delivery = make(sink)
    poison = Poison("t", 0, 1, OutgoingRecord(None, b"b"))
    delivery.records(records(0, "a"))
    await until(lambda: positions(delivery) == {0: 1})
    delivery.records([poison, *records(0, "c", first=2), *records(1, "x")])
    await until(lambda: positions(delivery) == {0: 1, 1: 1} and not delivery.at_work)
    delivery.records(records(0, "d", first=3))
    assert sorted(sink.posts) == [b"a", b"x"]
    assert "its partition stops here" in caplog.text
