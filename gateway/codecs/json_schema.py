"""The embedded format ``jsonschema``: JSON that its schema judges before it is stored (kafka-rest-http.md §4.8).

``jsonschema`` judges schemas, ``jsonschema-rs`` judges data: it is compiled. Neither ever fetches anything: a ``$ref``
finds what the registry has. Patterns are those of ECMA-262: see `json_patterns`. Data of most records need nothing of
this: see `json_types`.

Reading needs no more than the bytes, so a schema that cannot judge reads all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

import jsonschema
import jsonschema.validators
import jsonschema_rs
import referencing.jsonschema

from kafka_gateway import jsonio
from kafka_gateway.codecs.json_defaults import filler
from kafka_gateway.codecs.json_evaluations import TooOften, most_evaluations
from kafka_gateway.codecs.json_patterns import DATA, NAMED, PATTERN, Patterns, is_pattern
from kafka_gateway.codecs.json_reasons import has_parts, misfit, too_much_to_say
from kafka_gateway.codecs.json_types import type_reader
from kafka_gateway.codecs.schema import SchemaCodec
from kafka_gateway.schemas import CompiledSchema, Misfit, Schema, UnusableSchema

_DRAFTS: dict[str, tuple[Any, Any]] = {
    "http://json-schema.org/draft-04/schema": (jsonschema.Draft4Validator, jsonschema_rs.Draft4Validator),
    "http://json-schema.org/draft-06/schema": (jsonschema.Draft6Validator, jsonschema_rs.Draft6Validator),
    "http://json-schema.org/draft-07/schema": (jsonschema.Draft7Validator, jsonschema_rs.Draft7Validator),
    "https://json-schema.org/draft/2019-09/schema": (
        jsonschema.Draft201909Validator,
        jsonschema_rs.Draft201909Validator,
    ),
    "https://json-schema.org/draft/2020-12/schema": (
        jsonschema.Draft202012Validator,
        jsonschema_rs.Draft202012Validator,
    ),
}
_SPECIFICATIONS = {
    "http://json-schema.org/draft-04/schema": referencing.jsonschema.DRAFT4,
    "http://json-schema.org/draft-06/schema": referencing.jsonschema.DRAFT6,
    "http://json-schema.org/draft-07/schema": referencing.jsonschema.DRAFT7,
    "https://json-schema.org/draft/2019-09/schema": referencing.jsonschema.DRAFT201909,
    "https://json-schema.org/draft/2020-12/schema": referencing.jsonschema.DRAFT202012,
}
_NO_FORMATS = jsonschema.FormatChecker(formats=())
"""It would judge patterns by the rules of Python."""
_DEFAULT_DRAFT = "http://json-schema.org/draft-07/schema"
"""Of schemas that name none, or one that nobody knows (observed §4.8)."""
_BASE = "json-schema:///"
_BACKTRACK_MAX = 100_000
_MESSAGE_MAX = 200
_CHEAP = 20
"""Evaluations of one value that do not matter, however long a record is."""
_EFFORT_MAX = 50_000_000
"""Evaluations of one value times bytes of JSON, of which each value has two at least: what takes half a second."""
_TOLD_MAX = 1000
"""Evaluations of one value beyond which the library would take too long to say what is wrong."""
_STRICT = "\0integer"
"""A keyword of our own; no schema can have it."""


class _Integral(Exception):
    """A number such as 1.0 is among the data."""


class JsonSchemaCodec(SchemaCodec):
    name = "jsonschema"
    schema_type = "JSON"

    def __init__(self, fill_defaults: bool = False) -> None:
        """``fill_defaults``: members that are missing are stored with the default of their schema."""
        self._fill_defaults = fill_defaults

    def compile(self, schema: Schema) -> JsonSchema:
        return JsonSchema(schema, self._fill_defaults)

    def reader(self, schema: Schema) -> CompiledSchema:
        return _Reader()


class _Reader(CompiledSchema):
    """Shows what is stored, which takes no schema."""

    def decode(self, payload: bytes, rest: bytes | None = None) -> Any:
        if rest:
            raise ValueError("there is more than an id in the header")
        if not jsonio.is_json(payload):
            raise ValueError("the payload is not JSON")
        return jsonio.Raw(payload)


class JsonSchema(_Reader):
    """One schema, ready to judge."""

    def __init__(self, schema: Schema, fill_defaults: bool) -> None:
        """ValueError says what is wrong with the schema."""
        if not schema.text.strip():
            raise UnusableSchema("the schema is empty")
        document = jsonio.decode_value(schema.text.encode())
        if not isinstance(document, (dict, bool)):
            raise UnusableSchema("a JSON Schema is an object, true or false")
        draft = _draft_of(document)
        judge, compiled = _DRAFTS[draft]
        try:
            judge.check_schema(document, format_checker=_NO_FORMATS)
        except jsonschema.SchemaError as error:
            place = ".".join(str(step) for step in error.absolute_path)
            reason = error.message[:_MESSAGE_MAX]
            raise UnusableSchema(f"{place}: {reason}" if place else reason) from None
        if isinstance(document, dict):
            title = document.get("title")
            self.name = title if isinstance(title, str) else ""
            document = document | {"$schema": draft + ("" if "/draft/" in draft else "#")}
        retrieve = _retriever(document, schema.imports)
        self._patterns = patterns = Patterns()
        judging = patterns.put_into(document)

        @functools.cache
        def retrieve_judging(uri: str) -> Any:
            return patterns.put_into(retrieve(uri))

        self._validator = _validator(compiled, judging, retrieve_judging, patterns)
        self.slow = patterns.slow
        try:
            self._evaluations = most_evaluations(document, _SPECIFICATIONS[draft], retrieve)
        except TooOften as reason:
            raise UnusableSchema(str(reason)) from None
        self._decode = jsonio.decoder_with_floats(_float) if draft != "http://json-schema.org/draft-04/schema" else None
        # Compiled when it is first needed: most data have no such numbers.
        self._strict: Callable[[], Any] = functools.cache(
            lambda: _validator(
                compiled,
                _with_strict_integers(judging),
                lambda uri: _with_strict_integers(retrieve_judging(uri)),
                patterns,
                strict=True,
            )
        )
        self._has_parts = has_parts([document, *(jsonio.decode_value(text.encode()) for _, text in schema.imports)])
        self._fill = filler(document) if fill_defaults else None
        self._is_right = None if fill_defaults else type_reader(document)

    def encode(self, text: bytes) -> bytes | None:
        if self._is_right is not None:
            try:
                self._is_right(text)
            except (ValueError, RecursionError):
                pass  # the schema says whether it is wrong at all, and why
            else:
                if text.isascii() or text.decode():  # the UTF-8 of parts that may be anything was not checked
                    return jsonio.compact(text)
        validator = self._validator
        try:
            value = jsonio.decode_value(text) if self._decode is None else self._decode(text)
        except _Integral:
            # 1.0 and 1e2 are no integers (observed §4.8), which later drafts see otherwise.
            value, validator = jsonio.decode_value(text), self._strict()
        if self._fill is not None:
            value = self._fill(value)
            text = jsonio.encode(value)
        often = self._evaluations[-1]
        if often > _CHEAP:
            depth = _depth(value)
            often = self._evaluations[min(depth, len(self._evaluations) - 1)]
            if often * len(text) > _EFFORT_MAX:
                raise Misfit(f"it would take too long to judge: its schema may look at each value {often} times")
        if not (self._is_valid(validator, value) if self.slow else validator.is_valid(value)):
            raise self._why(validator, value, often)
        return jsonio.compact(text)

    def _is_valid(self, validator: Any, value: Any) -> bool:
        """The verdict of a schema with slow patterns. Misfit if there is none."""
        effort = self._patterns.effort
        effort.begin()
        self._patterns.judge_names(value)
        valid = not effort.exceeded and bool(validator.is_valid(value))
        if effort.exceeded:
            raise Misfit(effort.exceeded)
        return valid

    def _why(self, validator: Any, value: Any, often: int) -> Misfit:
        if often <= _TOLD_MAX and not (self._has_parts and too_much_to_say(value, often)):
            try:
                validator.validate(value)  # the first error only: `iter_errors` makes all of them before it tells one
            except jsonschema_rs.ValidationError as first:
                return misfit(first, self._patterns.original)
        return Misfit("it does not fit the schema")


def _float(text: str) -> float:
    value = float(text)
    if value.is_integer():
        raise _Integral
    return value


def _depth(value: Any) -> int:
    """How many objects and lists are inside each other."""
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, (dict, list))
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth


def _draft_of(document: Any) -> str:
    named = document.get("$schema") if isinstance(document, dict) else None
    draft = named.rstrip("#") if isinstance(named, str) else ""
    return draft if draft in _DRAFTS else _DEFAULT_DRAFT


def _validator(
    compiled: Any, document: Any, retrieve: Callable[[str], Any], patterns: Patterns, strict: bool = False
) -> Any:
    try:
        return compiled(
            document,
            validate_formats=True,
            retriever=retrieve,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_MAX),
            formats={"regex": is_pattern},
            keywords={PATTERN: patterns.keyword, **({_STRICT: _NoFloat} if strict else {})},
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise UnusableSchema(str(error).partition("\n")[0][:_MESSAGE_MAX]) from None


def _retriever(document: Any, imports: tuple[tuple[str, str], ...]) -> Callable[[str], Any]:
    """Finds a referenced schema by its URI, as the schema calls it or as it is resolved there."""
    base = document.get("$id", document.get("id")) if isinstance(document, dict) else None
    bases = [_BASE, *([base] if isinstance(base, str) else [])]
    known: dict[str, str] = {}
    for name, text in imports:
        for uri in (name, *(urljoin(each, name) for each in bases), _BASE + name):
            known.setdefault(uri, text)

    def retrieve(uri: str) -> Any:
        text = known.get(uri) or known.get(uri.rstrip("#"))
        if text is None:
            raise LookupError(f"{uri} is not among the references of the schema")
        return jsonio.decode_value(text.encode())

    return retrieve


class _NoFloat:
    def __init__(self, parent: Mapping[str, Any], value: Any, path: Any) -> None:
        pass

    def validate(self, instance: Any) -> None:
        if type(instance) is float:
            raise ValueError(f"{instance} is not an integer: it is written with a fraction or an exponent")


def _with_strict_integers(schema: Any) -> Any:
    """The schema with our keyword beside every type that allows integers and no other numbers."""
    if isinstance(schema, list):
        return [_with_strict_integers(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed: dict[Any, Any] = {}
    for name, value in schema.items():
        if name in NAMED and isinstance(value, dict):
            changed[name] = {member: _with_strict_integers(each) for member, each in value.items()}
        else:
            changed[name] = value if name in DATA else _with_strict_integers(value)
    types = schema.get("type")
    allowed = types if isinstance(types, list) else [types]
    if "integer" in allowed and "number" not in allowed:
        changed[_STRICT] = True
    return changed
