"""What the consumers of a process do not do all at once, where there are hundreds: each has a thread.

A thread that wants the interpreter while another one has it wakes up every 5 ms to say so (`sys.getswitchinterval`).
Where hundreds want it, these wakings alone fill the processors: of a thousand instances that nobody read there were
75,000 a second, and their hand-over to another node took 16 s and more. So with many consumers their threads
serve their groups less often, the interpreter switches threads less often, and consumers that all have something to
do take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

_IDLE_EACH_S, _IDLE_MOST_S = 0.001, 2.0
"""All together serve their groups a thousand times a second, but each every two seconds."""
_SWITCH_S: Final = sys.getswitchinterval()
_SWITCH_EACH_S, _SWITCH_MOST_S = 0.00002, 0.04
"""No step over 50 ms: the event loop waits so long for a thread that computes."""
AT_ONCE: Final = 16
_TURN_S: Final = 0.1
"""How long a turn lasts at most. What takes longer waits for Kafka, and not for the interpreter."""


class Crowd:
    """Belongs to the event loop, but for ``idle_s``, which threads read."""

    def __init__(self) -> None:
        self.idle_s = 0.0
        """How long the thread of a consumer should wait, at least, when nothing is asked of it."""
        self._gate = asyncio.Semaphore(AT_ONCE)

    def resize(self, consumers: int) -> None:
        """Sets how many consumers there are now."""
        self.idle_s = min(_IDLE_MOST_S, consumers * _IDLE_EACH_S)
        switch_s = min(_SWITCH_MOST_S, max(_SWITCH_S, consumers * _SWITCH_EACH_S))
        if abs(switch_s - sys.getswitchinterval()) > 1e-5:
            sys.setswitchinterval(switch_s)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Begins when it is the caller's turn, and others come behind it; at the latest when it has lasted 0.1 s."""
        await self._gate.acquire()
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._gate.release()

        timer = asyncio.get_running_loop().call_later(_TURN_S, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
