"""A commit when a topic is gone: what can be committed is, and the topic is named (kafka-rest-http.md §6.7)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from kafka_gateway.errors import PartlyCommitted
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Opener, Topic, read_until
from tests.kafka_cluster import KafkaCluster
from tests.waiting import until

pytestmark = pytest.mark.broker


@pytest.fixture
def bootstrap(kafka: KafkaCluster) -> str:
    return kafka.bootstrap


async def test_the_others_are_committed(
    kafka: KafkaCluster,
    open_consumer: Opener,
    kafka_topic: Callable[[str, str, int], None],
    topic: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stays, goes = f"{topic}-stays", f"{topic}-goes"
    for name in (stays, goes):
        kafka_topic(kafka.bootstrap, name, 1)
        Topic(kafka.bootstrap, name).write([b"1", b"2"])
    consumer = await open_consumer(auto_commit=False)
    await consumer.subscribe([stays, goes])
    await read_until(consumer, 4)
    places = [TopicPartition(stays, 0), TopicPartition(goes, 0)]
    by_itself = await open_consumer(auto_commit=True)
    await by_itself.assign(places)
    await read_until(by_itself, 4)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([goes])[goes].result()
    both = [PartitionOffset(goes, 0, 1), PartitionOffset(stays, 0, 1)]
    await by_itself.seek([PartitionOffset(*each, 1) for each in places])  # which is committed in a while

    async def refused() -> frozenset[tuple[str, int]]:
        try:
            await consumer.commit(both)
        except PartlyCommitted as error:
            return error.partitions
        return frozenset()

    await until(refused)
    assert await refused() == {(goes, 0)}
    both.append(PartitionOffset(stays, 9, 1))  # which it never had
    assert await refused() == {(goes, 0), (stays, 9)}
    both.pop()
    assert await consumer.committed([TopicPartition(stays, 0)]) == [PartitionOffset(stays, 0, 1)]
    with contextlib.suppress(PartlyCommitted):  # unless the group has taken the topic away already
        await consumer.commit(None)
    assert await consumer.committed([TopicPartition(stays, 0)]) == [PartitionOffset(stays, 0, 2)]

    async def told() -> bool:
        return any("An automatic commit was stored in part" in each.message for each in caplog.records)

    await until(told)
    assert {
        each.message for each in caplog.records if "partition 9" not in each.message and "in part" in each.message
    } == {
        f"{what} was stored in part: {PartlyCommitted({(goes, 0)}).message}"
        for what in ("A commit", "An automatic commit")
    }
    assert await by_itself.committed(places) == [PartitionOffset(stays, 0, 1)]
