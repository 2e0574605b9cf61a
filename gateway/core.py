"""The gateway itself: sessions, dispatch, delivery. Everything that a transport ever calls.

``dispatch`` always answers with a Reply: refusals, bad input and bugs become error replies here, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from kafka_gateway import media
from kafka_gateway.at_once import RequestsAtOnce
from kafka_gateway.auth import Authenticator
from kafka_gateway.caller import CALLER
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.delivery import Sink as Sink
from kafka_gateway.delivery import deliver
from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.door.admission import Admission, demand_of
from kafka_gateway.door.counters import LEFT, Counters, Way
from kafka_gateway.door.proofs import Proofs
from kafka_gateway.entrusted import Entrusted
from kafka_gateway.errors import (
    GONE,
    CloseReason,
    NoRoute,
    RequestTimeout,
    ServiceError,
    ShuttingDown,
    Unauthorized,
    Unavailable,
)
from kafka_gateway.following import Change, Judge
from kafka_gateway.forwarding import Forwarder
from kafka_gateway.heartbeats import HeartbeatTimer
from kafka_gateway.homes import Elsewhere, Question
from kafka_gateway.limits import Limits, Meter, is_probe
from kafka_gateway.memory_budget import MemoryBudget, OutOfMemory, automatic_max_bytes
from kafka_gateway.messages import Call, Reply, Request, Response, Unanswered
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.plans import Plan, Plans
from kafka_gateway.replies import Replies
from kafka_gateway.request_ids import CURRENT, HEADER, new_id, request_id
from kafka_gateway.rights import Authorizer, Need
from kafka_gateway.router import Offering, Route, Router
from kafka_gateway.schemas import Preparing, in_order
from kafka_gateway.session import Session, Waiting
from kafka_gateway.stream import Feed, Outlet, Stream

log = logging.getLogger("gateway")


def _too_busy() -> Unavailable:
    return Unavailable("The gateway is at work on requests.max requests; send this one again later.")


class Gateway:
    """Belongs to one event loop; nothing in it is global, so a process may hold several."""

    def __init__(
        self,
        config: Config,
        router: Router,
        codecs: Mapping[str, Codec],
        authenticator: Authenticator,
        authorizers: Sequence[Authorizer] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self.config = config
        self.router = router
        self.codecs = codecs
        self.proofs = Proofs(config, authenticator)
        """The sessions, and the proofs that opened them."""
        self.admission = Admission(config, authorizers, self.proofs.sessions, self.close_session)
        """What they may do, and how much of it."""
        self.proofs.welcome, self.proofs.refused = self.admission.welcome, self.admission.audit.refused_proof
        self.reloads: list[Callable[[], None]] = []
        """What else has read something, and reads it again when ``reload`` is called: none of them raises anything."""
        self.counters = Counters()
        self.metrics = metrics or Metrics()
        """What is told to whoever scrapes this gateway."""
        self.access = AccessLog(config.flag("access.log.enable"))
        self.memory = MemoryBudget(config.integer("memory.max.bytes") or automatic_max_bytes())
        """What clients may make the gateway hold, all of them together."""
        self.base_url = ""
        """What absolute URLs in replies begin with for requests of transports that do not say: the first listener."""
        self.transports: Sequence[Offering] = ()
        """All that are offered."""
        self.state: dict[object, Any] = {}
        """For what the transports of one gateway share."""
        self.following: list[Judge] = [self._follow]
        """What follows the configuration when it is read again (gateway/assembly/reload.py)."""
        self.heartbeats = HeartbeatTimer()
        """The one timer for the signs of life on open streams."""
        self.running = 0
        """Requests at work."""
        self._arriving = 0
        """Requests whose body is on its way."""
        self.stopping = False
        self.entrusted = Entrusted()
        self.homes: Forwarder | None = None
        """Who else serves with this process; None where nobody does."""
        self.is_worker = False
        """Whether this is one of several processes of this machine, which share the addresses that they listen on."""
        self.questions: dict[str, Question] = {}
        """What those may ask beside requests, by name."""
        self.tells_caller = False
        """Whether clients may have Kafka credentials of their own: then `CALLER` says whose request runs."""
        self._limits = Limits(config)
        self.replies = Replies(config, {route.generation for route in router.routes})
        self.error_body = self.replies.error_body
        self.plans = Plans(config, router, codecs, self._limits, self.replies)
        self.requests_max = config.integer("requests.max") or math.inf
        self.at_once = RequestsAtOnce(self)
        """The way of requests that need no task."""
        self.request_timeout_s = config.seconds("request.timeout.ms")
        self._debug = config.flag("debug")
        self._idle = asyncio.Event()
        """Set when a request is over, for ``drain``."""

    # --- sessions ---------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> set[Session]:
        """All that are open."""
        return self.proofs.sessions

    async def open_session(
        self, transport: str, headers: Mapping[str, str], *, listener: str = "", peer: str = ""
    ) -> Session:
        """A session for a client with these headers (looked up by lower-case name). ServiceError if it gets none:
        Unauthorized, Forbidden, TooManyRequests.

        It ends when the proof in the headers does: ``Session.on_close`` is called then.
        """
        return await self.proofs.open(transport, headers, listener, peer)

    def reload(self) -> None:
        """Has read again what was read from files: rules, users, certificates, and what forgets with them."""
        self.admission.reload()
        self.proofs.reload()
        for reload in self.reloads:
            reload()

    def _follow(self, config: Config) -> Change:
        """What of the kernel follows a new configuration: lists, rates, quotas, what errors say, the access log."""

        def apply() -> None:
            self.config = config
            self._limits.follow(config)
            self.replies.follow(config)
            self.admission.follow(config)
            self.access.refresh(config.flag("access.log.enable"))
            self.plans.forget()

        return Change(apply)

    async def close_session(self, session: Session, reason: CloseReason = GONE) -> None:
        """Ends the session and all that it owns; safe to call twice."""
        await self.proofs.close(session, reason)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def dispatch(self, request: Request) -> Reply:
        """The reply to a request. Never raises, but for cancellation, which ends the request's waiting.

        Between the decoding of a produce request and its handing to Kafka nothing is awaited, so requests that are
        dispatched one after the other reach Kafka in that order.
        """
        if self.at_once.groups:
            self.at_once.work()  # what came before reaches Kafka before
        self.running += 1
        session, headers = request.session, request.headers
        way = session.way or self.counters.way(session)
        way.running += 1
        if not request.id:
            shown = headers.get(HEADER)
            request.id = new_id() if shown is None else request_id(shown)
        CURRENT.set((session.transport, request.id))
        started = time.perf_counter()
        plan: Plan | None = None
        call: Call | None = None
        reply: Reply | None = None
        lease = session.kafka
        if self.tells_caller:
            CALLER.set(lease)
            if lease is not None:
                lease.begin()
        try:
            if not session.proven and not self.proofs.is_open(request.path):
                raise Unauthorized()  # its session is for an open path only, and it asks for something else
            if self.stopping and not request.begun:
                raise ShuttingDown()
            if self.running > self.requests_max:
                raise _too_busy()
            body = request.body
            if not request.base_url:
                request.base_url = self.base_url
            homes = self.homes
            if homes is not None:
                if session.forwarded and homes.is_fixed:
                    homes = None  # the same table says that it is served here
                elif (worker := homes.elsewhere(request.method, request.path, request.area)) is not None:
                    try:
                        reply = await self._forward(homes, request, worker)
                    except ServiceError:
                        plan = self.plans.meant(request)
                        raise
                    if reply is not None:
                        return reply
            key = (
                request.method,
                request.path,
                headers.get("accept"),
                headers.get("content-type"),
                body is not None if type(body) is not bytes else body != b"",
                request.default_generation,
                request.area,
            )
            plan = self.plans.known.get(key)
            if plan is None:
                made = self.plans.make(request, key)
                if isinstance(made, Reply):
                    reply = made
                    return reply
                plan = made
            if self.memory.used_up and not is_probe(plan.route):
                raise OutOfMemory
            route, admin, guarded = plan.route, session.admin, session.guarded
            if admin is not None and plan.admin is not admin:
                raise NoRoute()  # it is offered by other listeners
            if guarded:
                self.admission.admit(request, plan.demand)
                body = request.body
            if plan.cost:
                await self._limits.take(plan.cost)
            takes = route.takes
            if takes is not None and type(body) is bytes:
                if plan.prepares:
                    body = takes(body, plan.codec, plan.params, request.query)
                    # Awaits only where a schema must be asked for, and behind requests of this session that do.
                    if type(body) is Preparing or session.preparing is not None:
                        body = await in_order(session, body)
                else:
                    body = takes(body, plan.codec)
            call = Call(request, route, plan.params, plan.media_type, plan.format, body)
            if homes is not None:
                call.homes = homes
            work: Awaitable[Response] = route.handler(call)
            if plan.waits and (guarded or session.proof):
                work = self._wait(call, work, plan.demand.needs)
            if self.request_timeout_s:
                async with asyncio.timeout(self.request_timeout_s):
                    response = await work
            else:
                response = await work
            if homes is None:
                reply = self.reply_to(request, plan, call, response)
                return reply
            if route.home and type(response.value) is not bytes:
                homes.follow(request, response)
            reply = self.reply_to(request, plan, call, response)
            if plan.join is not None and not session.forwarded:
                reply = await homes.join(request, reply, plan.join)
            return reply
        except Elsewhere as elsewhere:
            reply = await self._forward_late(request, elsewhere, plan)
            return reply
        except Exception as error:
            reply = self.failed(request, error, plan, is_begun=call is not None)
            return reply
        finally:
            self.leave(request, way, plan, reply, started)
            if lease is not None:
                lease.end()

    def reply_to(self, request: Request, plan: Plan, call: Call, response: Response) -> Reply:
        """The reply with what a handler has answered."""
        session = request.session
        if not session.guarded:
            return self.replies.render(request, response, plan.media_type)
        self.admission.answered(call, response, plan.demand)
        reply = self.replies.render(request, response, plan.media_type)
        if session.allowance.requests is not None:
            reply.headers += session.allowance.told(session.allowance.requests)
        return reply

    def failed(self, request: Request, error: Exception, plan: Plan | None, *, is_begun: bool) -> Reply:
        """The reply to a request that an error has ended; a bug is one, too. ``is_begun``: its handler was called."""
        if isinstance(error, ServiceError):
            self.admission.refused(request, error)
            if not is_begun:
                self.counters.refuse(error)
        elif isinstance(error, TimeoutError):
            error = RequestTimeout("request.timeout.ms has passed.")
        else:
            log.error("%s %s failed", request.method, plan.route.template if plan else "(no route)", exc_info=error)
            text = f"Internal Server Error: {type(error).__name__}: {error}" if self._debug else None
            error = ServiceError(text)
        return self.replies.render_error(request, error, plan.media_type if plan is not None else None)

    def leave(self, request: Request, way: Way, plan: Plan | None, reply: Reply | None, started: float) -> None:
        """Counts a request that is over; ``reply`` is None if its client left before."""
        seconds = time.perf_counter() - started
        if plan is not None and reply is not None:
            reply.request_id, reply.route = request.id, plan.route.template
            key = (request.session.transport, plan.route.template, plan.route.method, reply.status)
        elif reply is not None:
            reply.request_id = request.id
            # Of another worker's reply that alone knows the route.
            key = (request.session.transport, reply.route, request.method if reply.route else "", reply.status)
        else:
            route = plan.route if plan is not None else None
            template, method = (route.template, route.method) if route is not None else ("", "")
            key = (request.session.transport, template, method, LEFT)
        self.counters.add(key, seconds, request.trace_id)
        way.running -= 1
        self.running -= 1
        if self.stopping:
            self._idle.set()

    def leave_together(self, way: Way, transport: str, route: Route, counts: Mapping[int, int], started: float) -> None:
        """As ``leave``, for requests to one route that are over at the same moment: how many, by status."""
        seconds = time.perf_counter() - started
        for status, count in counts.items():
            self.counters.add_equal((transport, route.template, route.method, status), seconds, count)
            way.running -= count
            self.running -= count
        if self.stopping:
            self._idle.set()

    async def _forward(self, homes: Forwarder, request: Request, worker: int) -> Reply | None:
        """The reply of another process; None: this one serves it by now. That judges rights, limits and media types:
        the route may depend on the instance (kafka-rest-http.md §3.1), which only its process knows."""
        if self.memory.used_up:
            raise OutOfMemory
        reply = await self.entrusted.forward(homes, request, worker)
        if reply is not None and not isinstance(reply.body, bytes):
            request.session.add_stream(reply.body)
        return reply

    async def _forward_late(self, request: Request, elsewhere: Elsewhere, plan: Plan | None) -> Reply:
        """As ``_forward``, when the body has shown which instance is meant."""
        try:
            assert self.homes is not None
            if elsewhere.sent:
                request.unanswered = Unanswered("", time.monotonic())
            return await self._forward(self.homes, request, elsewhere.worker) or await self.dispatch(request)
        except ServiceError as error:
            return self.replies.render_error(request, error, plan.media_type if plan is not None else None)

    async def _wait(self, call: Call, work: Awaitable[Response], needs: Sequence[Need]) -> Response:
        """The response to a request that waits for records: it ends with its client's proof, and with its rights."""
        session, waiting = call.session, Waiting()
        self.admission.hold_call(waiting, call, needs)
        try:
            with session.telling(waiting):
                return await waiting.run(work)
        finally:
            self.admission.authorization.release(waiting)

    async def admit(self, session: Session, resource: Route) -> None:
        """Lets a client have what a transport serves by itself, without ``dispatch``: a page, a tunnel.

        ``resource`` is one of `Transport.resources`. Raises what ``dispatch`` would answer: Unauthorized, NoRoute or
        MethodNotAllowed where it is switched off, NotAuthorized, TooManyRequests, Unavailable.
        """
        try:
            if not session.proven and not self.proofs.is_open(resource.template):
                raise Unauthorized()
            if self.stopping:
                raise ShuttingDown()
            if self.is_full:
                raise _too_busy()
            self._limits.check_offered(resource.name, resource)
            if self.tells_caller:
                CALLER.set(session.kafka)
            if session.guarded:
                request = Request(session, resource.method, resource.template)
                self.admission.admit(request, demand_of(resource, {}, media.JSON))
            if cost := self._limits.cost(resource.name, resource):
                await self._limits.take(cost)
        except ServiceError as error:
            self.admission.refused(Request(session, resource.method, resource.template), error)
            self.counters.refuse(error)
            raise

    @property
    def is_full(self) -> bool:
        """Whether requests.max are at work: a caller that can wait should begin no more."""
        return self.requests_max <= self.running

    def begin_work(self) -> None:
        """Counts as a request at work what a transport does by itself. ``end_work`` is called when it is done."""
        self.running += 1

    def end_work(self) -> None:
        """Ends what ``begin_work`` began."""
        self.running -= 1
        if self.stopping:
            self._idle.set()

    def offered(self) -> list[Route]:
        """The routes, and the resources of transports, that the lists of allowed and blocked ones leave."""
        resources = [resource for each in self.transports for resource in each.resources]
        return [route for route in (*self.router.routes, *resources) if self._is_offered(route)]

    def _is_offered(self, route: Route) -> bool:
        names = route.extras.get("names", {}).values() or (route.name,)
        for name in names:
            with contextlib.suppress(ServiceError):
                self._limits.check_offered(name, route)
                return True
        return False

    def meter(self, resource: Route) -> Meter | None:
        """The rate limit for the messages of an open socket; ``resource`` is one of `Transport.resources`."""
        return self._limits.meter(resource)

    def check_not_blocked(self, resource: Route) -> None:
        """For the messages of a socket, when it is opened. NoRoute if ``api.endpoints.blocklist`` names them.

        The allow list is asked for the socket itself.
        """
        self._limits.check_not_blocked(resource)

    def refusal(self, error: ServiceError) -> Reply:
        """The reply to what cannot be read as a request."""
        id_ = new_id()
        return Reply(error.status, media.JSON, self.error_body(error, id_), error.headers, request_id=id_)

    @contextlib.contextmanager
    def arriving(self) -> Iterator[None]:
        """Round the reading of a body: a gateway that stops waits for the request, as for one at work."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._idle.set()

    # --- streams ----------------------------------------------------------------------------------------------------

    async def deliver(
        self,
        stream: Stream,
        sink: Sink,
        session: Session,
        write_timeout_s: float | None = 60.0,
        *,
        heartbeat_s: int = 0,
    ) -> CloseReason:
        """Moves a stream into a sink until it ends, and says why it did.

        A payload is taken only when the one before has been accepted, so a slow client holds back its own stream and
        nothing else. One whose sink does not return for ``write_timeout_s`` is given up (SLOW: its connection is to be
        closed); None for sinks that write through a `ClientWriter`, which cuts off whoever accepts nothing. One that
        leaves is the normal end (GONE). A ServiceError that ends the stream is raised: the transport writes it as its
        last frame. Every ``heartbeat_s`` seconds, if it is not 0, ``beat`` of the sink is called, which shows the
        client a sign of life. What waits in the stream counts in the memory budget.
        """
        with session.telling():
            return await deliver(self.memory, self.heartbeats, stream, sink, session, write_timeout_s, heartbeat_s)

    async def feed(self, feed: Feed, outlet: Outlet, session: Session) -> None:
        """As ``deliver``, for a stream that writes by itself: no task is woken for what it sends.

        Returns when the stream has ended; the outlet looks after the time that its client may take.
        """
        try:
            await feed.run(outlet)
        finally:
            session.streams.discard(feed)
            feed.end()

    # --- the end ----------------------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float, before: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Takes no new requests and waits for those at work; False if some were still running after ``timeout_s``.

        Shortly before that time those that wait for another process are answered with InstanceUnavailable. ``before``
        runs when new requests are refused already, e.g. to wake the reads that wait for records.
        """
        self.stopping = True
        self.entrusted.end_within(timeout_s)
        if before is not None:
            await before()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.running or self._arriving:
                    self._idle.clear()
                    await self._idle.wait()
        return not self.running
