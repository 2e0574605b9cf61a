"""The schemas that a schema refers to, and those that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka_gateway.registry.client import RegistryClient, part
from kafka_gateway.schemas import Reference

REFERENCES_MAX = 1000
"""Of one schema, those of its references included."""


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


async def imports_of(client: RegistryClient, references: Sequence[Reference]) -> tuple[tuple[str, str], ...]:
    """Name and text of all of them, each behind those that it needs itself. They come from the registry alone.

    ValueError if there are too many, or if they go in a circle. Raises what the client raises.
    """
    texts: dict[str, str] = {}
    open_: set[tuple[str, int]] = set()

    async def add(reference: Reference) -> None:
        place = (reference.subject, reference.version)
        if place in open_:
            raise ValueError(f"its references go in a circle: {reference.subject} version {reference.version}")
        if reference.name in texts:
            return
        if len(texts) + len(open_) >= REFERENCES_MAX:
            raise ValueError(f"it has more than {REFERENCES_MAX} references")
        open_.add(place)
        answer = await client.ask("GET", f"/subjects/{part(reference.subject)}/versions/{reference.version}")
        text = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"the registry has no text for {reference.subject} version {reference.version}")
        for inner in references_of(answer):
            await add(inner)
        open_.discard(place)
        texts[reference.name] = text

    for reference in references:
        await add(reference)
    return tuple(texts.items())
