"""What the log of a slot says: every reader folds its records by one rule, and all come to the same (cluster.md §4.2).

A record creates its key if that is dead, and changes it if it has the ``uid`` of the live one. A deletion ends the live
one if its header names that ``uid``. Everything else is void. A ``uid`` that a deletion has named never lives again,
so a late update does not bring a deleted definition back.

So is a record of a process that had the instance before the one that has opened it last, which its ``epoch`` tells: it
came late, as after an outage of Kafka. A hand-over does not say then where the client is, which may have read on, and a
change is not the last that the client has asked for.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from kafka_gateway.definitions import Definition, is_outdated

_DEAD_MAX: Final = 10_000
"""How many ended instances a slot remembers: a late update is seconds late, not thousands of instances."""


class Effect(enum.Enum):
    """What a record did."""

    CREATED = enum.auto()
    CHANGED = enum.auto()
    ENDED = enum.auto()
    VOID = enum.auto()
    """Nothing: but compaction will keep it as the last of its key, so a holder has to write what is true again."""
    NOTHING = enum.auto()
    """Nothing, and that is well: a deletion of what is dead."""


class Fold:
    """One slot, as far as its log has been read."""

    __slots__ = ("_dead", "_live")

    def __init__(self) -> None:
        self._live: dict[bytes, Definition] = {}
        self._dead: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Definition]:
        """The live definitions."""
        return iter(list(self._live.values()))

    def get(self, key: bytes) -> Definition | None:
        """The live definition of the key."""
        return self._live.get(key)

    def put(self, key: bytes, definition: Definition) -> Effect:
        """A record with a value."""
        live = self._live.get(key)
        if definition.uid in self._dead:
            return Effect.VOID
        if live is None:
            self._live[key] = definition
            return Effect.CREATED
        if live.uid != definition.uid or is_outdated(definition, live):
            return Effect.VOID
        self._live[key] = definition
        return Effect.CHANGED

    def delete(self, key: bytes, uid: str) -> Effect:
        """A record without a value; ``uid`` of its header, "" if it has none."""
        if uid:
            self._dead[uid] = None
            if len(self._dead) > _DEAD_MAX:
                del self._dead[next(iter(self._dead))]
        live = self._live.get(key)
        if live is None:
            return Effect.NOTHING
        if live.uid != uid:
            return Effect.VOID
        del self._live[key]
        return Effect.ENDED
