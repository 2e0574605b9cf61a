"""Avro's JSON and binary encoding (kafka-rest-http.md §4.6), held against fastavro's own."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codecs.avro import AvroCodec, AvroSchema
from kafka_gateway.codecs.avro_read import read_datum
from kafka_gateway.codecs.avro_schema import read_schema
from kafka_gateway.codecs.avro_write import writer_of
from kafka_gateway.schemas import Schema
from tests.examples import examples


def compiled(schema: Any, *imports: tuple[str, Any]) -> AvroSchema:
    texts = tuple((name, json.dumps(each)) for name, each in imports)
    return AvroCodec().compile(Schema("AVRO", json.dumps(schema), (), texts))


def encode(schema: Any, value: Any) -> bytes | None:
    return compiled(schema).encode(json.dumps(value).encode())


def record(*fields: Any, name: str = "R") -> Any:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": type_} for key, type_ in fields]}


ITEMS = record(("items", {"type": "array", "items": record(("price", "double"), name="Item")}))


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (ITEMS, {"items": [{"price": 1}, {"price": "x"}]}, "items[1].price: expected double, not 'x'"),
        (ITEMS, {"items": 1}, "items: expected array, not 1"),
        (ITEMS, [], "expected record R, not an array"),
        (ITEMS, {}, "the member items of the record R is missing: defaults are not applied"),
        (record(("m", {"type": "map", "values": "int"})), {"m": {"k": None}}, "m.k: expected int, not null"),
        (record(("u", ["null", "int"])), {"u": 1}, 'u: expected one of the union\'s branches, such as {"int": …}'),
        (record(("u", ["null", "int"])), {"u": {"int": "1"}}, "u.int: expected int, not '1'"),
        (["string", "int"], None, "null is none of the union's branches"),
        ("int", 2**31, "expected int: 2147483648 is out of range"),
        ("long", 2**63, "expected long: "),
        ("int", 1.5, "expected int, not 1.5"),
        ("int", True, "expected int, not true"),
        ("float", 1e39, "expected float: 1e+39 is out of range"),
        ("double", 10**400, "expected double: a whole number of more than 308 digits is out of range"),
        ("bytes", "aĀ", "expected bytes: character 1 is beyond U+00FF"),
        ({"type": "fixed", "name": "F", "size": 2}, "abc", "expected fixed F of 2 bytes, not 3"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B", "expected enum E, one of A, not 'B'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(schema: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is looked at below)
        encode(schema, value)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("schema", "value", "stored", "shown"),
    [
        ("bytes", "\x00ÿ", b"\x00\xff", "\x00ÿ"),  # at the top level without its length
        (record(("b", "bytes")), {"b": "ÿ"}, b"\2\xff", {"b": "ÿ"}),
        ("long", 1e18, None, 10**18),
        ("float", 3.4028235e38, b"\xff\xff\x7f\x7f", 3.4028234663852886e38),
        (["null", "int"], {"int": 1}, b"\2\2", 1),  # bare at the top level
        (record(("u", ["null", "int"])), {"u": {"int": 1}}, b"\2\2", {"u": {"int": 1}}),
        (record(("u", ["null", "int"])), {"u": None}, b"\0", {"u": None}),
        (record(("u", ["int", "long"])), {"u": {"long": 1}}, b"\2\2", {"u": {"long": 1}}),
        (record(("a", "int")), {"b": 1, "a": 2, "c": {}}, b"\4", {"a": 2}),
        ({"type": "long", "logicalType": "timestamp-millis"}, 5, b"\x0a", 5),
    ],
)
def test_both_ways(schema: Any, value: Any, stored: bytes | None, shown: Any) -> None:
    found = encode(schema, value)
    assert found is not None
    assert stored is None or found == stored
    assert compiled(schema).decode(found + b"behind" * (schema != "bytes")) == shown


def test_null() -> None:
    assert encode(["null", "int"], None) is None
    assert encode("null", None) is None


def test_names_are_those_of_the_namespace() -> None:
    inner = {"type": "record", "name": "Inner", "namespace": "x.y", "fields": [{"name": "a", "type": "int"}]}
    symbol = {"type": "enum", "name": "E", "symbols": ["S"]}
    outer = record(("i", ["null", "x.y.Inner"]), ("j", symbol), name="x.Outer")
    schema = compiled(outer, ("x.y.Inner", inner))
    stored = schema.encode(b'{"i": {"x.y.Inner": {"a": 1}}, "j": "S"}')
    assert stored == b"\2\2\0"
    assert schema.decode(stored) == {"i": {"x.y.Inner": {"a": 1}}, "j": "S"}
    assert schema.name == "x.Outer"


def test_special_numbers_are_texts() -> None:
    schema = compiled({"type": "array", "items": "double"})
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "array", "items": "double"}, [math.nan, math.inf, -math.inf])
    assert schema.decode(out.getvalue()) == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        '"none"',
        '{"type":"record","name":"R"}',
        '{"type":"record","fields":[]}',
        '{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}',
        '["int","int"]',
        '[["int"]]',
        '{"type":"array"}',
        '{"type":"x"}',
        '{"type":"enum","name":"E","symbols":["A","A"]}',
        '{"type":"fixed","name":"F","size":-1}',
        "[" * 500 + "]" * 500,
    ],
)
def test_texts_that_are_no_schema(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        AvroCodec().compile(Schema("AVRO", text))


def test_data_nested_as_deep_as_a_writer_likes_end_nothing() -> None:
    schema = compiled(record(("n", ["null", "R"])))
    with pytest.raises(ValueError, match="nested"):
        schema.decode(b"\2" * 1_000_000 + b"\0")
    with pytest.raises(ValueError, match="nested"):
        schema.encode(b'{"n":{"R":' * 5000 + b'{"n":null}' + b"}}" * 5000)
    deep = b'{"n":{"R":' * 150 + b'{"n":null}' + b"}}" * 150
    assert json.dumps(schema.decode(schema.encode(deep) or b""), separators=(",", ":")).encode() == deep


def test_any_number_of_items_without_bytes_is_refused() -> None:
    schema = compiled({"type": "array", "items": "null"})
    assert schema.decode(b"\6\0") == [None] * 3
    with pytest.raises(ValueError, match="take no byte"):
        schema.decode(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1\0")


def test_a_type_that_is_used_in_many_places_is_looked_at_once() -> None:
    def doubling(levels: int, leaf: str) -> Any:
        """Records, each with the next one twice: 2**levels leaves in some hundred characters."""
        inner: Any = leaf
        for i in range(levels):
            again = inner["name"] if isinstance(inner, dict) else inner
            inner = record(("a", inner), ("b", again), name=f"R{i}")
        return inner

    assert compiled(doubling(10, "null")).decode(b"") == json.loads(
        json.dumps(read_datum(read_schema(json.dumps(doubling(10, "null"))), b""))
    )
    for leaf in ("null", "bytes", "float"):
        with pytest.raises(ValueError, match="R39: each datum would have more than 50000 values"):
            compiled(doubling(40, leaf))
    # Where data may end early there is no such number, and the type is looked at all the same once.
    inner: Any = record(("x", "bytes"), name="R0")
    for i in range(30):
        inner = record(("a", ["null", inner]), ("b", ["null", f"R{i}"]), name=f"R{i + 1}")
    assert compiled(inner).decode(b"\0\0") == {"a": None, "b": None}
    empty = compiled({"type": "array", "items": doubling(10, "null")})
    assert len(empty.decode(b"\6\0")) == 3
    with pytest.raises(ValueError, match="more than 100000 values that take no byte"):
        empty.decode(b"\xc8\1\0")  # a hundred times 2047


def test_a_wide_union_is_written_without_looking_at_all_its_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = [{"type": "fixed", "name": f"F{i}", "size": 1} for i in range(3000)]
    value = [{"F2999": "a"}, None, {"F0": "b"}, {"string": "é"}] * 100
    schema = compiled({"type": "array", "items": ["null", "string", *fixed]})
    expected = b"\xa0\6" + (b"\xf2\x2ea\0\4b\2\4\xc3\xa9") * 100 + b"\0"
    by_fastavro: list[Any] = []
    write = fastavro.schemaless_writer

    def counting(out: Any, parsed: Any, datum: Any) -> None:
        by_fastavro.append(datum)
        write(out, parsed, datum)

    monkeypatch.setattr(fastavro, "schemaless_writer", counting)
    assert schema.encode(json.dumps(value).encode()) == expected
    assert by_fastavro == []
    assert schema.encode(b'[{"F2999": "a"}]') == b"\2\xf2\x2ea\0"
    assert len(by_fastavro) == 1


def test_the_schema_of_a_union_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = compiled(["null", record(("x", "int"))])
    given: list[Any] = []
    monkeypatch.setattr(fastavro, "schemaless_writer", lambda out, parsed, datum: given.append(parsed))
    schema.encode(b'{"R": {"x": 1}}')
    assert isinstance(given[0], dict), "fastavro parses a list anew for each datum"
    assert given[0]["type"] == "record"


# --- any schema, any value --------------------------------------------------------------------------------------------

NAMED = ("record", "enum", "fixed")
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
    "string": st.text(),
    "bytes": st.binary(),
}


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3, union: bool = True) -> Any:
    kinds = [*PRIMITIVES, "fixed", "enum"]
    if depth:
        kinds += ["array", "map", "record"] * 3 + (["union"] * 3 if union else [])
    kind = draw(st.sampled_from(kinds))
    name = f"N{draw(st.integers(0, 10**9))}"  # see with_names
    if kind == "fixed":
        return {"type": "fixed", "name": name, "size": draw(st.integers(0, 5))}
    if kind == "enum":
        return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}
    if kind in ("array", "map"):
        return {"type": kind, "items" if kind == "array" else "values": draw(schemas(depth - 1))}
    if kind == "record":
        fields = draw(st.lists(schemas(depth - 1), max_size=4))
        return {"type": "record", "name": name, "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)]}
    if kind == "union":
        branches = draw(st.lists(schemas(depth - 1, False), min_size=1, max_size=4))
        return list({branch_name(branch): branch for branch in branches}.values())
    return kind


def with_names(schema: Any) -> Any:
    """The schema with a name of its own for each named type."""
    numbers = itertools.count()

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(each) for each in part]
        if isinstance(part, dict):
            changed = {key: walk(each) for key, each in part.items()}
            return changed | ({"name": f"N{next(numbers)}"} if part.get("type") in NAMED else {})
        return part

    return walk(schema)


def branch_name(schema: Any) -> str:
    return schema if isinstance(schema, str) else schema.get("name", schema["type"])


@st.composite
def values(draw: st.DrawFn, schema: Any) -> tuple[Any, Any]:
    """A value as fastavro takes it, and as Avro's JSON encoding has it."""
    if isinstance(schema, str):
        value = draw(PRIMITIVES[schema])
        return value, shown(value)
    if isinstance(schema, list):
        branch = draw(st.sampled_from(schema))
        value, text = draw(values(branch))
        name = branch_name(branch)
        return (None, None) if name == "null" else ((name, value), {name: text})
    if schema["type"] == "fixed":
        value = draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
        return value, shown(value)
    if schema["type"] == "enum":
        symbol = draw(st.sampled_from(schema["symbols"]))
        return symbol, symbol
    if schema["type"] == "array":
        pairs = draw(st.lists(values(schema["items"]), max_size=4))
        return [value for value, _ in pairs], [text for _, text in pairs]
    if schema["type"] == "map":
        members = draw(st.dictionaries(st.text(max_size=5), values(schema["values"]), max_size=4))
        return {key: value for key, (value, _) in members.items()}, {key: text for key, (_, text) in members.items()}
    both = {field["name"]: draw(values(field["type"])) for field in schema["fields"]}
    return {key: value for key, (value, _) in both.items()}, {key: text for key, (_, text) in both.items()}


def shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


@examples(300)
@given(st.data())
def test_bytes_are_those_of_fastavro(data: st.DataObject) -> None:
    schema = with_names(data.draw(schemas()))
    value, text = data.draw(values(schema))
    ours = compiled(schema)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    theirs = out.getvalue()
    bare = next(iter(text.values())) if isinstance(schema, list) and text is not None else text
    if schema == "bytes":
        theirs = value
    assert ours.decode(theirs) == bare
    assert schema == "bytes" or read_datum(read_schema(json.dumps(schema)), theirs) == bare
    if "Infinity" not in json.dumps(text):
        stored = ours.encode(json.dumps(text).encode())
        assert stored == theirs if stored is not None else text is None
        node = read_schema(json.dumps(schema))
        assert schema == "bytes" or writer_of(node)(value) == theirs


@examples(300)
@given(st.data())
def test_any_bytes_are_decoded_or_refused(data: st.DataObject) -> None:
    schema = with_names(data.draw(schemas()))
    payload = data.draw(st.binary(max_size=30))
    decoded = outcome(lambda: compiled(schema).decode(payload))
    if schema == "bytes":  # is all of the payload
        return
    # Another reader comes to the same; it refuses numbers in more bytes than they need at most.
    theirs = outcome(lambda: read_datum(read_schema(json.dumps(schema)), payload))
    assert theirs == decoded or "ten bytes" in theirs or (theirs[:8] == decoded[:8] == "refused:")


