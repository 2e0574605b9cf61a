"""Pushes of several consumers at the end of one topic share a reader (gateway/kafka/consuming/push_reads.py)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import TakenBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Opener, Position, Topic, limits, places, places_of, read_until
from tests.waiting import PATIENCE_S, until

PUSH = dataclasses.replace(limits(10.0), kind="push")
COUNT = 4
WRITTEN: Counter[str] = Counter()
"""Records of each topic."""


class Pushed:
    """A client with a push subscription, which confirms what it gets. ``at_once``: it takes what it can while it waits
    (`Consumer.take`), and confirms that later."""

    def __init__(self, consumer: KafkaConsumer, at_once: bool = False) -> None:
        self.consumer = consumer
        self.at_once = at_once
        self.count_at_once = 0
        self.found: list[Position] = []
        self.keeps = False
        """Whether the next records are not confirmed."""
        self.kept: asyncio.Future[TakenBatch] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            taken = await self.consumer.take(PUSH, places, self._take_at_once if self.at_once else None)
            if self.keeps:
                self.kept.set_result(taken)
                return
            self.confirm(taken)

    def _take_at_once(self, taken: TakenBatch) -> bool:
        if self.keeps:
            self.kept.set_result(taken)
        else:
            asyncio.get_running_loop().call_soon(self.confirm, taken)
        self.count_at_once += 1
        return True

    def confirm(self, taken: TakenBatch) -> None:
        self.found += places_of(taken.batch.records)
        taken.confirm()

    async def keep(self, topic: Topic) -> TakenBatch:
        """Stops with a record that came from the shared reader, unconfirmed."""
        self.keeps = True
        assert self.is_fed
        await write(topic, 1)
        return await self.kept

    def go_on(self) -> None:
        """Confirms what comes again."""
        self.keeps = False
        if self.task.done():
            self.task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    @property
    def is_fed(self) -> bool:
        pushes = self.consumer._pushes
        return pushes is not None and pushes.is_fed


async def shared(pushed: list[Pushed], topic: Topic) -> None:
    """Writes a record at a time until all have the shared reader's."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(each.is_fed for each in pushed):
            await write(topic, 1)
            await asyncio.sleep(0.05)  # time itself: some twenty a second are enough


async def write(topic: Topic, count: int, partition: int = 0) -> None:
    WRITTEN[topic.name] += count
    await asyncio.to_thread(topic.write, [b"x"] * count, partition)


@pytest.fixture(params=[False, True], ids=["by reads", "at once"])
async def pushed(filled: Topic, open_consumer: Opener, request: pytest.FixtureRequest) -> AsyncIterator[list[Pushed]]:
    """Clients that share a reader; each is assigned all partitions."""
    clients = []
    for _ in range(COUNT):
        consumer = await open_consumer()
        await consumer.assign([TopicPartition(filled.name, partition) for partition in range(4)])
        clients.append(Pushed(consumer, request.param))
    for partition in range(4):
        await write(filled, 1, partition)
    await until(lambda: _all(lambda: all(len(each.found) >= 4 for each in clients)))
    await shared(clients, filled)
    await until(lambda: _all(lambda: all(len(each.found) == WRITTEN[filled.name] for each in clients)))
    yield clients
    for each in clients:
        await each.stop()


async def _all(condition: Callable[[], bool]) -> bool:
    return condition()


async def have(clients: list[Pushed], count: int) -> None:
    """Waits until each has so many records, and sees that each has all in order and once."""
    await until(lambda: _all(lambda: all(len(each.found) >= count for each in clients)))
    for each in clients:
        assert len(each.found) == count
        for partition in range(4):
            offsets = [offset for place, offset in each.found if place == partition]
            assert offsets == list(range(len(offsets)))


async def test_every_record_once_and_in_order(filled: Topic, pushed: list[Pushed]) -> None:
    for partition in (0, 1, 2, 3, 0, 3):
        await write(filled, 40, partition)
    await have(pushed, WRITTEN[filled.name])
    assert all(each.is_fed for each in pushed)
    assert all(bool(each.count_at_once) == each.at_once for each in pushed)
    consumer = pushed[0].consumer
    await consumer.commit()
    stored = await consumer.committed([TopicPartition(filled.name, partition) for partition in range(4)])
    last = dict(pushed[0].found)
    assert {each.partition: each.offset for each in stored} == {place: offset + 1 for place, offset in last.items()}


