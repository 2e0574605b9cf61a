"""What is done once for all: a record of a stream is decoded once, and a schema is asked for in one round trip."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from kafka_gateway.codecs.avro import AvroSchema
from kafka_gateway.schemas import SchemaChoice
from tests.registry.fake_registry import FakeRegistry
from tests.transports.conftest import gateway

CLIENTS = 1000
RECORDS = 20
SCHEMA = '{"type":"record","name":"R","fields":[{"name":"n","type":"int"}]}'


async def follow(address: str, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of lines; returns when it is ready."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n".encode())
    await reader.readuntil(b'"ready"')
    return reader, writer


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_a_thousand_clients_of_a_stream_have_each_record_decoded_once(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    decode = AvroSchema.decode

    def counting(self: AvroSchema, payload: bytes, rest: bytes | None = None) -> Any:
        decoded.append(payload)
        return decode(self, payload, rest)

    monkeypatch.setattr(AvroSchema, "decode", counting)
    settings = {"schema.registry.url": (fake.url,), "embedded.topics": "orders", "connections.max": CLIENTS + 100}
    async with gateway(**settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        streams = [await follow(app.addresses[0], "/topics/orders/stream?format=avro") for _ in range(CLIENTS)]
        records = [{"value": {"n": n}, "partition": 0} for n in range(RECORDS)]
        body = json.dumps({"value_schema": SCHEMA, "records": records})
        headers = {"Content-Type": "application/vnd.kafka.avro.v2+json"}
        async with client.post("/topics/orders", data=body, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
        async with asyncio.timeout(60):
            for reader, _ in streams:
                await reader.readuntil(b'{"n":%d}' % (RECORDS - 1))
        for _, writer in streams:
            writer.transport.abort()
    assert len(decoded) == RECORDS


@pytest.mark.parametrize(
    ("choice", "questions"),
    [
        (SchemaChoice("t", "value", "avro", id=1), 2),
        (SchemaChoice("t", "value", "avro", text=SCHEMA), 1),
    ],
)
async def test_the_first_use_of_a_schema_is_one_round_trip(
    fake: FakeRegistry, catalogue: Any, choice: SchemaChoice, questions: int
) -> None:
    fake.add("t-value", SCHEMA)
    together = asyncio.Event()
    count = 0

    async def when_all_are_there(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count == questions:
            together.set()
            fake.misbehave = None
        await together.wait()
        return await fake.answer_well(request)

    fake.misbehave = when_all_are_there
    schemas = await catalogue()
    assert (await schemas.resolve(choice)).schema_id == 1
    assert len(fake.asked) == questions
    assert (await schemas.resolve(choice)).schema_id == 1
    assert len(fake.asked) == questions
