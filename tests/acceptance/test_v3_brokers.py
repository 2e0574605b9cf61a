"""v3 with three brokers, one of which dies: what it shows of the cluster, and a produce stream that goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.acceptance.rest import until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(120)]

PATIENCE_S = 45
"""Until a broker that is dead has lost its partitions."""


async def test_a_broker_that_dies_shows_and_the_stream_goes_on(kafka3: KafkaCluster) -> None:
    topic = kafka3.create_topic()
    with GatewayProcess("access.log.enable=false", bootstrap=kafka3.bootstrap) as gateway:
        async with aiohttp.ClientSession(gateway.url) as client:

            async def rows(path: str) -> list[dict[str, Any]]:
                async with client.get(path) as reply:
                    answer = await reply.json()
                    assert reply.status == 200, answer
                    found: list[dict[str, Any]] = answer["data"]
                    return found

            cluster = f"/v3/clusters/{(await rows('/v3/clusters'))[0]['cluster_id']}"
            replicas = f"{cluster}/topics/{topic}/partitions/0/replicas"
            assert sorted(each["broker_id"] for each in await rows(f"{cluster}/brokers")) == [1, 2, 3]
            before = await rows(replicas)
            assert sorted(each["broker_id"] for each in before) == [1, 2, 3]
            assert all(each["is_in_sync"] for each in before)
            (leader,) = [each["broker_id"] for each in before if each["is_leader"]]

            def record(number: int) -> bytes:
                return json.dumps({"value": {"type": "JSON", "data": number}}).encode()

            records: asyncio.Queue[bytes] = asyncio.Queue()
            records.put_nowait(record(0))  # the client sends its head with the first piece

            async def body() -> AsyncIterator[bytes]:
                while data := await records.get():
                    yield data

            headers = {"Content-Type": "application/json"}
            path = f"{cluster}/topics/{topic}/records"
            async with client.post(path, data=body(), headers=headers) as response:

                async def report() -> dict[str, Any]:
                    async with asyncio.timeout(PATIENCE_S):
                        found: dict[str, Any] = json.loads(await response.content.readline())
                    return found

                assert (await report())["offset"] == 0
                await asyncio.to_thread(kafka3.kill, leader)
                try:
                    for number in range(1, 5):
                        records.put_nowait(record(number))
                        found = await report()
                        assert (found["error_code"], found["offset"]) == (200, number)
                    others = sorted({1, 2, 3} - {leader})

                    async def noticed() -> bool:
                        async with client.get(replicas) as reply:
                            if reply.status == 503:  # the gateway's client waits for a broker that is gone
                                assert reply.headers["Retry-After"] == "1"
                                return False
                        in_sync = [each["broker_id"] for each in await rows(replicas) if each["is_in_sync"]]
                        return sorted(in_sync) == others

                    await until(noticed, PATIENCE_S)
                    after = await rows(replicas)
                    assert sorted(each["broker_id"] for each in after) == [1, 2, 3]
                    assert [each["is_leader"] for each in after if each["broker_id"] == leader] == [False]
                    assert sorted(each["broker_id"] for each in await rows(f"{cluster}/brokers")) == others
                finally:
                    await asyncio.to_thread(kafka3.restart, leader)
                records.put_nowait(record(5))
                assert (await report())["offset"] == 5
                records.put_nowait(b"")
                async with asyncio.timeout(PATIENCE_S):
                    assert await response.content.read() == b""
