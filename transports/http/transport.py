"""Plain HTTP, as in the Kafka REST API: one request, one reply.

The whole reply leaves in one write, its head assembled from bytes that are made once for each kind of reply. aiohttp's
response classes build the head anew for every request, which costs as much as the rest of the gateway together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from aiohttp import HttpVersion11, web

from gateway import media
from gateway.config import Config
from gateway.core import Gateway
from gateway.dialect import REST, Dialect, error_event
from gateway.door import host
from gateway.door.access_log import AccessLog
from gateway.door.body import BodyReader
from gateway.errors import MethodNotAllowed, ServiceError
from gateway.messages import NOTHING, Reply, Request
from gateway.session import Session
from gateway.stream import Feed, Stream
from gateway.transport import Transport, refusal
from transports.http.cors import Cors
from transports.http.query import parse_query
from transports.http.request import base_url, check_head, check_origin, give_up
from transports.http.stream import BODIES, Body, GzipFeed, HttpOutlet
from transports.records.connection import FeedConnection, StreamLimits
from transports.records.reauthentication import Renewal

_COMPRESS_FROM = 1024
"""Smaller replies gain nothing from gzip."""
_COMPRESS_OFF_LOOP = 32 * 1024
"""Compressing more than this takes over a millisecond: a thread does it, zlib releases the GIL."""


_ABSENT: list[str] = []
_GOODBYE_S = 1.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""


class HttpTransport(Transport):
    name = "http"
    _dialect: Dialect = REST
    """How errors look that no route answers."""

    def __init__(self, config: Config) -> None:
        self._bodies = BodyReader(config)
        self._compress = config.flag("compression.enable")
        self._reject_options = config.flag("reject.options.request")
        self._cors = Cors(config)
        self._heads: dict[tuple[int, str], bytes] = {}
        self._date = b""
        self._date_at = 0
        self._extra = _extra_headers(config.text("response.http.headers.config"))
        self._access = AccessLog(config.flag("access.log.enable"))
        self._limits = StreamLimits(config)
        self._raw: dict[str, int] = {}
        """The paths whose bodies are handed on as they were sent, and how long these may be."""
        self._connections: set[FeedConnection] = set()
        """Those that nothing but a stream is on any more."""

    def claims(self, request: web.BaseRequest) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        for route in gateway.router.routes:
            if (size := route.extras.get("raw")) is not None:
                self._raw[route.template] = self._raw[route.template + "/"] = size
        try:
            yield
        finally:
            await self._say_goodbye()
            self._access.flush()  # the lines of the last moment before the stop

    async def _say_goodbye(self) -> None:
        """Gives the clients of streams that have ended a moment to read why."""
        until = time.monotonic() + _GOODBYE_S
        while self._connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        started = time.perf_counter() if self._access.enabled else 0.0
        method = request.method
        headers: Mapping[str, str] = request.headers
        target = request.raw_path
        path, mark, query_text = target.partition("?")
        query: Mapping[str, str] = NOTHING
        close = not request.keep_alive
        begun = not gateway.stopping
        body: bytes = b""
        raw = self._raw.get(path if path[:1] == "/" else request.path) if self._raw else None
        try:
            check_head(request)
            if method not in _SAFE and "Origin" in headers:
                # A page elsewhere could not read the reply, but its POST would have been done by then (S11).
                check_origin(request, self._cors)
            elif "Origin" in headers and gateway.wants_stream(path, headers.get("Accept")):
                check_origin(request, self._cors)
            if mark:
                query = parse_query(query_text)
            if len(accepts := request.headers.getall("Accept", _ABSENT)) > 1:
                headers = {name.lower(): value for name, value in reversed([*request.headers.items()])}
                headers["accept"] = ", ".join(accepts)  # several fields are one list (RFC 9110 §5.3)
            if request.body_exists:
                body = await self._bodies.read(request, gateway, raw)
            if method == "OPTIONS" and self._cors.enabled and (preflight := self._cors.preflight(headers)) is not None:
                reply = preflight
            elif method == "OPTIONS" and self._reject_options:
                allow = tuple(each for each in gateway.router.allowed(path) if each != "OPTIONS")
                raise MethodNotAllowed(None, allow)
            else:
                url = base_url(request, headers)
                asked = Request(session, method, path, query, headers, body, url, begun=begun, one_reply=True)
                if raw is not None:
                    asked.raw_headers = request.raw_headers
                    if secret := gateway.proof_fields:
                        asked.raw_headers = [each for each in request.raw_headers if each[0].lower() not in secret]
                asked.settles = True
                reply = await self._dispatch(gateway, asked, query_text)
        except ServiceError as error:
            close = give_up(request, error) or close
            reply = Reply(error.status, "application/json", self._dialect.error(error), error.headers)
        close = close or gateway.stopping
        if self._cors.enabled:
            reply.headers += self._cors.headers(headers)
        if not isinstance(reply.body, bytes):
            return await self._stream(request, reply, reply.body, session, gateway, close)
        sent = await self._write_and_settle(request, reply, reply.body, method == "HEAD", close)
        if self._access.enabled:
            seconds = time.perf_counter() - started
            self._access.add(session.peer, session.principal.name, method, target, reply.status, sent, seconds)
        return cast(web.StreamResponse, _Written(reply.status, not close, sent))

    def refuse(self, request: web.BaseRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error)
        response.headers.extend(self._cors.headers(request.headers) if self._cors.enabled else ())
        if self._access.enabled:
            peer, size = request.remote or "unix", response.content_length or 0
            self._access.add(peer, "-", request.method, request.raw_path, error.status, size, 0.0)
        return response

    def _dispatch(self, gateway: Gateway, request: Request, query: str) -> Coroutine[Any, Any, Reply]:
        """For a transport that answers some requests by itself. ``query`` is as it was sent."""
        return gateway.dispatch(request)

    async def _write_and_settle(
        self, request: web.BaseRequest, reply: Reply, body: bytes, head_only: bool, close: bool
    ) -> int:
        """Writes the reply, and tells whoever gave it whether the client's connection has taken all of it."""
        settle, transport = reply.settle, request.transport
        if settle is None:
            return await self._write(request, reply, body, head_only, close)
        written = False
        try:
            if transport is not None and not transport.is_closing() and not request.secure:
                # So that the system has all of it when writing ends. Not under TLS: what is written there goes below
                # the buffer that has these limits, and with a limit of 0 uvloop may never say that there is room again.
                transport.set_write_buffer_limits(0)
            sent = await self._write(request, reply, body, head_only, close)
            if transport is not None and not transport.is_closing():
                if not request.secure:
                    transport.set_write_buffer_limits()
                written = True
        finally:
            settle(written)
        return sent

    async def _write(self, request: web.BaseRequest, reply: Reply, body: bytes, head_only: bool, close: bool) -> int:
        key = (reply.status, reply.media_type if body else "")
        head = self._heads.get(key) or self._make_head(key)
        parts = [head]
        if self._compress and len(body) >= _COMPRESS_FROM and _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            body = await _gzip(body)
            parts.append(b"Content-Encoding: gzip\r\n")
        parts.append(self._date_line())
        for name, value in reply.headers:
            parts.append(f"{name}: {value}\r\n".encode("latin-1"))
        if close:
            parts.append(b"Connection: close\r\n")
        elif request.version < HttpVersion11:
            parts.append(b"Connection: keep-alive\r\n")
        if reply.status != 204:
            parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
            if not head_only:
                parts.append(body)
        else:
            parts.append(b"\r\n")
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        transport.write(b"".join(parts))
        protocol = request.protocol
        if protocol.writing_paused:
            try:
                async with asyncio.timeout(host.WRITE_TIMEOUT_S):
                    await protocol._drain_helper()
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError("the client does not read") from None
        return len(body)

    def _date_line(self) -> bytes:
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
        return self._date

    def _make_head(self, key: tuple[int, str]) -> bytes:
        status, media_type = key
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = ""
        lines = [f"HTTP/1.1 {status} {reason}"]
        if media_type:
            lines.append(f"Content-Type: {media_type}")
        if self._compress:
            lines.append("Vary: Accept-Encoding")
        lines += [f"{name}: {value}" for name, value in self._extra]
        head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        if len(self._heads) < 1000:
            self._heads[key] = head
        return head

    async def _stream(
        self,
        request: web.BaseRequest,
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
        if isinstance(stream, Feed) and request.method != "HEAD":
            self._feed(request, reply, stream, body, session, gateway)
            return cast(web.StreamResponse, _Written(reply.status, False, 0))
        head = self._stream_head(reply, is_chunked, close)
        started = time.perf_counter()
        outlet = HttpOutlet(request.protocol, self._limits, body)
        if request.method == "HEAD":
            session.streams.discard(stream)
            await stream.aclose()
            outlet.put(head)
            outlet.release()
            return cast(web.StreamResponse, _Written(reply.status, not close, 0))
        heartbeat_s = getattr(stream, "heartbeat_s", 0)  # of records; streams of plugins are sent as they are
        outlet.put(head + body.opening if heartbeat_s else head)
        if heartbeat_s:
            outlet.renewal = Renewal.of(gateway, session, request.headers)
            outlet.revoked = partial(self._revoke, outlet, body, stream, session)
            gateway.pulse.add(outlet, heartbeat_s)
        try:
            await gateway.deliver(stream, outlet, session, self._limits.write_timeout_s)
        except ServiceError as error:
            outlet.put(body.frame(error_event(error)) if heartbeat_s else body.plain(REST.error(error)))
        finally:
            gateway.pulse.remove(outlet)
            outlet.release()
            self._log(request, session, reply.status, started, outlet.written_bytes)
        outlet.put(body.goodbye)
        return cast(web.StreamResponse, _Written(reply.status, not (close or gateway.stopping), outlet.written_bytes))

    def _feed(
        self, request: web.BaseRequest, reply: Reply, feed: Feed, body: Body, session: Session, gateway: Gateway
    ) -> None:
        """Sends what feeds itself: from now on the connection is nothing but that."""
        started = time.perf_counter()
        is_chunked, is_sse = request.version >= HttpVersion11, reply.media_type == media.EVENTS
        if self._compress and is_chunked and _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            reply.headers += (("Content-Encoding", "gzip"),)
            packed = GzipFeed(request.transport, self._limits, feed, gateway.pulse, is_sse)
            packed.open(self._stream_head(reply, is_chunked, True), body.plain_opening)
            connection: FeedConnection = packed
        else:
            connection = FeedConnection(
                request.transport, self._limits, feed, gateway.pulse, body.frame, body.alive, body.goodbye
            )
            connection.put(self._stream_head(reply, is_chunked, True) + body.opening)
        connection.renewal = Renewal.of(gateway, session, request.headers)
        lost = request.protocol.hand_over(connection, session)  # type: ignore[attr-defined]  # HttpConnection
        self._connections.add(connection)
        logged = (session, request.method, request.raw_path) if self._access.enabled else None

        def gone(sent: int) -> None:
            self._connections.discard(connection)
            lost()
            if logged is not None:
                of, method, target = logged
                seconds = time.perf_counter() - started
                self._access.add(of.peer, of.principal.name, method, target, 200, sent, seconds)

        connection.begin(gone)

    def _revoke(self, outlet: HttpOutlet, body: Body, stream: Stream, session: Session, error: ServiceError) -> None:
        """The client's proof is not valid any more."""
        outlet.put(body.frame(error_event(error)))
        session.spawn(stream.aclose(), "revoked")

    def _log(self, request: web.BaseRequest, session: Session, status: int, started: float, sent: int) -> None:
        if self._access.enabled:
            seconds = time.perf_counter() - started
            name = session.principal.name
            self._access.add(session.peer, name, request.method, request.raw_path, status, sent, seconds)

    def _stream_head(self, reply: Reply, is_chunked: bool, close: bool) -> bytes:
        parts = [self._heads.get((reply.status, reply.media_type)) or self._make_head((reply.status, reply.media_type))]
        parts.append(self._date_line())
        parts.append(b"Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n")
        parts += [f"{name}: {value}\r\n".encode("latin-1") for name, value in reply.headers]
        if is_chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
        return b"".join(parts)


class _Written:
    """A response that has left already, in the shape that aiohttp's connection wants to finish."""

    __slots__ = ("body_length", "keep_alive", "status")

    def __init__(self, status: int, keep_alive: bool, body_length: int) -> None:
        self.status = status
        self.keep_alive = keep_alive
        self.body_length = body_length

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self) -> None:
        return None


