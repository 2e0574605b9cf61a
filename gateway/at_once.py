"""Requests that are begun at once and answered by a call, without a task of their own.

Most requests of a busy gateway are produces that find everything known: route, topic, rights. Between their coming and
Kafka's answer nothing is awaited, so a task and its coroutines are made for nothing. `RequestsAtOnce.begin` does what
``Gateway.dispatch`` does, step for step, and leaves to it whatever would have to wait, and whatever is refused before
it is let in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from kafka_gateway.door.admission import Admission
from kafka_gateway.door.counters import Counters, Way
from kafka_gateway.homes import Homes
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.messages import Call, Reply, Request
from kafka_gateway.plans import Plan, Plans
from kafka_gateway.replies import Replies
from kafka_gateway.request_ids import CURRENT, HEADER, new_id
from kafka_gateway.router import AtOnce

BODY_MAX: Final = 64 * 1024
"""Bytes of a body that is read at once; a longer one may need other turns of the event loop."""


class Kernel(Protocol):
    """What such requests need of `gateway.core.Gateway`."""

    running: int

    @property
    def stopping(self) -> bool: ...
    @property
    def requests_max(self) -> float: ...
    @property
    def request_timeout_s(self) -> float: ...
    @property
    def tells_caller(self) -> bool: ...
    @property
    def memory(self) -> MemoryBudget: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def admission(self) -> Admission: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def replies(self) -> Replies: ...
    @property
    def homes(self) -> Homes | None: ...
    def failed(self, request: Request, error: Exception, plan: Plan | None, call: Call | None) -> Reply: ...
    def leave(self, request: Request, way: Way, plan: Plan | None, reply: Reply | None, started: float) -> None: ...


class RequestsAtOnce:
    """The way of one gateway's requests that need no task. Belongs to its event loop."""

    def __init__(self, gateway: Kernel) -> None:
        self._gateway = gateway
        self.enabled = True
        """False where all requests must go through ``Gateway.dispatch``: each has a span of its own."""

    def plan(self, request: Request) -> Plan | None:
        """The plan with which requests like this may be begun, as long as ``plan.epoch`` is that of ``Gateway.plans``;
        None: they are for ``Gateway.dispatch``. Like this means: of the same method, path, headers, area and
        generation, with a body and without a query.
        """
        gateway, headers = self._gateway, request.headers
        if not self.enabled or request.query or gateway.tells_caller or gateway.request_timeout_s or HEADER in headers:
            return None
        key = (
            request.method,
            request.path,
            headers.get("accept"),
            headers.get("content-type"),
            True,
            request.default_generation,
            request.area,
        )
        plan = gateway.plans.known.get(key)
        if plan is None or plan.route.at_once is None or plan.cost or plan.codec is None or plan.codec.schema_type:
            return None
        return plan

    def begin(self, plan: Plan, request: Request, answered: Callable[[Reply], None]) -> bool:
        """Begins the request, whose plan this is, if it can be served so now; else nothing has happened, and it is for
        ``Gateway.dispatch``.

        ``answered`` gets the reply, once, in another turn of the event loop or before ``begin`` returns. The reply has
        bytes for a body, and nothing to settle. Produce requests reach Kafka in the order in which they are begun.
        """
        gateway, session, route = self._gateway, request.session, plan.route
        halves = route.at_once
        if (
            halves is None
            or plan.epoch != gateway.plans.epoch
            or not 0 < len(request.body) <= BODY_MAX
            or session.preparing is not None
            or not session.proven
            or (session.admin is not None and plan.admin is not session.admin)
            or gateway.stopping
            or gateway.running >= gateway.requests_max
            or gateway.memory.used_up
            or not halves.is_ready(plan.params)
        ):
            return False
        way = session.way or gateway.counters.way(session)
        gateway.running += 1
        way.running += 1
        request.id = new_id()
        begun = _Begun(gateway, request, plan, halves, way, time.perf_counter(), answered)
        token = CURRENT.set((session.transport, request.id))
        try:
            if session.guarded:
                gateway.admission.admit(request, plan.demand)
            if plan.prepares:
                taken = route.takes(request.body, plan.codec, plan.params, request.query)
            else:
                taken = route.takes(request.body, plan.codec)
            call = begun.call = Call(request, route, plan.params, plan.media_type, plan.format, taken)
            if gateway.homes is not None:
                call.homes = gateway.homes
            halves.begin(call).add_done_callback(begun)  # which remembers CURRENT, too
        except Exception as error:
            begun.end(gateway.failed(request, error, plan, begun.call))
        finally:
            CURRENT.reset(token)
        return True


class _Begun(msgspec.Struct, eq=False):
    """A request at work; called when the work is done. A struct, because it is made in a quarter of the time."""

    gateway: Kernel
    request: Request
    plan: Plan
    halves: AtOnce
    way: Way
    started: float
    answered: Callable[[Reply], None]
    call: Call | None = None

    def __call__(self, work: asyncio.Future[Any]) -> None:
        gateway, request, plan, call = self.gateway, self.request, self.plan, self.call
        assert call is not None
        try:
            response = self.halves.end(call, work)
            reply = gateway.replies.render(request, response, plan.media_type)
            if request.session.guarded and (bucket := request.session.allowance.requests) is not None:
                reply.headers += request.session.allowance.told(bucket)
        except asyncio.CancelledError:  # the loop ends
            gateway.leave(request, self.way, plan, None, self.started)
            raise
        except Exception as error:
            reply = gateway.failed(request, error, plan, call)
        self.end(reply)

    def end(self, reply: Reply) -> None:
        self.gateway.leave(self.request, self.way, self.plan, reply, self.started)
        self.answered(reply)
