"""How far a partition is done, when its records end in any order (bridges.md A-28)."""

from __future__ import annotations

import collections


class Progress:
    """The records of one partition that are at work. Offsets come in rising order, gaps are nothing special."""

    __slots__ = ("_done", "_open", "position")

    def __init__(self) -> None:
        self._open: collections.deque[int] = collections.deque()
        """The offsets that are not done, or wait for one before them."""
        self._done: set[int] = set()
        self.position: int | None = None
        """What may be committed: behind the last record before which all are done. None as long as there is none."""

    def begin(self, offset: int) -> None:
        """A record has been handed out."""
        self._open.append(offset)

    def end(self, offset: int) -> None:
        """It is done: taken by the sink, or safe among the dead letters."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            first = self._open.popleft()
            self._done.discard(first)
            self.position = first + 1

    @property
    def done_before(self) -> int | None:
        """Where what is not done begins, also if nothing is done yet; None before the first record."""
        return self.position if self.position is not None or not self._open else self._open[0]

    def __len__(self) -> int:
        return len(self._open)
