"""Times within which something must come from a client.

They judge what has been read. A process that stood still, as by SIGSTOP or on a machine that was suspended, has not
read yet what came meanwhile, and the program's event loop runs its timers before it reads. So nothing is judged before
the loop has read once more: a request that lies in the system's buffer is in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


def once_read(loop: asyncio.AbstractEventLoop, judge: Callable[[], object]) -> None:
    """Calls ``judge`` when the loop has read what has come by now. To be called by a timer of it, or by `call_soon`."""
    loop.call_soon(loop.call_soon, judge)  # between the two the loop reads


class ClientTime:
    """``async with``, as `asyncio.timeout`: what waits for a client in it gets a TimeoutError after ``seconds``, and
    not for what has come by then. ``seconds``: not more than 0 for none at all, None for ever. Belongs to the event
    loop."""

    __slots__ = ("_loop", "_over", "_scope", "_seconds", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> ClientTime:
        loop = self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()
        if self._seconds is None:
            return self
        if self._seconds > 0:
            self._timer = loop.call_later(self._seconds, once_read, loop, self.end)
        else:
            self.end()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)  # it raises what is to be raised

    def end(self) -> None:
        """The time is over now, whatever may have come."""
        if not self._over and not self._scope.expired():
            self._scope.reschedule(self._loop.time())
