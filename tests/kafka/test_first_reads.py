"""The first read of an instance waits for its group, which a real Kafka takes three seconds to form (issue 12, 15).

The mock brokers take them, too; here the gateway knows them by their address only, as it would a real Kafka.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.kafka_cluster import KafkaCluster
from tests.mock_cluster import MockCluster
from tests.transports.conftest import gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce

V1 = "application/vnd.kafka.v1+json"
JSON_V1 = "application/vnd.kafka.json.v1+json"


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """On mock brokers of its own: those that the tests share let groups form at once."""
    cluster = MockCluster()
    async with gateway(bootstrap_servers=cluster.bootstrap, embedded_enable=False) as running:
        yield running


OPEN: list[Wire] = []


@pytest.fixture(autouse=True)
async def connections() -> AsyncIterator[None]:
    """Those of a test's instances, closed behind it."""
    yield
    while OPEN:
        writer = OPEN.pop().writer
        writer.close()
        await writer.wait_closed()


class Instance:
    """A new v2 instance with a subscription, on a connection of its own."""

    def __init__(self, wire: Wire, path: str) -> None:
        self.wire, self.path = wire, path

    @classmethod
    async def make(cls, app: App, group: str, topic: str, **more: Any) -> Instance:
        wire = await Wire.open(app.addresses[0])
        OPEN.append(wire)
        body = json.dumps({"format": "json", "auto.offset.reset": "earliest", **more}).encode()
        made = await wire.ask("POST", f"/consumers/{group}", body, Content_Type=V2)
        path = f"/consumers/{group}/instances/{made.json['instance_id']}"
        topics = json.dumps({"topics": [topic]}).encode()
        assert (await wire.ask("POST", f"{path}/subscription", topics, Content_Type=V2)).status == 204
        return cls(wire, path)

    async def read(self, query: str = "") -> tuple[list[Any], float]:
        """Values, and how long it took."""
        began = time.monotonic()
        await self.wire.send(f"GET {self.path}/records{query} HTTP/1.1\r\nHost: x\r\nAccept: {JSON_V2}\r\n\r\n")
        reply = await self.wire.reply(timeout_s=20)
        return [each["value"] for each in reply.json], time.monotonic() - began


async def store(app: App, topic: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(produce(topic))
        assert (await wire.reply()).status == 200


@pytest.mark.timing
@pytest.mark.embedded
async def test_who_says_nothing_gets_records(app: App, topic: str, unique: Callable[..., str]) -> None:
    """One read each, of instances that differ in what their clients say of the time."""
    await store(app, topic)
    plain, patient, hasty, polling, configured = await asyncio.gather(
        *(Instance.make(app, unique("g"), topic) for _ in range(4)),
        Instance.make(app, unique("g"), topic, **{"consumer.request.timeout.ms": "300"}),
    )

    async def read_v1() -> list[Any]:
        async with await Wire.open(app.addresses[0]) as wire:
            group = unique("v1")
            body = b'{"format":"json","auto.offset.reset":"smallest"}'
            made = await wire.ask("POST", f"/consumers/{group}", body, Content_Type=V1)
            path = f"/consumers/{group}/instances/{made.json['instance_id']}/topics/{topic}"
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {JSON_V1}\r\n\r\n")
            return [each["value"] for each in (await wire.reply(timeout_s=20)).json]

    found = await asyncio.gather(
        plain.read(), patient.read("?timeout=15000"), hasty.read("?timeout=500"), polling.read("?timeout=0"),
        configured.read(), read_v1(),
    )  # fmt: skip
    assert [each[0] for each in found[:5]] == [[1], [1], [], [], []]
    assert found[5] == [1]
    assert max(each[1] for each in found[2:5]) < 2.5  # sooner than the group


@pytest.mark.timing
@pytest.mark.embedded
async def test_once_the_group_is_there_a_read_takes_its_own_time(app: App, topic: str) -> None:
    await store(app, topic)
    instance = await Instance.make(app, f"g-{topic}", topic)
    assert (await instance.read())[0] == [1]
    values, took_s = await instance.read()
    assert values == []
    assert 0.9 < took_s < 3


@pytest.mark.timing
async def test_a_topic_that_is_not_there_has_no_group_to_wait_for(kafka: KafkaCluster, topic: str) -> None:
    async with gateway(bootstrap_servers=kafka.bootstrap, embedded_enable=False) as app:
        instance = await Instance.make(app, f"g-{topic}", topic)
        values, took_s = await instance.read()
        assert values == []
        assert took_s < 5


@pytest.mark.timing
async def test_a_member_without_a_partition_does_not_wait_for_one(kafka: KafkaCluster, topic: str) -> None:
    kafka.create_topic(topic)
    async with gateway(bootstrap_servers=kafka.bootstrap, embedded_enable=False) as app:
        await store(app, topic)
        first = await Instance.make(app, f"g-{topic}", topic)
        assert (await first.read())[0] == [1]
        second = await Instance.make(app, f"g-{topic}", topic)
        values, took_s = await second.read()
        assert values == []
        assert took_s < 6, "the group's answer, and a second of its own"
