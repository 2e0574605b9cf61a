"""Requests that are begun at once and answered by a call, without a task of their own.

Most requests of a busy gateway are produces that find everything known: route, topic, rights. Between their coming and
Kafka's answer nothing is awaited, so a task and its coroutines are made for nothing. `RequestsAtOnce` does what
``Gateway.dispatch`` does, step for step, and leaves to it whatever would have to wait, and whatever is refused before
it is let in.

What has come in one turn of the event loop is worked on together at its end: whatever is the same for requests of one
plan is looked at once for all of them, they are handed to Kafka together, and those that Kafka has answered together
are counted and answered together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from kafka_gateway import forwarded_at_once
from kafka_gateway.dialect import REST
from kafka_gateway.door.admission import Admission
from kafka_gateway.door.counters import Counters, Way
from kafka_gateway.forwarded_at_once import ForwardedAtOnce
from kafka_gateway.forwarding import Forwarder
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.messages import Reply, Request
from kafka_gateway.plans import Plan
from kafka_gateway.request_ids import CURRENT, HEADER, new_id, request_id
from kafka_gateway.router import AtOnce, Route
from kafka_gateway.session import Session

log = logging.getLogger("gateway")

BODY_MAX: Final = 64 * 1024
"""Bytes of a body that is read at once; a longer one may need other turns of the event loop."""


class Kernel(forwarded_at_once.Kernel, Protocol):
    """What such requests need of `gateway.core.Gateway`."""

    homes: Forwarder | None

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
    def leave_together(
        self, way: Way, transport: str, route: Route, counts: Mapping[int, int], started: float
    ) -> None: ...


QueuedRequest = tuple[Request, Callable[[Reply], None]]


class RequestsAtOnce:
    """The way of one gateway's requests that need no task. Belongs to its event loop."""

    def __init__(self, gateway: Kernel) -> None:
        self._gateway = gateway
        self.enabled = True
        """False where all requests must go through ``Gateway.dispatch``: each has a span of its own."""
        self.groups: list[_Group] = []
        """What has been begun in this turn of the event loop, and is not worked on yet."""
        self._latest: _Group | None = None

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

        ``answered`` gets the reply, once, in another turn of the event loop. The reply has bytes for a body, and
        nothing to settle. Produce requests reach Kafka in the order in which they are begun, and before those that
        are dispatched later.
        """
        gateway, session, group = self._gateway, request.session, self._latest
        if (
            group is None
            or group.plan is not plan
            or group.way is not session.way
            or group.transport is not session.transport
        ):
            group = self._open(plan, session)
        if (
            group is None
            or not 0 < len(request.body) <= BODY_MAX
            or session.preparing is not None
            or not session.proven
            or (session.admin is not None and plan.admin is not session.admin)
            or gateway.running >= gateway.requests_max
        ):
            return False
        gateway.running += 1
        group.way.running += 1
        group.begun.append((request, answered))
        return True

    def forward(
        self, request: Request, worker: int, answered: Callable[[Reply | None], None]
    ) -> ForwardedAtOnce | None:
        """Has the process at that home answer the request (`Forwarder.elsewhere`), if it can be asked at once; else
        nothing has happened, and it is for ``begin`` or ``Gateway.dispatch``. The session is open, and its proof
        counts. Its client leaves by ``cancel`` of the answer, or with its session, if that stays
        (`Session.keep_open`).

        ``answered`` gets the reply, once, in another turn of the event loop, and None in place of one that was
        cancelled. It may have a stream for a body, and something to settle.
        """
        gateway, session, homes = self._gateway, request.session, self._gateway.homes
        if (
            homes is None
            or not self.enabled
            or (gateway.stopping and not request.begun)
            or gateway.entrusted.ended
            or gateway.memory.used_up
            or not session.proven
            or gateway.tells_caller
            or gateway.running >= gateway.requests_max
        ):
            return None
        if self.groups:
            self.work()  # what came before reaches Kafka before
        shown = request.headers.get(HEADER)
        request.id = new_id() if shown is None else request_id(shown)
        begun = ForwardedAtOnce(gateway, request, session.way or gateway.counters.way(session), answered)
        sent = homes.begin(request, worker, begun.told)
        return begun.sent(sent) if sent is not None else None

    def work(self) -> None:
        """Works on what has been begun in this turn of the event loop. Raises nothing."""
        groups, self.groups, self._latest = self.groups, [], None
        for group in groups:
            if group.begun:
                group.work()

    def _open(self, plan: Plan, session: Session) -> _Group | None:
        """The group for further requests with this plan; None if it cannot be served without waiting now."""
        gateway, halves = self._gateway, plan.route.at_once
        if (
            halves is None
            or plan.epoch != gateway.plans.epoch
            or gateway.stopping
            or gateway.memory.used_up
            or not halves.is_ready(plan.params)
        ):
            return None
        if not self.groups:
            asyncio.get_running_loop().call_soon(self.work)
        way = session.way or gateway.counters.way(session)
        self._latest = _Group(gateway, plan, halves, way, session.transport, time.perf_counter(), [])
        self.groups.append(self._latest)
        return self._latest


class _Group(msgspec.Struct, eq=False):
    """Requests with one plan, on one way, that came one behind the other."""

    gateway: Kernel
    plan: Plan
    halves: AtOnce
    way: Way
    transport: str
    started: float
    begun: list[QueuedRequest]

    def work(self) -> None:
        """Reads the bodies, and begins what is right with them."""
        gateway, plan = self.gateway, self.plan
        takes, codec, params, prepares = plan.route.takes, plan.codec, plan.params, plan.prepares
        bodies: list[Any] = []
        begun: list[QueuedRequest] = []
        refused: list[tuple[Callable[[Reply], None], Reply]] = []
        transport = self.transport
        token = CURRENT.set((transport, ""))
        try:
            for each in self.begun:
                request = each[0]
                request.id = new_id()
                try:
                    if request.session.guarded:
                        CURRENT.set((transport, request.id))
                        gateway.admission.admit(request, plan.demand)
                    if prepares:
                        bodies.append(takes(request.body, codec, params, request.query))
                    else:
                        bodies.append(takes(request.body, codec))
                    begun.append(each)
                except Exception as error:
                    CURRENT.set((transport, request.id))
                    refused.append((each[1], gateway.failed(request, error, plan, is_begun=False)))
                    refused[-1][1].request_id = request.id
            self.begun = begun
            if begun:
                CURRENT.set((transport, ""))
                try:
                    self.halves.begin(params, begun[0][0].session, bodies, self.told)
                except Exception as error:
                    self.told([(place, error) for place in range(len(begun))])
            if refused:
                self._answer(refused)
        finally:
            CURRENT.reset(token)

    def told(self, results: Sequence[tuple[int, Any]]) -> None:
        """Answers the requests whose results these are."""
        begun, end, media_type = self.begun, self.halves.end, self.plan.media_type
        replies: list[tuple[Callable[[Reply], None], Reply]] = []
        for place, result in results:
            request, answered = begun[place]
            try:
                response = end(result)
                body = (request.dialect or REST).render(response.value)
                reply = Reply(response.status, response.media_type or media_type, body, response.headers)
                if request.session.guarded and (bucket := request.session.allowance.requests) is not None:
                    reply.headers += request.session.allowance.told(bucket)
            except Exception as error:
                token = CURRENT.set((self.transport, request.id))
                reply = self.gateway.failed(request, error, self.plan, is_begun=True)
                CURRENT.reset(token)
            reply.request_id = request.id
            replies.append((answered, reply))
        self._answer(replies)

    def _answer(self, replies: Sequence[tuple[Callable[[Reply], None], Reply]]) -> None:
        """Counts the requests as over, and hands out their replies."""
        route = self.plan.route
        counts = Counter([reply.status for _, reply in replies]) if len(replies) > 1 else {replies[0][1].status: 1}
        self.gateway.leave_together(self.way, self.transport, route, counts, self.started)
        for answered, reply in replies:
            reply.route = route.template
            try:
                answered(reply)
            except Exception:
                log.exception("the reply to a request of %s could not be handed out", self.transport)