def outcome(decode: Callable[[], Any]) -> str:
    """The datum as JSON, or that it was refused, and why."""
    try:
        return json.dumps(decode())
    except ValueError as error:
        return f"refused: {error}"


@pytest.mark.parametrize(
    ("schema", "payload", "good"),
    [
        (["null", "int"], b"\x01\x04", b"\x02\x04"),
        ({"type": "record", "name": "R", "fields": [{"name": "u", "type": ["null", "int"]}]}, b"\x01\x04", b"\x02\x04"),
        ({"type": "array", "items": ["null", "int"]}, b"\x02\x01\x04\x00", b"\x02\x02\x04\x00"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x01", b"\x02"),
        (["null", {"type": "enum", "name": "E", "symbols": ["A", "B"]}], b"\x02\x03", b"\x02\x02"),
        (
            {
                "type": "record", "name": "R", "fields": [
                    {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
                    {"name": "b", "type": {"type": "map", "values": "E"}},
                ],
            },
            b"\x00\x02\x02k\x01\x00", b"\x00\x02\x02k\x02\x00",
        ),
    ],
)  # fmt: skip
def test_negative_indexes_are_refused(schema: Any, payload: bytes, good: bytes) -> None:
    found = compiled(schema)
    found.decode(good)
    with pytest.raises(ValueError, match="no datum of its schema"):
        found.decode(payload)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", ": it ends too soon"),
        (b"\x02", ": it ends too soon"),
        (b"\x02\x08abc", ": it ends too soon"),
        (b"\x02\x02\xff\x00", ": a string is not UTF-8"),
        (b"\x02\x02a\x04", ": the union has no branch 2"),
        (b"\x02\x02a\x02\x06", ": the enum E has no symbol 3"),
        (b"\x02\xa0\x8d\x06" + b"a" * 20_000, ""),  # reading it again for the reason would take long
    ],
)
def test_what_is_wrong_with_a_payload_is_told_in_words(payload: bytes, said: str) -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["A"]}
    schema = compiled(record(("n", "int"), ("s", "string"), ("u", ["null", enum])))
    with pytest.raises(ValueError, match=f"^the payload is no datum of its schema{said}$"):
        schema.decode(payload)
