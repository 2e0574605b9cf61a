"""How often a JSON Schema can judge one value: what its keywords and references come to, before any data are judged.

With a schema of a few lines one value can take years: ``allOf`` of two references to a schema that is ``allOf`` of two
references, thirty times. Whoever may produce may register such a schema, and the library that judges data cannot be
interrupted. So the evaluations of each schema are counted once, and data that would take too long are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import referencing
import referencing.exceptions
import referencing.jsonschema

_no_such_resource: Any = referencing.exceptions.NoSuchResource
_registry: Any = referencing.Registry
"""mypy does not see what these take."""
_HERE = ("not", "if", "then", "else")
_HERE_LISTS = ("allOf", "anyOf", "oneOf")
_HERE_NAMED = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$recursiveRef", "$dynamicRef")
_EVERY_MEMBER = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_EVERY_ITEM = ("additionalItems", "unevaluatedItems", "contains", "items")
_COMPARED = 5
"""Evaluations that take as long as a comparison with an object: 0.1 µs."""
_LEVELS = 100
"""Of nesting that are counted."""
_WORK_MAX = 1_000_000
"""Steps of counting, about a microsecond each."""
_SCHEMAS_MAX = 50_000
COUNT_MAX = 10**9


class TooOften(ValueError):
    """The schema refers to itself for one and the same value, or is too large to be counted."""


class _Part:
    """A part of a schema, by what it applies to the same value, to members by name, to all of them, to items."""

    __slots__ = ("every_item", "every_member", "here", "items", "members", "together", "weight")

    def __init__(self) -> None:
        self.weight = 1
        """How many evaluations its own keywords are worth."""
        self.here: list[_Part] = []
        self.members: dict[str, _Part] = {}
        self.items: dict[int, _Part] = {}
        self.every_member: list[_Part] = []
        self.every_item: list[_Part] = []
        self.together: Counter[_Part] | None = None
        """All that judge a value that this one judges, itself included, and how often."""


def most_evaluations(document: Any, specification: Any, retrieve: Callable[[str], Any]) -> list[int]:
    """How often the schema may judge one value, by how deep it is nested in the data, up to a depth after which the
    last number holds for all; it is COUNT_MAX if the count goes on growing.

    Raises TooOften. References that lead nowhere are left out.

    Args:
        document: the schema.
        specification: its draft, as the library ``referencing`` has it.
        retrieve: finds another schema by its URI, or raises LookupError.
    """
    root = _Parts(specification, retrieve).read(document)
    parts, work = list(_reachable(root)), 0
    for part in parts:
        work += _together(part, _WORK_MAX - work)
    counts = {part: _limited(sum(times * each.weight for each, times in _together_of(part).items())) for part in parts}
    found = [counts[root]]
    for _ in range(min(_LEVELS, max(3, _WORK_MAX // work))):
        # As high as any level before: then the numbers of objects and lists inside each other do not alternate.
        deeper = {part: max(counts[part], _below(part, counts)) for part in parts}
        if deeper == counts or found[-1] == COUNT_MAX:
            return found
        counts = deeper
        found.append(counts[root])
    return [*found, COUNT_MAX]


class _Parts:
    def __init__(self, specification: Any, retrieve: Callable[[str], Any]) -> None:
        self._specification = specification
        self._known: dict[int, tuple[_Part, Any]] = {}

        def found(uri: str) -> Any:
            try:
                return specification.create_resource(retrieve(uri))
            except LookupError:
                raise _no_such_resource(ref=uri) from None

        self._registry = _registry(retrieve=found)

    def read(self, document: Any) -> _Part:
        resource = self._specification.create_resource(document)
        return self._part(
            document, self._registry.with_resource("json-schema:///", resource).resolver("json-schema:///")
        )

    def _part(self, root: Any, resolver: Any) -> _Part:
        part, todo = _Part(), [(root, resolver)]
        self._known[id(root)] = part, root
        while todo:  # not by calls: schemas may be nested deeply
            schema, resolver = todo.pop()
            if isinstance(schema, dict):
                self._known[id(schema)][0].weight = _weight_of(schema)
                for place, inner, resolver_of_inner in self._inner(schema, resolver):
                    known = self._known.get(id(inner))
                    if known is None:
                        known = self._known[id(inner)] = _Part(), inner  # kept, so that its id stays its own
                        todo.append((inner, resolver_of_inner))
                        if len(self._known) > _SCHEMAS_MAX:
                            raise TooOften(f"the schema has more than {_SCHEMAS_MAX} parts")
                    place(self._known[id(schema)][0], known[0])
        return part

    def _inner(self, schema: Mapping[str, Any], resolver: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Where it belongs, the inner schema, and what resolves references there."""
        if isinstance(schema.get("$id", schema.get("id")), str):
            resolver = resolver.in_subresource(self._specification.create_resource(schema))

        def here(of: _Part, inner: _Part) -> None:
            of.here.append(inner)

        def every_member(of: _Part, inner: _Part) -> None:
            of.every_member.append(inner)

        def every_item(of: _Part, inner: _Part) -> None:
            of.every_item.append(inner)

        for word in _REFERENCES:
            if isinstance(ref := schema.get(word), str):
                try:
                    found = resolver.lookup(ref)
                except (referencing.exceptions.Unresolvable, ValueError):
                    continue
                yield here, found.contents, found.resolver
        inner: Any
        for word in _HERE:
            if isinstance(inner := schema.get(word), dict):
                yield here, inner, resolver
        for word in _HERE_LISTS:
            for inner in _list(schema.get(word)):
                yield here, inner, resolver
        for word in _HERE_NAMED:
            for inner in _members(schema.get(word)).values():
                yield here, inner, resolver
        for name, inner in _members(schema.get("properties")).items():
            yield (lambda of, part, name=name: of.members.__setitem__(name, part)), inner, resolver
        for inner in _members(schema.get("patternProperties")).values():
            yield every_member, inner, resolver
        for words, place in ((_EVERY_MEMBER, every_member), (_EVERY_ITEM, every_item)):
            for word in words:
                if isinstance(inner := schema.get(word), dict):
                    yield place, inner, resolver
        for word in ("prefixItems", "items"):
            for i, inner in enumerate(_list(schema.get(word))):
                yield (lambda of, part, i=i: of.items.__setitem__(i, part)), inner, resolver


