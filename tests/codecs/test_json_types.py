"""Types that stand for JSON Schemas: what they take, the schema takes. Held against the library jsonschema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from kafka_gateway.codecs.json_types import type_reader
from tests.examples import examples

DRAFTS: dict[str, Any] = {
    "http://json-schema.org/draft-04/schema#": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-07/schema#": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
}


def takes(schema: Any, text: str) -> bool | None:
    """None: the schema has no type."""
    reader = type_reader(schema)
    if reader is None:
        return None
    try:
        reader(text.encode())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "maxLength": 2}, '"😀é"', '"abc"'),
        ({"type": "string", "minLength": 2}, '"é😀"', '"😀"'),
        ({"type": ["null", "integer"], "minimum": 1}, "null", "0"),
        ({"type": "integer", "minimum": 1}, "1", "0"),
        ({"type": "array", "items": {}, "minItems": 1}, "[null]", "[]"),
        ({"type": "integer", "maximum": 5}, "-1" + "0" * 40, "1" + "0" * 40),
        ({"type": "integer", "maximum": 5}, "5", "6"),
        ({"type": "integer"}, "7", "7.0"),
        ({"type": "number"}, "7", "true"),
        ({"type": "boolean"}, "false", "0"),
        ({"enum": ["a", "b"]}, '"a"', '"c"'),
        ({"const": "a"}, '"a"', "null"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, '["a"]', '["a","b"]'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, '{"a":"b"}', '{"a":1}'),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, '{"a":[1]}', '{"b":1}'),
        ({"properties": {"a": {"type": "string"}}, "required": ["a", "b"]}, '{"a":"x","b":1}', '{"a":"x"}'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", "1"),
        ({"oneOf": [{"type": "null", "title": "none"}, {"type": "integer"}]}, "null", '"a"'),
        ({"$defs": {"N": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/N"}}, "[1]", '["a"]'),
        ({"properties": {"__class__": {"type": "string"}, "a b": {"type": "null"}}}, '{"a b":null}', '{"a b":1}'),
    ],
)
def test_what_a_type_takes(schema: Any, good: str, bad: str) -> None:
    assert takes(schema, good) is True
    assert takes(schema, bad) is False


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        {"type": "string", "pattern": "^a"},
        {"type": "string", "format": "date"},
        {"type": "string", "javaType": "Long"},
        {"minimum": 1, "type": ["string", "object"]},
        {"type": "integer", "minimum": 0.5},
        {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
        {"enum": ["a", 1]},
        {"oneOf": [{"type": "null"}, {"properties": {}}]},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"allOf": [{"type": "string"}]},
        {"$ref": "#"},
        {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}},
        {"$ref": "#/definitions/a", "definitions": {"a": {"$id": "x", "type": "string"}}},
        {"$ref": "other.json"},
        {"type": "object", "required": ["b"], "properties": {"a": {}}, "additionalProperties": False},
        {"type": "object", "properties": {f"m{i}": {} for i in range(3000)}},
    ],
)
def test_what_has_no_type(schema: Any) -> None:
    assert type_reader(schema) is None


NAMES = st.sampled_from(["a", "b", "c d", "type", "id"])
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> Any:
    """Of the keywords that types say, mostly, and in any combination."""
    if not depth or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([True, {}, *({"type": word} for word in TYPES), {"const": "x"}]))
    inner = schemas(depth - 1)
    keywords = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(st.sampled_from(["x", "y", "zzz"]), min_size=1, unique=True),
        "minimum": st.integers(-3, 3),
        "maximum": st.integers(-3, 3),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 2),
        "items": inner.filter(lambda each: isinstance(each, dict)),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "properties": st.dictionaries(NAMES, inner.filter(lambda each: isinstance(each, dict)), max_size=3),
        "required": st.lists(NAMES, min_size=1, max_size=2, unique=True),
        "additionalProperties": inner | st.booleans(),
        "anyOf": st.lists(inner.filter(lambda each: isinstance(each, dict)), min_size=1, max_size=2),
        "oneOf": st.lists(inner.filter(lambda each: isinstance(each, dict)), min_size=1, max_size=2),
        "title": st.just("T"),
        "default": st.just(1),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True))
    return {name: draw(keywords[name]) for name in chosen}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers(-(10**25), 10**25)
    | st.floats(-5, 5)
    | st.text("xyz😀", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@examples(600)
@given(schemas().filter(lambda schema: isinstance(schema, dict)), st.sampled_from(sorted(DRAFTS)), st.data())
def test_what_a_type_takes_the_schema_takes(schema: Any, draft: str, data: st.DataObject) -> None:
    document = {"$schema": draft, **schema}
    if type_reader(document) is None:
        return
    try:
        fitting = from_schema({**schema, "$schema": "http://json-schema.org/draft-07/schema#"})
        value = data.draw(st.one_of(fitting, JSON))
    except Exception:  # a schema that nothing fits, or that it cannot make values of
        value = data.draw(JSON)
    if takes(document, json.dumps(value)):
        assert DRAFTS[draft](schema).is_valid(value)
