"""Encodes and decodes the messages of Kafka's protocol: a list of fields becomes a function that writes or reads them.

A description is a sequence of ``(name, type)``. A type is one of the names below, ``[type]`` or a list of fields for an
array, or a tuple of fields. Values are numbers, ``bool``, ``str``, ``bytes`` and lists; a message, and each element of
an array of fields, is a dict by field name. Texts and arrays may be None. Flexible versions (KIP-482) have compact
texts and arrays and tagged fields; tags are skipped when read and never written.

Names and versions of messages: Kafka's protocol guide, and the JSON files in its source from which that is made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from kafka_gateway.wire.frames import WireError, uvarint

Fields = Sequence[tuple[str, Any]]
Read = Callable[[bytes, int], tuple[Any, int]]
"""Bytes and a place in them → the value and the place behind it."""
Write = Callable[[list[bytes], Any], None]

_NUMBERS: Final = {
    "int8": struct.Struct(">b"),
    "int16": struct.Struct(">h"),
    "int32": struct.Struct(">i"),
    "int64": struct.Struct(">q"),
    "bool": struct.Struct(">?"),
}


class Layout:
    """One message in one version.

    Args:
        fields: what it holds, in order.
        flexible: whether this version has compact types and tags.
    """

    def __init__(self, fields: Fields, flexible: bool) -> None:
        # As a tuple: a list is the description of an array.
        self._read = _reader(tuple(fields), flexible)
        self._write = _writer(tuple(fields), flexible)

    def decode(self, data: bytes, at: int = 0) -> dict[str, Any]:
        """The message that begins at ``at``; bytes behind it are ignored. WireError if it is cut short or broken."""
        try:
            value: dict[str, Any] = self._read(data, at)[0]
            return value
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise WireError(f"message cannot be read: {type(error).__name__}") from None

    def encode(self, value: dict[str, Any]) -> bytes:
        """The message. TextTooLong for a text of more than `TEXT_MAX` bytes."""
        parts: list[bytes] = []
        self._write(parts, value)
        return b"".join(parts)


# --- reading ---------------------------------------------------------------------------------------------------------


def _reader(kind: Any, flexible: bool) -> Read:
    if isinstance(kind, str):
        return _number_reader(_NUMBERS[kind]) if kind in _NUMBERS else _TEXTS[kind, flexible]
    if isinstance(kind, list):
        return _array_reader(kind, flexible)
    return _fields_reader(kind, flexible)


def _number_reader(number: struct.Struct) -> Read:
    unpack, size = number.unpack_from, number.size

    def read(data: bytes, at: int) -> tuple[Any, int]:
        return unpack(data, at)[0], at + size

    return read


def _fields_reader(fields: Fields, flexible: bool) -> Read:
    readers = tuple((name, _reader(kind, flexible)) for name, kind in fields)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        value = {}
        for name, read_one in readers:
            value[name], at = read_one(data, at)
        if flexible:
            at = skip_tags(data, at) if data[at] else at + 1
        return value, at

    return read


def _array_reader(of: list[Any], flexible: bool) -> Read:
    kind = of[0] if len(of) == 1 and not isinstance(of[0], tuple) else tuple(of)
    read_one = _reader(kind, flexible)
    int32 = _NUMBERS["int32"].unpack_from

    def read(data: bytes, at: int) -> tuple[Any, int]:
        if flexible:
            count, at = _read_uvarint(data, at)
            count -= 1
        else:
            count, at = int32(data, at)[0], at + 4
        if count < 0:
            return None, at
        if count > len(data) - at:  # every element has a byte at least
            raise WireError("array reaches beyond the message")
        values = []
        for _ in range(count):
            one, at = read_one(data, at)
            values.append(one)
        return values, at

    return read


def _read_uvarint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 28:
            raise WireError("not a varint")


def skip_tags(data: bytes, at: int) -> int:
    """The place behind the tagged fields that begin at ``at``."""
    count, at = _read_uvarint(data, at)
    for _ in range(count):
        _, at = _read_uvarint(data, at)
        size, at = _read_uvarint(data, at)
        at += size
    if at > len(data):
        raise WireError("tag reaches beyond the message")
    return at


def _cut(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end > len(data):
        raise WireError("field reaches beyond the message")
    return data[at:end], end


def _read_string(data: bytes, at: int) -> tuple[Any, int]:
    (size,) = _NUMBERS["int16"].unpack_from(data, at)
    if size < 0:
        return None, at + 2
    content, at = _cut(data, at + 2, size)
    return content.decode(), at


def _read_compact_string(data: bytes, at: int) -> tuple[Any, int]:
    size, at = _read_uvarint(data, at)
    if not size:
        return None, at
    content, at = _cut(data, at, size - 1)
    return content.decode(), at


def _read_bytes(data: bytes, at: int) -> tuple[Any, int]:
    (size,) = _NUMBERS["int32"].unpack_from(data, at)
    return _cut(data, at + 4, size) if size >= 0 else (None, at + 4)


def _read_compact_bytes(data: bytes, at: int) -> tuple[Any, int]:
    size, at = _read_uvarint(data, at)
    return _cut(data, at, size - 1) if size else (None, at)


def _read_uuid(data: bytes, at: int) -> tuple[Any, int]:
    return _cut(data, at, 16)


_TEXTS: Final[dict[tuple[str, bool], Read]] = {
    ("string", False): _read_string,
    ("string", True): _read_compact_string,
    ("bytes", False): _read_bytes,
    ("bytes", True): _read_compact_bytes,
    ("uuid", False): _read_uuid,
    ("uuid", True): _read_uuid,
}


# --- writing ---------------------------------------------------------------------------------------------------------


def _writer(kind: Any, flexible: bool) -> Write:
    if isinstance(kind, str):
        if kind in _NUMBERS:
            pack = _NUMBERS[kind].pack
            return lambda parts, value: parts.append(pack(value))
        return _write_compact_text if flexible else _write_text
    if isinstance(kind, list):
        return _array_writer(kind, flexible)
    return _fields_writer(kind, flexible)


def _fields_writer(fields: Fields, flexible: bool) -> Write:
    writers = tuple((name, _writer(kind, flexible)) for name, kind in fields)

    def write(parts: list[bytes], value: Any) -> None:
        for name, write_one in writers:
            write_one(parts, value[name])
        if flexible:
            parts.append(b"\0")

    return write


def _array_writer(of: list[Any], flexible: bool) -> Write:
    kind = of[0] if len(of) == 1 and not isinstance(of[0], tuple) else tuple(of)
    write_one = _writer(kind, flexible)
    int32 = _NUMBERS["int32"].pack

    def write(parts: list[bytes], value: Any) -> None:
        count = -1 if value is None else len(value)
        parts.append(uvarint(count + 1) if flexible else int32(count))
        for each in value or ():
            write_one(parts, each)

    return write


TEXT_MAX: Final = 32_767
"""Bytes of a text; brokers close the connection on which a longer one comes, in compact form, too."""


class TextTooLong(WireError):
    """A text that Kafka's protocol has no room for."""


def _content(value: str) -> bytes:
    content = value.encode()
    if len(content) > TEXT_MAX:
        raise TextTooLong(f"a text of {len(content)} bytes is too long for Kafka: it takes {TEXT_MAX}")
    return content


def _write_text(parts: list[bytes], value: str | None) -> None:
    if value is None:
        parts.append(b"\xff\xff")
        return
    content = _content(value)
    parts += (_NUMBERS["int16"].pack(len(content)), content)


def _write_compact_text(parts: list[bytes], value: str | None) -> None:
    if value is None:
        parts.append(b"\0")
        return
    content = _content(value)
    parts += (uvarint(len(content) + 1), content)
