"""Whether this process stood still, as by SIGSTOP, for so long that others may have its slots."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("gateway.cluster")

_DOUBT_S: Final = 1.0
"""How long it may take to hear that slots were lost while this process stood still."""
_TICK_S: Final = 0.5


class Standstill:
    """Belongs to the event loop."""

    def __init__(self, limit_s: float, holds: Callable[[], bool], trusted: Callable[[], None]) -> None:
        """``limit_s``: after so long others may have the slots. ``holds``: whether there are any here. ``trusted`` is
        called when nothing was heard of a loss."""
        self.limit_s = limit_s
        self._holds = holds
        self._trusted = trusted
        self.ran_at = time.monotonic()
        """When this was last asked, or looked at by itself."""
        self._ticking: asyncio.TimerHandle | None = None
        self.doubting: asyncio.TimerHandle | None = None
        """While it is not known whether the slots were lost."""

    def is_in_doubt(self) -> bool:
        """Whether others may have the slots, and this process has not been told yet: the requests that came while it
        stood still are there before the word of librdkafka's threads."""
        now = time.monotonic()
        if now - self.ran_at > self.limit_s:
            log.warning("this process stood still for %.1f s: others may serve its slots", now - self.ran_at)
            self.end()
            self.doubting = asyncio.get_running_loop().call_later(_DOUBT_S, self._trust)
        self.ran_at = now
        return self.doubting is not None

    def begin(self) -> None:
        """There were no slots here, and some come."""
        self.ran_at = time.monotonic()

    def watch(self) -> None:
        """Looks by itself for as long as there are slots."""
        if self._ticking is None and self.limit_s < math.inf:
            self._ticking = asyncio.get_running_loop().call_later(min(_TICK_S, self.limit_s / 2), self._tick)

    def end(self) -> None:
        """It is known, or of no matter any more."""
        if self.doubting is not None:
            self.doubting.cancel()
            self.doubting = None

    def _tick(self) -> None:
        self._ticking = None
        self.is_in_doubt()
        if self._holds():
            self.watch()

    def _trust(self) -> None:
        """Nothing was heard of a loss: the group has not noticed."""
        self.doubting = None
        self._trusted()
