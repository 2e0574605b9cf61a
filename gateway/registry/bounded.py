"""A mapping of bounded size that several threads may read."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


_COUNT_MAX = 7
"""So often an entry is passed over, at most, before it goes."""


class _Entry(Generic[V]):
    __slots__ = ("count", "value")

    def __init__(self, value: V) -> None:
        self.value = value
        self.count = 0


class BoundedMap(Generic[K, V]):
    """At most ``most`` entries. When it is full, the entry that was asked for least goes first (the clock algorithm,
    with counts instead of marks).

    One thread puts, any thread may ask. Asking counts up and moves nothing, so readers need no lock; a count that two
    of them lose does not matter.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[K, _Entry[V]] = {}
        self._turns: deque[K] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value; None if there is none. From any thread."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.count < _COUNT_MAX:
            entry.count += 1
        return entry.value

    def put(self, key: K, value: V) -> None:
        """Keeps the value, or replaces the one that is there."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.value = value
            return
        while len(self._entries) >= self._most:
            oldest = self._turns.popleft()
            entry = self._entries[oldest]
            if entry.count:
                entry.count -= 1
                self._turns.append(oldest)
            else:
                del self._entries[oldest]
        self._entries[key] = _Entry(value)
        self._turns.append(key)
