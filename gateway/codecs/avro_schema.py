"""Avro schemas, read into a tree: names resolved, what Avro forbids refused.

The rules are those of the Avro 1.12 specification, "Schema Declaration".
Logical types, defaults, documentation and sort orders play no part in how a datum is written, so the tree has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kafka_gateway import jsonio

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_DEEPEST = 100
_VALUES_MAX = 50_000
"""How many values a type may force on each of its data: thirty records, each of which holds the next one twice, would
be 2**30 values that take no byte."""
_NAME = re.compile(r"[^\s.\"\\]+(?:\.[^\s.\"\\]+)*")
"""Wider than Avro's: registries take names with a dash, and clients have them."""


class Node:
    """One type. Named types are one node wherever they are used, so a recursive schema is a circle."""

    __slots__ = ("branches", "fields", "items", "kind", "least", "name", "size", "symbols")

    def __init__(self, kind: str, name: str = "") -> None:
        self.kind = kind
        self.name = name
        """The full name of a named type; else ""."""
        self.fields: list[Field] = []
        self.items: Node | None = None
        """Of an array, or the values of a map."""
        self.branches: list[Node] = []
        self.symbols: tuple[str, ...] = ()
        self.size = 0
        self.least: tuple[int, bool] | None = None
        """Kept by `least_of`."""

    @property
    def branch(self) -> str:
        """What a union calls it in JSON."""
        return self.name or self.kind

    def children(self) -> list[Node]:
        """The types that it is made of."""
        if self.items is not None:
            return [self.items]
        return self.branches or [field.type for field in self.fields]


class Field:
    __slots__ = ("aliases", "name", "type")

    def __init__(self, name: str, type: Node, aliases: tuple[str, ...]) -> None:
        self.name = name
        self.type = type
        self.aliases = aliases


def read_schema(text: str, imports: Sequence[tuple[str, str]] = ()) -> Node:
    """The tree of a schema; ``imports`` are (name, text) of the schemas that define names for it.

    ValueError says what is wrong, and where.
    """
    reader = _Reader()
    for name, imported in imports:
        try:
            reader.read(_parse(imported))
        except ValueError as reason:
            raise ValueError(f"in the referenced schema {name}: {reason}") from None
    node = reader.read(_parse(text))
    for each in reachable(node):
        if least_of(each)[0] > _VALUES_MAX:
            raise ValueError(f"{_at(each.name)}each datum would have more than {_VALUES_MAX} values")
    return node


def _parse(text: str) -> Any:
    try:
        return jsonio.decode_value(text.encode())
    except ValueError as error:
        if re.fullmatch(r"\w+", text):  # Avro's own parsers take the bare name of a primitive
            return text
        raise ValueError(f"it is not JSON: {error}") from None


