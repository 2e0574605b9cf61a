"""Questions about topics: unknown names leave nothing behind, new partitions are noticed, probes do not queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.topics import TopicInfo
from kafka_gateway.kafka_errors import UnknownTopicTimeout
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from tests.kafka.conftest import Topic
from tests.waiting import until

broker = pytest.mark.parametrize("bootstrap", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True)


async def test_unknown_names_cost_the_same_for_ever(cluster: KafkaCluster, unique: Callable[..., str]) -> None:
    """They slowed an admin client down to a tenth after 300 of them."""

    async def ask(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            with pytest.raises(UnknownTopicOrPartition):
                await cluster.admin.topic(unique("nowhere"))
        return time.perf_counter() - start

    await ask(100)
    first = min([await ask(50), await ask(50)])
    await ask(1500)
    last = min([await ask(50), await ask(50), await ask(50)])
    assert last < 3 * first + 0.1
    known = str(cluster.admin.client.list_topics(timeout=5).topics)
    assert "nowhere" not in known, "nothing was created"


async def test_names_that_are_asked_for_together_are_one_question(
    cluster: KafkaCluster, filled: Topic, monkeypatch: pytest.MonkeyPatch, unique: Callable[..., str]
) -> None:
    directory = cluster.admin.directory
    asked: list[list[str]] = []
    describe = directory._describe

    async def noted(names: list[str]) -> dict[str, TopicInfo | ServiceError]:
        asked.append(list(names))
        return await describe(names)

    monkeypatch.setattr(directory, "_describe", noted)
    names = [filled.name, *(unique("nowhere") for _ in range(99))]
    found = await asyncio.gather(*(cluster.admin.topic(name) for name in names), return_exceptions=True)
    assert isinstance(found[0], TopicInfo)
    assert len(found[0].partitions) == 4
    assert all(isinstance(each, UnknownTopicOrPartition) for each in found[1:])
    assert sorted(map(len, asked)) == [100]
    assert await cluster.admin.topic(names[0]) == found[0]
    assert len(asked) == 1, "an answer counts for a second"


@broker
async def test_a_topic_that_was_just_made_is_seen_within_a_moment(
    cluster: KafkaCluster, bootstrap: str, topic: str
) -> None:
    with pytest.raises(UnknownTopicOrPartition):
        await cluster.admin.topic(topic)
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    assert (await until(lambda: cluster.admin.topic(topic), but=UnknownTopicOrPartition)).topic_id
    await cluster.admin.topic(topic, fresh=True)


async def test_a_probe_does_not_queue_behind_questions(cluster: KafkaCluster) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()

    held = [loop.run_in_executor(cluster.admin._threads, hold) for _ in range(20)]
    try:
        await cluster.admin.check(2)
    finally:
        gate.set()
        await asyncio.gather(*held)


async def send(cluster: KafkaCluster, topic: str, partition: int | None = None, key: bytes | None = None) -> object:
    waiting = cluster.producer.ready(topic, EVERYTHING)
    if waiting is not None:
        await waiting
    (row,) = await cluster.producer.send(topic, [OutgoingRecord(key, b"x")], partition)
    return row


@pytest.mark.timing
@broker
async def test_partitions_that_were_just_added_can_be_written_to(
    cluster: KafkaCluster, bootstrap: str, topic: str
) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    keys = [b"%d" % number for number in range(20)]
    async with asyncio.timeout(20):
        while isinstance(await send(cluster, topic, 0), ServiceError):
            pass
    client.create_partitions([NewPartitions(topic, 4)])[topic].result()
    start = time.monotonic()
    while isinstance(row := await send(cluster, topic, 3), ServiceError):
        assert time.monotonic() - start < 3, row.message
        await asyncio.sleep(0.1)  # time itself: so often is enough
    rows = [await send(cluster, topic, key=key) for key in keys]
    partitions = {row.partition() for row in rows if not isinstance(row, ServiceError)}  # type: ignore[attr-defined]
    assert len(partitions) > 1, "keys are spread over all partitions"


@broker
async def test_an_unknown_topic_is_made_by_producing(cluster: KafkaCluster, topic: str) -> None:
    row = await send(cluster, topic)
    assert not isinstance(row, ServiceError)


async def test_a_topic_that_brokers_do_not_make_never_reaches_the_producer(
    cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch, unique: Callable[..., str]
) -> None:
    monkeypatch.setattr(ClientFactory, "topic_maker", ClientFactory.admin)  # as if the brokers made none
    name = unique("nowhere")
    given: list[object] = []
    monkeypatch.setattr(cluster.producer._wide, "send", lambda *arguments: given.append(arguments))
    assert isinstance(await send(cluster, name), UnknownTopicTimeout)
    assert given == []
