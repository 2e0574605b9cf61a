"""Why data do not fit a JSON Schema, out of what the library that judges says of it, in words for the client.

For ``anyOf`` and ``oneOf`` the library says no more than that no part fits. What a client wants to know is what is
wrong with the part that was meant: the one whose type is right at the place itself, and whose constants are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema_rs

from kafka_gateway.schemas import Misfit

_MESSAGE_MAX = 200
_PARTS_TOLD = 3
_SAID_OF_PARTS_MAX = 1500
"""How many messages the library may make about the parts of an ``anyOf`` or ``oneOf``. It makes all of them before it
returns the first, at 20 µs each, and cannot be interrupted."""

_Kind = jsonschema_rs.ValidationErrorKind
_WORDS = ("anyOf", "oneOf")


def has_parts(schemas: Sequence[Any]) -> bool:
    """Whether one of these schemas, or a schema inside of one, has an ``anyOf`` or ``oneOf``."""
    todo = list(schemas)
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            if any(word in each for word in _WORDS):
                return True
            todo += each.values()
        elif isinstance(each, list):
            todo += each
    return False


def too_much_to_say(value: Any, often: int) -> bool:
    """Whether the library would take long to say what is wrong with a value of which each part is judged ``often``."""
    left, todo = _SAID_OF_PARTS_MAX // often, [value]
    while todo:
        left -= 1
        if left < 0 or len(todo) > left + 1:
            return True
        each = todo.pop()
        if isinstance(each, dict):
            todo += each.values()
        elif isinstance(each, list):
            todo += each
    return False


def misfit(error: jsonschema_rs.ValidationError, original: Callable[[str], str]) -> Misfit:
    """What is wrong, with its place. ``original`` puts the schema's own words into a message of the library."""
    while parts := _parts(error):
        ranked = sorted(
            ((_strangeness(part, len(error.instance_path)), part) for part in parts), key=lambda each: each[0]
        )
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            told = "; ".join(_told(part[0], original) for _, part in ranked[:_PARTS_TOLD])
            more = f"; and {len(ranked) - _PARTS_TOLD} more" if len(ranked) > _PARTS_TOLD else ""
            return Misfit(f"it fits no schema of {error.kind.name}: {told}{more}", _place(error.instance_path))
        error = ranked[0][1][0]
    return Misfit(_message(error, original), _place(error.instance_path))


def _parts(error: jsonschema_rs.ValidationError) -> Sequence[Sequence[jsonschema_rs.ValidationError]]:
    """What is wrong by each schema of an ``anyOf`` or ``oneOf``, none of which fits."""
    if not isinstance(error.kind, (_Kind.AnyOf, _Kind.OneOfNotValid)):
        return ()
    return [part for part in error.kind.context if part]


def _strangeness(part: Sequence[jsonschema_rs.ValidationError], depth: int) -> tuple[bool, int]:
    """How unlikely it is that this schema was meant. First: whether the value is of another type, or the value or one
    of its members is not the constant that the schema names. Then: how much is wrong."""
    other = any(
        (isinstance(each.kind, (_Kind.Type, _Kind.FalseSchema)) and len(each.instance_path) == depth)
        or (isinstance(each.kind, (_Kind.Constant, _Kind.Enum)) and len(each.instance_path) <= depth + 1)
        for each in part
    )
    return other, len(part)


def _told(error: jsonschema_rs.ValidationError, original: Callable[[str], str]) -> str:
    place, message = _place(error.instance_path), _message(error, original)
    return f"{place}: {message}" if place else message


def _message(error: jsonschema_rs.ValidationError, original: Callable[[str], str]) -> str:
    message = re.sub(r"\s+", " ", original(error.message))
    return message if len(message) <= _MESSAGE_MAX else f"{message[:_MESSAGE_MAX]}…"


def _place(steps: Sequence[str | int]) -> str:
    place = ""
    for step in steps:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    return place
