"""The embedded formats that need a schema registry: Avro, JSON Schema, Protobuf.

Their media types are known, so clients get the contract's answers; without a registry nothing but null keys and values
can be produced, and no record can be read (kafka-rest-http.md §4.4, §4.5).
"""

from __future__ import annotations

from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec

NO_REGISTRY = "Schema Registry must be configured when using schemas."


class SchemaCodec(Codec):
    datum = jsonio.Raw
    family = "schema"

    def __init__(self, name: str, generations: frozenset[str] = frozenset({"v2"})) -> None:
        self.name = name
        self.generations = generations

    def store(self, datum: jsonio.Raw) -> bytes:
        raise ValueError(NO_REGISTRY)

    def load(self, stored: bytes) -> Any:
        raise ValueError(NO_REGISTRY)


AVRO = SchemaCodec("avro", frozenset({"v1", "v2"}))
JSON_SCHEMA = SchemaCodec("jsonschema")
PROTOBUF = SchemaCodec("protobuf")
