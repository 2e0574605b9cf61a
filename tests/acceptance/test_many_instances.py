"""L3: hundreds of consumer instances, each with a backlog. By default each would take 92 MiB (reliability.md §2.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import confluent_kafka
import pytest

from tests.acceptance.rest import Rest, threads, timed, until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

BACKLOG_BYTES = 100 * 2**20
VALUE = b'"' + b"x" * 1000 + b'"'
PARTITIONS = 4


def fill(kafka: KafkaCluster) -> str:
    """A topic with the backlog."""
    topic = kafka.create_topic(partitions=PARTITIONS)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 50})
    for number in range(BACKLOG_BYTES // len(VALUE)):
        while True:
            try:
                producer.produce(topic, VALUE, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    return topic


@pytest.mark.alone
@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_l3_many_instances_with_a_backlog(kafka: KafkaCluster, unique: Callable[..., str]) -> None:
    instances = 500
    topic = await asyncio.to_thread(fill, kafka)
    with GatewayProcess(
        "access.log.enable=false", f"consumer.instances.max={instances}", bootstrap=kafka.bootstrap
    ) as gateway:
        async with Rest(gateway.url) as rest:
            # What the first of all costs is not the instances': code that is loaded, the threads of the pools.
            first = await rest.instance(unique("g"), topic)
            await rest.read_some(first)
            answer = await rest.request("DELETE", first)
            assert answer.status == 204, answer
            before, threads_before = gateway.rss_bytes(), threads(gateway)

            at_a_time = asyncio.Semaphore(10)

            async def open_one() -> str:
                async with at_a_time:
                    path = await rest.instance(unique("g"), topic)
                    while not await rest.read(path, 5000, "&max_bytes=10000"):
                        pass
                    return path

            paths = await asyncio.gather(*(open_one() for _ in range(instances)))

            def each_mib() -> float:
                return (gateway.rss_bytes() - before) / instances / 2**20

            # What was read ahead and is not asked for is given back after a second.
            at_first, took = each_mib(), await until(lambda: each_mib() <= 1)
            print(
                f"L3: {instances} instances, {at_first:.2f} MiB each at first, {each_mib():.2f} after {took:.1f} s, "
                f"{threads(gateway) / instances:.1f} threads each"
            )
            assert at_first <= 2

            answer, took = await timed(rest.request("POST", f"/consumers/{unique('g')}", {}))
            assert (answer.status, answer.error_code) == (429, 429), answer
            assert "consumer.instances.max" in answer.message
            assert took <= 1

            # They are all alive, and room is made by whoever leaves.
            for path in paths[:: instances // 20]:
                assert await rest.read(path, 5000, "&max_bytes=10000")
            await asyncio.gather(*(rest.request("DELETE", path) for path in paths))
            await until(lambda: threads(gateway) <= threads_before + 8, 30)
            assert (await rest.request("POST", f"/consumers/{unique('g')}", {})).status == 200
