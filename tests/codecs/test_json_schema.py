"""JSON Schema (kafka-rest-http.md §4.8), held against the library jsonschema."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codecs.json_schema import JsonSchema, JsonSchemaCodec
from kafka_gateway.schemas import Misfit, Schema, UnusableSchema
from tests.examples import examples

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def compiled(schema: Any, *imports: tuple[str, Any], fill: bool = False) -> JsonSchema:
    texts = tuple((name, json.dumps(each)) for name, each in imports)
    return JsonSchemaCodec(fill).compile(Schema("JSON", json.dumps(schema), (), texts))


def test_what_fits_is_stored_as_it_is_written() -> None:
    schema = compiled({"type": "object", "properties": {"b": {"type": "number"}}})
    assert schema.encode(b'{ "b" : 1.10 , "a": 123456789012345678901234567890 }') == (
        b'{"b":1.10,"a":123456789012345678901234567890}'
    )


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, 'a[1]: 1 is not of type "string"'),
        ({"required": ["a"]}, {}, '"a" is a required property'),
        ({"type": "integer"}, 1.0, "1.0 is not an integer"),
        ({"type": "string", "format": "date"}, "no date", '"no date" is not a "date"'),
        ({"type": "string", "maxLength": 1}, "ab", '"ab" is longer than 1 character'),
        (False, 1, "False schema does not allow 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(schema: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is looked at below)
        compiled(schema).encode(json.dumps(value).encode())
    assert str(caught.value).startswith(said)


def test_integers_are_written_without_a_fraction() -> None:
    schema = compiled({"type": ["integer", "null"]})
    for text in (b"1.0", b"1e2", b"-0.0"):
        with pytest.raises(ValueError, match="not an integer"):
            schema.encode(text)
    assert schema.encode(b"12") == b"12"
    assert compiled({"type": "number"}).encode(b"1.0") == b"1.0"
    named = {"properties": {"const": {"type": "integer"}}, "const": {"const": 1}}
    with pytest.raises(ValueError, match=r"const: 1.0 is not an integer|was expected"):
        compiled(named).encode(b'{"const": 1.0}')


def test_nothing_is_fetched() -> None:
    for ref in ("http://127.0.0.1:1/x.json", "file:///etc/passwd", "other.json", "https://json-schema.org/nothing"):
        with pytest.raises(UnusableSchema, match="retriev"):
            compiled({"$schema": DRAFT_7, "properties": {"a": {"$ref": ref}}})


def test_references_come_from_the_registry() -> None:
    inner = {"type": "object", "required": ["x"]}
    for root in ({}, {"$id": "http://example.com/schemas/root.json"}):
        schema = compiled({**root, "properties": {"i": {"$ref": "inner.json"}}}, ("inner.json", inner))
        assert schema.encode(b'{"i":{"x":1}}') == b'{"i":{"x":1}}'
        with pytest.raises(ValueError, match=r'^i: "x" is a required property'):
            schema.encode(b'{"i":{}}')


def test_a_reference_to_itself() -> None:
    schema = compiled({"properties": {"child": {"$ref": "#"}, "v": {"type": "integer"}}})
    with pytest.raises(ValueError, match=r"^child.child.v: "):
        schema.encode(b'{"child":{"child":{"v":"x"}}}')


SHAPES = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}},
            "required": ["kind", "radius"],
        },
        {
            "type": "object",
            "properties": {"kind": {"enum": ["box"]}, "sides": {"items": {"type": "number"}}},
            "required": ["kind", "sides"],
        },
        {"type": "null"},
    ]
}


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (
            {"properties": {"s": SHAPES}},
            {"s": {"kind": "circle", "radius": "x"}},
            's.radius: "x" is not of type "number"',
        ),
        ({"properties": {"s": SHAPES}}, {"s": {"kind": "box", "sides": [1, "x"]}}, 's.sides[1]: "x" is not of type'),
        ({"items": SHAPES}, [None, {"kind": "box"}], '[1]: "sides" is a required property'),
        # The part that is meant has parts, too.
        (
            {"anyOf": [{"type": "null"}, {"properties": {"s": SHAPES}}]},
            {"s": {"kind": "box", "sides": ["x"]}},
            "s.sides[0]: ",
        ),
        (
            {"anyOf": [{"type": "string"}, {"items": {"pattern": "^\\w+$"}, "type": "array"}]},
            ["a", "?"],
            r'[1]: "?" does not match "^\w+$"',
        ),
        # Nobody can know which is meant.
        (
            {"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
            {"a": "x"},
            'a: it fits no schema of anyOf: a: "x" is not of type "integer"; a: "x" is not of type "null"',
        ),
        (
            {"oneOf": [{"required": ["a"]}, {"required": ["b"]}, {"required": ["c"]}, {"required": ["d"]}]},
            {},
            'it fits no schema of oneOf: "a" is a required property; "b" is a required property; "c" is '
            "a required property; and 1 more",
        ),
        (
            {"properties": {"a": {"oneOf": [{"minimum": 0}, {"minimum": -1}]}}},
            {"a": 1},
            "a: 1 is valid under more than one",
        ),
    ],
)
def test_what_is_wrong_with_the_part_that_was_meant_is_told(schema: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        compiled({"$schema": DRAFT_7, **schema}).encode(json.dumps(value).encode())
    assert str(caught.value).startswith(said)


def test_little_is_told_where_the_library_would_say_too_much() -> None:
    """It says what is wrong with each element for each part before it tells anything: 1.3 s for 100 kB."""
    parts = {"anyOf": [{"items": {"type": "integer"}}, {"items": {"type": "string"}}]}
    schemas = (
        (compiled({"$schema": DRAFT_7, **parts}), ""),
        (compiled({"$schema": DRAFT_7, "properties": {"a": {"$ref": "parts.json"}}}, ("parts.json", parts)), "a"),
    )
    for schema, member in schemas:
        for count, said in ((15_000, "it does not fit the schema"), (100, "it fits no schema of anyOf: ")):
            value = {member: [True] * count} if member else [True] * count
            with pytest.raises(Misfit) as caught:
                schema.encode(json.dumps(value).encode())
            place = f"{member}: " if member and count == 100 else ""
            assert str(caught.value).startswith(f"{place}{said}")
    # All else is said of any data.
    with pytest.raises(Misfit, match=r"^\[14999\]: null is not of type"):
        compiled({"$schema": DRAFT_7, "items": {"type": "boolean"}}).encode(
            json.dumps([True] * 14_999 + [None]).encode()
        )


def test_a_pattern_cannot_run_for_ever() -> None:
    schema = compiled({"pattern": r"^(?=(a+)+$)(a+)+\1$"})
    with pytest.raises(ValueError, match=r"\w"):
        schema.encode(json.dumps("a" * 40 + "b").encode())


@pytest.mark.parametrize("text", ["", " ", "7", '"x"', "[]", '{"type":"nonsense"}', '{"$ref":"#/definitions/none"}'])
def test_texts_that_cannot_be_used(text: str) -> None:
    with pytest.raises(UnusableSchema):
        JsonSchemaCodec().compile(Schema("JSON", text))


def test_defaults() -> None:
    schema = {
        "properties": {"a": {"default": 5}, "b": {"default": 6}, "c": {"properties": {"d": {"default": [1]}}}},
        "required": ["b"],
    }
    assert compiled(schema).encode(b'{"b":1}') == b'{"b":1}'
    filled = compiled(schema, fill=True).encode(b'{"b":1,"c":{}}')
    assert json.loads(filled or b"") == {"b": 1, "c": {"d": [1]}, "a": 5}


@pytest.mark.parametrize(
    ("draft", "schema", "good", "bad"),
    [
        ("http://json-schema.org/draft-04/schema#", {"minimum": 1, "exclusiveMinimum": True}, 2, 1),
        ("http://json-schema.org/draft-06/schema#", {"exclusiveMinimum": 1}, 2, 1),
        (DRAFT_7, {"if": {"type": "integer"}, "then": {"minimum": 1}}, 2, 0),
        (
            "https://json-schema.org/draft/2019-09/schema",
            {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
            "x",
            1,
        ),
        ("https://json-schema.org/draft/2020-12/schema", {"prefixItems": [{"type": "string"}]}, ["x"], [1]),
        ("http://example.com/unknown", {"exclusiveMinimum": 1}, 2, 1),
    ],
)
def test_drafts(draft: str, schema: Any, good: Any, bad: Any) -> None:
    found = compiled({"$schema": draft, **schema})
    assert found.encode(json.dumps(good).encode()) is not None
    with pytest.raises(ValueError, match=r"\w"):
        found.encode(json.dumps(bad).encode())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-100, 100)
    | st.floats(-100, 100).filter(lambda x: not x.is_integer())
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> Any:
    if not depth or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([True, {}, {"type": "string"}, {"type": "integer"}, {"const": 1}]))
    inner = schemas(depth - 1)
    keywords = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, unique=True),
        "enum": st.lists(JSON, min_size=1, max_size=3),
        "minimum": st.integers(-10, 10),
        "exclusiveMaximum": st.integers(-10, 10),
        "multipleOf": st.integers(1, 5),
        "minLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^a", "b$", "[0-9]+"]),
        "items": inner,
        "minItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        "required": st.lists(st.sampled_from("abc"), unique=True),
        "additionalProperties": inner,
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "oneOf": st.lists(inner, min_size=1, max_size=2),
        "not": inner,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keywords)), max_size=3, unique=True))
    return {name: draw(keywords[name]) for name in chosen}


@examples(400)
@given(schemas(), JSON)
def test_the_verdict_is_that_of_jsonschema(schema: Any, value: Any) -> None:
    theirs = jsonschema.Draft7Validator(schema).is_valid(value)
    try:
        compiled(schema).encode(json.dumps(value).encode())
        ours = True
    except UnusableSchema:
        raise
    except ValueError:
        ours = False
    assert ours == theirs
