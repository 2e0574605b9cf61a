"""JSON Schemas as types that msgspec checks while it reads: most schemas of records can be written as such a type.

It saves the Python values that `jsonschema-rs` would be given. What the type takes, the schema takes too. What the type
refuses may be right all the same, and is judged by the schema. Only keywords that a type can express in full are
translated; a schema with any other has no type.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from kafka_gateway import jsonio

_SILENT = frozenset({"$schema", "$id", "id", "$comment", "title", "description", "default", "examples", "readOnly",
                     "writeOnly", "deprecated", "definitions", "$defs"})  # fmt: skip
"""Keywords that judge nothing. ``$id`` and ``id`` do change what a ``$ref`` means: see `_has_bases`."""
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
_PARTS_MAX = 2000
"""Of one schema, each reference counted with all that is behind it; more would take long to become a type."""
_BOUND = 2**63
_REFS_MAX = 20


class _NoType(Exception):
    """The schema says something that no type says."""


def type_reader(document: Any) -> Callable[[bytes], object] | None:
    """A function that raises for JSON which the schema may refuse. What it takes is right.

    None if the schema cannot be written as a type.

    Args:
        document: a JSON Schema of any draft, which must be a valid one.
    """
    if not isinstance(document, dict) or _has_bases(document):
        return None
    try:
        decode = jsonio.Decoder(_Types(document).of(document)).decode
    except (_NoType, TypeError, ValueError, RecursionError):  # msgspec does not take every union and every name
        return None
    return decode


def _has_bases(document: Mapping[str, Any]) -> bool:
    """Whether a part of the schema has an id, so that references are not what they seem."""
    parts: list[Any] = list(document.values())
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if isinstance(part.get("$id"), str) or isinstance(part.get("id"), str):
                return True
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return False


class _Types:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._parts = 0
        self._names = itertools.count()
        self._open_refs: list[str] = []

    def of(self, schema: Any) -> Any:
        """The type of what the schema takes, or of some of it. _NoType."""
        self._parts += 1
        if self._parts > _PARTS_MAX:
            raise _NoType
        if schema is True or schema == {}:
            return jsonio.Raw
        if not isinstance(schema, dict):
            raise _NoType
        told = schema.keys() - _SILENT
        if "$ref" in told:
            return self._referred(schema, told)
        for word in ("anyOf", "oneOf"):
            if told == {word}:
                return self._any_of(schema[word], word == "oneOf")
        if "enum" in told or "const" in told:
            return _constant(schema, told)
        words = schema.get("type", "object" if "properties" in told else None)
        if words is None:
            if told:
                raise _NoType
            return jsonio.Raw
        types = words if isinstance(words, list) else [words]
        if not told <= {"type"}.union(*(_OF_TYPE[word] for word in types)):
            raise _NoType
        return reduce(or_, [self._of_type(word, schema) for word in types])

    def _of_type(self, word: str, schema: Mapping[str, Any]) -> Any:
        if word == "object":
            return self._object(schema)
        if word == "array":
            items = list.__class_getitem__(self.of(schema.get("items", True)))
            return _bounded(items, schema, min_length="minItems", max_length="maxItems")
        if word == "string":
            return _bounded(str, schema, min_length="minLength", max_length="maxLength")
        if word == "integer":
            return _bounded(int, schema, ge="minimum", le="maximum")
        return {"number": float, "boolean": bool, "null": None}[word]

    def _object(self, schema: Mapping[str, Any]) -> Any:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        if not isinstance(required, list):  # a boolean, in the draft before 4
            raise _NoType
        if not properties and not required and others not in (True, False, {}):
            return dict[str, self.of(others)]  # type: ignore[misc]
        if others not in (True, False, {}):
            raise _NoType
        names = [*properties, *(name for name in required if name not in properties)]
        if others is False and len(names) > len(properties):  # a member that must be there and must not
            raise _NoType
        fields: list[Any] = []
        optional: list[Any] = []
        for i, name in enumerate(names):
            type_ = self.of(properties.get(name, True))
            if name in required:
                fields.append((f"f{i}", type_))
            else:
                # Raw takes part in no union; absent and given look alike here, which is all that matters.
                type_ = type_ if type_ is jsonio.Raw else type_ | jsonio.UnsetType
                optional.append((f"f{i}", type_, jsonio.UNSET))
        return jsonio.define_struct(
            f"Object{next(self._names)}",
            fields + optional,
            rename={f"f{i}": name for i, name in enumerate(names)},
            forbid_unknown_fields=others is False,
            gc=False,
        )

    def _any_of(self, parts: list[Any], one_only: bool) -> Any:
        # A value must not fit two parts of oneOf: known only of null beside a type that is not null.
        if one_only and not (len(parts) == 2 and sum(_is_null(part) for part in parts) == 1):
            raise _NoType
        if one_only:
            (other,) = [part for part in parts if not _is_null(part)]
            if not isinstance(other, dict) or other.get("type", "null") not in _OF_TYPE.keys() - {"null"}:
                raise _NoType
        return reduce(or_, [self.of(part) for part in parts])

    def _referred(self, schema: Mapping[str, Any], told: set[str]) -> Any:
        ref = schema["$ref"]
        if told != {"$ref"} or not isinstance(ref, str) or ref in self._open_refs or len(self._open_refs) > _REFS_MAX:
            raise _NoType
        first, _, rest = ref.removeprefix("#/").partition("/")
        group = self._document.get(first)
        if not ref.startswith("#/") or first not in ("definitions", "$defs") or not isinstance(group, dict):
            raise _NoType
        if rest not in group or set(rest) & set("/~%"):
            raise _NoType
        self._open_refs.append(ref)
        try:
            return self.of(group[rest])
        finally:
            self._open_refs.pop()


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null" and schema.keys() - _SILENT == {"type"}


def _constant(schema: Mapping[str, Any], told: set[str]) -> Any:
    """Texts, and null beside them."""
    values = schema["enum"] if "enum" in told else [schema["const"]]
    if not told <= {"enum", "const", "type"} or {"enum", "const"} <= told:
        raise _NoType
    if schema.get("type", "string") != "string" or not all(isinstance(value, str) for value in values):
        raise _NoType
    return Literal[tuple(values)]


def _bounded(type_: Any, schema: Mapping[str, Any], **bounds: str) -> Any:
    found: dict[str, Any] = {}
    for name, keyword in bounds.items():
        if keyword in schema:
            bound = schema[keyword]
            if type(bound) is not int or not -_BOUND <= bound < _BOUND:
                raise _NoType
            found[name] = bound
    return Annotated[type_, jsonio.Meta(**found)] if found else type_
