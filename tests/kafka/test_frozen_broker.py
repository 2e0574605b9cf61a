"""A broker that keeps its connections and says nothing (SIGSTOP): nobody may wait for it longer than promised (F4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from tests.kafka.conftest import Topic, limits, open_cluster, places, read_until
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.timing
async def test_frozen_broker(own_kafka: KafkaCluster, unique: Callable[..., str]) -> None:
    topic = own_kafka.create_topic(partitions=4)
    Topic(own_kafka.bootstrap, topic).write([b"a"] * 10)
    async with open_cluster(own_kafka.bootstrap) as cluster:
        consumers = []
        for automatic in (True, False) * 10:
            settings = ConsumerSettings(unique("group"), "test", "earliest", auto_commit=automatic)
            consumer = await cluster.consumer(settings)
            await consumer.subscribe([topic])
            consumers.append(consumer)
        await asyncio.gather(*(read_until(consumer, 10) for consumer in consumers))
        own_kafka.pause(1)
        try:
            assert len(await consumers[0].read(limits(0.5), places)) == 0

            async def fails(question: object, within_s: float) -> None:
                start = time.monotonic()
                with pytest.raises(ServiceError):
                    await question  # type: ignore[misc]
                assert time.monotonic() - start < within_s

            await asyncio.gather(
                fails(cluster.admin.check(1), 1.5),
                fails(cluster.admin.topics(), 5.5),
                fails(consumers[1].commit(), 5.5),
                fails(consumers[2].committed([TopicPartition(topic, 0)]), 5.5),
            )
            start = time.monotonic()
            await asyncio.gather(*(consumer.close() for consumer in consumers[:10]))
            assert time.monotonic() - start < 2.2
        finally:
            start = time.monotonic()
            await cluster.aclose()
            took = time.monotonic() - start
            own_kafka.resume(1)
        assert took < 6.5
