"""JSON schemas of request and reply bodies, in few words, for the `descriptions` of several capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway.description import Shape

TEXT: Final = {"type": "string"}
INT32: Final = {"type": "integer", "format": "int32"}
INT64: Final = {"type": "integer", "format": "int64"}


def object_of(required: tuple[str, ...] = (), /, **members: Shape) -> dict[str, Any]:
    """An object with these members and no others; ``required`` names those that must be there."""
    schema: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def array_of(items: Shape, **more: Any) -> dict[str, Any]:
    """``more``: keywords of the array itself, such as ``minItems``."""
    return {"type": "array", "items": items, **more}


def or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same, or null. The schema has one ``type``."""
    return {**schema, "type": [schema["type"], "null"]}
