"""Signs of life for many connections from one timer."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Heartbeating(Protocol):
    """A connection that wants to be called at an interval."""

    def beat(self) -> None: ...


class HeartbeatTimer:
    """A wheel with a place for each second: ``beat`` of every member is called once in its period.

    A timer for each of 10,000 idle connections costs more memory than all that the gateway knows of them. Belongs to
    one event loop; the timer runs only while there are members.
    """

    def __init__(self) -> None:
        self._places: dict[int, set[Heartbeating]] = {}
        self._periods: dict[Heartbeating, tuple[int, int]] = {}
        """Period and place of each member."""
        self._second = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def __len__(self) -> int:
        return len(self._periods)

    def add(self, member: Heartbeating, period_s: int) -> None:
        """Calls ``member.beat`` every ``period_s`` seconds from now, to the second."""
        self.remove(member)
        self._put(member, period_s)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due_at = loop.time() + 1.0
            self._timer = loop.call_at(self._due_at, self._tick)

    def remove(self, member: Heartbeating) -> None:
        known = self._periods.pop(member, None)
        if known is not None:
            place = self._places.get(known[1])
            if place is not None:
                place.discard(member)

    def _put(self, member: Heartbeating, period_s: int) -> None:
        at = self._second + period_s
        self._periods[member] = (period_s, at)
        place = self._places.get(at)
        if place is None:
            place = self._places[at] = set()
        place.add(member)

    def _tick(self) -> None:
        self._second += 1
        for member in self._places.pop(self._second, ()):
            known = self._periods.get(member)
            if known is not None:  # else another one in this round has ended it
                self._put(member, known[0])
                member.beat()
        if not self._periods:
            self._timer = None
            self._places.clear()
            return
        loop = asyncio.get_running_loop()
        self._due_at = max(self._due_at + 1.0, loop.time())
        self._timer = loop.call_at(self._due_at, self._tick)