def _weight_of(schema: Mapping[str, Any]) -> int:
    """Objects and lists of an ``enum`` are compared one after the other, each in the time of some evaluations."""
    return 1 + _COMPARED * sum(isinstance(each, (dict, list)) for each in _list(schema.get("enum")))


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _members(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _reachable(root: _Part) -> Iterator[_Part]:
    seen, todo = {root}, [root]
    while todo:
        part = todo.pop()
        yield part
        for inner in (*part.here, *part.members.values(), *part.items.values(), *part.every_member, *part.every_item):
            if inner not in seen:
                seen.add(inner)
                todo.append(inner)


def _together(root: _Part, steps_max: int) -> int:
    """Sets ``together`` of a part and of those that judge the same value. Returns how many steps that took.

    TooOften if they go in a circle, or if it takes too many steps.
    """
    open_: set[_Part] = set()
    todo, steps = [root], 1
    while todo:
        part = todo[-1]
        if part.together is not None:
            todo.pop()
            continue
        waiting = [inner for inner in part.here if inner.together is None]
        if waiting and part in open_:
            raise TooOften("the schema refers to itself for one and the same value")
        if waiting:
            open_.add(part)
            todo += waiting
            continue
        part.together = Counter({part: 1})
        for inner in part.here:
            steps += len(_together_of(inner))
            if steps > steps_max:
                raise TooOften("the schema has too many parts that judge the same value")
            for each, count in _together_of(inner).items():
                part.together[each] = _limited(part.together[each] + count)
        open_.discard(part)
        todo.pop()
    return steps


def _together_of(part: _Part) -> Counter[_Part]:
    assert part.together is not None
    return part.together


def _limited(count: int) -> int:
    return min(count, COUNT_MAX)


def _below(part: _Part, counts: Mapping[_Part, int]) -> int:
    """How often, at most, a member or an item is judged of a value that the part judges. ``counts``: those of the level
    before."""
    every_member = every_item = 0
    named: Counter[object] = Counter()
    for each, times in _together_of(part).items():
        every_member += times * sum(counts[inner] for inner in each.every_member)
        every_item += times * sum(counts[inner] for inner in each.every_item)
        for name, inner in each.members.items():
            named[name] += times * counts[inner]
        for place, inner in each.items.items():
            named[place] += times * counts[inner]
    members = max((count for name, count in named.items() if isinstance(name, str)), default=0)
    items = max((count for place, count in named.items() if isinstance(place, int)), default=0)
    return _limited(max(every_member + members, every_item + items))
