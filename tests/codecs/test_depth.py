"""What is taken when it is written can be read: one bound for both, for data as deep as their sender likes."""

from __future__ import annotations

import json

import pytest

from kafka_gateway import jsonio
from kafka_gateway.codecs.avro import AvroCodec
from kafka_gateway.codecs.json_schema import JsonSchemaCodec
from kafka_gateway.codecs.protobuf import ProtobufCodec
from kafka_gateway.codecs.schema import SchemaCodec
from kafka_gateway.schemas import Schema


def avro(type: str) -> str:
    return f'{{"type": "record", "name": "R", "fields": [{{"name": "n", "type": {type}}}]}}'


def proto(field: str) -> str:
    return f'syntax = "proto3"; import "google/protobuf/struct.proto"; message M {{ {field} n = 1; }}'


@pytest.mark.parametrize(
    ("codec", "text", "opening", "inside", "taken"),
    [
        (AvroCodec(), avro('["null", "R"]'), '{"n":{"R":', '{"n":null}', 199),
        (AvroCodec(), avro('{"type": "array", "items": "R"}'), '{"n":[', '{"n":[]}', 199),
        (AvroCodec(), avro('{"type": "map", "values": ["string", "R"]}'), '{"n":{"k":{"R":', '{"n":{}}', 133),
        (ProtobufCodec(), proto("M"), '{"n":', "{}", 100),
        (ProtobufCodec(), proto("repeated M"), '{"n":[', "{}", 100),
        (ProtobufCodec(), proto("map<string, M>"), '{"n":{"k":', "{}", 50),
        (ProtobufCodec(), proto("google.protobuf.Value"), '{"n":', "1", 34),
        (JsonSchemaCodec(), '{"properties": {"n": {"$ref": "#"}}}', '{"n":', "{}", 900),
    ],
)
def test_it_is_read_as_deep_as_it_is_written(
    codec: SchemaCodec, text: str, opening: str, inside: str, taken: int
) -> None:
    schema = codec.compile(Schema(codec.schema_type, text))
    closing = "".join({"{": "}", "[": "]"}[sign] for sign in reversed(opening) if sign in "{[")
    for depth in (*range(1, 210), 400, 900, 3000, 100_000):
        datum = (opening * depth + inside + closing * depth).encode()
        if depth > taken:
            with pytest.raises(ValueError, match="nested"):
                schema.encode(datum)
        else:
            assert jsonio.encode(schema.decode(schema.encode(datum) or b"")), depth


def test_no_more_empty_items_are_written_than_are_read() -> None:
    schema = AvroCodec().compile(Schema("AVRO", '{"type": "array", "items": "null"}'))
    right = schema.encode(json.dumps([None] * 100_000).encode())
    assert schema.decode(right or b"") == [None] * 100_000
    with pytest.raises(ValueError, match="more than 100000 values that take no byte"):
        schema.encode(json.dumps([None] * 100_001).encode())
