"""What is kept of a schema that was asked for: the schema, compiled, or why there is none."""

from __future__ import annotations

import asyncio
import dataclasses

from kafka_gateway.codec import Codec
from kafka_gateway.schemas import CompiledSchema, Schema

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
    """Subjects under which it is known to be registered, and the version there."""


class Failed:
    """What the registry said when it was asked, believed until ``until``."""

    __slots__ = ("error", "until")

    def __init__(self, error: Exception, until: float) -> None:
        self.error = error
        self.until = until


async def compile_schema(codec: Codec, schema: Schema) -> CompiledSchema:
    if len(schema.text) + sum(len(text) for _, text in schema.imports) > _LONG_TEXT:
        return await asyncio.to_thread(_compiled, codec, schema)
    return _compiled(codec, schema)


def _compiled(codec: Codec, schema: Schema) -> CompiledSchema:
    try:
        return codec.compile(schema)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
