"""Which process serves which slot, as processes have said it (cluster.md §4.4): hints, of which the latest counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kafka_gateway.cluster.records import Claim


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A process by its latest record."""

    id: str
    claim: Claim
    offset: int
    at: float
    """When it was read, time.monotonic()."""


class Table:
    """The records of the process topic, folded. Per slot the latest claim in the log wins."""

    def __init__(self) -> None:
        self._processes: dict[str, Known] = {}
        self._owners: dict[int, str] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._processes.values()))

    def get(self, process: str) -> Known | None:
        """What is known of the process."""
        return self._processes.get(process)

    def owner(self, slot: int) -> str | None:
        """The process that has claimed the slot last, if it has not given it up since."""
        return self._owners.get(slot)

    def put(self, process: str, claim: Claim, offset: int, at: float) -> frozenset[int]:
        """A process has told this; the slots whose owner is another one now than before."""
        before = dict(self._owners)
        self._processes[process] = Known(process, claim, offset, at)
        slots = claim.numbers() if claim.state != "gone" else frozenset()
        for slot in [slot for slot, owner in self._owners.items() if owner == process and slot not in slots]:
            del self._owners[slot]
        self._owners.update(dict.fromkeys(slots, process))
        return self._changed(before)

    def remove(self, process: str) -> frozenset[int]:
        """The process is forgotten; as `put`."""
        before = dict(self._owners)
        self._processes.pop(process, None)
        self._owners = {slot: owner for slot, owner in self._owners.items() if owner != process}
        return self._changed(before)

    def clear(self) -> None:
        """Nothing is known any more: the topic begins anew."""
        self._processes.clear()
        self._owners.clear()

    def _changed(self, before: dict[int, str]) -> frozenset[int]:
        return frozenset(
            slot for slot in before.keys() | self._owners.keys() if before.get(slot) != self._owners.get(slot)
        )
