"""Connections that have not begun: their TLS, or the words of the proxy before it, are still awaited.

They count in ``connections.max``. Whoever is in earnest has begun a moment later; so when there is no more room, those
go that have been silent for the longest, and nobody new is kept out by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Beginnings:
    """Those of all listeners of one gateway. Belongs to the event loop."""

    def __init__(self, most: int, begun: Callable[[], int], refused: Callable[[], None]) -> None:
        """``most`` connections may be there together with those that ``begun`` counts; ``refused`` is told of each that
        is closed for want of room."""
        self._most, self._begun, self._refused = most, begun, refused
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """The oldest first."""

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self, task: asyncio.Task[Any]) -> None:
        """The task, which has not run yet, begins a connection; it is cancelled if that has to end for want of room,
        perhaps at once."""
        self._tasks[task] = None
        task.add_done_callback(self._leave)
        if len(self._tasks) + self._begun() > self._most:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            self._refused()
            oldest.cancel()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
