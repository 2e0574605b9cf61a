"""The steps of every request over HTTP, whichever transport it is for.

In this order: the head and its Host, preflights and pages of other origins, the proof of the client; then the transport
decodes it and asks ``Gateway.dispatch``, where everything else is decided (route, rights, limits, media types). What
any of them refuses becomes a reply here, in the transport's words, and every reply gets its line in the access log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol, cast, runtime_checkable

from aiohttp import web

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import Dialect
from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.door.body import BodyReader
from kafka_gateway.door.bounded_content import BoundedContent
from kafka_gateway.door.cors import Cors, is_of_a_page, is_preflight
from kafka_gateway.door.counters import LEFT
from kafka_gateway.door.head import check_head, must_close
from kafka_gateway.door.host_names import HostNames
from kafka_gateway.door.known_heads import KnownHead
from kafka_gateway.door.offer import Offer
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import BadRequest, ServiceError
from kafka_gateway.forwarded_at_once import ForwardedAtOnce
from kafka_gateway.messages import Facts, Reply
from kafka_gateway.route_traits import answers_once, waits, wants_stream
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport, refusal

log = logging.getLogger("gateway.host")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""


class ClientConnection(Protocol):
    """A client's connection, as far as these steps look at it: see `gateway.door.connection.HttpConnection`."""

    session: Session | None
    handed_over: Session | None
    proven_by: KnownHead | None
    proven: object

    @property
    def offer(self) -> Offer: ...
    @property
    def listener(self) -> str: ...
    @property
    def admin(self) -> bool: ...
    @property
    def peer(self) -> str: ...
    @property
    def certificate(self) -> str: ...
    @property
    def half_closed(self) -> bool: ...
    def force_close(self) -> None: ...
    def close_behind_the_last(self, request: HttpRequest) -> None: ...
    def request_of(self, known: KnownHead) -> HttpRequest: ...
    def end_known(self, stays: bool) -> None: ...
    def end_known_after(self, work: Callable[[], Awaitable[bool]], known: KnownHead) -> asyncio.Task[None]: ...


