"""Members that are missing, filled in with the ``default`` of their JSON Schema (kafka-rest-http.md §4.8).

Only with ``schema.json.fill.defaults=true``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Fill = Callable[[Any], Any]


def filler(schema: Any) -> Fill:
    """A function that gives a value its defaults: of ``properties`` and ``items``, at any depth, by ``$ref`` too.

    As upstream: a member that is required is not filled in (observed §4.8).
    """
    root = schema

    def resolved(part: Any) -> Any:
        for _ in range(100):
            ref = part.get("$ref") if isinstance(part, dict) else None
            if not isinstance(ref, str) or not ref.startswith("#/"):
                return part
            part = root
            for step in ref[2:].split("/"):
                part = part.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
        return None

    def fill(part: Any, value: Any) -> Any:
        part = resolved(part)
        if not isinstance(part, dict):
            return value
        if isinstance(value, dict):
            properties, required = part.get("properties"), part.get("required")
            for name, inner in properties.items() if isinstance(properties, dict) else ():
                inner = resolved(inner)
                if name in value:
                    value[name] = fill(inner, value[name])
                elif (
                    isinstance(inner, dict)
                    and "default" in inner
                    and not (isinstance(required, list) and name in required)
                ):
                    value[name] = copy.deepcopy(inner["default"])
        elif isinstance(value, list) and isinstance(part.get("items"), dict):
            return [fill(part["items"], item) for item in value]
        return value

    return lambda value: fill(schema, value)
