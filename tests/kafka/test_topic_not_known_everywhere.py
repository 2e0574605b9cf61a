"""A topic that was just made is not known to all brokers at once (gateway/kafka/producing/rerouting.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from confluent_kafka import KafkaError

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka_errors import UnknownTopicTimeout
from tests.kafka.conftest import open_cluster
from tests.kafka.test_record_sizes import errors, record, send
from tests.mock_cluster import MockCluster

UNKNOWN = int(KafkaError.UNKNOWN_TOPIC_OR_PART)


@pytest.fixture(scope="module")
def mock() -> MockCluster:
    return MockCluster()


@pytest.fixture
async def cluster(mock: MockCluster, topic: str) -> AsyncIterator[KafkaCluster]:
    """Its producer has known the topic, which has one record, for longer than it waits for new ones."""
    async with open_cluster(mock.bootstrap, "producer.topic.metadata.propagation.max.ms=1") as opened:
        assert errors(await send(opened, topic, [record(0)])) == []
        yield opened


async def forget(mock: MockCluster, cluster: KafkaCluster, topic: str) -> None:
    """The broker that the producer asks does not know the topic."""
    mock.fail_topic(topic, UNKNOWN)
    await cluster.producer._learn(topic)


def offsets(rows: list[Delivery]) -> list[int | type | None]:
    return [type(row) if isinstance(row, ServiceError) else row.offset() for row in rows]


@pytest.mark.parametrize("way", ["send", "follow"])
async def test_records_wait_for_it_in_their_order(
    mock: MockCluster, cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Fault: 50003, which every client of v1 and v2 takes for a record that was not stored."""
    producer = cluster.producer
    rest: list[asyncio.Future[list[Delivery]]] = []
    asked = 0

    async def found(name: str) -> bool:
        """Another broker has it all the time; the one that librdkafka asks learns of it with the second question."""
        nonlocal asked
        asked += 1
        if asked == 2:
            rest.append(producer.send(topic, [record(4)], 0))  # behind those that have failed
            mock.fail_topic(topic, 0)
        await producer._learn(name)
        return True

    monkeypatch.setattr(producer._rerouting, "_found", found)
    await forget(mock, cluster, topic)
    batch = [record(number) for number in (1, 2, 3)]
    async with asyncio.timeout(20):
        if way == "send":
            rows = await producer.send(topic, batch)
        else:
            news = asyncio.Event()
            sending = producer.follow(topic, batch, news.set)
            while None in sending.deliveries:
                await news.wait()
                news.clear()
            rows = [row for row in sending.deliveries if row is not None]
        assert offsets(rows) == [1, 2, 3]
        assert [offsets(await each) for each in rest] == [[4]]
    assert asked >= 2
    assert producer.waiting == (0, 0)


async def test_one_that_is_gone_is_told_at_once(
    mock: MockCluster, cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []

    async def noting(name: str) -> bool:
        found.append(await cluster.producer._found(name))
        return found[-1]

    monkeypatch.setattr(cluster.producer._rerouting, "_found", noting)
    await forget(mock, cluster, topic)
    for way in ("send", "follow"):
        if way == "send":
            rows = await cluster.producer.send(topic, [record(1), record(2)], 0)
        else:
            news = asyncio.Event()
            sending = cluster.producer.follow(topic, [record(1)], news.set)
            while None in sending.deliveries:
                await news.wait()
                news.clear()
            rows = [row for row in sending.deliveries if row is not None]
        assert set(errors(rows)) == {UnknownTopicTimeout}
    assert found == [False, False]  # Kafka was asked once for each
    assert cluster.producer.waiting == (0, 0)


async def test_one_that_stays_unknown_fails_when_its_time_is_up(
    mock: MockCluster, cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(name: str) -> bool:
        return True

    monkeypatch.setattr(cluster.producer._rerouting, "_found", found)
    monkeypatch.setattr(cluster.producer._rerouting, "_unheard_of_s", 0.3)
    await forget(mock, cluster, topic)
    assert errors(await cluster.producer.send(topic, [record(1)], 0)) == [UnknownTopicTimeout]
    assert cluster.producer.waiting == (0, 0)


async def test_a_record_waits_while_its_topic_is_being_made(
    mock: MockCluster, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    """By a Kafka that takes longer to answer than a record waits, and longer for all of it than librdkafka does."""
    mock.answer_after(600)
    try:
        rows = await send(cluster, unique("late"), [record(0), record(1)])
    finally:
        mock.answer_after(0)
    assert offsets(rows) == [0, 1]
