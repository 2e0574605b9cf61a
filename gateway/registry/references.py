"""The schemas that a schema refers to, and those that they refer to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kafka_gateway.schemas import Reference

REFERENCES_MAX = 1000
"""Of one schema, those of its references included."""
_AT_A_TIME = 16

Ask = Callable[[str, int], Awaitable[Any]]
"""Gives the registry's answer for a subject and a version."""


def references_of(answer: Any) -> tuple[Reference, ...]:
    """The references in a registry's answer; what is malformed is left out."""
    found = answer.get("references") if isinstance(answer, dict) else None
    return tuple(
        Reference(each["name"], each["subject"], each["version"])
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("subject"), str)
        and isinstance(each.get("version"), int)
    )


async def imports_of(ask: Ask, references: Sequence[Reference]) -> tuple[tuple[str, str], ...]:
    """Name and text of all of them, each behind those that it needs itself. They come from the registry alone.

    ValueError if there are too many, or if they go in a circle. Raises what ``ask`` raises.
    """
    answers: dict[tuple[str, int], Any] = {}
    level: Sequence[Reference] = references
    while level:
        places = list(dict.fromkeys((each.subject, each.version) for each in level))
        places = [place for place in places if place not in answers]
        if len(answers) + len(places) > REFERENCES_MAX:
            raise ValueError(f"it has more than {REFERENCES_MAX} references")
        for start in range(0, len(places), _AT_A_TIME):
            some = places[start : start + _AT_A_TIME]
            answers.update(zip(some, await _together([ask(*place) for place in some]), strict=True))
        level = [inner for place in places for inner in references_of(answers[place])]
    return _in_order(references, answers)


async def _together(questions: Sequence[Awaitable[Any]]) -> list[Any]:
    tasks = [asyncio.ensure_future(each) for each in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _in_order(references: Sequence[Reference], answers: dict[tuple[str, int], Any]) -> tuple[tuple[str, str], ...]:
    texts: dict[str, str] = {}
    open_: set[tuple[str, int]] = set()
    todo = [(each, False) for each in reversed(references)]
    while todo:  # not by calls: they may be a chain of a thousand
        reference, done = todo.pop()
        place = (reference.subject, reference.version)
        if done:
            open_.discard(place)
            texts.setdefault(reference.name, _text_of(reference, answers[place]))
            continue
        if place in open_:
            raise ValueError(f"its references go in a circle: {reference.subject} version {reference.version}")
        if reference.name in texts:
            continue
        open_.add(place)
        todo.append((reference, True))
        todo += [(inner, False) for inner in reversed(references_of(answers[place]))]
    return tuple(texts.items())


def _text_of(reference: Reference, answer: Any) -> str:
    text = answer.get("schema") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"the registry has no text for {reference.subject} version {reference.version}")
    return text
