"""What is kept of a schema that was asked for: the schema, compiled, or why there is none."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TypeVar

from kafka_gateway.codec import Codec
from kafka_gateway.registry.bounds import check_size
from kafka_gateway.schemas import CompiledSchema, Schema

T = TypeVar("T")

_LONG_TEXT = 2_000
"""Characters of a schema beyond which it is compiled on a thread; up to there it takes some 5 ms."""


@dataclasses.dataclass(slots=True)
class Stored:
    """A schema that the registry has. ``fault`` says why nothing can be written with it; "" if it can.

    ``compiled`` is None if nothing can be read with it either.
    """

    id: int
    type: str
    format: str
    schema: Schema
    compiled: CompiledSchema | None
    fault: str = ""
    places: dict[str, int] = dataclasses.field(default_factory=dict)
    """Subjects under which it is known to be registered, and the version there. Replaced, never changed: threads read
    it."""
    outdated: bool = False
    """Whether it is registered under another subject since ``places`` came."""

    def place(self, subject: str, version: int) -> None:
        """Notes that it stands there."""
        self.places = {**self.places, subject: version}


class Failed:
    """Why there is no schema, believed until ``until`` (`time.monotonic`)."""

    __slots__ = ("error", "until")

    def __init__(self, error: Exception, until: float) -> None:
        self.error = error
        self.until = until


async def compile_schema(codec: Codec, schema: Schema) -> CompiledSchema:
    """A schema of the registry. ValueError: it cannot be used, or is past `bounds`."""
    return await _made(codec, schema, codec.compile)


async def compile_draft(codec: Codec, schema: Schema) -> tuple[CompiledSchema, str]:
    """A schema of a client, and the text to register. ValueError as `compile_schema`, and as `Codec.canonical`."""
    return await _made(codec, schema, lambda schema: (codec.compile(schema), codec.canonical(schema.text)))


async def _made(codec: Codec, schema: Schema, make: Callable[[Schema], T]) -> T:
    """Everything that reads the text of a schema: on a thread if it is long, or the first of its codec."""
    check_size(schema)

    def made() -> T:
        try:
            return make(schema)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    if not codec.is_loaded or len(schema.text) + sum(len(text) for _, text in schema.imports) > _LONG_TEXT:
        return await asyncio.to_thread(made)
    return made()
