"""A slot that this process holds: what its log says, as far as it has been read, and what this process has written."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import NamedTuple

from kafka_gateway.cluster.fold import Effect, Fold
from kafka_gateway.cluster.records import read_definition, read_deletion
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.definitions import Definition, Deletion, SlotKey
from kafka_gateway.kafka.ports.slots import SlotRecord


class Taken(NamedTuple):
    """What a record has done."""

    effect: Effect
    uid: str
    is_foreign: bool
    """Whether another process has changed or ended a live definition with it, and this one has written nothing since
    that counts."""
    epoch: int = -1
    """Of a definition that this process has written; else -1."""


class Void(NamedTuple):
    """What is to be repaired of a key."""

    uid: str
    """Of its last void record."""
    deletion: Deletion | None
    """A void one of the instance that lives: whatever is written behind it has to say so (`Fold`)."""


@dataclasses.dataclass(slots=True, eq=False)
class Ending:
    """A deletion that is on its way."""

    counts: asyncio.Future[bool]
    is_stored: bool = False

    def fail(self, error: Exception) -> None:
        """It will not be known here."""
        if not self.counts.done():
            self.counts.set_exception(error)
            self.counts.exception()  # whoever waits gets it; there may be nobody


@dataclasses.dataclass(slots=True)
class HeldSlot:
    """Belongs to the event loop."""

    state: SlotState = SlotState.REPLAYING
    fold: Fold = dataclasses.field(default_factory=Fold)
    since: float = 0.0
    """When it began to be served, time.monotonic()."""
    voids: dict[bytes, Void] = dataclasses.field(default_factory=dict)
    """By key: what is to be repaired when all has been read."""
    ending: dict[str, Ending] = dataclasses.field(default_factory=dict)
    """By ``uid``: deletions that this process has sent, until it is known whether they count."""
    written: dict[str, Definition] = dataclasses.field(default_factory=dict)
    """What this process has written last of each ``uid``, read back or not, unless another one has changed it since."""

    def newest(self, live: Definition) -> Definition:
        return self.written.get(live.uid, live)

    def live_keys(self) -> list[SlotKey]:
        """Those of its definitions."""
        return [SlotKey(each.group, each.name) for each in self.fold]

    def live(self) -> list[Definition]:
        """Its definitions, without those that this process ends."""
        return [self.newest(each) for each in self.fold if each.uid not in self.ending]

    def take(self, record: SlotRecord, writer: str) -> Taken:
        """What the record has done. UnknownRecord. ``writer``: this process, as `Definitions.writer`."""
        if record.value is None:
            deletion = read_deletion(record.headers)
            effect = self.fold.delete(record.key, deletion)
            self._note(record.key, deletion.uid, deletion, effect)
            own = self.ending.get(deletion.uid)
            if own is not None and deletion.by == writer and not own.counts.done():
                own.counts.set_result(effect is not Effect.VOID)
            return Taken(effect, deletion.uid, effect is Effect.ENDED and own is None)
        definition = read_definition(record.key, record.value)
        effect = self.fold.put(record.key, definition, read_deletion(record.headers) if record.headers else None)
        self._note(record.key, definition.uid, None, effect)
        return self._taken(definition, writer, effect)

    def _taken(self, definition: Definition, writer: str, effect: Effect) -> Taken:
        if definition.by == writer:
            return Taken(effect, definition.uid, False, definition.epoch)
        own = self.written.get(definition.uid)
        # What this process has written in a later epoch stands behind it.
        is_late = own is not None and definition.epoch < own.epoch
        return Taken(effect, definition.uid, effect is Effect.CHANGED and not is_late)

    def _note(self, key: bytes, uid: str, deletion: Deletion | None, effect: Effect) -> None:
        """What of the key is to be repaired now."""
        before = self.voids.get(key)
        if effect is Effect.VOID:
            live = self.fold.get(key)
            if deletion is None or live is None or live.uid != uid:
                deletion = before.deletion if before is not None else None
            self.voids[key] = Void(uid, deletion)
        elif before is not None and (before.deletion is None or effect is not Effect.CHANGED):
            del self.voids[key]

    def hand_over(self) -> None:
        """Another process will have it, and this one reads nothing more. Nobody else has it yet, so that deletions
        count that are stored."""
        self.state = SlotState.HANDING_OVER
        for each in self.ending.values():
            self.settle(each)

    def settle(self, ending: Ending) -> None:
        """Kafka has stored it, or the slot is being handed over."""
        if ending.is_stored and self.state is SlotState.HANDING_OVER and not ending.counts.done():
            ending.counts.set_result(True)

    def repairs(self) -> list[tuple[bytes, Definition | None, Deletion | None]]:
        """What is true where a record is void, for compaction keeps the last of a key: the key, what lives, and the
        deletion that is to stand beside it. They are to be written; another call does not say so again."""
        voids, self.voids = self.voids, {}
        found: list[tuple[bytes, Definition | None, Deletion | None]] = []
        for key, (uid, deletion) in voids.items():
            if (live := self.fold.get(key)) is not None:
                found.append((key, self.newest(live), deletion))
            else:
                found.append((key, None, self.fold.ended(uid) or Deletion(uid)))
        return found
