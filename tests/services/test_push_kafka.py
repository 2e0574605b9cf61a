"""Push subscriptions over Kafka itself: on the mock cluster and on a real one (services/rest/push.py)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import confluent_kafka
import pytest

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import EMBEDDED_GROUPS
from kafka_gateway.kafka.cluster import open_kafka
from kafka_gateway.session import Session
from tests.kafka.conftest import is_mock
from tests.keys import BUILTIN_KEYS
from tests.services.conftest import V1, Rest
from tests.services.pushed import Client, create, pushes


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(request.param)
    return server if isinstance(server, str) else str(server.bootstrap)


@pytest.fixture
async def rest(bootstrap: str) -> AsyncIterator[Rest]:
    groups = [f"consumer.{name}={value}" for name, value in EMBEDDED_GROUPS.items()] if is_mock(bootstrap) else []
    overrides = [f"bootstrap.servers={bootstrap}", "consumer.records.max=50", *groups]
    config = load(BUILTIN_KEYS, overrides=overrides)
    async with open_kafka(config) as kafka:
        made = Rest(kafka, config)  # type: ignore[arg-type]
        yield made
        made.services.drain()
        await made.services.registry.close_all()


class Log:
    """A topic, written to from a thread."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    async def write(self, first: int, count: int, pause_s: float = 0.0) -> None:
        """Stores numbers in partition 0, so that they have an order."""
        await asyncio.to_thread(self._write, first, count, pause_s)

    def _write(self, first: int, count: int, pause_s: float) -> None:
        for number in range(first, first + count):
            self._producer.produce(self.topic, b"%d" % number, partition=0)
            if pause_s:
                self._producer.flush(20)
                time.sleep(pause_s)  # time itself: records that come one at a time
        assert self._producer.flush(20) == 0


@pytest.fixture
async def log(bootstrap: str, unique: Callable[..., str]) -> Log:
    """A new topic with one record, the number 0."""
    made = Log(bootstrap, unique("topic"))
    await made.write(0, 1)
    return made


async def test_each_record_comes_once(rest: Rest, log: Log, unique: Callable[..., str]) -> None:
    instance = await create(rest, group=unique("g"))
    client = await Client(rest).subscribe(pushes(instance, log.topic))
    await log.write(1, 700)
    await log.write(701, 100, pause_s=0.001)
    await client.has_values(*range(801))
    assert [record["offset"] for record in client.records] == list(range(801))
    await asyncio.sleep(0)  # the last payload has been written; now its delivery is known
    answer = await rest.post(f"{instance}/offsets", b"", V1)
    assert answer.body == [{"topic": log.topic, "partition": 0, "consumed": 800, "committed": 800}]


async def test_kills_at_random_points_lose_nothing(rest: Rest, log: Log, unique: Callable[..., str]) -> None:
    """The client is told apart from its connection here: what it took, it has; the rest must come again."""
    chance = random.Random(11)
    instance = await create(rest, group=unique("g"))
    last = 3000
    writing = asyncio.ensure_future(log.write(1, last, pause_s=0.0))
    got: list[Any] = []
    kills = 0
    async with asyncio.timeout(50):
        while len(got) <= last:
            client = Client(rest)
            client.breaks_at = chance.choice([None, 1, 2, 5])
            await client.subscribe(pushes(instance, log.topic))
            how = chance.choice(["at once", "after a payload", "while one is being written", "soon"])
            if how == "after a payload":
                await client.has(1)
            elif how == "while one is being written":
                client.room.clear()
                await client.sending.wait()
            elif how == "soon":
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
            await client.leave()
            kills += 1
            got += client.values
    await writing
    assert got == list(range(last + 1))
    assert kills > 20


async def test_a_commit_marks_what_the_next_instance_begins_with(
    rest: Rest, log: Log, unique: Callable[..., str]
) -> None:
    """reliability.md F8: no record is skipped, and none before the commit is repeated."""
    group = unique("g")
    instance = await create(rest, group=group)
    client = await Client(rest).subscribe(pushes(instance, log.topic))
    await client.has_values(0)
    client.room.clear()
    await log.write(1, 10)
    await client.sending.wait()
    await rest.post(f"{instance}/offsets", b"", V1)
    await client.leave()
    assert (await rest.delete(instance, V1)).status == 204
    again = await Client(rest).subscribe(pushes(await create(rest, "again", group), log.topic))
    await again.has_values(*range(1, 11))


async def test_a_replacement_takes_over(rest: Rest, log: Log, unique: Callable[..., str]) -> None:
    instance = await create(rest, group=unique("g"))
    path = pushes(instance, log.topic)
    got: list[Any] = []
    client = await Client(rest).subscribe(path)
    writing = asyncio.ensure_future(log.write(1, 1500))
    for _ in range(10):
        await client.has(3)
        newer = await Client(rest).subscribe(path)
        await client.over()
        got += client.values
        client = newer
    await writing
    await client.has_values(*range(len(got), 1501))
    assert got == list(range(len(got)))


async def test_two_instances_on_one_session(rest: Rest, log: Log, bootstrap: str, unique: Callable[..., str]) -> None:
    other = Log(bootstrap, unique("topic"))
    await other.write(1000, 1)
    session = Session("test")
    one, two = Client(rest, session), Client(rest, session)
    await one.subscribe(pushes(await create(rest, "one", unique("g")), log.topic))
    await two.subscribe(pushes(await create(rest, "two", unique("g")), other.topic))
    one.room.clear()
    await asyncio.gather(log.write(1, 200), other.write(1001, 200))
    await two.has_values(*range(1000, 1201))
    one.room.set()
    await one.has_values(*range(201))


@pytest.mark.timing
@pytest.mark.parametrize(
    "bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True
)  # the mock dozes
async def test_a_record_is_pushed_when_it_comes(rest: Rest, log: Log, unique: Callable[..., str]) -> None:
    """Milliseconds; this holds a shared machine, the benchmark measures."""
    client = await Client(rest).subscribe(pushes(await create(rest, group=unique("g")), log.topic))
    await client.has_values(0)
    delays = []
    for number in range(1, 21):
        began = time.monotonic()
        await log.write(number, 1)
        await client.has_values(*range(number + 1))
        delays.append(time.monotonic() - began)
    assert sorted(delays)[10] < 0.1
