"""A slot that this process holds: what its log says, as far as it has been read, and what this process has written."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from kafka_gateway.cluster.fold import Effect, Fold
from kafka_gateway.cluster.records import read_definition
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.definitions import Definition, SlotKey, as_after_a_crash
from kafka_gateway.kafka.ports.slots import SlotRecord


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

    def take(self, record: SlotRecord, process: str, ending: Collection[str]) -> tuple[Effect, str, bool]:
        """What the record did, its ``uid``, and whether another process has changed a live definition with it.
        UnknownRecord.

        ``process``: this one; ``ending``: of definitions whose deletion it has sent.
        """
        if record.value is None:
            effect = self.fold.delete(record.key, record.uid)
            return effect, record.uid, effect is Effect.ENDED and record.uid not in ending
        definition = read_definition(record.key, record.value)
        foreign = definition.by != process
        is_late = foreign and self.state is not SlotState.REPLAYING and definition != self.fold.get(record.key)
        if is_late and definition.handed:  # not stored in time: its client may have read on here
            if definition.uid in self.written:
                return Effect.VOID, definition.uid, False
            definition = as_after_a_crash(definition)
        effect = self.fold.put(record.key, definition)
        return effect, definition.uid, foreign and effect is Effect.CHANGED
