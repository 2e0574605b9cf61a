"""Requests that another process answers, and that no task of this one waits for (gateway/at_once.py)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kafka_gateway.door.counters import Way
from kafka_gateway.forwarding import Sent
from kafka_gateway.messages import Reply, Request, Unanswered
from kafka_gateway.request_ids import CURRENT
from kafka_gateway.service_error import ServiceError

if TYPE_CHECKING:
    from kafka_gateway.entrusted import Entrusted
    from kafka_gateway.plans import Plan, Plans

log = logging.getLogger("gateway")


class Kernel(Protocol):
    """What such requests need of `gateway.core.Gateway`."""

    running: int
    entrusted: Entrusted

    @property
    def plans(self) -> Plans: ...
    async def dispatch(self, request: Request) -> Reply: ...
    def failed(self, request: Request, error: Exception, plan: Plan | None, *, is_begun: bool) -> Reply: ...
    def leave(self, request: Request, way: Way, plan: Plan | None, reply: Reply | None, started: float) -> None: ...


class ForwardedAtOnce:
    """One of them. It counts as a request at work until it is answered or cancelled.

    With the end of a proven session it is answered with the reason, and with that of one that stays it is cancelled.
    """

    __slots__ = ("_answered", "_gateway", "_goes_on", "_is_held", "_is_over", "_request", "_sent", "_started", "_way")

    _sent: Sent

    def __init__(self, gateway: Kernel, request: Request, way: Way, answered: Callable[[Reply | None], None]) -> None:
        self._gateway, self._request, self._way = gateway, request, way
        self._answered: Callable[[Reply | None], None] | None = answered
        self._started = time.perf_counter()
        self._goes_on: asyncio.Task[Reply] | None = None
        """In ``Gateway.dispatch``, if the process does not answer."""
        self._is_over = False
        session = request.session
        self._is_held = bool(session.proof) or session.on_close is not None
        """Whether the session tells of its end."""

    def sent(self, sent: Sent) -> ForwardedAtOnce:
        """From now on it may be told."""
        self._sent = sent
        gateway = self._gateway
        gateway.entrusted.sent.add(sent)
        gateway.running += 1
        self._way.running += 1
        if self._is_held:
            self._request.session.waiting |= {self}
        return self

    def told(self, outcome: Reply | ServiceError | Unanswered) -> None:
        """What `gateway.forwarding.Forwarder.begin` tells."""
        gateway, request = self._gateway, self._request
        gateway.entrusted.sent.discard(self._sent)
        if type(outcome) is Reply:
            if not isinstance(outcome.body, bytes):
                request.session.add_stream(outcome.body)
            self._end(None, outcome)
            self._hand_out(outcome)
        elif isinstance(outcome, Unanswered):
            self._goes_on = asyncio.get_running_loop().create_task(self._go_on(outcome))
            self._goes_on.add_done_callback(self._has_gone_on)
        elif isinstance(outcome, ServiceError):
            token = CURRENT.set((request.session.transport, request.id))
            plan = gateway.plans.meant(request)
            reply = gateway.failed(request, outcome, plan, is_begun=False)
            CURRENT.reset(token)
            self._end(plan, reply)
            self._hand_out(reply)

    def cancel(self) -> None:
        """The client has left: it is counted so, and ``answered`` gets None, in another turn of the event loop."""
        if self._goes_on is not None:
            self._goes_on.cancel()
        else:
            self._sent.cancel()
            self._gateway.entrusted.sent.discard(self._sent)
        if not self._is_over:
            self._end(None, None)
        asyncio.get_running_loop().call_soon(self._hand_out, None)

    def fail(self, error: ServiceError) -> None:
        """The client's proof has ended: it is told so; by ``dispatch``, where that has the request."""
        if self._goes_on is None:
            self._sent.fail(error)

    def leave(self) -> None:
        """The session is over, and with it all that it has open."""
        self.cancel()

    async def _go_on(self, after: Unanswered) -> Reply:
        # ``dispatch`` counts it in its place, before anything else can run.
        self._is_over = True
        self._way.running -= 1
        self._gateway.running -= 1
        self._request.unanswered = after
        return await self._gateway.dispatch(self._request)

    def _has_gone_on(self, done: asyncio.Task[Reply]) -> None:
        if not done.cancelled():
            self._hand_out(done.result())

    def _end(self, plan: Plan | None, reply: Reply | None) -> None:
        self._is_over = True
        self._gateway.leave(self._request, self._way, plan, reply, self._started)

    def _hand_out(self, reply: Reply | None) -> None:
        answered, self._answered = self._answered, None
        if answered is None:  # the client has left, and the session ends as well
            return
        if self._is_held:
            self._request.session.waiting -= {self}
        try:
            answered(reply)
        except Exception:
            log.exception("the reply to a request of %s could not be handed out", self._request.session.transport)
