"""Plain HTTP, as in the Kafka REST API: one request, one reply.

The whole reply leaves in one write, its head assembled from bytes that are made once for each kind of reply. aiohttp's
response classes build the head again for every request, which costs as much as the rest of the gateway together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, cast

from aiohttp import HttpVersion, HttpVersion11, web

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import REST, Dialect, error_event
from kafka_gateway.door import connection as connections
from kafka_gateway.door.body import BodyReader
from kafka_gateway.door.client_writer import ClientWriter, taken
from kafka_gateway.door.connection import HttpConnection
from kafka_gateway.door.half_closed import has_taken_all
from kafka_gateway.door.known_heads import KnownHead
from kafka_gateway.door.request import HttpRequest, SentResponse, sent_response
from kafka_gateway.errors import BadRequest, MethodNotAllowed, ServiceError
from kafka_gateway.forwarded_at_once import ForwardedAtOnce
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.messages import NOTHING, Facts, Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.request_ids import new_id
from kafka_gateway.route_traits import takes_pieces
from kafka_gateway.session import Session
from kafka_gateway.stream import Feed, Stream
from kafka_gateway.transport import Transport
from kafka_gateway.transports.http.compression import COMPRESS_FROM, accepts_gzip, gzipped
from kafka_gateway.transports.http.heads import Heads
from kafka_gateway.transports.http.stream import BODIES, GzipFeedConnection, HttpOutlet, StreamBody
from kafka_gateway.transports.records.connection import FeedConnection, StreamLimits

_PLAN_ASKED_MAX = 4
"""How many requests with one head may be the first of their kind, about which nothing is known yet."""
_ABSENT: list[str] = []
_CLOSES = b"Connection: close\r\n"
_GOODBYE_S = 1.0


class HttpTransport(Transport):
    name = "http"
    plain = True
    admin = True
    _dialect: Dialect = REST
    """How errors look that no route answers."""

    def __init__(self, config: Config) -> None:
        self._bodies = BodyReader(config)
        self._compress = config.flag("compression.enable")
        self._reject_options = config.flag("reject.options.request")
        self._heads = Heads(config)
        self._limits = StreamLimits(config)
        self._memory: MemoryBudget
        self._gateway: Gateway
        self._dispatches = type(self)._dispatch is HttpTransport._dispatch
        """Whether all is left to the gateway."""
        self._raw: dict[str, int] = {}
        """The paths whose bodies are handed on as they were sent, and how long these may be."""
        self._connections: set[FeedConnection] = set()
        """Those that nothing but a stream is on any more."""

    def claims(self, request: web.BaseRequest) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        self._gateway, self._memory = gateway, gateway.memory
        self._raw = gateway.router.raw
        try:
            yield
        finally:
            await self._say_last_bytes()

    async def _say_last_bytes(self) -> None:
        """Waits a moment, in which clients of streams that have ended can read why."""
        until = time.monotonic() + _GOODBYE_S
        while self._connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        method = request.method
        headers: Mapping[str, str] = request.headers
        path, mark, query_text = request.raw_path.partition("?")
        begun = not gateway.stopping
        query = parse_query(query_text) if mark else NOTHING
        if len(accepts := request.headers.getall("Accept", _ABSENT)) > 1:
            headers = {name.lower(): value for name, value in reversed([*request.headers.items()])}
            headers["accept"] = ", ".join(accepts)  # several fields are one list (RFC 9110 §5.3)
        body: bytes | AsyncIterator[bytes] = b""
        raw = self._raw.get(path if path[:1] == "/" else request.path) if self._raw else None
        if request.body_exists:
            if not request.arriving.is_eof() and takes_pieces(gateway.router, method, path):
                body = self._bodies.open(request, gateway)
            else:
                body = await self._bodies.read(request, gateway, raw)
        if method == "OPTIONS" and self._reject_options:
            allow = tuple(each for each in gateway.router.allowed(path) if each != "OPTIONS")
            raise MethodNotAllowed(None, allow)
        asked = Request(session, method, path, query, headers, body, request.base_url, begun=begun, one_reply=True)
        if raw is not None:
            asked.raw_headers = request.raw_headers
            if secret := gateway.proofs.fields:
                asked.raw_headers = [each for each in request.raw_headers if each[0].lower() not in secret]
        asked.settles = True
        reply = await self._dispatch(gateway, asked, query_text)
        if not reply.request_id:  # a transport that builds on this one has answered by itself
            reply.request_id = request.id
        request.facts = reply.facts(len(body) if isinstance(body, bytes) else 0)
        close = not request.keep_alive or gateway.stopping
        if request.cors:
            reply.headers += request.cors
        if not isinstance(reply.body, bytes):
            return await self._stream(request, reply, reply.body, session, gateway, close)
        # What is left of a body that was to be read in pieces would be read as the next request's head.
        close = close or (not isinstance(body, bytes) and not request.arriving.is_eof())
        sent = await self._write_and_settle(
            request.protocol,
            reply,
            reply.body,
            request.headers.get("Accept-Encoding", ""),
            _stays(close, request.version),
            method == "HEAD",
        )
        return sent_response(reply.status, not close, sent)

    def know(self, request: HttpRequest, length: int, proof: Mapping[str, str]) -> KnownHead | None:
        """What follows from the head of this request, which claims it and has passed the door's steps for heads; None
        if it is one that ``handle`` must see. Changes nothing, and asks nothing of any route."""
        headers: Mapping[str, str] = request.headers
        path, mark, query_text = request.raw_path.partition("?")
        if path[:1] != "/" or path in self._raw or len(request.headers.getall("Accept", _ABSENT)) > 1:
            return None
        try:
            query = parse_query(query_text) if mark else NOTHING
        except ServiceError:
            return None
        return KnownHead(
            request._message,
            self,
            request.method,
            request.raw_path,
            path,
            query,
            headers,
            length,
            proof,
            request.cors,
            request.base_url(),
            headers.get("Accept-Encoding", ""),
        )

    async def answer(
        self, connection: HttpConnection, known: KnownHead, body: bytes, session: Session, gateway: Gateway
    ) -> tuple[int, bool, int, Facts]:
        """As ``handle``, for a head that is known and the whole body: status, whether the connection stays, bytes."""
        stopping = gateway.stopping
        asked = Request(
            session,
            known.method,
            known.path,
            known.query,
            known.headers,
            body,
            known.base_url,
            begun=not stopping,
            one_reply=True,
            settles=True,
        )
        reply = await self._dispatch(gateway, asked, known.target.partition("?")[2])
        if not reply.request_id:
            reply.request_id = new_id()
        return await self.finish(connection, known, reply, len(body), session)

    async def finish(
        self, connection: HttpConnection, known: KnownHead, reply: Reply, size: int, session: Session
    ) -> tuple[int, bool, int, Facts]:
        """Writes the reply: as ``answer``. ``size``: bytes of the request's body."""
        gateway, facts = self._gateway, reply.facts(size)
        if known.cors:
            reply.headers += known.cors
        close = gateway.stopping or connection.half_closed
        if not isinstance(reply.body, bytes):  # reports on several records, which come one by one
            request = connection.request_of(known)
            response = await self._stream(request, reply, reply.body, session, gateway, close)
            return response.status, bool(response.keep_alive), response.body_length, facts
        field = _CLOSES if close else b""
        sent = await self._write_and_settle(connection, reply, reply.body, known.accept_encoding, field, False)
        return reply.status, not close, sent, facts

    def begin(
        self,
        known: KnownHead,
        body: bytes,
        session: Session,
        gateway: Gateway,
        answered: Callable[[Reply | None], None],
    ) -> bool | ForwardedAtOnce:
        """As ``answer``, for a request that needs no task (gateway/at_once.py); False: nothing has happened. One that
        another process answers is to be cancelled if its client leaves.

        ``answered`` gets the reply, for ``write_begun``, or ``finish`` where it is a stream; None for one that was
        cancelled.
        """
        if not self._dispatches:
            return False
        homes = gateway.homes
        if homes is not None and (worker := homes.elsewhere(known.method, known.path, "")) is not None:
            asked = Request(
                session,
                known.method,
                known.path,
                known.query,
                known.headers,
                body,
                known.base_url,
                begun=not gateway.stopping,
                one_reply=True,
                settles=True,
            )
            return gateway.at_once.forward(asked, worker, answered) or False
        if not known.length:
            return False
        plan, at_once = known.plan, gateway.at_once
        if plan is None and known.plan_asked >= _PLAN_ASKED_MAX:
            return False
        asked = Request(
            session, known.method, known.path, known.query, known.headers, body, known.base_url, one_reply=True
        )
        if plan is None or plan.epoch != gateway.plans.epoch:
            plan = known.plan = at_once.plan(asked)
            if plan is None:
                known.plan_asked += 1
                return False
        return at_once.begin(plan, asked, answered)

    def write_begun(
        self, connection: HttpConnection, known: KnownHead, reply: Reply
    ) -> tuple[bool, int, Awaitable[int] | None]:
        """Writes the reply to what was begun: whether the connection stays, the bytes of its payload, and what to wait
        for, if the reply has to be compressed first or the client is behind with reading; that tells the bytes, too.
        ConnectionError if it has left. A reply that is to be settled is, if there is nothing to wait for, or it is
        waited for."""
        if known.cors:
            reply.headers += known.cors
        close, body = self._gateway.stopping or connection.half_closed, cast(bytes, reply.body)
        field = _CLOSES if close else b""
        size, settle = len(body), reply.settle
        if self._compress and size >= COMPRESS_FROM and accepts_gzip(known.accept_encoding):
            return not close, 0, self._write_and_settle(connection, reply, body, known.accept_encoding, field, False)
        if settle is None:
            self._put(connection, reply, body, b"", field, head_only=False)
            return not close, size, self._until_taken(connection, size) if connection.writing_paused else None
        transport = connection.transport
        if transport is None or connection.half_closed or connection.ssl_context is not None:
            return not close, 0, self._write_and_settle(connection, reply, body, known.accept_encoding, field, False)
        transport.set_write_buffer_limits(0)  # see `_write_and_settle`
        try:
            self._put(connection, reply, body, b"", field, head_only=False)
        except ConnectionError:
            settle(False)
            raise
        if connection.writing_paused:
            return not close, size, self._taken_and_settled(connection, settle, size)
        transport.set_write_buffer_limits()
        settle(not transport.is_closing())
        return not close, size, None

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        headers = error.headers + request.cors
        body = request.error_body(error, self._dialect)
        reply = Reply(error.status, "application/json", body, headers, request_id=request.id)
        return cast(web.StreamResponse, _Refusal(self, reply, not request.keep_alive))

    def _dispatch(self, gateway: Gateway, request: Request, query: str) -> Coroutine[Any, Any, Reply]:
        """For a transport that answers some requests by itself. ``query`` is as it was sent."""
        return gateway.dispatch(request)

    async def _write_and_settle(
        self, connection: Any, reply: Reply, body: bytes, accept_encoding: str, connection_field: bytes, head_only: bool
    ) -> int:
        """Writes the reply, and tells whoever gave it whether the client's connection has taken all of it."""
        settle, transport = reply.settle, connection.transport
        if settle is None:
            return await self._write(connection, reply, body, accept_encoding, connection_field, head_only)
        written = False
        is_secure = connection.ssl_context is not None
        try:
            if transport is not None and not transport.is_closing() and not is_secure:
                # So that the system has all of it when writing ends. Not under TLS: what is written there goes below
                # the buffer that has these limits, and with a limit of 0 uvloop may never say that there is room again.
                transport.set_write_buffer_limits(0)
            sent = await self._write(connection, reply, body, accept_encoding, connection_field, head_only)
            if transport is not None and not transport.is_closing():
                if not is_secure:
                    transport.set_write_buffer_limits()
                # A client that has closed its sending side may have left.
                written = not connection.half_closed or await has_taken_all(transport)
        finally:
            settle(written)
        return sent

    async def _taken_and_settled(self, connection: Any, settle: Callable[[bool | None], None], size: int) -> int:
        """As `_until_taken`; then tells whether the client has taken all."""
        written = False
        try:
            await self._until_taken(connection, size)
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                transport.set_write_buffer_limits()
                written = not connection.half_closed or await has_taken_all(transport)
        finally:
            settle(written)
        return size

    async def _write(
        self, connection: Any, reply: Reply, body: bytes, accept_encoding: str, connection_field: bytes, head_only: bool
    ) -> int:
        """Writes the reply to an HttpConnection; returns when the client has taken it. The bytes of its payload."""
        encoding = b""
        if self._compress and len(body) >= COMPRESS_FROM and accepts_gzip(accept_encoding):
            body = await gzipped(body)
            encoding = b"Content-Encoding: gzip\r\n"
        self._put(connection, reply, body, encoding, connection_field, head_only)
        return await self._until_taken(connection, len(body)) if connection.writing_paused else len(body)

    def _put(
        self, connection: Any, reply: Reply, body: bytes, encoding: bytes, connection_field: bytes, head_only: bool
    ) -> None:
        """Writes the reply to an HttpConnection, without waiting for its client."""
        key = (reply.status, reply.media_type if body else "")
        parts = [
            self._heads.known.get(key) or self._heads.make(key),
            encoding,
            self._heads.date_line(),
            b"X-Request-Id: %b\r\n" % reply.request_id.encode(),
        ]
        for name, value in reply.headers:
            parts.append(f"{name}: {value}\r\n".encode("latin-1"))
        parts.append(connection_field)
        if reply.status != 204:
            parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
            if not head_only:
                parts.append(body)
        else:
            parts.append(b"\r\n")
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        if connection.half_closed:
            connection.answers()
        transport.write(b"".join(parts))

    async def _until_taken(self, connection: Any, size: int) -> int:
        """Returns ``size`` when the client has read what is written to it, but for what the system takes."""
        writer = ClientWriter(connection.transport, self._memory, connections.WRITE_TIMEOUT_S, self.name)
        try:
            await taken(connection, writer)
        finally:
            writer.unwatch()
        return size

    async def _stream(
        self,
        request: HttpRequest,
        reply: Reply,
        stream: Stream,
        session: Session,
        gateway: Gateway,
        close: bool,
    ) -> web.StreamResponse:
        """An endless reply, each payload sent as soon as it is there. Errors after the first byte end it."""
        is_chunked = request.version >= HttpVersion11
        body = BODIES[reply.media_type == media.EVENTS, is_chunked]
        close = close or not is_chunked or (isinstance(stream, Feed) and request.method != "HEAD")
        # Not so where the stream answers a body: its client may close its side behind that, and waits for the reports.
        if getattr(stream, "ends_itself", False):
            request.ends_itself()
        elif request.method == "GET":
            try:
                request.stays_open()
            except BadRequest:
                session.streams.discard(stream)
                await stream.aclose()
                raise
        if isinstance(stream, Feed) and request.method != "HEAD":
            self._feed(request, reply, stream, body, session, gateway)
            return sent_response(reply.status, False, 0)
        head = self._heads.of_stream(reply, is_chunked, close)
        outlet = HttpOutlet(request.protocol, self._limits, gateway, body)
        if request.method == "HEAD":
            session.streams.discard(stream)
            await stream.aclose()
            outlet.put(head)
            outlet.release()
            return sent_response(reply.status, not close, 0)
        heartbeat_s = getattr(stream, "heartbeat_s", 0)  # of records; streams of plugins are sent as they are
        outlet.put(head + body.opening if heartbeat_s else head)
        try:
            await gateway.deliver(stream, outlet, session, None, heartbeat_s=heartbeat_s)
        except ServiceError as error:
            told = gateway.error_body(error, reply.request_id)
            outlet.put(body.frame(error_event(error)) if heartbeat_s else body.plain(told))
        finally:
            outlet.release()
        outlet.put(body.last_bytes)
        close = close or gateway.stopping or not request.arriving.is_eof()
        return sent_response(reply.status, not close, outlet.written_bytes)

    def _feed(
        self, request: HttpRequest, reply: Reply, feed: Feed, body: StreamBody, session: Session, gateway: Gateway
    ) -> None:
        """Sends a feed: from now on the connection carries nothing else."""
        is_chunked, is_sse = request.version >= HttpVersion11, reply.media_type == media.EVENTS
        if self._compress and is_chunked and accepts_gzip(request.headers.get("Accept-Encoding", "")):
            reply.headers += (("Content-Encoding", "gzip"),)
            packed = GzipFeedConnection(request.transport, self._limits, gateway, feed, is_sse)
            packed.open(self._heads.of_stream(reply, is_chunked, True), body.plain_opening)
            connection: FeedConnection = packed
        else:
            connection = FeedConnection(
                request.transport, self._limits, gateway, feed, body.frame, body.alive, body.last_bytes
            )
            connection.put(self._heads.of_stream(reply, is_chunked, True) + body.opening)
        lost = request.protocol.hand_over(connection, session)  # type: ignore[attr-defined]  # HttpConnection
        self._connections.add(connection)
        tell = request.goes_on()

        def gone(sent: int) -> None:
            self._connections.discard(connection)
            lost()
            tell(200, sent)

        connection.begin(gone)


class _Refusal(SentResponse):
    """A response that aiohttp's connection writes when it finishes the request."""

    __slots__ = ("_reply", "_transport")

    def __init__(self, transport: HttpTransport, reply: Reply, close: bool) -> None:
        assert isinstance(reply.body, bytes)
        super().__init__(reply.status, not close, len(reply.body))
        self._transport, self._reply = transport, reply

    async def prepare(self, request: web.BaseRequest) -> None:
        body = self._reply.body
        assert isinstance(body, bytes)
        await self._transport._write(
            request.protocol,
            self._reply,
            body,
            request.headers.get("Accept-Encoding", ""),
            _stays(not self.keep_alive, request.version),
            request.method == "HEAD",
        )


def _stays(close: bool, version: HttpVersion) -> bytes:
    """The field that tells whether the connection stays, where the client cannot know (RFC 9112 §9.3)."""
    return _CLOSES if close else b"Connection: keep-alive\r\n" if version < HttpVersion11 else b""
