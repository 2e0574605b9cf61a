"""Slots that were lost because the coordinator was not heard, and that may come back (cluster.md §7)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Sequence

from kafka_gateway.definitions import Holder, SlotKey


@dataclasses.dataclass(frozen=True, slots=True)
class _Suspended:
    keys: Collection[SlotKey]
    end: asyncio.TimerHandle


class SuspendedSlots:
    """Belongs to the event loop."""

    def __init__(self, within_s: float, holders: Callable[[], Sequence[Holder]]) -> None:
        """``within_s``: how long what is live is kept without its slot."""
        self._within_s = within_s
        self._holders = holders
        self._slots: dict[int, _Suspended] = {}

    def numbers(self) -> list[int]:
        """The slots of which the instances are kept, and not served."""
        return sorted(self._slots)

    def add(self, slot: int, keys: Collection[SlotKey]) -> None:
        """The slot was served, and is lost: ``keys`` are those of what is in it."""
        end = asyncio.get_running_loop().call_later(self._within_s, self.end, (slot,))
        self._slots[slot] = _Suspended(keys, end)
        for holder in self._holders():
            holder.suspend(keys)

    def resume(self, slot: int) -> None:
        """Resumes what was kept: the slot is served here again, and all of its log is read."""
        suspended = self._slots.pop(slot, None)
        if suspended is not None:
            suspended.end.cancel()
            for holder in self._holders():
                holder.resume(suspended.keys)

    def end(self, slots: Collection[int]) -> None:
        """Closes what was kept: it is not known how far others have read."""
        for slot in slots:
            suspended = self._slots.pop(slot, None)
            if suspended is not None:
                suspended.end.cancel()
                for holder in self._holders():
                    holder.drop(suspended.keys)
