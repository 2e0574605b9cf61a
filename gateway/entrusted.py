"""Requests that another process is to answer: none of them is left without an answer when this gateway ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.session import Session, Waiting

T = TypeVar("T")

_ANSWER_S: Final = 0.5
"""How long before this gateway ends they are answered: so much time the answers have to reach their clients. Of less
than a second it is half."""


class Entrusted:
    """Those of one gateway. Belongs to its event loop.

    They are forwarded, or held until somebody serves what they are about (cluster.md §5.1). While this gateway serves,
    other bounds hold. When it stops they may wait as long as it stays, not longer.
    """

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._ended = False

    async def run(self, work: Coroutine[Any, Any, T], session: Session | None = None) -> T:
        """What the work returns. Cancelling it cancels the work.

        Raises what the work raises; InstanceUnavailable when this gateway is about to end. ``session``: with its end
        the work ends as well, and its error is raised.
        """
        if self._ended:
            work.close()
            raise InstanceUnavailable()
        waiting = Waiting()
        self._waiting.add(waiting)
        try:
            if session is None:
                return await waiting.run(work)
            with session.telling(waiting):
                return await waiting.run(work)
        finally:
            self._waiting.discard(waiting)

    def end_within(self, timeout_s: float) -> None:
        """This gateway stops, and closes its connections after that time, in seconds: all are answered shortly
        before."""
        asyncio.get_running_loop().call_later(timeout_s - min(_ANSWER_S, timeout_s / 2), self._end)

    def _end(self) -> None:
        self._ended = True
        for waiting in self._waiting:
            waiting.fail(InstanceUnavailable())
