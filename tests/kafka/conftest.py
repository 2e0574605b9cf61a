"""What the tests of the adapters share: open adapters, records in a topic, and an encoder to read with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import EMBEDDED_GROUPS
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import ConsumerSettings, ReadLimits
from kafka_gateway.records import ConsumedRecord
from tests.keys import BUILTIN_KEYS
from tests.waiting import PATIENCE_S

Position = tuple[int, int]
"""Partition and offset."""


def places(records: Sequence[ConsumedRecord]) -> bytes:
    """An encoder that is no business of these tests."""
    return repr([(record.partition(), record.offset()) for record in records]).encode()


def limits(timeout_s: float = 1.0, max_bytes: int = 2**40, min_bytes: int | None = -1) -> ReadLimits:
    return ReadLimits(max_bytes, timeout_s, min_bytes)


def places_of(records: Iterable[ConsumedRecord]) -> list[Position]:
    return [(record.partition() or 0, record.offset() or 0) for record in records]


async def read_until(
    consumer: KafkaConsumer, count: int, within_s: float = PATIENCE_S, **of_read: float
) -> list[Position]:
    """The places of at least ``count`` records, as repeated reads return them."""
    found: list[Position] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            batch = await consumer.read(limits(**of_read), places)  # type: ignore[arg-type]
            found += places_of(batch.records)
    return found


def is_mock(bootstrap: str) -> bool:
    """Whether these are the brokers of librdkafka's mock cluster, which knows no controller."""
    return str(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5).cluster_id).startswith("mock")


class Topic:
    """A topic and a producer for it."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.name = name
        self.bootstrap = bootstrap
        self.renew()

    def renew(self) -> None:
        """A new producer: one that is older may not know what has become of the topic."""
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 500_000}
        )

    def write(self, values: Iterable[bytes], partition: int = 0) -> None:
        """Stores the values in this order before it returns."""
        for value in values:
            self._producer.produce(self.name, value, partition=partition)
        assert self._producer.flush(20) == 0


Opener = Callable[..., Awaitable[KafkaConsumer]]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The mock cluster, and a real Kafka."""
    server = request.getfixturevalue(request.param)
    return server if isinstance(server, str) else str(server.bootstrap)


@pytest.fixture
def filled(bootstrap: str, topic: str, kafka_topic: Callable[[str, str, int], None]) -> Topic:
    """A new topic of four partitions."""
    kafka_topic(bootstrap, topic, 4)
    return Topic(bootstrap, topic)


@pytest.fixture
def kafka_topic() -> Callable[[str, str, int], None]:
    """Makes a topic; on the mock cluster, whose topics all have four partitions, by naming it."""

    def make(bootstrap: str, name: str, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        if not is_mock(bootstrap):
            admin.create_topics([NewTopic(name, partitions, 1)], request_timeout=10)[name].result()
        known = admin.list_topics(name, timeout=5).topics[name].partitions
        while len(known) != partitions:
            known = admin.list_topics(name, timeout=5).topics[name].partitions

    return make


@pytest.fixture
async def cluster(bootstrap: str) -> AsyncIterator[KafkaCluster]:
    async with open_cluster(bootstrap) as opened:
        yield opened


@contextlib.asynccontextmanager
async def open_cluster(bootstrap: str, *overrides: str) -> AsyncIterator[KafkaCluster]:
    groups = [f"consumer.{name}={value}" for name, value in EMBEDDED_GROUPS.items()] if is_mock(bootstrap) else []
    config = load(BUILTIN_KEYS, overrides=[f"bootstrap.servers={bootstrap}", *groups, *overrides])
    async with open_kafka(config) as opened:
        yield opened


@pytest.fixture
def open_consumer(cluster: KafkaCluster, unique: Callable[..., str]) -> Opener:
    """`await open_consumer(group=None, auto_commit=False, reset="earliest")`; closed with the cluster."""

    async def opener(
        group: str | None = None, auto_commit: bool = False, reset: str = "earliest", isolation: str = ""
    ) -> KafkaConsumer:
        name = group or unique("group")
        return await cluster.consumer(
            ConsumerSettings(name, "test", auto_offset_reset=reset, auto_commit=auto_commit, isolation_level=isolation)
        )

    return opener
