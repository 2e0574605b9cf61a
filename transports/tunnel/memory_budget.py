"""Memory that all tunnels of a gateway share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

ACCOUNT_FROM = 64 * 1024
"""Bytes; smaller frames are not worth the counting."""


class Budget:
    """Bytes that all tunnels together may hold. Whoever finds none left waits, and nobody is dropped (C-13)."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.held = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def take(self, size: int, granted: Callable[[], None]) -> bool:
        """Takes ``size`` bytes, or returns False and calls ``granted`` when they are taken.

        More than the whole budget is granted when nothing else is held.
        """
        if not self._waiting and self._fits(size):
            self.held += size
            return True
        self._waiting.append((size, granted))
        return False

    @property
    def pressed(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def forget(self, granted: Callable[[], None]) -> None:
        """Who would have been called with that waits no more."""
        self._waiting = deque(each for each in self._waiting if each[1] != granted)
        self.give_back(0)

    def give_back(self, size: int) -> None:
        self.held -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            self.held += size
            granted()

    def _fits(self, size: int) -> bool:
        return self.held + size <= self._total or not self.held
