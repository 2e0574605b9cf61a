"""v3 with three brokers in racks, which die and come back: what it shows of the cluster, a produce stream that goes on,
partitions that move, and topics that are made while the controller does.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from kafka_gateway.wire.apis import Api, Version
from kafka_gateway.wire.connection import connect
from kafka_gateway.wire.schema import Layout
from tests.acceptance.rest import until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(240)]

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


_MOVED: Final = (("partition", "int32"), ("error_code", "int16"), ("error_message", "string"))
ALTER_PARTITION_REASSIGNMENTS: Final = Api(
    "AlterPartitionReassignments",
    45,
    (
        Version(
            0,
            True,
            Layout(
                (
                    ("timeout_ms", "int32"),
                    ("topics", [("name", "string"), ("partitions", [("partition", "int32"), ("replicas", ["int32"])])]),
                ),
                True,
            ),
            Layout(
                (
                    ("throttle_ms", "int32"),
                    ("error_code", "int16"),
                    ("error_message", "string"),
                    ("topics", [("name", "string"), ("partitions", list(_MOVED))]),
                ),
                True,
            ),
        ),
    ),
    changes=True,
)


async def reassign(kafka: KafkaCluster, by: int, topic: str, replicas: list[int]) -> None:
    """Has partition 0 move to these brokers."""
    client = await connect("127.0.0.1", kafka.nodes[by].port, None, None)
    body = {
        "timeout_ms": 10_000,
        "topics": [{"name": topic, "partitions": [{"partition": 0, "replicas": replicas}]}],
    }
    answer = await client.ask(ALTER_PARTITION_REASSIGNMENTS, body)
    client.close()
    assert answer["error_code"] == 0, answer
    assert answer["topics"][0]["partitions"][0]["error_code"] == 0, answer


class Administrator:
    """A client of v3."""

    def __init__(self, client: aiohttp.ClientSession, cluster: str) -> None:
        self._client = client
        self._cluster = cluster

    @classmethod
    async def of(cls, client: aiohttp.ClientSession) -> Administrator:
        async with client.get("/v3/clusters") as reply:
            return cls(client, f"/v3/clusters/{(await reply.json())['data'][0]['cluster_id']}")

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self._client.request(method, self._cluster + path, json=body) as reply:
            return reply.status, await reply.json(content_type=None)


async def _answers(admin: Administrator, path: str) -> bool:
    status, answer = await admin.ask("GET", path)
    assert status in (200, 503), answer
    return status == 200


async def test_a_partition_that_moves_is_shown_until_it_is_there(kafka3: KafkaCluster, unique: Any) -> None:
    topic = unique("moving")
    with GatewayProcess("access.log.enable=false", bootstrap=kafka3.bootstrap) as gateway:
        async with aiohttp.ClientSession(gateway.url) as client:
            admin = await Administrator.of(client)
            _, brokers = await admin.ask("GET", "/brokers")
            assert {each["broker_id"]: each["rack"] for each in brokers["data"]} == {
                1: "rack-1",
                2: "rack-2",
                3: "rack-3",
            }
            status, made = await admin.ask(
                "POST", "/topics", {"topic_name": topic, "replicas_assignments": {"0": [1, 2]}}
            )
            assert (status, made["partitions_count"], made["replication_factor"]) == (201, 1, 2)
            one = f"/topics/{topic}/partitions/0/reassignment"
            lists = (f"/topics/{topic}/partitions/-/reassignment", "/topics/-/partitions/-/reassignment")
            await asyncio.to_thread(kafka3.kill, 3)
            try:
                await reassign(kafka3, 1, topic, [1, 3])
                # While a broker that is gone is given up, who has asked it is told to come back.
                await until(lambda: _answers(admin, one), PATIENCE_S)
                status, found = await admin.ask("GET", one)
                assert (status, found["adding_replicas"], found["removing_replicas"]) == (200, [3], [2])
                for path in lists:
                    status, listed = await admin.ask("GET", path)
                    assert (status, [each["topic_name"] for each in listed["data"]]) == (200, [topic])
                    assert listed["data"][0]["metadata"]["self"] == found["metadata"]["self"]
            finally:
                await asyncio.to_thread(kafka3.restart, 3)

            async def has_moved() -> bool:
                return (await admin.ask("GET", one))[0] == 404

            await until(has_moved, PATIENCE_S)
            for path in lists:
                assert (await admin.ask("GET", path))[1]["data"] == []

            async def is_known() -> bool:  # by the broker that was last to start, too, when it has caught up
                _, replicas = await admin.ask("GET", f"/topics/{topic}/partitions/0/replicas")
                return sorted(each["broker_id"] for each in replicas["data"]) == [1, 3]

            await until(is_known, PATIENCE_S)


async def test_topics_are_made_while_the_controller_moves(kafka3: KafkaCluster, unique: Any) -> None:
    """The broker that is the controller is killed, and starts again: a topic is made, or the answer is a 503."""
    prefix = unique("made")
    with GatewayProcess("access.log.enable=false", bootstrap=kafka3.bootstrap) as gateway:
        async with aiohttp.ClientSession(gateway.url) as client:
            admin = await Administrator.of(client)
            answers: dict[str, tuple[int, Any]] = {}

            async def make() -> None:
                while True:
                    name = f"{prefix}-{len(answers)}"
                    answers[name] = await admin.ask("POST", "/topics", {"topic_name": name, "replication_factor": 1})
                    await asyncio.sleep(0.1)  # time itself: some ten a second are enough

            def made() -> int:
                return sum(status == 201 for status, _ in answers.values())

            making = asyncio.create_task(make())

            async def goes_on(wanted: int) -> None:
                await until(lambda: making.done() or made() >= wanted, PATIENCE_S)

            try:
                controller = await asyncio.to_thread(kafka3.controller)
                await asyncio.to_thread(kafka3.kill, controller)
                try:
                    await goes_on(made() + 5)
                    assert await asyncio.to_thread(kafka3.controller) != controller
                finally:
                    await asyncio.to_thread(kafka3.restart, controller)
                await goes_on(made() + 5)
            finally:
                making.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await making
            print(collections.Counter(status for status, _ in answers.values()))
            refused = {name: answer for name, answer in answers.items() if answer[0] != 201}
            assert all(status == 503 and answer["error_code"] in (503, 50302) for status, answer in refused.values()), (
                refused
            )
            for name in answers.keys() - refused.keys():

                async def is_there(name: str = name) -> bool:  # the broker that was last to start catches up
                    return (await admin.ask("GET", f"/topics/{name}"))[0] == 200

                await until(is_there, PATIENCE_S)
