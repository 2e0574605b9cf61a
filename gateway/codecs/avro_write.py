"""Avro's binary encoding, written in Python: for data with many values of wide unions.

fastavro looks for a union's branch from the first on, at each value, and holds the interpreter meanwhile: a request of
two megabytes with a union of 30,000 branches took minutes. Here a branch is found by its name in one step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kafka_gateway.codecs.avro_schema import Node

Put = Callable[[bytearray, Any], None]


def writer_of(node: Node) -> Callable[[Any], bytes]:
    """A function that makes the payload of a datum as ``avro`` converts it: right for its type, with the branch of a
    union as a pair of name and value, or None."""
    put = _Writing().of(node)

    def write(datum: Any) -> bytes:
        out = bytearray()
        put(out, datum)
        return bytes(out)

    return write


class _Writing:
    def __init__(self) -> None:
        self._made: dict[int, Put] = {}

    def of(self, node: Node) -> Put:
        made = self._made.get(id(node))
        if made is None:
            made = self._made[id(node)] = self._new(node)
        return made

    def _new(self, node: Node) -> Put:
        if node.kind == "record":
            return self._record(node)
        if node.kind == "union":
            return _union({branch.branch: (i, self.of(branch)) for i, branch in enumerate(node.branches)})
        if node.kind == "array":
            assert node.items is not None
            return _array(self.of(node.items))
        if node.kind == "map":
            assert node.items is not None
            return _map(self.of(node.items))
        if node.kind == "enum":
            numbers = {symbol: i for i, symbol in enumerate(node.symbols)}
            return lambda out, datum: _long(out, numbers[datum])
        return _SCALARS[node.kind]

    def _record(self, node: Node) -> Put:
        fields: list[tuple[str, Put]] = []

        def put(out: bytearray, datum: Any) -> None:
            for name, put_field in fields:
                put_field(out, datum[name])

        self._made[id(node)] = put  # before its fields: one of them may be of this type
        fields += [(field.name, self.of(field.type)) for field in node.fields]
        return put


def _union(branches: dict[str, tuple[int, Put]]) -> Put:
    def put(out: bytearray, datum: Any) -> None:
        name, value = ("null", None) if datum is None else datum
        index, put_branch = branches[name]
        _long(out, index)
        put_branch(out, value)

    return put


def _array(put_item: Put) -> Put:
    def put(out: bytearray, datum: Any) -> None:
        if datum:
            _long(out, len(datum))
            for item in datum:
                put_item(out, item)
        out.append(0)

    return put


def _map(put_value: Put) -> Put:
    def put(out: bytearray, datum: Any) -> None:
        if datum:
            _long(out, len(datum))
            for key, value in datum.items():
                _string(out, key)
                put_value(out, value)
        out.append(0)

    return put


def _long(out: bytearray, number: int) -> None:
    """A zig-zag varint."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _bytes(out: bytearray, data: bytes) -> None:
    _long(out, len(data))
    out += data


def _string(out: bytearray, text: str) -> None:
    _bytes(out, text.encode())


_SCALARS: dict[str, Put] = {
    "null": lambda out, datum: None,
    "boolean": lambda out, datum: out.append(1 if datum else 0),
    "int": _long,
    "long": _long,
    "float": lambda out, datum: out.extend(struct.pack("<f", datum)),
    "double": lambda out, datum: out.extend(struct.pack("<d", datum)),
    "bytes": _bytes,
    "fixed": lambda out, datum: out.extend(datum),
    "string": _string,
}
