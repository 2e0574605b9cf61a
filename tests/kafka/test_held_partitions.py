"""What is paused inside librdkafka must never outlive the reason for it: rebalances, new assignments, idle readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.consuming import consumer_thread
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from tests.kafka.conftest import Opener, Topic, limits, places, places_of, read_until
from tests.kafka.group_work import Work
from tests.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_thread, "PAUSE_AFTER_S", 0.05)
    monkeypatch.setattr(consumer_thread, "IDLE_S", 0.02)


async def idle(consumer: object) -> None:
    """Until the instance has paused its partitions."""
    inner = consumer._worker._client  # type: ignore[attr-defined]
    await until(lambda: inner.all_held)


async def test_the_same_assignment_again_after_a_pause(filled: Topic, open_consumer: Opener) -> None:
    filled.write([b"0", b"1", b"2", b"3"])
    consumer = await open_consumer()
    place = [TopicPartition(filled.name, 0)]
    await consumer.assign(place)
    assert places_of((await consumer.read(limits(5, max_bytes=1), places)).records) == [(0, 0)]
    await idle(consumer)
    await consumer.assign(place)
    assert await read_until(consumer, 4, within_s=PATIENCE_S) == [(0, offset) for offset in range(4)]


async def test_a_new_subscription_after_a_pause(filled: Topic, open_consumer: Opener) -> None:
    filled.write([b"0", b"1", b"2", b"3"])
    consumer = await open_consumer()
    await consumer.subscribe([filled.name])
    async with asyncio.timeout(PATIENCE_S):
        while not (batch := await consumer.read(limits(1, max_bytes=1), places)).records:
            pass
    assert places_of(batch.records) == [(0, 0)]
    await idle(consumer)
    await consumer.unsubscribe()
    await consumer.subscribe([filled.name])
    assert await read_until(consumer, 4, within_s=PATIENCE_S) == [(0, offset) for offset in range(4)]


@pytest.mark.timing
async def test_reading_goes_on_at_once_after_a_pause(filled: Topic, open_consumer: Opener) -> None:
    """`resume` alone lets a partition wait for up to a second."""
    filled.write([b"0", b"1", b"2"])
    consumer = await open_consumer()
    await consumer.assign([TopicPartition(filled.name, 0)])
    worst = 0.0
    for offset in range(3):
        start = asyncio.get_running_loop().time()
        assert places_of((await consumer.read(limits(5, max_bytes=1), places)).records) == [(0, offset)]
        if offset:
            worst = max(worst, asyncio.get_running_loop().time() - start)
        if offset < 2:
            await idle(consumer)
    assert worst < 0.5


async def test_another_member_comes_and_goes_while_nobody_reads(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str]
) -> None:
    filled.write([b"0", b"1", b"2", b"3"])
    group = unique("group")
    first = await open_consumer(group)
    await first.subscribe([filled.name])
    async with asyncio.timeout(PATIENCE_S):
        while not (await first.read(limits(1, max_bytes=1), places)).records:
            pass
    await idle(first)
    second = await open_consumer(group)
    await second.subscribe([filled.name])

    async def shared() -> bool:
        await second.read(limits(0.05), places)
        return bool(await second.assignment()) and len(await first.assignment()) < 4

    await until(shared, 30)
    await second.close()

    async def alone() -> bool:
        return len(await first.assignment()) == 4

    await until(alone, 30)
    assert await read_until(first, 4, within_s=PATIENCE_S) == [(0, offset) for offset in range(4)]


@pytest.fixture
async def group_reader(
    cluster: KafkaCluster, filled: Topic, unique: Callable[..., str]
) -> AsyncIterator[tuple[Work, str]]:
    work, group = Work(), unique("group")
    work.pausing = True
    settings = ConsumerSettings(group, "test", auto_offset_reset="earliest", auto_commit=False)
    work.reader = await cluster.group_reader(settings, [filled.name], work)
    yield work, group
    await work.reader.close()


async def test_partitions_that_were_paused_flow_when_they_come_back(
    filled: Topic, cluster: KafkaCluster, group_reader: tuple[Work, str]
) -> None:
    work, group = group_reader
    for partition in range(4):
        filled.write([b"0"], partition)

    async def got(count: int) -> bool:
        return len(set(work.found)) >= count

    await until(lambda: got(1), 20)
    other = Work()
    settings = ConsumerSettings(group, "other", auto_offset_reset="earliest", auto_commit=False)
    reader = await cluster.group_reader(settings, [filled.name], other)

    async def shared() -> bool:
        return len(other.mine) == 2 and len(work.mine) == 2

    await until(shared, 30)
    work.pausing = False
    await reader.close()

    async def alone() -> bool:
        return len(work.mine) == 4

    await until(alone, 30)
    work.found.clear()
    assert work.reader is not None
    work.reader.resume(work.mine)
    for partition in range(4):
        await asyncio.to_thread(filled.write, [b"1"], partition)

    async def all_new() -> bool:
        return {(partition, 1) for partition in range(4)} <= set(work.found)

    await until(all_new, 10)
    assert work.failures == []