class _Reader:
    def __init__(self) -> None:
        self._names: dict[str, Node] = {}
        self._depth = 0

    def read(self, schema: Any) -> Node:
        return self._type(schema, "", "")

    def _type(self, schema: Any, namespace: str, place: str) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"{place[:100]}…: more than {_DEEPEST} types inside each other")
        try:
            if isinstance(schema, str):
                return self._named(schema, namespace, place)
            if isinstance(schema, list):
                return self._union(schema, namespace, place)
            if isinstance(schema, dict):
                return self._complex(schema, namespace, place)
            raise ValueError(f"{_at(place)}a schema is a name, an object or a list")
        finally:
            self._depth -= 1

    def _named(self, name: str, namespace: str, place: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        node = self._names.get(name if "." in name or not namespace else f"{namespace}.{name}") or self._names.get(name)
        if node is None:
            raise ValueError(f"{_at(place)}there is no type {name!r}")
        return node

    def _union(self, branches: list[Any], namespace: str, place: str) -> Node:
        node = Node("union")
        node.branches = [self._type(each, namespace, f"{place}[{i}]") for i, each in enumerate(branches)]
        names = [branch.branch for branch in node.branches]
        if "union" in names:
            raise ValueError(f"{_at(place)}a union cannot hold a union")
        if len(set(names)) < len(names):
            raise ValueError(f"{_at(place)}a union cannot have two branches of one type")
        return node

    def _complex(self, schema: dict[str, Any], namespace: str, place: str) -> Node:
        kind = schema.get("type")
        if isinstance(kind, (dict, list)):
            return self._type(kind, namespace, place)
        if kind in ("record", "error", "enum", "fixed"):
            return self._definition(schema, str(kind), namespace, place)
        if kind in ("array", "map"):
            member = "items" if kind == "array" else "values"
            if member not in schema:
                raise ValueError(f"{_at(place)}{kind} needs {member!r}")
            node = Node(kind)
            node.items = self._type(schema[member], namespace, f"{place}.{member}")
            return node
        if isinstance(kind, str):
            return self._named(kind, namespace, place)
        raise ValueError(f"{_at(place)}'type' is missing")

    def _definition(self, schema: dict[str, Any], kind: str, namespace: str, place: str) -> Node:
        name, own = schema.get("name"), schema.get("namespace")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{_at(place)}{kind} needs a 'name'")
        if own is not None and not isinstance(own, str):
            raise ValueError(f"{_at(place)}'namespace' must be a text")
        space = namespace if own is None else own
        full = name if "." in name or not space else f"{space}.{name}"
        if full in self._names or full in PRIMITIVES:
            raise ValueError(f"{_at(place)}{full!r} is defined twice")
        node = self._names[full] = Node("record" if kind == "error" else kind, full)
        space = full.rpartition(".")[0]
        if kind == "enum":
            symbols = schema.get("symbols")
            if not isinstance(symbols, list) or not all(isinstance(each, str) for each in symbols):
                raise ValueError(f"{full}: an enum needs 'symbols', a list of texts")
            node.symbols = tuple(symbols)
            if len(set(symbols)) < len(symbols):
                raise ValueError(f"{full}: a symbol is there twice")
            if any(not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", each) for each in symbols):
                raise ValueError(f"{full}: a symbol is made of letters, digits and _")
        elif kind == "fixed":
            size = schema.get("size")
            if type(size) is not int or not 0 <= size < 2**31:
                raise ValueError(f"{full}: a fixed needs a 'size'")
            node.size = size
        else:
            self._fields(node, schema.get("fields"), space)
        return node

    def _fields(self, node: Node, fields: Any, namespace: str) -> None:
        if not isinstance(fields, list):
            raise ValueError(f"{node.name}: a record needs 'fields', a list")
        seen: set[str] = set()
        for i, field in enumerate(fields):
            name = field.get("name") if isinstance(field, dict) else None
            if not isinstance(name, str) or not name:
                raise ValueError(f"{node.name}: field {i} has no name")
            if name in seen:
                raise ValueError(f"{node.name}: the field {name!r} is there twice")
            seen.add(name)
            if "type" not in field:
                raise ValueError(f"{node.name}.{name}: 'type' is missing")
            aliases = field.get("aliases")
            known = tuple(each for each in aliases if isinstance(each, str)) if isinstance(aliases, list) else ()
            node.fields.append(Field(name, self._type(field["type"], namespace, f"{node.name}.{name}"), known))


def _at(place: str) -> str:
    return f"{place.lstrip('.')}: " if place else ""


def reachable(node: Node) -> list[Node]:
    """The type and all that it is made of, each once."""
    found: dict[int, Node] = {}
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += each.children()
    return list(found.values())


def is_recursive(node: Node) -> bool:
    """Whether some type holds itself, so that data can be as deep as its sender likes."""
    state: dict[int, int] = {}  # 1: on the way, 2: seen
    stack: list[tuple[Node, bool]] = [(node, False)]
    while stack:
        each, done = stack.pop()
        if done:
            state[id(each)] = 2
            continue
        if state.get(id(each)) == 2:
            continue
        state[id(each)] = 1
        stack.append((each, True))
        for child in each.children():
            if state.get(id(child)) == 1:
                return True
            stack.append((child, False))
    return False


def least_of(node: Node) -> tuple[int, bool]:
    """How many values each datum of this type has at least, and whether it can take no byte: then a short payload could
    hold any number of them. Computed once for each node."""
    if node.least is None:
        node.least = 1, node.kind == "null" or (node.kind == "fixed" and node.size == 0)
        if node.kind == "record":
            # A recursive record meets the line above, which says that it is not empty.
            parts = [least_of(field.type) for field in node.fields]
            node.least = 1 + sum(values for values, _ in parts), all(empty for _, empty in parts)
    return node.least
