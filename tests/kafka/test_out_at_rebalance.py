"""A consumer gives its partitions up while records of theirs are out: those that are accepted do not come again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from kafka_gateway.errors import NotSubscribed
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import TakenBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Opener, Topic, limits, places
from tests.kafka.test_push_reads import Pushed, shared
from tests.waiting import until


class Leaving:
    """A consumer that leaves its group while three records of its are out."""

    def __init__(self, consumer: KafkaConsumer, other: KafkaConsumer, topic: str) -> None:
        self.consumer, self.other, self.place = consumer, other, TopicPartition(topic, 0)

    async def begin(self) -> TakenBatch:
        await self.consumer.subscribe([self.place.topic])
        while len((taken := await self.consumer.take(limits(20), places)).batch) < 3:  # they may come one by one
            taken.put_back()
        self.left = asyncio.ensure_future(self.consumer.unsubscribe())
        await asyncio.sleep(0)  # its thread is asked
        return taken

    async def committed(self) -> list[PartitionOffset]:
        await self.left
        async with asyncio.timeout(20):
            while self.consumer._worker._client.commits.on_their_way:  # noqa: ASYNC110  # the thread tells nobody
                await asyncio.sleep(0.01)  # time itself: so often is enough
        return await self.other.committed([self.place])


@pytest.fixture
async def leaving(filled: Topic, open_consumer: Opener, unique: Callable[..., str]) -> Leaving:
    filled.write([b"0", b"1", b"2"])
    group = unique("group")
    return Leaving(await open_consumer(group, auto_commit=True), await open_consumer(group), filled.name)


async def test_what_was_accepted_without_its_thread_having_heard_of_it_is_committed(leaving: Leaving) -> None:
    (await leaving.begin()).confirm()
    assert await leaving.committed() == [PartitionOffset(*leaving.place, 3)]


async def test_a_client_that_is_just_taking_it_is_waited_for(leaving: Leaving) -> None:
    taken = await leaving.begin()
    await asyncio.sleep(0.05)  # time itself: its thread waits for less than that
    taken.confirm()
    assert await leaving.committed() == [PartitionOffset(*leaving.place, 3)]


async def test_what_is_given_back_is_not_committed(leaving: Leaving) -> None:
    (await leaving.begin()).put_back()
    assert await leaving.committed() == [PartitionOffset(*leaving.place, 0)]


async def test_a_client_that_takes_nothing_holds_nobody_up(leaving: Leaving) -> None:
    taken = await leaving.begin()
    assert await leaving.committed() == [PartitionOffset(*leaving.place, 0)]
    taken.confirm()  # too late
    assert await leaving.committed() == [PartitionOffset(*leaving.place, 0)]


@pytest.mark.parametrize("accepted", [True, False])
async def test_what_a_shared_reader_has_brought(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str], accepted: bool
) -> None:
    clients, group = [], unique("group")
    for number in range(3):
        consumer = await open_consumer(group if number == 0 else None, auto_commit=True)
        await consumer.subscribe([filled.name])
        assert await consumer.joined(20)
        clients.append(Pushed(consumer, at_once=True))
    await shared(clients, filled)
    first, place = clients[0], TopicPartition(filled.name, 0)
    taken = await first.keep(filled)
    at = (first.found or [(0, -1)])[-1][1] + 1
    worker = first.consumer._worker
    left = worker.ask(worker.unsubscribe)  # as when its group shares out anew: the loop does not know before
    await asyncio.sleep(0.05)  # time itself: its thread waits for less than that
    if accepted:
        taken.confirm()
    await left
    other = await open_consumer(group)

    async def is_committed() -> bool:
        return await other.committed([place]) == [PartitionOffset(*place, at + len(taken.batch) if accepted else at)]

    await until(is_committed)
    with contextlib.suppress(NotSubscribed):
        await first.stop()
    for each in clients[1:]:
        await each.stop()