async def test_what_is_put_back_comes_again(filled: Topic, pushed: list[Pushed]) -> None:
    client = pushed[0]
    taken = await client.keep(filled)
    (place,) = places_of(taken.batch.records)
    assert client.is_fed
    await client.consumer.commit()
    stored = await client.consumer.committed([TopicPartition(filled.name, 0)])
    assert [each.offset for each in stored] == [place[1]]
    taken.put_back()
    await client.stop()
    await write(filled, 2)
    assert await read_until(client.consumer, 3) == [(0, place[1]), (0, place[1] + 1), (0, place[1] + 2)]


async def test_nothing_comes_before_the_one_before_is_settled(filled: Topic, pushed: list[Pushed]) -> None:
    client, others = pushed[0], pushed[1:]
    taken = await client.keep(filled)
    await write(filled, 3)
    await until(lambda: _all(lambda: all(len(each.found) == WRITTEN[filled.name] for each in others)))
    assert len(client.found) == WRITTEN[filled.name] - 4
    client.confirm(taken)
    client.go_on()
    await have(pushed, WRITTEN[filled.name])
    assert client.is_fed


async def test_one_that_is_cancelled_with_records_out_loses_none(filled: Topic, pushed: list[Pushed]) -> None:
    client = pushed[0]
    taken = await client.keep(filled)
    await write(filled, 1)
    await client.stop()
    client.confirm(taken)
    again = Pushed(client.consumer, client.at_once)
    again.found = client.found
    await have([*pushed[1:], again], WRITTEN[filled.name])
    await again.stop()


async def test_a_read_beside_pushes_gets_records_and_none_twice(filled: Topic, pushed: list[Pushed]) -> None:
    client = pushed[0]
    reading = asyncio.ensure_future(read_until(client.consumer, 1))
    await asyncio.sleep(0)
    while not reading.done():
        await write(filled, 1)
        await asyncio.sleep(0.01)  # time itself: a record at a time
    client.found += await reading
    await shared(pushed, filled)
    await until(lambda: _all(lambda: len(client.found) >= WRITTEN[filled.name]))
    offsets = sorted(offset for partition, offset in client.found if partition == 0)
    assert offsets == list(range(len(offsets)))


async def test_a_seek(filled: Topic, pushed: list[Pushed]) -> None:
    client = pushed[0]
    had = len(client.found)
    await client.consumer.seek([PartitionOffset(filled.name, 0, 0)])
    await until(lambda: _all(lambda: len(client.found) > had))
    assert client.found[had] == (0, 0)
    await shared(pushed, filled)


async def test_one_that_does_not_keep_up_falls_behind_and_comes_back(filled: Topic, pushed: list[Pushed]) -> None:
    slow, others = pushed[0], pushed[1:]
    taken = await slow.keep(filled)
    await write(filled, 700)
    await until(lambda: _all(lambda: not slow.is_fed))
    assert all(each.is_fed for each in others)
    slow.confirm(taken)
    slow.go_on()
    await shared(pushed, filled)
    await have(pushed, WRITTEN[filled.name])


@pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)
async def test_a_member_that_comes_takes_its_part(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str]
) -> None:
    # The mock cluster refuses commits while a group changes.
    groups = [unique("group") for _ in range(3)]
    clients = []
    for group in groups:
        consumer = await open_consumer(group, auto_commit=True)
        await consumer.subscribe([filled.name])
        clients.append(Pushed(consumer))
    await write(filled, 1)
    await until(lambda: _all(lambda: all(each.found for each in clients)))
    await shared(clients, filled)
    newcomer = await open_consumer(groups[0], auto_commit=True)
    await newcomer.subscribe([filled.name])
    second = Pushed(newcomer)
    await until(lambda: _shares(clients[0].consumer, newcomer))
    had = len(clients[1].found)
    for partition in range(4):
        await write(filled, 10, partition)
    await until(lambda: _all(lambda: len(clients[1].found) >= had + 40))
    last = dict(clients[1].found)
    await until(lambda: _all(lambda: last.items() <= (dict(clients[0].found) | dict(second.found)).items()))
    both = clients[0].found + second.found
    assert len(both) == len(set(both)), "what was returned is committed before the partition goes"
    for each in (*clients, second):
        await each.stop()


async def _shares(one: KafkaConsumer, other: KafkaConsumer) -> bool:
    return bool(await one.assignment()) and bool(await other.assignment())
