"""A producer's records wait for its first connection, a few are made at a time, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

import confluent_kafka
import pytest

from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.producing import first_connections
from kafka_gateway.kafka.producing.first_connections import FirstConnections
from kafka_gateway.kafka.producing.producer import KafkaProducer
from kafka_gateway.rights import EVERYTHING
from tests.mock_cluster import MockCluster
from tests.unit.test_known_topics import Cluster
from tests.waiting import PATIENCE_S, until


class Clients:
    """Settings of a producer that finds no broker."""

    def producer_config(self) -> dict[str, Any]:
        return {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}


class Held(FirstConnections):
    """Connections that are made when they may be."""

    def __init__(self) -> None:
        super().__init__()
        self.topics: list[str] = []
        self.may = asyncio.Event()

    async def make(self, producer: object, topic: str) -> None:
        self.topics.append(topic)
        await self.may.wait()


class Configured(Cluster):
    """Tells nothing of its topics' settings."""

    async def topic_configs(self, name: str) -> list[Any]:
        return []


async def test_records_wait_for_the_first_connection_in_their_order() -> None:
    held = Held()
    admin = cast(Admin, Configured("one", "two"))
    producer = KafkaProducer(
        Clients(), admin, queue_bytes=10**6, queue_records=1000, create_topics=True, connections=held
    )
    try:
        order: list[int] = []

        async def wait(number: int, topic: str) -> None:
            waiting = producer.ready(topic, EVERYTHING)
            assert waiting is not None
            await waiting
            order.append(number)

        tasks = [asyncio.create_task(wait(number, topic)) for number, topic in enumerate(("one", "two", "one"))]
        await until(lambda: bool(held.topics))
        assert not order
        assert not producer.knows("one")
        held.may.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks)
        assert len(held.topics) == 1
        assert order.index(0) < order.index(2)
        assert producer.ready("one", EVERYTHING) is None
        assert producer.knows("one")
    finally:
        await producer.close(0)


async def test_who_is_refused_waits_for_no_connection() -> None:
    held = Held()
    admin = cast(Admin, Configured("t"))
    producer = KafkaProducer(Clients(), admin, queue_bytes=10**6, queue_records=9, create_topics=True, connections=held)
    try:
        waiting = producer.ready("t", EVERYTHING)
        assert waiting is not None
        going = asyncio.ensure_future(waiting)
        await until(lambda: bool(held.topics))
        producer.refuse()
        async with asyncio.timeout(PATIENCE_S):
            await going
    finally:
        await producer.close(0)


async def test_so_many_at_a_time_and_in_their_order() -> None:
    connections, began, may = FirstConnections(), list[str](), threading.Event()

    class Slow:
        def list_topics(self, topic: str, timeout: float) -> None:
            if topic not in began:
                began.append(topic)
            assert may.wait(PATIENCE_S)

    topics = [f"t{number}" for number in range(10)]
    making = [asyncio.create_task(connections.make(cast(Any, Slow()), topic)) for topic in topics]
    await until(lambda: len(began) == first_connections._AT_ONCE)
    assert began == topics[: first_connections._AT_ONCE]
    may.set()
    await asyncio.gather(*making)
    assert began == topics
    connections.close()


async def test_without_a_broker_records_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_connections, "_PATIENCE_S", 0.05)
    connections = FirstConnections()
    async with asyncio.timeout(PATIENCE_S):
        await connections.make(confluent_kafka.Producer(Clients().producer_config()), "t")
    connections.close()


@pytest.mark.timing  # half a second is what it must not take
async def test_the_first_record_does_not_wait_for_the_producers_id() -> None:
    """Without a connection it waits for half a second at least; the best of some, since the machine may be slow."""
    cluster, connections, took = MockCluster(), FirstConnections(), list[float]()
    cluster.answer_after(20)
    for _ in range(5):
        config = {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True}
        producer = confluent_kafka.Producer({**config, "allow.auto.create.topics": True})
        await connections.make(producer, "t")
        began = time.monotonic()
        producer.produce("t", b"v")
        assert await asyncio.to_thread(producer.flush, PATIENCE_S) == 0
        took.append(time.monotonic() - began)
    assert min(took) < 0.45
    connections.close()
