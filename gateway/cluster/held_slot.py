"""A slot that this process holds: what its log says, as far as it has been read, and what this process has written."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

from kafka_gateway.cluster.fold import Effect, Fold
from kafka_gateway.cluster.records import read_definition
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.definitions import Definition, SlotKey
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


@dataclasses.dataclass(slots=True)
class HeldSlot:
    """Belongs to the event loop."""

    state: SlotState = SlotState.REPLAYING
    fold: Fold = dataclasses.field(default_factory=Fold)
    since: float = 0.0
    """When it began to be served, time.monotonic()."""
    voids: dict[bytes, str] = dataclasses.field(default_factory=dict)
    """Keys whose last record is void, with its ``uid``, to be repaired when all has been read."""
    written: dict[str, Definition] = dataclasses.field(default_factory=dict)
    """What this process has written last of each ``uid``, read back or not, unless another one has changed it since."""

    def newest(self, live: Definition) -> Definition:
        return self.written.get(live.uid, live)

    def live_keys(self) -> list[SlotKey]:
        """Those of its definitions."""
        return [SlotKey(each.group, each.name) for each in self.fold]

    def take(self, record: SlotRecord, writer: str, ending: Collection[str]) -> Taken:
        """What the record has done. UnknownRecord.

        ``writer``: this process, as `Definitions.writer`; ``ending``: of definitions whose deletion it has sent.
        """
        if record.value is None:
            effect = self.fold.delete(record.key, record.uid)
            return Taken(effect, record.uid, effect is Effect.ENDED and record.uid not in ending)
        definition = read_definition(record.key, record.value)
        effect = self.fold.put(record.key, definition)
        if definition.by == writer:
            return Taken(effect, definition.uid, False, definition.epoch)
        own = self.written.get(definition.uid)
        # What this process has written in a later epoch stands behind it.
        is_late = own is not None and definition.epoch < own.epoch
        return Taken(effect, definition.uid, effect is Effect.CHANGED and not is_late)
