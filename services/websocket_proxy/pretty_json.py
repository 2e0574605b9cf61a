"""JSON as kafka-websocket-proxy prints it, indented by two (websocket-proxy.md §1.2, §1.4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka_gateway import jsonio


def pretty(value: Any) -> bytes:
    """The JSON of plain values. Empty lists take two lines, as in that program."""
    return _pretty(value, "").encode()


def _pretty(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, Mapping):
        parts = [f"{inner}{_text(name)} : {_pretty(each, inner)}" for name, each in value.items()]
        opening, closing = "{", "}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = [inner + _pretty(each, inner) for each in value]
        opening, closing = "[", "]"
    else:
        return _text(value)
    return "\n".join([opening, *([",\n".join(parts)] if parts else []), indent + closing])


def _text(value: Any) -> str:
    return jsonio.encode(value).decode()
