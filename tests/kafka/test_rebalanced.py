"""A consumer tells after each rebalance what it has now, and where reading goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import pytest
from confluent_kafka.admin import AdminClient

from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Topic, limits, places, places_of, read_until
from tests.waiting import until

Told = list[list[PartitionOffset]]


async def member(cluster: KafkaCluster, group: str, reset: str = "latest") -> tuple[KafkaConsumer, Told]:
    told: Told = []

    def rebalanced(positions: Sequence[PartitionOffset], anew: Collection[TopicPartition]) -> None:
        asyncio.get_running_loop()
        told.append(list(positions))

    settings = ConsumerSettings(group, "test", auto_offset_reset=reset, auto_commit=False)
    return await cluster.consumer(settings, rebalanced), told


def partitions(told: Told) -> list[int]:
    return [one.partition for one in told[-1]] if told else []


async def test_positions_are_where_reading_goes_on(
    filled: Topic, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    filled.write([b"0", b"1", b"2"])
    filled.write([b"0"], partition=1)
    group = unique("group")
    first, told = await member(cluster, group)
    await first.commit([PartitionOffset(filled.name, 0, 2)])
    await first.subscribe([filled.name])
    await until(lambda: partitions(told) == [0, 1, 2, 3])
    assert [one.offset for one in told[-1]] == [2, 1, 0, 0]  # committed, the end of the others
    filled.write([b"new"], partition=1)
    assert sorted(await read_until(first, 2)) == [(0, 2), (1, 1)]


@pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)
async def test_each_member_is_told_of_its_share(
    filled: Topic, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    filled.write([b"0", b"1", b"2"])
    filled.write([b"0"], partition=3)
    group = unique("group")
    first, told = await member(cluster, group, "earliest")
    await first.subscribe([filled.name])
    await until(lambda: partitions(told) == [0, 1, 2, 3])
    assert len(await read_until(first, 4)) == 4
    await first.commit()
    second, told_second = await member(cluster, group, "earliest")
    await second.subscribe([filled.name])

    async def poll(consumer: KafkaConsumer) -> list[tuple[int, int]]:
        return places_of((await consumer.read(limits(0.1), places)).records)

    async with asyncio.timeout(25):
        while not (len(partitions(told)) == 2 and len(partitions(told_second)) == 2):
            await poll(first)
            await poll(second)
    assert sorted(partitions(told) + partitions(told_second)) == [0, 1, 2, 3]
    offsets = {one.partition: one.offset for one in told[-1] + told_second[-1]}
    assert offsets == {0: 3, 1: 0, 2: 0, 3: 1}
    assert [] in told, "it hears at once that its partitions are gone, not only what it gets instead"
    await second.close()
    await until(lambda: partitions(told) == [0, 1, 2, 3])


@pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)
async def test_a_place_that_was_taken_over_and_not_used_is_given_back(
    bootstrap: str, filled: Topic, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    """Else nobody would have its partitions for the session timeout of 45 s, as after the move of an instance that is
    deleted before it is read again."""
    filled.write([b"0"])
    group = unique("group")
    settings = ConsumerSettings(group, "test", auto_offset_reset="earliest", auto_commit=False, instance_id="one")
    admin = AdminClient({"bootstrap.servers": bootstrap})

    async def members() -> int:
        described = await asyncio.to_thread(admin.describe_consumer_groups([group])[group].result)
        return len(described.members)

    async def is_empty() -> bool:
        return await members() == 0

    first = await cluster.consumer(settings)
    await first.subscribe([filled.name])
    await read_until(first, 1)
    await first.close(leave=False)
    assert await members() == 1
    second = await cluster.consumer(settings)
    await second.subscribe([filled.name])
    await second.close()
    await until(is_empty, within_s=20)


@pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)
async def test_a_consumer_ends_when_another_one_has_its_place(
    filled: Topic, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    """It could neither read nor commit again, and whoever has it would wait for ever."""
    filled.write([b"0"])
    settings = ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", instance_id="one")
    first, second = [await cluster.consumer(settings) for _ in range(2)]
    await first.subscribe([filled.name])
    await read_until(first, 1)
    await second.subscribe([filled.name])
    assert await second.joined(20)
    await until(lambda: first.closed, within_s=20)
    assert not second.closed
