"""The shapes of records in streams (streams.md §2)."""

from __future__ import annotations

from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.records import ConsumedRecord

UNDECODABLE = 42208
"""``error_code`` of a record that the format cannot express."""

STRING = "string"
"""The format for keys and values that are text. It is no embedded format of the REST API."""

AUTO = "auto"
"""What carries a schema's id is decoded with that schema; else it is JSON, else bytes."""


class StreamHeader(jsonio.Struct, gc=False):
    name: str
    value: bytes | None


class RowError(jsonio.Struct, gc=False):
    error_code: int
    message: str


class StreamRow(jsonio.Struct, gc=False):
    """One record; members that are UNSET are left out."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int | jsonio.UnsetType
    key: Any
    value: Any
    headers: list[StreamHeader] | jsonio.UnsetType = jsonio.UNSET
    error: RowError | jsonio.UnsetType = jsonio.UNSET


class PlainRow(jsonio.Struct, gc=False):
    """A StreamRow of a usual record. It takes half the time, because no members have to be left out."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int
    key: Any
    value: Any


class SchemaOfPart(jsonio.Struct, gc=False):
    """Which schema a key or value was decoded with. ``subject`` and ``version`` are absent where it is not known."""

    id: int
    name: str | jsonio.UnsetType = jsonio.UNSET
    subject: str | jsonio.UnsetType = jsonio.UNSET
    version: int | jsonio.UnsetType = jsonio.UNSET


class SchemaRow(jsonio.Struct, gc=False):
    """A StreamRow of a format with schemas. ``key_format`` and ``value_format`` are there for ``auto``: what it was."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int | jsonio.UnsetType
    key: Any
    value: Any
    headers: list[StreamHeader] | jsonio.UnsetType = jsonio.UNSET
    key_format: str | jsonio.UnsetType = jsonio.UNSET
    value_format: str | jsonio.UnsetType = jsonio.UNSET
    key_schema: SchemaOfPart | jsonio.UnsetType = jsonio.UNSET
    value_schema: SchemaOfPart | jsonio.UnsetType = jsonio.UNSET
    error: RowError | jsonio.UnsetType = jsonio.UNSET


def headers_of(record: ConsumedRecord) -> list[StreamHeader] | jsonio.UnsetType:
    """The headers of a record; UNSET if it has none."""
    headers = record.headers()
    if not headers:
        return jsonio.UNSET
    return [StreamHeader(name.encode("utf-8", "replace").decode(), value) for name, value in headers]


def on_one_line(text: bytes) -> bytes:
    """The JSON text without line ends between its parts."""
    # Line ends are white space, but for those in strings, which are escaped (RFC 8259 §2).
    return text.replace(b"\r", b" ").replace(b"\n", b" ") if 0x0A in text or 0x0D in text else text
