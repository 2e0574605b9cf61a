"""What the embedded formats with schemas have in common (kafka-rest-http.md §4.4, §4.5)."""

from __future__ import annotations

from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec


class SchemaCodec(Codec):
    """Keys and values of these formats are written and read by `gateway.schemas.Schemas`, with what `compile` makes."""

    datum = jsonio.Raw
    family = "schema"

    def store(self, datum: jsonio.Raw) -> bytes:
        raise ValueError("Schema Registry must be configured when using schemas.")

    def load(self, stored: bytes) -> Any:
        raise ValueError("Schema Registry must be configured when using schemas.")
