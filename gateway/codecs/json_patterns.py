"""The patterns of one JSON Schema: put into the schema in the words of the engine, and bounded in what they take.

The engine judges most patterns in one pass over the text. Those that look around, refer to what they have matched, or
count far are judged here, by a keyword of our own, since nobody could stop the engine otherwise: each text has some 50
milliseconds, and one record half a second for all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from kafka_gateway.codecs.ecma_pattern import read_pattern
from kafka_gateway.codecs.pattern_translation import Translation, translate
from kafka_gateway.schemas import UnusableSchema

PATTERN = "\0pattern"
"""The keyword of ours; no schema can have it."""
NAMED = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependencies", "dependentSchemas"})
"""Keywords whose members are schemas with names."""
DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords with values that are no schemas."""
_FEW_STATES = 100
"""A pattern with more of them is slow: one pass over a text may take as many steps for each character."""
_SIZE_MAX = 40_000
"""Of all patterns of a schema: as much is compiled in a fifth of a second."""
_PASS_MAX = 1_000_000
"""Characters of a text times states of a slow pattern: one pass through the text then takes 40 milliseconds at most."""
_BACKTRACKS = (1, 10, 100, 1_000, 10_000, 100_000)
"""How often the engine may go back in a text, each time through as much as all of it. It is given more if the last
number was too small, and did not take long."""
_TEN_TIMES_S = 0.003
"""Only after a shorter try the engine is given ten times as many."""
_EFFORT_S = 0.5
_SHOWN_MAX = 100


class Effort(threading.local):
    """What the slow patterns of the record that this thread is judging may still take."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """To be called before each record."""
        self._left_s = _EFFORT_S
        self.exceeded = ""
        """Why the record cannot be judged; "" if it can."""

    def spend(self, seconds: float) -> None:
        self._left_s -= seconds
        if self._left_s < 0:
            self.exceed("it would take too long to judge by the patterns of its schema")

    def exceed(self, reason: str) -> None:
        self.exceeded = self.exceeded or reason


class Patterns:
    """All patterns of one schema and of those that it refers to."""

    def __init__(self) -> None:
        self.effort = Effort()
        self._originals: dict[str, str] = {}
        self._slow: dict[str, SlowPattern] = {}
        self._slow_names: dict[str, SlowPattern] = {}
        self._size = 0

    @property
    def slow(self) -> bool:
        """Whether judging one record may take long."""
        return bool(self._slow or self._slow_names)

    def put_into(self, schema: Any) -> Any:
        """The schema with patterns that the engine understands. UnusableSchema for a pattern that cannot be judged."""
        if isinstance(schema, list):
            return [self.put_into(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        changed: dict[Any, Any] = {}
        for name, value in schema.items():
            if name == "pattern" and isinstance(value, str):
                translation = self._translated(value)
                if _is_slow(translation):
                    self._slow.setdefault(value, SlowPattern(value, translation, self.effort))
                    changed[PATTERN] = value
                else:
                    changed[name] = translation.text
            elif name == "patternProperties" and isinstance(value, dict):
                changed[name] = self._of_names(value)
            elif name in NAMED and isinstance(value, dict):
                changed[name] = {member: self.put_into(each) for member, each in value.items()}
            else:
                changed[name] = value if name in DATA else self.put_into(value)
        return changed

    def keyword(self, parent: Mapping[str, Any], value: str, path: Any) -> SlowPattern:
        """Makes the validator of PATTERN, for the library that judges."""
        return self._slow[value]

    def judge_names(self, value: Any) -> None:
        """Sets ``effort.exceeded`` if the names of some members take too long: the engine would not tell."""
        todo, names = [value] if self._slow_names else [], set[str]()
        while todo:
            each = todo.pop()
            if isinstance(each, dict):
                names |= each.keys()
                todo += each.values()
            elif isinstance(each, list):
                todo += each
        for pattern in self._slow_names.values():
            for name in names:
                pattern.refusal(name)
                if self.effort.exceeded:
                    return

    def original(self, message: str) -> str:
        """The engine's message, with the schema's own words for a pattern."""
        for translated, original in self._originals.items():
            if f'"{translated}"' in message:
                return message.replace(f'"{translated}"', f'"{original}"')
        return message

    def _of_names(self, schemas: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for pattern, schema in schemas.items():
            translation = self._translated(pattern)
            if _is_slow(translation):
                self._slow_names.setdefault(pattern, SlowPattern(pattern, translation, self.effort))
            text = translation.text
            while text in changed:  # two patterns that say the same, each with a schema
                text += "(?:)"
            changed[text] = self.put_into(schema)
        return changed

    def _translated(self, pattern: str) -> Translation:
        try:
            translation = translate(pattern)
        except ValueError as reason:
            raise _unusable(pattern, str(reason)) from None
        self._size += translation.size
        if self._size > _SIZE_MAX:
            raise _unusable(pattern, "the patterns of the schema are too large")
        if translation.text != pattern:
            self._originals[translation.text] = pattern
        return translation


class SlowPattern:
    """A pattern that is judged with bounds. Used from several threads."""

    def __init__(self, original: str, translation: Translation, effort: Effort) -> None:
        """UnusableSchema if the engine does not take it."""
        self._original = original
        self._translation = translation
        self._effort = effort
        self._judges: dict[int, Any] = {}
        try:
            self._judge(_BACKTRACKS[-1])
        except (jsonschema_rs.ValidationError, ValueError):
            raise _unusable(original, "the engine that judges patterns cannot do this") from None

    def validate(self, instance: Any) -> None:
        """What jsonschema-rs calls for a keyword of ours. ValueError says why a text does not match."""
        if isinstance(instance, str) and (reason := self.refusal(instance)):
            raise ValueError(reason)

    def refusal(self, text: str) -> str:
        """Why the text does not match; "" if it does."""
        effort = self._effort
        if effort.exceeded:
            return effort.exceeded
        if len(text) * self._translation.states > _PASS_MAX:
            effort.exceed(f"a text of {len(text)} characters is too long to judge by the pattern {self._shown}")
            return effort.exceeded
        for most in _BACKTRACKS:
            began = time.thread_time()
            error = next(self._judge(most).iter_errors(text), None)
            took_s = time.thread_time() - began
            effort.spend(took_s)
            if error is None or effort.exceeded:
                return effort.exceeded
            if not isinstance(error.kind, jsonschema_rs.ValidationErrorKind.BacktrackLimitExceeded):
                start = text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
                return f'"{start}" does not match {self._shown}'
            if took_s > _TEN_TIMES_S:
                break
        effort.exceed(f"it would take too long to judge by the pattern {self._shown}")
        return effort.exceeded

    @property
    def _shown(self) -> str:
        return f'"{self._original[:_SHOWN_MAX]}"'

    def _judge(self, most: int) -> Any:
        judge = self._judges.get(most)
        if judge is None:
            judge = self._judges[most] = jsonschema_rs.Draft7Validator(
                {"pattern": self._translation.text},
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=most),
            )
        return judge


def is_pattern(text: str) -> bool:
    """Whether the text is a regular expression of ECMA-262: the format ``regex``."""
    try:
        read_pattern(text)
    except ValueError:
        return False
    return True


def _is_slow(translation: Translation) -> bool:
    return translation.backtracks or translation.states > _FEW_STATES


def _unusable(pattern: str, reason: str) -> UnusableSchema:
    return UnusableSchema(f"the pattern {pattern[:_SHOWN_MAX]!r} cannot be judged: {reason}")
