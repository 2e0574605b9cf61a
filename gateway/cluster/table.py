"""Which process serves which slot, as processes have said it (cluster.md §4.4): hints, of which the latest counts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Final

from kafka_gateway.cluster.records import Claim
from kafka_gateway.slots import murmur2


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A process by its latest record."""

    id: str
    claim: Claim
    offset: int
    at: float
    """When it was read, time.monotonic()."""
    slots: frozenset[int] = frozenset()
    """Those that it has claimed with it."""
    told_at: float = -math.inf
    """When it told that, as `at`; of what was there when this process began, nobody knows."""


_NONE: Final[frozenset[int]] = frozenset()


@functools.lru_cache(maxsize=1024)
def mark_of(process: str) -> str:
    """Eight hexadecimal digits for what the process makes, by which all others know whose it is (cluster.md §5.1)."""
    return f"{murmur2(process.encode()):08x}"


class Table:
    """The records of the process topic, folded. Per slot the latest claim in the log wins."""

    def __init__(self) -> None:
        self._processes: dict[str, Known] = {}
        self._owners: dict[int, str] = {}
        self._marks: dict[str, str] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(list(self._processes.values()))

    def get(self, process: str) -> Known | None:
        """What is known of the process."""
        return self._processes.get(process)

    def owner(self, slot: int) -> str | None:
        """The process that has claimed the slot last, if it has not given it up since."""
        return self._owners.get(slot)

    def slots_of(self, processes: frozenset[str]) -> list[int]:
        """Those of which one of them is the owner."""
        return [slot for slot, owner in self._owners.items() if owner in processes] if processes else []

    def holders(self) -> frozenset[str]:
        """The processes that serve slots."""
        return frozenset(self._owners.values())

    def marked(self, mark: str) -> str | None:
        """The process whose mark it is, unless that has said that it is gone."""
        return self._marks.get(mark)

    def put(self, process: str, claim: Claim, offset: int, at: float, told_at: float = -math.inf) -> frozenset[int]:
        """A process has told this; the slots whose owner is another one now than before. What it costs grows with the
        slots of that process alone."""
        if claim.state != "gone":
            self._marks[mark_of(process)] = process
        else:
            self._marks.pop(mark_of(process), None)
        slots = claim.numbers() if claim.state != "gone" else _NONE
        changed = self._take_from(process, slots)
        self._processes[process] = Known(process, claim, offset, at, slots, told_at)
        owners = self._owners
        gained = {slot for slot in slots if owners.get(slot) != process}
        owners.update(dict.fromkeys(gained, process))
        return frozenset(changed | gained)

    def remove(self, process: str) -> frozenset[int]:
        """Forgets the process; returns the same as `put`."""
        changed = self._take_from(process, _NONE)
        self._processes.pop(process, None)
        self._marks.pop(mark_of(process), None)
        return frozenset(changed)

    def clear(self) -> None:
        """Forgets everything, because the topic was made again."""
        self._processes.clear()
        self._marks.clear()
        self._owners.clear()

    def _take_from(self, process: str, kept: frozenset[int]) -> set[int]:
        """Takes away the slots of the process, but for those that it keeps."""
        known, owners = self._processes.get(process), self._owners
        lost = {slot for slot in known.slots - kept if owners.get(slot) == process} if known is not None else set()
        for slot in lost:
            del owners[slot]
        return lost