class Door:
    """One for all listeners of a gateway.

    Args:
        forget: ends the session of a client that is gone, in the background.
    """

    def __init__(self, config: Config, gateway: Gateway, forget: Callable[[Session], None]) -> None:
        self._gateway = gateway
        self._proofs = gateway.proofs
        self._cors = Cors(config)
        self._host_names = HostNames(config)
        self._answers_preflights = config.flag("access.control.skip.options")
        self._access = gateway.access
        self._bodies = BodyReader(config)
        self._forget = forget

    def follow(self, config: Config) -> None:
        """Takes what this configuration says of pages of other origins, and of names of hosts."""
        self._cors = Cors(config)
        self._host_names = HostNames(config)
        self._answers_preflights = config.flag("access.control.skip.options")

    async def serve(self, asked: web.BaseRequest) -> web.StreamResponse:
        """The response, which may have been written already. Raises nothing that a client should be told about."""
        request = cast(HttpRequest, asked)
        connection = cast(ClientConnection, request.protocol)
        started = time.perf_counter()
        if connection.half_closed:
            if not request.arriving.is_eof():
                connection.force_close()
                raise ConnectionResetError("the client left")
            connection.close_behind_the_last(request)
        transport: Transport | None = None
        session: Session | None = None
        response: web.StreamResponse
        if self._cors.enabled:
            request.cors = self._cors.headers(request.headers)
        try:
            self._check_head(request, connection)
            transport = _transport_of(request, connection)
            preflight = False
            if is_of_a_page(request.headers) and not (preflight := is_preflight(request)):
                self._check_page(request, transport)
            if preflight and self._answers_preflights:
                response = self._answer_preflight(request)
            else:
                session = connection.session
                if (
                    session is None
                    or (
                        self._proofs.fields
                        and self._proofs.shown(request.headers, connection.certificate) != session.proof
                    )
                    or (request.told.peer and request.told.peer != session.peer)
                    or session.principal.until < time.monotonic()
                    or session.closed is not None
                ):
                    session = await self._session(request, connection, transport)
                if preflight:
                    response = self._answer_preflight(request)
                else:
                    session.transport = transport.name
                    request.line = (self._access, session, started)
                    response = await transport.handle(request, session, self._gateway)
        except ServiceError as error:
            self._gateway.counters.refuse(error)
            response = self._refuse(request, transport, error)
        except (ConnectionError, asyncio.CancelledError):
            self._log(request, connection, session, started, LEFT, 0)
            raise
        finally:
            if session is not None and not session.proven and connection.handed_over is not session:
                self._forget(session)
        self._log(request, connection, session, started, response.status, _size_of(response))
        return response

    def _log(
        self,
        request: HttpRequest,
        connection: ClientConnection,
        session: Session | None,
        started: float,
        status: int,
        size: int,
    ) -> None:
        if not self._access.enabled or request.goes_on_later:
            return
        method, target, facts = request.method, request.raw_path, request.facts
        if session is not None:
            self._access.finish(session, method, target, started, status, size, facts)
        else:
            seconds = time.perf_counter() - started
            peer = request.told.peer or connection.peer
            self._access.add(peer, "-", method, target, status, size, seconds, facts=facts)

    def know(self, request: HttpRequest, length: int, connection: ClientConnection) -> KnownHead | None:
        """What follows from the head of this request, if it is one that ``serve_known`` can serve. Asks nobody."""
        if self._cors.enabled:
            request.cors = self._cors.headers(request.headers)
        try:
            self._check_head(request, connection)
            transport = _transport_of(request, connection)
            if not isinstance(transport, HeadKnowing):
                return None
            if is_of_a_page(request.headers):
                self._check_page(request, transport)
        except ServiceError:
            return None
        path, accept = request.raw_path.partition("?")[0], request.headers.get("Accept")
        if length > self._bodies.whole_max or not answers_once(self._gateway.router, request.method, path, accept):
            return None
        return transport.know(request, length, self._proofs.shown(request.headers))

    async def serve_known(self, connection: ClientConnection, known: KnownHead, body: bytes) -> bool:
        """As ``serve``, for a head that is known. Whether the connection stays open."""
        started = time.perf_counter()
        facts: Facts | None = None
        session, transport = connection.session, known.transport
        if session is not None:
            if connection.proven_by is not known or connection.proven is not session.proof:
                proof = known.proof
                if connection.certificate:
                    proof = self._proofs.shown(known.headers, connection.certificate)
                if proof == session.proof:  # the same holds for the next request with this head, if nothing changes
                    connection.proven_by, connection.proven = known, session.proof
                else:
                    session = None
            if session is not None and (session.closed is not None or session.principal.until < time.monotonic()):
                session = None
        try:
            if session is None:
                session = await self._session(connection.request_of(known), connection, transport)
            session.transport = transport.name
            status, stays, size, facts = await transport.answer(connection, known, body, session, self._gateway)
        except ServiceError as error:
            self._gateway.counters.refuse(error)
            request = connection.request_of(known)
            response = self._refuse(request, transport, error)
            await response.prepare(request)
            await response.write_eof()
            status, stays, size = response.status, bool(response.keep_alive), _size_of(response)
            facts = request.facts
        except (ConnectionError, asyncio.CancelledError):
            self._log_known(known, connection, session, started, LEFT, 0, facts)
            raise
        finally:
            if session is not None and not session.proven and connection.handed_over is not session:
                self._forget(session)
        self._log_known(known, connection, session, started, status, size, facts)
        return bool(stays)

    def _log_known(
        self,
        known: KnownHead,
        connection: ClientConnection,
        session: Session | None,
        started: float,
        status: int,
        size: int,
        facts: Facts | None,
    ) -> None:
        if not self._access.enabled:
            return
        if session is not None:
            self._access.finish(session, known.method, known.target, started, status, size, facts)
        else:
            seconds = time.perf_counter() - started
            peer = connection.peer
            self._access.add(peer, "-", known.method, known.target, status, size, seconds, facts=facts)

    def begin_known(self, connection: ClientConnection, known: KnownHead, body: bytes) -> bool | ForwardedAtOnce:
        """As ``serve_known``, for a request that needs no task (gateway/at_once.py); False: nothing has happened. One
        that another process answers is to be cancelled if its client leaves.

        ``connection.end_known`` is called when it is over.
        """
        session = connection.session
        if (
            session is None
            or connection.proven_by is not known
            or connection.proven is not session.proof
            or session.closed is not None
            or session.principal.until < time.monotonic()
        ):
            return False
        session.transport = known.transport.name
        begun = _BegunKnown(connection, known, session, len(body), self._access)
        return cast("bool | ForwardedAtOnce", known.transport.begin(known, body, session, self._gateway, begun))

    def waits(self, request: HttpRequest) -> bool:
        """Whether the reply may be long in coming, because it waits for records."""
        return waits(self._gateway.router, request.method, request.raw_path.partition("?")[0])

    def reads(self, request: HttpRequest) -> bool:
        """Whether there may be no reply before there is a record; a stream begins its reply without one."""
        path = request.raw_path.partition("?")[0]
        return self.waits(request) and not wants_stream(self._gateway.router, path, request.headers.get("Accept"))

    def lasts(self, request: HttpRequest, connection: ClientConnection) -> bool:
        """Whether the reply to a request at work may never end: a client that leaves meanwhile must be missed."""
        if request.lasts is not None:
            return request.lasts
        try:
            return not _transport_of(request, connection).plain
        except ServiceError:
            return False

    async def read_body(self, request: HttpRequest) -> bytes:
        """`HttpRequest.read`."""
        return await self._bodies.read(request, self._gateway)

    def error_body(self, request: HttpRequest, error: ServiceError, dialect: Dialect) -> bytes:
        """`HttpRequest.error_body`."""
        return self._gateway.error_body(error, request.id, dialect)

    def note(self, request: HttpRequest, peer: str, response: web.Response, is_readable: bool) -> None:
        """The line of the access log, with the id of the reply, for a request that ``serve`` did not answer."""
        if self._access.enabled:
            method, target = (request.method, request.raw_path) if is_readable else ("-", "-")
            facts = (request.id, "", 0, 0)
            self._access.add(peer, "-", method, target, response.status, _size_of(response), 0.0, facts=facts)

    def bound(self, request: HttpRequest) -> BoundedContent:
        """`HttpRequest.content`."""
        return self._bodies.bound(request.arriving, self._gateway.memory)

    # --- the steps --------------------------------------------------------------------------------------------------

    def _check_head(self, request: HttpRequest, connection: ClientConnection) -> None:
        check_head(request, self._proofs.single)
        if connection.offer.checks_names:
            self._host_names.check(request.headers.get("Host", ""), request.sent_host)

    def _check_page(self, request: HttpRequest, transport: Transport) -> None:
        """Refuses to pages of foreign origins what changes something, what reads records, and what lasts."""
        if transport.plain and request.method in _SAFE and not request.body_exists and not self.waits(request):
            # The page cannot read the reply: its browser keeps it from it. A read moves a position all the same, and a
            # stream goes on.
            return
        self._cors.check(request)

    def _answer_preflight(self, request: HttpRequest) -> web.Response:
        """What a page may do. Nothing is asked of any route, so the answer is the same for all paths."""
        response = web.Response(status=200)
        response.headers.extend(self._cors.preflight(request.headers))
        return response

    async def _session(self, request: HttpRequest, connection: ClientConnection, transport: Transport) -> Session:
        """The session in which the request is served. ServiceError for a client that proves nothing right."""
        proofs, headers, certificate = self._proofs, request.headers, connection.certificate
        session = connection.session
        listener, peer = connection.listener, request.told.peer or connection.peer
        path = request.raw_path.partition("?")[0]
        if transport.plain and proofs.is_open(path):
            # The connection must not keep it: the next request may need a proof.
            opened = proofs.open_unproven(transport.name, listener, peer)
            opened.admin = connection.admin or opened.admin
            return opened
        if (
            session is not None
            and session.closed is None
            and session.peer == peer
            and proofs.shown(headers, certificate) == session.proof
        ):
            await proofs.look_again(session, request.method, path)
            return session
        told = f"{request.method} {path}"
        opened = await proofs.open(transport.name, headers, listener, peer, certificate, told)
        opened.admin = connection.admin or opened.admin
        old, connection.session = connection.session, opened
        if old is not None:
            self._forget(old)
        return opened

    def _refuse(self, request: HttpRequest, transport: Transport | None, error: ServiceError) -> web.StreamResponse:
        """The error in the transport's words."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("the reply has begun, and cannot be finished") from error
        response = transport.refuse(request, error) if transport is not None else refusal(error, request)
        if must_close(request, error):
            response.force_close()
        return response


class _BegunKnown:
    """A request with a known head, at work without a task; called with its reply."""

    __slots__ = ("access", "connection", "known", "runs", "session", "size", "started")

    def __init__(
        self, connection: ClientConnection, known: KnownHead, session: Session, size: int, access: AccessLog
    ) -> None:
        self.connection, self.known, self.session, self.size, self.access = connection, known, session, size, access
        self.started = time.perf_counter() if access.enabled else 0.0
        self.runs = False
        """Whether a task has begun to write the reply."""

    def __call__(self, reply: Reply | None) -> None:
        connection, known, stays = self.connection, self.known, False
        if reply is None:
            if self.access.enabled:
                self.access.finish(self.session, known.method, known.target, self.started, LEFT, 0)
            connection.end_known(stays)
            return
        if not isinstance(reply.body, bytes):
            self._go_on(reply, partial(self._finished, reply))
            return
        later = None
        try:
            stays, size, later = known.transport.write_begun(connection, known, reply)
            if later is None and self.access.enabled:
                self._log(reply, reply.status, size)
        except ConnectionError:
            log.debug("the client left")
            if self.access.enabled:
                self._log(reply, LEFT, 0)
        finally:
            if later is None:
                connection.end_known(stays)
            else:
                self._go_on(reply, partial(self._written, later, reply, stays), later)

    def _go_on(
        self, reply: Reply, work: Callable[[], Awaitable[bool]], later: Coroutine[Any, Any, int] | None = None
    ) -> None:
        task = self.connection.end_known_after(work, self.known)
        task.add_done_callback(partial(self._has_gone_on, reply, later))

    def _has_gone_on(self, reply: Reply, later: Coroutine[Any, Any, int] | None, done: asyncio.Task[None]) -> None:
        """The client may have left before its task ran at all."""
        if not self.runs:
            if later is not None:
                later.close()
            if reply.settle is not None:
                reply.settle(False)
            if self.access.enabled:
                self._log(reply, LEFT, 0)

    async def _finished(self, reply: Reply) -> bool:
        """Sends the stream; whether the connection stays open."""
        self.runs = True
        status, size, stays = LEFT, 0, False
        try:
            status, stays, size, _ = await self.known.transport.finish(
                self.connection, self.known, reply, self.size, self.session
            )
        finally:
            if self.access.enabled:
                self._log(reply, status, size)
        return bool(stays)

    async def _written(self, later: Awaitable[int], reply: Reply, stays: bool) -> bool:
        self.runs = True
        status, size = LEFT, 0
        try:
            size = await later
            status = reply.status
        finally:
            if self.access.enabled:
                self._log(reply, status, size)
        return stays

    def _log(self, reply: Reply, status: int, size: int) -> None:
        known, facts = self.known, reply.facts(self.size)
        self.access.finish(self.session, known.method, known.target, self.started, status, size, facts)


@runtime_checkable
class HeadKnowing(Protocol):
    """A transport that can serve a head that it has seen before."""

    def know(self, request: HttpRequest, length: int, proof: Mapping[str, str]) -> KnownHead | None: ...


def _transport_of(request: HttpRequest, connection: ClientConnection) -> Transport:
    """The transport that takes the request. BadRequest if there is none."""
    offer = connection.offer
    if len(offer.transports) == 1:
        return offer.transports[0]
    path = request.raw_path.partition("?")[0]
    for each in offer.candidates(path, "Upgrade" in request.headers):
        if each.claims(request):
            return each
    raise BadRequest("No transport takes this request.")


def _size_of(response: web.StreamResponse) -> int:
    """Bytes of its payload; of one that aiohttp is still to write, what it says of itself."""
    if isinstance(response, web.Response) and not response.prepared:
        return response.content_length or 0
    return response.body_length
