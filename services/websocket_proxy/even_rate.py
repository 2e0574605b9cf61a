"""Evenly spaced permits (websocket-proxy.md §2.7)."""

from __future__ import annotations


class EvenRate:
    """``rate`` permits a second, of which those of a tenth of a second, but at least one, may be saved up."""

    __slots__ = ("_capacity", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = float(rate)
        self._capacity = float(max(1, rate // 10))
        self._tokens = self._capacity
        self._filled_at = now

    def available(self, now: float) -> int:
        """How many permits there are now."""
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return int(self._tokens + 1e-3)  # a timer that rings a hair too early must not cost another round

    def spend(self, count: int) -> None:
        self._tokens -= count

    def wait_s(self) -> float:
        """Seconds until there is a permit."""
        return max(0.0, (1 - self._tokens) / self._rate)