def _accepts_gzip(accept_encoding: str) -> bool:
    """RFC 9110 §12.5.3: gzip by its name, else by ``*``, unless its weight is 0."""
    anything = False
    for item in accept_encoding.split(","):
        coding, _, parameters = item.partition(";")
        coding = coding.strip().lower()
        if coding in ("gzip", "*"):
            accepted = parameters.replace(" ", "").lower() not in ("q=0", "q=0.", "q=0.0", "q=0.00", "q=0.000")
            if coding == "gzip":
                return accepted
            anything = accepted
    return anything


async def _gzip(body: bytes) -> bytes:
    if len(body) < _COMPRESS_OFF_LOOP:
        return _deflate(body)
    return await asyncio.to_thread(_deflate, body)


def _deflate(body: bytes) -> bytes:
    # Level 1: three times faster than 6 for a tenth more bytes on JSON.
    return zlib.compress(body, 1, wbits=31)


def _extra_headers(text: str) -> list[tuple[str, str]]:
    """``add X-Frame-Options: DENY, set Cache-Control: no-store`` as pairs (kafka-rest-http.md §9.5)."""
    pairs = []
    for item in text.split(","):
        words = item.strip().split(None, 1)
        if len(words) == 2 and words[0].lower() in ("add", "set") and ":" in words[1]:
            name, _, value = words[1].partition(":")
            pairs.append((name.strip(), value.strip()))
    return pairs
