"""What librdkafka fetches ahead of its readers counts in the memory budget, and is bounded by it."""

from __future__ import annotations

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from tests.kafka.conftest import Opener, Topic, limits, places
from tests.keys import BUILTIN_KEYS
from tests.waiting import until

RECORD = b"x" * 10_000


async def test_what_is_fetched_ahead_counts_until_it_is_read_or_given_up(
    cluster: KafkaCluster, filled: Topic, open_consumer: Opener
) -> None:
    filled.write([RECORD] * 200)
    consumer = await open_consumer()
    await consumer.assign([TopicPartition(filled.name, 0)])
    assert len((await consumer.read(limits(timeout_s=10, max_bytes=1), places)).records) == 1  # type: ignore[arg-type]

    async def counted() -> bool:
        await consumer.read(limits(timeout_s=0.2, max_bytes=1), places)  # type: ignore[arg-type]
        return 100_000 <= cluster.held_bytes <= 1024 * 1024 + 200_000

    await until(counted)

    async def given_up() -> bool:  # nobody reads: the partition is paused, and what librdkafka has of it is dropped
        return cluster.held_bytes <= 5 * len(RECORD)

    await until(given_up)

    async def all_read() -> bool:
        batch = await consumer.read(limits(timeout_s=1), places)  # type: ignore[arg-type]
        return not batch.records and not cluster.held_bytes

    await until(all_read)


async def test_a_consumer_that_is_gone_holds_nothing(
    cluster: KafkaCluster, filled: Topic, open_consumer: Opener
) -> None:
    filled.write([RECORD] * 200)
    consumer = await open_consumer()
    await consumer.assign([TopicPartition(filled.name, 0)])

    async def counted() -> bool:
        await consumer.read(limits(timeout_s=0.2, max_bytes=1), places)  # type: ignore[arg-type]
        return cluster.held_bytes >= 100_000

    await until(counted)
    await consumer.close()

    async def gone() -> bool:
        return not cluster.held_bytes

    await until(gone)


def test_no_consumer_may_fetch_more_than_its_part_of_the_budget() -> None:
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["memory.max.bytes=4194304", "bootstrap.servers=127.0.0.1:1"]))
    consumer = clients.consumer(ConsumerSettings("g", "c"))
    assert consumer.buffer_bytes == 256 * 1024  # type: ignore[attr-defined]
    large = clients.consumer(ConsumerSettings("g", "c"), **{"queued.max.messages.kbytes": 2048})
    assert large.buffer_bytes == 256 * 1024  # type: ignore[attr-defined]
    consumer.note(1000)  # type: ignore[attr-defined]
    large.note(500)  # type: ignore[attr-defined]
    assert clients.fetched_ahead.total == 1500
    del large
    assert clients.fetched_ahead.total == 1000
