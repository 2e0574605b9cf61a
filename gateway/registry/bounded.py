"""A mapping of bounded size that several threads may read."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """When it is full, what was not asked for since its last turn goes first (the clock algorithm).

    One thread puts, any may ask: asking marks an entry and moves nothing, so readers need no lock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[K, list[object]] = {}
        self._turns: deque[K] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry[1] = True
        return entry[0]  # type: ignore[return-value]

    def put(self, key: K, value: V) -> None:
        """Keeps the value, or replaces the one that is there."""
        entry = self._entries.get(key)
        if entry is not None:
            entry[0] = value
            return
        while len(self._entries) >= self._most:
            oldest = self._turns.popleft()
            entry = self._entries[oldest]
            if entry[1]:
                entry[1] = False
                self._turns.append(oldest)
            else:
                del self._entries[oldest]
        self._entries[key] = [value, False]
        self._turns.append(key)
