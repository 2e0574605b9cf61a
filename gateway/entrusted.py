"""Requests that another process is to answer: none of them is left without an answer when this gateway ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from kafka_gateway.errors import InstanceUnavailable, ServiceError
from kafka_gateway.forwarding import Forwarder, Sent
from kafka_gateway.messages import Reply, Request, Unanswered
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
        self.sent: set[Waiting | Sent] = set()
        """All of them. Who adds one without ``run`` and ``forward`` looks at ``ended`` before, and removes it."""
        self.ended = False
        """Whether nothing may wait any more."""

    async def forward(self, homes: Forwarder, request: Request, worker: int) -> Reply | None:
        """As `Forwarder.forward`, and as ``run``: with the end of a proven session its request ends as well."""
        # The other process does not learn what becomes of the proof.
        proven = request.session if request.session.proof else None
        after, request.unanswered = request.unanswered, None
        if after is None and not self.ended:
            waiting: asyncio.Future[Reply | ServiceError | Unanswered] = asyncio.get_running_loop().create_future()
            sent = homes.begin(request, worker, partial(_tell, waiting))
            if sent is not None:
                self.sent.add(sent)
                try:
                    with proven.telling(sent) if proven is not None else _NOTHING:
                        outcome = await waiting
                except asyncio.CancelledError:
                    sent.cancel()
                    raise
                finally:
                    self.sent.discard(sent)
                if isinstance(outcome, Reply):
                    return outcome
                if isinstance(outcome, ServiceError):
                    raise outcome
                after = outcome
        return await self.run(homes.forward(request, worker, after), proven)

    async def run(self, work: Coroutine[Any, Any, T], session: Session | None = None) -> T:
        """What the work returns. Cancelling it cancels the work.

        Raises what the work raises; InstanceUnavailable when this gateway is about to end. ``session``: with its end
        the work ends as well, and its error is raised.
        """
        if self.ended:
            work.close()
            raise InstanceUnavailable()
        waiting = Waiting()
        self.sent.add(waiting)
        try:
            with session.telling(waiting) if session is not None else _NOTHING:
                return await waiting.run(work)
        finally:
            self.sent.discard(waiting)

    def end_within(self, timeout_s: float) -> None:
        """This gateway stops, and closes its connections after that time, in seconds: all are answered shortly
        before."""
        asyncio.get_running_loop().call_later(timeout_s - min(_ANSWER_S, timeout_s / 2), self._end)

    def _end(self) -> None:
        self.ended = True
        for each in list(self.sent):
            each.fail(InstanceUnavailable())


_NOTHING: Final = contextlib.nullcontext()


def _tell(
    waiting: asyncio.Future[Reply | ServiceError | Unanswered], outcome: Reply | ServiceError | Unanswered
) -> None:
    if not waiting.done():
        waiting.set_result(outcome)
