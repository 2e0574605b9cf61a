"""Long contents of frames: they go in pieces, and those of several requests in turns (cluster.md §9).

A reply of 64 MiB does not hold up the small ones behind it then: these wait for one piece at most. What is on its way
counts in the memory budget at both ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from kafka_gateway.memory_budget import Claim, MemoryBudget
from kafka_gateway.workers.frames import PIECE_MAX, FrameError

_AT_ONCE: Final = 4
"""Pieces in one turn of the event loop."""

T = TypeVar("T")


class _Sending:
    """What is left of a content."""

    __slots__ = ("at", "claim", "data")

    def __init__(self, data: bytes, claim: Claim | None) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.claim = claim
        if claim is not None:
            claim.set_to(len(data))

    def over(self) -> None:
        self.data.release()
        if self.claim is not None:
            self.claim.release()


class Outgoing:
    """Of one connection. Belongs to the event loop."""

    __slots__ = ("_again", "_memory", "_sending", "_write", "is_held")

    def __init__(self, write: Callable[[int, memoryview], None], memory: MemoryBudget | None) -> None:
        """``write`` sends a piece of the content with that number."""
        self._write = write
        self._memory = memory
        self._sending: dict[int, _Sending] = {}
        self._again: asyncio.Handle | None = None
        self.is_held = False
        """Whether the connection takes nothing at present; ``go_on`` when it does again."""

    def add(self, id: int, data: bytes) -> None:
        """Sends it, from now on."""
        self._sending[id] = _Sending(data, self._memory.claim() if self._memory is not None else None)
        if self._again is None:
            self.go_on()

    def drop(self, id: int) -> None:
        """Nobody wants the rest of it."""
        if (sending := self._sending.pop(id, None)) is not None:
            sending.over()

    def clear(self) -> None:
        """The connection is lost."""
        for id in list(self._sending):
            self.drop(id)
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def __len__(self) -> int:
        return len(self._sending)

    def go_on(self) -> None:
        """A piece of each in turn, as many as the connection takes."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for _ in range(_AT_ONCE):
            if not self._sending or self.is_held:
                return
            id = next(iter(self._sending))
            sending = self._sending.pop(id)
            begin, sending.at = sending.at, sending.at + PIECE_MAX
            with sending.data[begin : sending.at] as piece:
                self._write(id, piece)
            if sending.at < len(sending.data):
                self._sending[id] = sending  # behind the others
            else:
                sending.over()
        if self._sending:
            self._again = asyncio.get_running_loop().call_soon(self.go_on)


class _Coming(Generic[T]):
    """What has come of a content."""

    __slots__ = ("claim", "head", "left", "pieces")

    def __init__(self, head: T, size: int, claim: Claim | None) -> None:
        self.head = head
        self.left = size
        self.claim = claim
        self.pieces: list[bytes] = []


class Arriving(Generic[T]):
    """Of one connection. Belongs to the event loop."""

    __slots__ = ("_memory", "open")

    def __init__(self, memory: MemoryBudget | None) -> None:
        self._memory = memory
        self.open: dict[int, _Coming[T]] = {}
        """By number; for others to look at."""

    def begin(self, id: int, head: T, size: int, give_up: Callable[[], None] | None = None) -> None:
        """From now on pieces of this size together come, which belong to the head. ``give_up`` is called if memory is
        short: it is to end with ``drop``."""
        claim = self._memory.claim(give_up) if self._memory is not None else None
        self.open[id] = _Coming(head, size, claim)

    def put(self, id: int, piece: bytes) -> tuple[T, bytes] | None:
        """The head and the whole content, if this was the last piece. What was dropped is passed over. FrameError: more
        came than was told."""
        coming = self.open.get(id)
        if coming is None:
            return None
        coming.pieces.append(piece)
        coming.left -= len(piece)
        if coming.left > 0:
            if coming.claim is not None:
                coming.claim.add(len(piece))
            return None
        if coming.left < 0:
            raise FrameError("more of a content than was told")
        self.drop(id)
        return coming.head, b"".join(coming.pieces)

    def drop(self, id: int) -> None:
        """Nobody wants it any more."""
        coming = self.open.pop(id, None)
        if coming is not None and coming.claim is not None:
            coming.claim.release()

    def clear(self) -> None:
        """The connection is lost."""
        for id in list(self.open):
            self.drop(id)
