"""What clients have sent of heads that are not complete: it is held for them before anybody knows who they are.

All of it together may be a part of ``memory.max.bytes``, and counts there. A usual head is complete when it comes, and
costs nothing here. One that is in several pieces is complete a moment later, so when there is no more room, those go
that have been unfinished for the longest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kafka_gateway.heap import trimmer
from kafka_gateway.memory_budget import MemoryBudget

_PART: Final = 4
"""Which part of the budget they may be: so they never use it up, and keep nobody else out."""
_COPIES: Final = 5
"""Bytes that are held for each that came: the parser has a field as bytes and as text, whose characters may take four
bytes each."""

GiveUp = Callable[[], None]


class UnfinishedHeads:
    """Those of one gateway. Belongs to the event loop."""

    def __init__(self, memory: MemoryBudget) -> None:
        self._max = memory.max_bytes // _PART
        self._claim = memory.claim()
        self._sizes: dict[GiveUp, int] = {}
        """By what closes their connections, the oldest first."""
        self.given_up = 0
        """Those that were closed for others so far."""

    def set_size(self, give_up: GiveUp, size: int) -> None:
        """So many bytes of this connection's head have come now; it is not complete. ``give_up`` closes the connection,
        and is called for the oldest ones while there is no room, perhaps for this one."""
        held = self._claim.held + (size - self._sizes.get(give_up, 0)) * _COPIES
        self._sizes[give_up] = size
        while held > self._max:
            oldest = next(iter(self._sizes))
            held -= self._sizes.pop(oldest) * _COPIES
            self.given_up += 1
            oldest()
        self._claim.set_to(held)

    def complete(self, give_up: GiveUp) -> None:
        """The head is complete, and what is held of it is the request's."""
        size = self._sizes.pop(give_up, 0)
        self._claim.set_to(self._claim.held - size * _COPIES)

    def drop(self, give_up: GiveUp) -> None:
        """The connection has ended; nothing is held of its head any more."""
        if size := self._sizes.pop(give_up, 0):
            self._claim.set_to(self._claim.held - size * _COPIES)
            trimmer.let_go(size * _COPIES)
