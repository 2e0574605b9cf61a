"""The embedded format ``avro``: Avro's JSON encoding for clients, its binary encoding in Kafka.

kafka-rest-http.md §4.4 and §4.6 say how.

A schema is compiled once, into functions that turn a JSON value into what fastavro writes, and back. fastavro is never
given a value that it would have to judge: which branch of a union is meant, and whether a number fits, is settled
before.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import fastavro

from kafka_gateway import jsonio
from kafka_gateway.avro_reading import schema_to_read
from kafka_gateway.codecs.avro_read import must_be_read, read_datum
from kafka_gateway.codecs.avro_schema import Node, is_recursive, least_of, reachable, read_schema
from kafka_gateway.codecs.avro_write import writer_of
from kafka_gateway.codecs.floating import as_float
from kafka_gateway.codecs.schema import SchemaCodec
from kafka_gateway.schemas import CompiledSchema, Misfit, Schema

Convert = Callable[[Any], Any]

_BOUNDS = {"int": 2**31, "long": 2**63}
_FLOAT_END = (2 - 2**-24) * 2.0**127
"""From here on numbers are rounded to what is no float of 32 bits any more."""
_WRAPPED = "\0branch"
"""Begins the names of types that stand for the branches of unions; no schema can have such names."""


_TOP = "datum"
_WIDE = 16
"""For a union of more branches it is counted how many of them fastavro may have to look at."""
_LOOKED_AT_MAX = 20_000
"""Branches that it may look at for one datum, which is some milliseconds."""
_NAMED_MAX = 20
"""Branches of a union, or symbols, that a message names."""
_EXPLAINED_MAX = 10_000
"""Bytes of a broken payload that are read again for the reason, in Python: some milliseconds."""


class AvroCodec(SchemaCodec):
    name = "avro"
    schema_type = "AVRO"
    generations = frozenset({"v1", "v2"})

    def compile(self, schema: Schema) -> AvroSchema:
        return AvroSchema(read_schema(schema.text, schema.imports))


class AvroSchema(CompiledSchema):
    """One schema, ready to write and to read."""

    def __init__(self, node: Node) -> None:
        """ValueError if fastavro cannot work with it."""
        self.name = node.name
        self._node = node
        self._raw = node.kind == "bytes"
        self._convert = _Writing().of(node)
        self._nullable = node.kind == "null" or any(branch.kind == "null" for branch in node.branches)
        write_schema = _fastavro_schema(node, wrapped=False)
        self._is_record = node.kind == "record"
        self._write_schema = _parsed(fastavro.parse_schema, write_schema if self._is_record else _top(write_schema))
        self._widest = max(len(each.branches) for each in reachable(node))
        self._write = writer_of(node) if self._widest > _WIDE else None
        self._read_schema = _parsed(schema_to_read, _top(_fastavro_schema(node, wrapped=True)))
        self._bare = node.kind == "union"
        recursive = is_recursive(node)
        # For recursive types read_datum reads and shows.
        self._show = None if recursive else _Showing().of(node)
        # fastavro ends the whole process for data that is nested some thousand times, and counts to any number of
        # items that take no byte.
        self._guarded = recursive or any(
            each.kind == "array" and each.items is not None and least_of(each.items)[1] for each in reachable(node)
        )

    def encode(self, text: bytes) -> bytes | None:
        try:
            value = jsonio.decode_value(text)
            if value is None and self._nullable:
                return None
            datum = self._convert(value)
            if self._raw:
                return bytes(datum)
            write = self._write
            if write is not None and self._widest * (text.count(b"{") + text.count(b"null")) > _LOOKED_AT_MAX:
                payload = write(datum)
            else:
                out = io.BytesIO()
                fastavro.schemaless_writer(out, self._write_schema, datum if self._is_record else {_TOP: datum})
                payload = out.getvalue()
            if self._guarded:
                must_be_read(self._node, text, payload)
        except RecursionError:
            raise ValueError("the datum is nested too deeply") from None
        return payload

    def decode(self, payload: bytes, rest: bytes | None = None) -> Any:
        if rest:
            raise ValueError("there is more than an id in the header")
        if self._raw:
            return payload.decode("latin-1")
        if self._guarded:
            return read_datum(self._node, payload)
        try:
            top: Any = fastavro.schemaless_reader(io.BytesIO(payload), self._read_schema, None)
        except Exception:  # it says what is wrong with bytes in many ways: EOFError, IndexError, …
            raise ValueError(f"the payload is no datum of its schema{self._fault(payload)}") from None
        datum, show = top[_TOP], self._show
        if show is not None:
            datum = show(datum)
        # At the top level a reply does not name a union's branch (observed §4.6).
        return next(iter(datum.values())) if self._bare and datum is not None else datum

    def _fault(self, payload: bytes) -> str:
        """What is wrong with a payload, behind a colon; "" if it is too long to be read again."""
        if len(payload) > _EXPLAINED_MAX:
            return ""
        try:
            read_datum(self._node, payload)
        except ValueError as reason:
            return f": {reason}"
        return ""


def _parsed(parse: Callable[[Any], Any], schema: Any) -> Any:
    try:
        return parse(schema)
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _top(schema: Any) -> Any:
    """A record with the datum as its only field, which is read from the same bytes: fastavro would parse a schema that
    is no record anew at each use."""
    return {"type": "record", "name": _WRAPPED, "namespace": "", "fields": [{"name": _TOP, "type": schema}]}


def _fastavro_schema(node: Node, wrapped: bool) -> Any:
    """The schema for fastavro. ``wrapped``: a branch of a union reads as an object with the branch's name.

    A record with one field is written exactly as that field alone, so each branch is given a record around it whose
    field bears its name.
    """
    known: dict[int, str] = {}
    number = 0

    def of(node: Node) -> Any:
        nonlocal number
        if id(node) in known:
            return known[id(node)]
        if node.name:
            known[id(node)] = node.name
        if node.kind == "record":
            fields = [{"name": field.name, "type": of(field.type)} for field in node.fields]
            return {"type": "record", "name": node.name, "fields": fields}
        if node.kind == "enum":
            return {"type": "enum", "name": node.name, "symbols": list(node.symbols)}
        if node.kind == "fixed":
            return {"type": "fixed", "name": node.name, "size": node.size}
        if node.kind in ("array", "map"):
            assert node.items is not None
            return {"type": node.kind, "items" if node.kind == "array" else "values": of(node.items)}
        if node.kind != "union":
            return node.kind
        branches = []
        for branch in node.branches:
            inner = of(branch)
            if wrapped and branch.kind != "null":
                number += 1
                field = {"name": branch.branch, "type": inner}
                inner = {"type": "record", "name": f"{_WRAPPED}{number}", "namespace": "", "fields": [field]}
            branches.append(inner)
        return branches

    return of(node)


# --- from JSON --------------------------------------------------------------------------------------------------------


class _Writing:
    """Makes the functions that turn JSON values into what fastavro writes."""

    def __init__(self) -> None:
        self._made: dict[int, Convert] = {}

    def of(self, node: Node) -> Convert:
        made = self._made.get(id(node))
        if made is not None:
            return made
        if node.kind == "record":
            return self._record(node)
        if node.kind == "union":
            convert = _union(node, [self.of(branch) for branch in node.branches])
        elif node.kind in ("array", "map"):
            assert node.items is not None
            convert = (_array if node.kind == "array" else _map)(self.of(node.items), _exact(node.items))
        else:
            convert = _SCALARS[node.kind](node)
        self._made[id(node)] = convert
        return convert

    def _record(self, node: Node) -> Convert:
        fields: list[tuple[str, Any, Convert]] = []
        aliases = {field.name: field.aliases for field in node.fields}

        def convert(value: Any) -> Any:
            if type(value) is not dict:
                raise Misfit.expected(f"record {node.name}", value)
            out = {}
            for name, exact, of_field in fields:
                try:
                    item = value[name]
                except KeyError:
                    item = _by_alias(node, name, aliases[name], value)
                # The type alone settles most members; a function call takes longer than everything else here.
                if type(item) is exact:
                    out[name] = item
                    continue
                try:
                    out[name] = of_field(item)
                except Misfit as misfit:
                    misfit.within(name)
                    raise
            return out

        self._made[id(node)] = convert  # before its fields: one of them may be of this type
        fields += [(field.name, _exact(field.type), self.of(field.type)) for field in node.fields]
        return convert


def _exact(node: Node) -> Any:
    """The Python type whose values need nothing done, or a type that no JSON value has."""
    return {"string": str, "boolean": bool, "null": type(None), "double": float}.get(node.kind, _exact)


def _by_alias(node: Node, name: str, aliases: Sequence[str], value: dict[str, Any]) -> Any:
    """The member under another name of the field: upstream takes those (observed §4.6), defaults it does not."""
    for alias in aliases:
        if alias in value:
            return value[alias]
    raise Misfit(f"the member {name} of the record {node.name} is missing: defaults are not applied")


def _union(node: Node, converts: list[Convert]) -> Convert:
    branches = {branch.branch: convert for branch, convert in zip(node.branches, converts, strict=True)}
    names = ", ".join([*branches][:_NAMED_MAX]) + (", …" if len(branches) > _NAMED_MAX else "")
    last = node.branches[-1].branch if node.branches else ""
    with_null = "null" in branches

    def convert(value: Any) -> Any:
        if value is None:
            if with_null:
                return None
            raise Misfit(f"null is none of the union's branches: {names}")
        if type(value) is dict:
            for name in value:  # the first member says which; upstream ignores others (observed §4.6)
                of_branch = branches.get(name)
                if of_branch is None:
                    break
                try:
                    item = of_branch(value[name])
                except Misfit as misfit:
                    misfit.within(name)
                    raise
                return None if name == "null" else (name, item)
        raise Misfit(f'expected one of the union\'s branches, such as {{"{last}": …}}, of: {names}')

    return convert


def _array(of_item: Convert, exact: Any) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise Misfit.expected("array", value)
        out = []
        for i, item in enumerate(value):
            if type(item) is exact:
                out.append(item)
                continue
            try:
                out.append(of_item(item))
            except Misfit as misfit:
                misfit.within(i)
                raise
        return out

    return convert


def _map(of_value: Convert, exact: Any) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit.expected("map", value)
        out = {}
        for key, item in value.items():
            try:
                out[key] = item if type(item) is exact else of_value(item)
            except Misfit as misfit:
                misfit.within(key)
                raise
        return out

    return convert


def _instance(type_: type, word: str) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not type_:
            raise Misfit.expected(word, value)
        return value

    return convert


def _integer(node: Node) -> Convert:
    bound, word = _BOUNDS[node.kind], node.kind

    def convert(value: Any) -> int:
        if type(value) is not int:
            if type(value) is not float or not value.is_integer():  # 1.0 and 1e2 are taken, 1.5 is not (observed §4.6)
                raise Misfit.expected(word, value)
            value = int(value)
        if -bound <= value < bound:
            return int(value)
        raise Misfit(f"expected {word}: {value} is out of range")

    return convert


def _floating(node: Node) -> Convert:
    single, word = node.kind == "float", node.kind

    def convert(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise Misfit.expected(word, value)
        if single and abs(value) >= _FLOAT_END:
            raise Misfit(f"expected float: {value} is out of range")
        return as_float(value, word)

    return convert


def _bytes(node: Node) -> Convert:
    size = node.size if node.kind == "fixed" else None

    def convert(value: Any) -> bytes:
        if type(value) is not str:
            raise Misfit.expected(f"{node.branch} (a text of the characters U+0000 to U+00FF)", value)
        try:
            data = value.encode("latin-1")
        except UnicodeEncodeError as error:
            raise Misfit(f"expected {node.branch}: character {error.start} is beyond U+00FF") from None
        if size is not None and len(data) != size:
            raise Misfit(f"expected fixed {node.name} of {size} bytes, not {len(data)}")
        return data

    return convert


def _enum(node: Node) -> Convert:
    symbols = frozenset(node.symbols)

    def convert(value: Any) -> Any:
        if type(value) is not str or value not in symbols:
            raise Misfit.expected(f"enum {node.name}, one of {', '.join(node.symbols[:_NAMED_MAX])}", value)
        return value

    return convert


_SCALARS: dict[str, Callable[[Node], Convert]] = {
    "null": lambda node: _instance(type(None), "null"),
    "boolean": lambda node: _instance(bool, "boolean"),
    "string": lambda node: _instance(str, "string"),
    "int": _integer,
    "long": _integer,
    "float": _floating,
    "double": _floating,
    "bytes": _bytes,
    "fixed": _bytes,
    "enum": _enum,
}


# --- to JSON ----------------------------------------------------------------------------------------------------------


def show_float(value: float) -> float | str:
    """What JSON has no number for is a text (observed §4.6)."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def show_bytes(value: bytes) -> str:
    return value.decode("latin-1")


