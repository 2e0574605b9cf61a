"""A registry that is down, slow, or answers nonsense, on every way to produce and to read: what is cached goes on.

A gateway on the embedded Kafka; the topic has records of a schema that is known, and of one that nobody has asked for.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from tests.registry.fake_registry import FakeRegistry, half_body, html, never, redirect, server_error, serving
from tests.transports.conftest import gateway
from tests.waiting import until

SCHEMA = '{"type":"record","name":"R","fields":[{"name":"n","type":"int"}]}'
OTHER = '"string"'
AVRO_2, AVRO_1 = (f"application/vnd.kafka.avro.{generation}+json" for generation in ("v2", "v1"))
SETTINGS = {
    "embedded.topics": "orders",
    "schema.registry.request.timeout.ms": 700,
    "transport.websocket.enable": True,
    "consumer.request.timeout.ms": 1000,
    "errors.help": True,
}


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as found:
        yield found


@pytest.fixture
async def app(registry: FakeRegistry) -> AsyncIterator[App]:
    async with gateway(**{**SETTINGS, "schema.registry.url": (registry.url,)}) as running:
        yield running


@pytest.fixture
async def client(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.addresses[0]) as opened:
        yield opened


async def ask(client: aiohttp.ClientSession, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Status and content."""
    data = None if body is None else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, data=data, headers=named) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if text else None


async def produce(client: aiohttp.ClientSession, way: str, schema: str, datum: Any) -> tuple[int, int]:
    """Status, and the code of the error; 0 for none."""
    record = {"value": datum, "partition": 0}
    if way == "v3":
        value = {"type": "AVRO", "schema": schema, "data": datum}
        body: Any = {"partition_id": 0, "value": value}
        path = "/v3/clusters/-/topics/orders/records"
        status, reply = await ask(client, "POST", path, body, Content_Type="application/json")
        return status, reply["error_code"] % 200
    body = {"value_schema": schema, "records": [record]}
    if way == "envelope":
        async with client.ws_connect("/") as socket:
            head = {"id": "1", "method": "POST", "path": "/topics/orders", "type": AVRO_2}
            await socket.send_str(json.dumps(head) + json.dumps(body))
            text = await socket.receive_str(timeout=10)
            found, end = json.JSONDecoder().raw_decode(text)
            return found["code"], json.loads(text[end:]).get("error_code", 0)
    status, reply = await ask(client, "POST", "/topics/orders", body, Content_Type=AVRO_1 if way == "v1" else AVRO_2)
    return status, reply.get("error_code", 0)


REFUSED = {"v1": (408, 40801), "v2": (422, 42207), "v3": (200, 422 % 200), "envelope": (422, 42207)}


async def rows(client: aiohttp.ClientSession, format: str) -> list[Any]:
    path = f"/topics/orders/stream?format={format}&offset=earliest&until=end"
    async with client.get(path, headers={"Accept": "application/x-ndjson"}) as reply:
        assert reply.status == 200
        lines = [json.loads(line) for line in (await reply.text()).splitlines() if line.strip()]
    return [line["value"] for line in lines if "value" in line]


async def read_instance(client: aiohttp.ClientSession, name: str) -> list[Any]:
    """What a new instance reads until it has nothing or is refused: the values, and the code of the refusal."""
    body = {"name": name, "format": "avro", "auto.offset.reset": "earliest"}
    v2 = "application/vnd.kafka.v2+json"
    await ask(client, "POST", "/consumers/g", body, Content_Type=v2)
    instance = f"/consumers/g/instances/{name}"
    place = {"partitions": [{"topic": "orders", "partition": 0}]}
    await ask(client, "POST", f"{instance}/assignments", place, Content_Type=v2)
    await ask(client, "POST", f"{instance}/positions/beginning", place, Content_Type=v2)
    found: list[Any] = []
    while True:
        status, reply = await ask(client, "GET", f"{instance}/records", Accept=AVRO_2)
        if status != 200:
            assert reply["message"].endswith("Read again when the registry answers: the record keeps its place."), reply
            assert reply["help"].startswith("Send the same request again when the schema registry answers"), reply
            return [*found, (status, reply["error_code"])]
        if not reply:
            return found
        found += [record["value"] for record in reply]


async def read_directly(client: aiohttp.ClientSession, offset: int) -> Any:
    path = f"/topics/orders/partitions/0/messages?offset={offset}&count=1"
    status, reply = await ask(client, "GET", path, Accept=AVRO_1)
    if status == 200:
        return reply[0]["value"]
    assert reply["help"].startswith("Send the same request again when the schema registry answers"), reply
    return status, reply["error_code"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", [never, html, server_error, redirect, half_body])
async def test_what_is_cached_goes_on_and_what_is_not_is_told(
    client: aiohttp.ClientSession, registry: FakeRegistry, fault: Any
) -> None:
    for way in REFUSED:
        status, code = await produce(client, way, SCHEMA, {"n": 1})
        assert (status, code) == (200, 0), way
    number = registry.add("orders-value", OTHER)
    unknown = b"\0" + number.to_bytes(4, "big") + b"\2x"
    coded = base64.b64encode(unknown).decode()
    body = {"records": [{"value": coded, "partition": 0}]}
    assert [each["n"] for each in await rows(client, "avro")] == [1] * 4
    status, _ = await ask(client, "POST", "/topics/orders", body, Content_Type="application/vnd.kafka.binary.v2+json")
    assert status == 200
    registry.misbehave = fault
    # Producing: the schema that is known is used, another one is refused, and soon.
    for way, expected in REFUSED.items():
        assert await produce(client, way, SCHEMA, {"n": 2}) == (200, 0), way
        async with asyncio.timeout(5):
            assert await produce(client, way, OTHER, "x") == expected, way
    # Reading: each record of the known schema comes, whatever stands between.
    async with asyncio.timeout(15):
        assert await rows(client, "auto") == [{"n": 1}] * 4 + [coded] + [{"n": 2}] * 4
        assert await rows(client, "avro") == [{"n": 1}] * 4 + [None] + [{"n": 2}] * 4
    assert await read_directly(client, 3) == {"n": 1}
    assert await read_directly(client, 4) == (500, 50002)
    assert await read_directly(client, 5) == {"n": 2}
    name = fault.__name__.replace("_", "-")
    assert await read_instance(client, name) == [{"n": 1}] * 4 + [(408, 40801)]
    # It is back, and so is everything.
    registry.misbehave = None

    async def read_again() -> bool:
        return bool((await rows(client, "auto"))[4] == "x")

    await until(read_again)
    assert await rows(client, "avro") == [{"n": 1}] * 4 + ["x"] + [{"n": 2}] * 4
    assert await read_instance(client, f"{name}-again") == [{"n": 1}] * 4 + ["x"] + [{"n": 2}] * 4
    assert await produce(client, "v2", OTHER, "y") == (200, 0)
