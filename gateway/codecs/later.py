"""Formats whose libraries are loaded when they are needed: together they take a tenth of the time of a start."""

from __future__ import annotations

import functools
from collections.abc import Callable

from kafka_gateway.codec import Codec
from kafka_gateway.codecs.schema import SchemaCodec
from kafka_gateway.schemas import CompiledSchema, Schema


class LaterCodec(SchemaCodec):
    """A format with schemas whose library is not loaded yet. When the first schema comes, ``load`` makes the codec, in
    some ten milliseconds; gateways without a schema registry never need it."""

    def __init__(self, name: str, schema_type: str, generations: frozenset[str], load: Callable[[], Codec]) -> None:
        self.name, self.schema_type, self.generations = name, schema_type, generations
        self.is_loaded = False
        self._load = load

    @functools.cached_property
    def codec(self) -> Codec:
        """The codec itself."""
        made = self._load()
        self.is_loaded = True
        return made

    def canonical(self, text: str) -> str:
        return self.codec.canonical(text)

    def compile(self, schema: Schema) -> CompiledSchema:
        return self.codec.compile(schema)

    def reader(self, schema: Schema) -> CompiledSchema | None:
        return self.codec.reader(schema)
