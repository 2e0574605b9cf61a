"""JSON schemas of what bodies hold: types that msgspec describes are components, the rest stands where it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kafka_gateway.description import Named, Shape

_REF = "#/components/schemas/"
_NAME = re.compile(r"[^A-Za-z0-9]+")


class Shapes:
    """Schemas of one document. First ``collect`` every shape, then ask for the ``schema`` of each."""

    def __init__(self) -> None:
        self._types: list[Any] = []
        self._named: dict[str, Named] = {}
        self._schemas: dict[int, dict[str, Any]] | None = None
        self._components: dict[str, Any] = {}

    def collect(self, shape: Shape) -> None:
        """Notes that the shape will be asked for."""
        if shape is None:
            return
        if isinstance(shape, Named):
            self._named[shape.name] = shape
            self.collect(shape.schema)
        elif isinstance(shape, Mapping):
            for each in shape.values():
                self.collect(each)
        elif isinstance(shape, (list, tuple)):
            for each in shape:
                self.collect(each)
        elif _is_type(shape) and not any(shape is known for known in self._types):
            self._types.append(shape)

    def schema(self, shape: Shape) -> Any:
        """The JSON schema of a shape."""
        if isinstance(shape, Named):
            return {"$ref": _REF + shape.name}
        if isinstance(shape, Mapping):
            return {name: self.schema(each) for name, each in shape.items()}
        if isinstance(shape, (list, tuple)):
            return [self.schema(each) for each in shape]
        if not _is_type(shape):
            return shape
        return self._made()[id(shape)]

    @property
    def components(self) -> dict[str, Any]:
        """What the schemas refer to, by name."""
        self._made()
        named = {name: self.schema(each.schema) for name, each in self._named.items()}
        return dict(sorted((self._components | named).items()))

    def _made(self) -> dict[int, dict[str, Any]]:
        if self._schemas is None:
            self._schemas = self._make()
        return self._schemas

    def _make(self) -> dict[int, dict[str, Any]]:
        found, components = msgspec.json.schema_components(self._types, ref_template=_REF + "{name}")
        names = _short_names(components)
        self._components = {names[name]: _cleaned(_renamed(each, names)) for name, each in components.items()}
        return {id(kind): _renamed(each, names) for kind, each in zip(self._types, found, strict=True)}


def _is_type(shape: Shape) -> bool:
    # The types of `list[Row]` and the like are no classes; what is left is plain JSON.
    return not isinstance(shape, (str, int, float, bool, type(None)))


def _short_names(components: Mapping[str, Any]) -> dict[str, str]:
    """Name of msgspec's → name in the document. Equal names of several folders get the folder as a prefix: V3Topic."""
    names: dict[str, str] = {}
    for name in components:
        parts = [part for part in name.replace("-", "_").split(".") if part]
        short = parts[-1].lstrip("_")
        if len(parts) > 2 and parts[-3] != "rest":
            short = _NAME.sub("", parts[-3].title()) + short
        while short in names.values():
            short += "_"
        names[name] = short
    return names


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: _REF + names[each.removeprefix(_REF)] if key == "$ref" else _renamed(each, names)
            for key, each in schema.items()
        }
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    return schema


def _cleaned(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the title, which is the component's name, and with Markdown for reStructuredText."""
    cleaned = {key: each for key, each in schema.items() if key != "title"}
    if "description" in cleaned:
        cleaned["description"] = " ".join(str(cleaned["description"]).replace("``", "`").split())
    return cleaned
