"""A format with schemas that comes from elsewhere (docs/plugins.md): the registry, ids and caches are the gateway's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kafka_gateway.assembly import builtin
from kafka_gateway.codec import Codec
from kafka_gateway.config import load
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.schemas import CompiledSchema, Misfit, Schema, SchemaChoice
from tests.keys import BUILTIN_KEYS
from tests.registry.fake_registry import FakeRegistry
from tests.services.fake_kafka import FakeRecord


class Columns(CompiledSchema):
    """A list of texts, one for each column, with tabs between them."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def encode(self, text: bytes) -> bytes:
        row = json.loads(text)
        for name in self._names:
            if not isinstance(row.get(name), str):
                raise Misfit("expected a text", name)
        return "\t".join(row[name] for name in self._names).encode()

    def decode(self, payload: bytes, rest: bytes | None = None) -> Any:
        return dict(zip(self._names, payload.decode().split("\t"), strict=True))


class ColumnsCodec(Codec):
    name = "columns"
    family = "schema"
    schema_type = "COLUMNS"

    def compile(self, schema: Schema) -> Columns:
        if not schema.text:
            raise ValueError("there is no column")
        return Columns(schema.text.split(","))


async def test_a_codec_of_a_plugin(fake: FakeRegistry) -> None:
    config = load(BUILTIN_KEYS).with_values({"schema.registry.url": (fake.url,)})
    codecs = {codec.name: codec for codec in [*builtin.gateway_codecs(config), ColumnsCodec()]}
    schemas = Catalogue(config, codecs)
    async with schemas.lifespan():
        writer = await schemas.resolve(SchemaChoice("t", "value", "columns", text="a,b"))
        assert fake.schemas[1]["schemaType"] == "COLUMNS"
        stored = writer.store(b'{"a": "x", "b": "y"}')
        assert stored == b"\0\0\0\0\1x\ty"
        with pytest.raises(Misfit) as caught:
            writer.store(b'{"a": "x"}')
        assert caught.value.under("records[0].value") == "records[0].value.b: expected a text"
        record = FakeRecord("t", 0, 0, OutgoingRecord(None, stored))
        assert await asyncio.to_thread(schemas.load, "columns", "value", record) == {"a": "x", "b": "y"}
