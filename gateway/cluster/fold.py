"""What the log of a slot says: every reader folds its records by one rule, and all come to the same (cluster.md §4.2).

A record creates its key if that is dead, and changes it if it has the ``uid`` of the live one. A deletion ends the live
one if its header names that ``uid``. Everything else is void. A ``uid`` that a deletion has ended never lives again,
so a late update does not bring a deleted definition back.

So is a record of a process that had the instance before the one that has opened it last, which its ``epoch`` tells: it
came late, as after an outage of Kafka. A hand-over does not say then where the client is, which may have read on, a
change is not the last that the client has asked for, and a deletion is of what its client uses again.

Compaction may leave a reader with a void deletion as the first that it finds, and then it looks as if it had ended its
``uid``. So whoever repairs it says which void deletion the live definition stands behind. The original of that
definition, which says nothing of the kind, may as well be one that came behind a deletion that counts.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from kafka_gateway.definitions import Definition, Deletion, is_outdated

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
        self._dead: dict[str, Deletion] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Definition]:
        """The live definitions."""
        return iter(list(self._live.values()))

    def get(self, key: bytes) -> Definition | None:
        """The live definition of the key."""
        return self._live.get(key)

    def ended(self, uid: str) -> Deletion | None:
        """The deletion that has ended this one, as far as that is known."""
        return self._dead.get(uid)

    def put(self, key: bytes, definition: Definition, behind: Deletion | None = None) -> Effect:
        """A record with a value; ``behind``: the void deletion that it repairs."""
        live = self._live.get(key)
        if (deletion := self._dead.get(definition.uid)) is not None:
            if live is not None or not _was_void(deletion, definition, behind):
                return Effect.VOID
            del self._dead[definition.uid]
        if live is None:
            self._live[key] = definition
            return Effect.CREATED
        if live.uid != definition.uid or is_outdated(definition, live):
            return Effect.VOID
        self._live[key] = definition
        return Effect.CHANGED

    def delete(self, key: bytes, deletion: Deletion) -> Effect:
        """A record without a value; the ``uid`` is "" if its headers name none."""
        uid, live = deletion.uid, self._live.get(key)
        if live is not None and live.uid == uid and is_outdated(deletion, live):
            return Effect.VOID
        if uid:
            self._dead[uid] = deletion
            if len(self._dead) > _DEAD_MAX:
                del self._dead[next(iter(self._dead))]
        if live is None:
            return Effect.NOTHING
        if live.uid != uid:
            return Effect.VOID
        del self._live[key]
        return Effect.ENDED


def _was_void(deletion: Deletion, definition: Definition, behind: Deletion | None) -> bool:
    """Whether what was live before the deletion, and has been compacted away, was an opening that it came too late for.

    A definition of a later epoch says so: nobody opens an instance behind a deletion that counts.
    """
    return deletion == behind or 0 < deletion.epoch < definition.epoch
