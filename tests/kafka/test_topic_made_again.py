"""A topic is deleted and made again while it is read: its new records come from the beginning, whoever reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.records import RecordBatch
from tests.kafka.conftest import Opener, Position, Topic, limits, places, places_of
from tests.kafka.group_work import Work
from tests.waiting import until

pytestmark = pytest.mark.broker
OLD = 20


@pytest.fixture
def bootstrap(kafka: object) -> str:
    return str(kafka.bootstrap)  # type: ignore[attr-defined]


@pytest.fixture
async def old(bootstrap: str, topic: str) -> Topic:
    """A topic of one partition with `OLD` records."""
    await asyncio.to_thread(make, bootstrap, topic)
    made = Topic(bootstrap, topic)
    await asyncio.to_thread(made.write, [b"old"] * OLD)
    return made


def make(bootstrap: str, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)], request_timeout=10)[topic].result()


async def make_again(old: Topic, count: int) -> None:
    """Has a topic of the same name, with so many records."""

    def again() -> None:
        client = AdminClient({"bootstrap.servers": old.bootstrap})
        client.delete_topics([old.name], request_timeout=10)[old.name].result()
        while old.name in client.list_topics(timeout=5).topics:
            pass
        make(old.bootstrap, old.name)
        old.renew()
        old.write([b"new"] * count)

    await asyncio.to_thread(again)


async def seen(cluster: KafkaCluster, topic: str) -> None:
    """Until the watch has looked at the topic for the first time."""
    await cluster.admin.directory.look()
    assert topic


class Listener:
    def __init__(self) -> None:
        self.found: list[Position] = []
        self.gone: list[TopicPartition] = []
        self.failures: list[ServiceError] = []

    def records(self, batch: RecordBatch) -> None:
        self.found += places_of(batch.records)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.gone += partitions

    def failed(self, error: ServiceError) -> None:
        self.failures.append(error)


@pytest.mark.parametrize("new", [OLD // 2, OLD * 2], ids=["shorter", "longer"])
@pytest.mark.parametrize("reset", ["latest", "earliest"])
@pytest.mark.parametrize("how", ["assign", "subscribe"])
async def test_an_instance(
    old: Topic, cluster: KafkaCluster, open_consumer: Opener, how: str, reset: str, new: int
) -> None:
    consumer = await open_consumer(reset=reset, auto_commit=True)
    place = TopicPartition(old.name, 0)
    await (consumer.assign([place]) if how == "assign" else consumer.subscribe([old.name]))

    before: list[Position] = []

    async def assigned() -> bool:
        before.extend(places_of((await consumer.read(limits(0.05), places)).records))
        return bool(await consumer.assignment()) and (reset == "latest" or len(before) == OLD)

    await until(assigned)
    if reset == "latest":
        # librdkafka finds the end of an assigned partition by itself, when the coordinator answers.
        async with asyncio.timeout(20):
            while not (await consumer.read(limits(0.2), places)).records:
                await asyncio.to_thread(old.write, [b"old"])
    await seen(cluster, old.name)
    await make_again(old, new)
    found: list[Position] = []
    async with asyncio.timeout(30):
        while not set(found) >= {(0, offset) for offset in range(new)}:
            found += places_of((await consumer.read(limits(0.5), places)).records)
    if new < OLD and reset == "earliest":
        # librdkafka has gone to the beginning by itself, or had not come to it: nothing comes twice.
        found += places_of((await consumer.read(limits(2.5), places)).records)
        assert found == [(0, offset) for offset in range(new)]


@pytest.mark.parametrize("new", [OLD // 2, OLD * 2], ids=["shorter", "longer"])
async def test_a_bridge(old: Topic, cluster: KafkaCluster, unique: Callable[..., str], new: int) -> None:
    work = Work()
    settings = ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", auto_commit=False)
    reader = await cluster.group_reader(settings, [old.name], work)

    async def all_old() -> bool:
        return len(work.found) == OLD

    await until(all_old)
    await seen(cluster, old.name)
    work.found.clear()
    await make_again(old, new)

    async def all_new() -> bool:
        return set(work.found) >= {(0, offset) for offset in range(new)}

    await until(all_new, 30)
    assert work.mine == {TopicPartition(old.name, 0)}
    await reader.close()


@pytest.mark.parametrize("new", [OLD // 2, OLD * 2], ids=["shorter", "longer"])
@pytest.mark.parametrize("members", [1, 4])
async def test_members_of_groups(
    old: Topic, cluster: KafkaCluster, unique: Callable[..., str], new: int, members: int
) -> None:
    listeners = [Listener() for _ in range(members)]
    for listener in listeners:
        settings = ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", auto_commit=False)
        member = await cluster.member(settings, old.name, listener, places)
        member.resume()

    async def all_old() -> bool:
        return all(len(listener.found) >= OLD for listener in listeners)

    await until(all_old)
    for _ in range(20):  # until those that are many share a fetcher
        await asyncio.to_thread(old.write, [b"old"])
        await asyncio.sleep(0.05)  # time itself: some twenty a second are enough
    await seen(cluster, old.name)
    for listener in listeners:
        listener.found.clear()
        listener.gone.clear()
    await make_again(old, OLD + 20 + new if new > OLD else new)
    expected = {(0, offset) for offset in range(OLD + 20 + new if new > OLD else new)}

    async def all_new() -> bool:
        return all(set(listener.found) >= expected for listener in listeners)

    await until(all_new, 30)

    async def all_told() -> bool:  # what was sent of the old life cannot be committed
        return all(listener.gone for listener in listeners)

    await until(all_told)
    assert not any(listener.failures for listener in listeners)


async def test_members_read_partitions_that_were_just_added(
    old: Topic, cluster: KafkaCluster, unique: Callable[..., str], open_consumer: Opener
) -> None:
    instance = await open_consumer()
    await instance.subscribe([old.name])
    listener, work = Listener(), Work()

    def settings() -> ConsumerSettings:
        return ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", auto_commit=False)

    (await cluster.member(settings(), old.name, listener, places)).resume()
    reader = await cluster.group_reader(settings(), [old.name], work)

    async def all_assigned() -> bool:
        await instance.read(limits(0.05), places)
        return bool(listener.found and work.found and await instance.assignment())

    await until(all_assigned)
    await seen(cluster, old.name)
    client = AdminClient({"bootstrap.servers": old.bootstrap})
    client.create_partitions([NewPartitions(old.name, 3)])[old.name].result()
    await asyncio.to_thread(old.renew)
    await asyncio.to_thread(old.write, [b"x"], 2)
    found: list[Position] = []

    async def all_there() -> bool:
        found.extend(places_of((await instance.read(limits(0.05), places)).records))
        return all((2, 0) in each for each in (found, listener.found, work.found))

    await until(all_there, 10)
    await reader.close()
