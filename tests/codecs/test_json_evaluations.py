"""Schemas that would take for ever are told before any data are judged, and harm nobody."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
import referencing.jsonschema

from kafka_gateway.codecs.json_evaluations import COUNT_MAX, TooOften, most_evaluations
from kafka_gateway.codecs.json_schema import JsonSchema, JsonSchemaCodec
from kafka_gateway.schemas import Schema, UnusableSchema


def nothing(uri: str) -> Any:
    raise LookupError(uri)


def counted(schema: Any, retrieve: Any = nothing) -> list[int]:
    return most_evaluations(schema, referencing.jsonschema.DRAFT7, retrieve)


def chain(word: str, length: int, last: Any) -> Any:
    """Definitions each of which names the next one twice."""
    both = {f"d{i}": {word: [{"$ref": f"#/definitions/d{i + 1}"}] * 2} for i in range(length)}
    return {"definitions": both | {f"d{length}": last}, "$ref": "#/definitions/d0"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, [1]),
        ({"type": "string", "title": "x"}, [1]),
        ({"properties": {"a": {}, "b": {"anyOf": [{}, {}]}}}, [1, 3]),
        ({"properties": {"a": {}}, "patternProperties": {"a": {}}, "additionalProperties": {}}, [1, 3]),
        ({"items": {"items": {"allOf": [{}, {}]}}}, [1, 1, 3]),
        ({"items": [{}, {"not": {}}], "additionalItems": {}}, [1, 3]),
        ({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}, [1, 2]),
        (chain("allOf", 5, {}), [126]),
        ({"items": {"enum": [1, "a", {}, []]}}, [1, 11]),
    ],
)
def test_how_often_a_value_is_judged(schema: Any, expected: list[int]) -> None:
    assert counted(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]},
        {"properties": {"a": {"$ref": "#"}}, "patternProperties": {"a": {"$ref": "#"}}},
    ],
)
def test_what_grows_with_the_depth_of_the_data(schema: Any) -> None:
    counts = counted(schema)
    assert counts == sorted(counts)
    assert counts[-1] == COUNT_MAX
    assert 4 <= counts[3] <= 40


def test_references_to_other_schemas_are_followed() -> None:
    others = {"a.json": {"allOf": [{}, {}, {}]}}
    assert counted({"properties": {"x": {"$ref": "a.json"}}}, others.__getitem__) == [1, 5]
    assert counted({"properties": {"x": {"$ref": "none.json"}}}) == [1]


@pytest.mark.timing
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#/definitions/a"}], "definitions": {"a": {"anyOf": [{"$ref": "#"}]}}},
        {
            "definitions": {
                f"d{i}": {"anyOf": [{"$ref": f"#/definitions/d{j}"} for j in range(i + 1, 100)]} for i in range(100)
            },
            "$ref": "#/definitions/d0",
        },
    ],
)
def test_what_cannot_be_counted(schema: Any) -> None:
    began = time.process_time()
    with pytest.raises(TooOften):
        counted(schema)
    assert time.process_time() - began < 10
    with pytest.raises(UnusableSchema):
        compiled(schema)


def test_metaschemas_are_judged() -> None:
    for each in (jsonschema.Draft7Validator, jsonschema.Draft202012Validator):
        schema = compiled(each.META_SCHEMA)
        assert schema.encode(json.dumps(each.META_SCHEMA).encode()) is not None


def compiled(schema: Any) -> JsonSchema:
    return JsonSchemaCodec().compile(Schema("JSON", json.dumps(schema)))


@pytest.mark.timing
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (chain("allOf", 30, {"pattern": "x"}), "y"),
        (chain("anyOf", 30, {"pattern": "x"}), "y"),
        (chain("oneOf", 30, {"type": "integer"}), 1),
        (
            {"anyOf": [{"items": {"$ref": "#"}, "maxLength": 1}, {"items": {"$ref": "#"}}]},
            json.loads("[" * 60 + "]" * 60),
        ),
    ],
)
def test_what_would_take_for_ever_is_refused_at_once(schema: Any, value: Any) -> None:
    began = time.process_time()
    found = compiled(schema)
    with pytest.raises(ValueError, match="too long to judge"):
        found.encode(json.dumps(value).encode())
    assert time.process_time() - began < 5


def test_what_is_judged_often_says_less() -> None:
    found = compiled(chain("anyOf", 10, {"pattern": "x"}))
    assert found.encode(b'"xx"') == b'"xx"'
    with pytest.raises(ValueError, match="it does not fit the schema"):
        found.encode(b'"y"')
