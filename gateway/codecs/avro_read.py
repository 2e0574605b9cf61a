"""Avro's binary encoding, read in Python: for recursive types, and for arrays of items that take no byte.

What comes out is the JSON of kafka-rest-http.md §4.6.

fastavro reads nested data with nested calls in C: five thousand levels, ten kilobytes that anybody may have written
into a topic, end the process. Here the depth is bounded, and so is the number of items for the bytes that are there.
What is written must keep these bounds, too (`must_be_read`): nothing is stored that cannot be shown.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from kafka_gateway.codecs.avro_schema import Node, least_of

_DEEPEST = 400
"""Types inside each other, each of which takes one of Python's thousand frames."""
_EMPTY_ITEMS_MAX = 100_000
_SHORTEST_ITEM = 3
"""Characters of an item that takes no byte, in JSON: ``{},``."""


def read_datum(node: Node, payload: bytes) -> Any:
    """The datum at the start of the payload, as Avro's JSON encoding has it; bytes behind it are ignored.

    ValueError if it is broken.
    """
    return _Reader(payload).top(node)


def must_be_read(node: Node, text: bytes, payload: bytes) -> None:
    """ValueError for a payload that ``read_datum`` would refuse; ``text`` is the JSON that it was made of."""
    if len(text) < _DEEPEST:
        return
    # Types are nested no deeper than the brackets, but for the first and the last.
    deep = text.count(b"{") + text.count(b"[") > _DEEPEST - 2
    if deep or len(text) > _SHORTEST_ITEM * _EMPTY_ITEMS_MAX:
        read_datum(node, payload)


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0
        self._empty_items = 0

    def top(self, node: Node) -> Any:
        if node.kind == "union":  # bare at the top level (observed §4.6)
            return self._datum(self._branch(node), 0)
        return self._datum(node, 0)

    def _datum(self, node: Node, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"the datum is nested more than {_DEEPEST} times")
        kind = node.kind
        if kind == "record":
            record: dict[str, Any] = {}
            for field in node.fields:  # a comprehension would take another frame
                record[field.name] = self._datum(field.type, depth + 1)
            return record
        if kind == "union":
            branch = self._branch(node)
            return None if branch.kind == "null" else {branch.branch: self._datum(branch, depth + 1)}
        if kind == "array":
            assert node.items is not None
            items: list[Any] = []
            while count := self._block(node.items):
                for _ in range(count):
                    items.append(self._datum(node.items, depth + 1))
            return items
        if kind == "map":
            assert node.items is not None
            members: dict[str, Any] = {}
            while count := self._block(None):
                for _ in range(count):
                    key = self._string()
                    members[key] = self._datum(node.items, depth + 1)
            return members
        if kind in ("int", "long"):
            return self._long()
        if kind == "string":
            return self._string()
        if kind == "bytes":
            return self._take(self._long()).decode("latin-1")
        if kind == "fixed":
            return self._take(node.size).decode("latin-1")
        if kind == "boolean":
            return self._take(1) != b"\0"
        if kind == "enum":
            index = self._long()
            if not 0 <= index < len(node.symbols):
                raise ValueError(f"the enum {node.name} has no symbol {index}")
            return node.symbols[index]
        if kind == "null":
            return None
        number: float = (
            struct.unpack("<f", self._take(4))[0] if kind == "float" else struct.unpack("<d", self._take(8))[0]
        )
        if math.isfinite(number):
            return number
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"

    def _branch(self, node: Node) -> Node:
        index = self._long()
        if not 0 <= index < len(node.branches):
            raise ValueError(f"the union has no branch {index}")
        return node.branches[index]

    def _block(self, items: Node | None) -> int:
        """How many items of this type, or members, follow; 0 at the end."""
        count = self._long()
        if count < 0:
            count = -count
            self._long()  # the block's length in bytes
        values, empty = least_of(items) if items is not None else (1, False)
        if empty:
            self._empty_items += count * values
            if self._empty_items > _EMPTY_ITEMS_MAX:
                raise ValueError(f"there are more than {_EMPTY_ITEMS_MAX} values that take no byte")
        elif count > len(self._payload) - self._at:
            raise ValueError("it ends too soon")
        return count

    def _string(self) -> str:
        try:
            return self._take(self._long()).decode()
        except UnicodeDecodeError:
            raise ValueError("a string is not UTF-8") from None

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._payload):
            raise ValueError("it ends too soon")
        taken = self._payload[self._at : end]
        self._at = end
        return taken

    def _long(self) -> int:
        """A zig-zag varint of 64 bits."""
        number = shift = 0
        while True:
            if self._at >= len(self._payload):
                raise ValueError("it ends too soon")
            byte = self._payload[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a number takes more than ten bytes")
        number &= 2**64 - 1
        return (number >> 1) ^ -(number & 1)
