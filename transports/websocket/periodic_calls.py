"""Calls that one socket makes every so many seconds, from one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class PeriodicCall:
    """Something to do every ``period_s`` seconds; ``due`` may be set from within."""

    __slots__ = ("call", "due", "period_s")

    def __init__(self, due: float, period_s: float, call: Callable[[], None]) -> None:
        self.due, self.period_s, self.call = due, period_s, call


class PeriodicCalls:
    """Belongs to one socket; ``stop`` when that is over."""

    __slots__ = ("_calls", "_loop", "_over", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: list[PeriodicCall] = []
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def add(self, period_s: float, call: Callable[[], None]) -> PeriodicCall:
        """Calls every ``period_s`` seconds from now."""
        added = PeriodicCall(self._loop.time() + period_s, period_s, call)
        self._calls.append(added)
        self._arm()
        return added

    def close(self) -> None:
        """Stops all calls."""
        self._over = True
        self._cancel()

    def stop(self) -> None:
        """As ``close``, and drops the callbacks: they refer to the socket, and that to them."""
        self.close()
        for each in self._calls:
            each.call = _nothing
        self._calls.clear()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._cancel()
        self._timer = self._loop.call_at(min(each.due for each in self._calls), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for each in self._calls:
            if each.due <= now + 0.001:
                each.due = now + each.period_s
                each.call()
        if not self._over:
            self._arm()


def _nothing() -> None:
    """Stands for the callbacks of a socket that has ended."""