class _Showing:
    """Makes the functions that turn what fastavro reads into JSON values; None for types that need no change.

    Not for recursive types."""

    def __init__(self) -> None:
        self._made: dict[int, Convert | None] = {}

    def of(self, node: Node) -> Convert | None:
        if id(node) not in self._made:  # a type may be used in any number of places
            self._made[id(node)] = self._new(node)
        return self._made[id(node)]

    def _new(self, node: Node) -> Convert | None:
        if node.kind in ("bytes", "fixed"):
            return show_bytes
        if node.kind in ("float", "double"):
            return show_float
        if node.kind == "record":
            return _show_members([(f.name, show) for f in node.fields if (show := self.of(f.type)) is not None])
        if node.kind in ("array", "map") and node.items is not None:
            return _show_items(self.of(node.items), node.kind == "array")
        if node.kind == "union":
            return self._union(node)
        return None

    def _union(self, node: Node) -> Convert | None:
        shows = {branch.branch: show for branch in node.branches if (show := self.of(branch)) is not None}
        if not shows:
            return None

        def convert(value: Any) -> Any:
            if value is None:
                return None
            for name, item in value.items():
                show = shows.get(name)
                if show is not None:
                    value[name] = show(item)
            return value

        return convert


def _show_items(item: Convert | None, in_array: bool) -> Convert | None:
    if item is None:
        return None
    if in_array:
        return lambda value: [item(each) for each in value]
    return lambda value: {key: item(each) for key, each in value.items()}


def _show_members(members: list[tuple[str, Convert]]) -> Convert | None:
    if not members:
        return None

    def convert(value: Any) -> Any:
        for name, show in members:
            value[name] = show(value[name])
        return value

    return convert
