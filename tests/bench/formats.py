"""What a record costs in the formats with schemas: from JSON to Kafka's bytes, and from those to the JSON of a reply.

    "$(bin/env test)" -m tests.bench.formats

The record has ten fields: four texts, four longs, a union and an array. Figures are microseconds of processor time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.assembly import builtin
from kafka_gateway.codec import Codec
from kafka_gateway.config import load
from kafka_gateway.schemas import Schema, SchemaChoice, Writer
from kafka_gateway.services.rest.produce_bodies import RecordsReader
from tests.keys import BUILTIN_KEYS

RECORDS = 500
ROUNDS = 20
_TEXTS, _LONGS = [f"text{i}" for i in range(4)], [f"long{i}" for i in range(4)]
AVRO = {
    "type": "record", "name": "Bench",
    "fields": [
        *({"name": name, "type": "string"} for name in _TEXTS),
        *({"name": name, "type": "long"} for name in _LONGS),
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}  # fmt: skip
JSON_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in _TEXTS},
        **{name: {"type": "integer"} for name in _LONGS},
        "maybe": {"type": ["null", "string"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": [*_TEXTS, *_LONGS],
}
PROTO = (
    'syntax = "proto3"; message Bench {'
    + "".join(f" string {name} = {i + 1};" for i, name in enumerate(_TEXTS))
    + "".join(f" int64 {name} = {i + 5};" for i, name in enumerate(_LONGS))
    + " oneof one { string maybe = 9; } repeated string tags = 10; }"
)
VALUE = {name: f"a text of some length, {name}" for name in _TEXTS} | dict.fromkeys(_LONGS, 1700000000000)
VALUES: dict[str, Any] = {
    "json": VALUE | {"maybe": "yes", "tags": ["a", "bb", "ccc"]},
    "avro": VALUE | {"maybe": {"string": "yes"}, "tags": ["a", "bb", "ccc"]},
    "jsonschema": VALUE | {"maybe": "yes", "tags": ["a", "bb", "ccc"]},
    "protobuf": VALUE | {"maybe": "yes", "tags": ["a", "bb", "ccc"]},
}
TEXTS = {"avro": json.dumps(AVRO), "jsonschema": json.dumps(JSON_SCHEMA), "protobuf": PROTO}


class Known:
    """Schemas that are all known already."""

    def __init__(self, codecs: dict[str, Codec]) -> None:
        self.writers = {
            name: Writer(name, 1, "t-value", 1, codecs[name].compile(Schema(codecs[name].schema_type, text)))
            for name, text in TEXTS.items()
        }

    def known(self, choice: SchemaChoice) -> Writer:
        return self.writers[choice.format]

    def __getattr__(self, name: str) -> Any:
        async def resolve(choice: SchemaChoice) -> Writer:
            return self.writers[choice.format]

        return resolve


def microseconds(work: Callable[[], object]) -> float:
    """Of processor time for a record, the least of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / RECORDS * 1e6


def measure() -> Iterator[tuple[str, float, float]]:
    """Format, cost of producing, cost of reading."""
    config = load(BUILTIN_KEYS)
    codecs = {codec.name: codec for codec in builtin.gateway_codecs(config)}
    schemas: Any = Known(codecs)
    for name, value in VALUES.items():
        text = json.dumps(value, separators=(",", ":")).encode()
        records = b",".join([b'{"value":%b}' % text] * RECORDS)
        reader = RecordsReader("v2", schemas=schemas)
        codec = codecs[name]
        if name == "json":
            body = b'{"records":[%b]}' % records
            produce = microseconds(lambda: reader(body, codec))  # noqa: B023
            read = microseconds(lambda: jsonio.encode([codec.load(text) for _ in range(RECORDS)]))  # noqa: B023
        else:
            writer = schemas.writers[name]
            body = b'{"value_schema_id":1,"records":[%b]}' % records
            encode = reader._with_schemas._encode  # type: ignore[union-attr]
            produce = microseconds(lambda: encode(reader._raw_records(body, codec)[0], None, writer))  # noqa: B023
            stored = writer.store(text)
            assert stored is not None
            decode, payload = writer.compiled.decode, stored[5:]
            read = microseconds(lambda: jsonio.encode([decode(payload) for _ in range(RECORDS)]))  # noqa: B023
        yield name, produce, read


def main() -> None:
    print(f"{'':12} {'produce':>8} {'read':>8}   µs a record, {RECORDS} records a request")
    for name, produce, read in measure():
        print(f"{name:12} {produce:8.1f} {read:8.1f}")


if __name__ == "__main__":
    main()
