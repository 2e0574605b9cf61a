"""Plain HTTP, as in the Kafka REST API: one request, one reply.

The whole reply leaves in one write, its head assembled from bytes that are made once for each kind of reply. aiohttp's
response classes build the head anew for every request, which costs as much as the rest of the gateway together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from gateway import host
from gateway.access import AccessLog
from gateway.config import Config
from gateway.core import Gateway
from gateway.dialect import REST
from gateway.errors import (
    BadRequest,
    ExpectationFailed,
    MethodNotAllowed,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    UnsupportedMediaType,
)
from gateway.messages import NOTHING, Reply, Request
from gateway.session import Session
from gateway.stream import Stream
from gateway.transport import Transport, hookimpl, refusal
from transports.cors import Cors
from transports.query import parse_query

_COMPRESS_FROM = 1024
"""Smaller replies gain nothing from gzip."""
_PAUSE_AFTER = 512 * 1024
"""Bytes of a body that may be unpacked in one go: under 2 ms."""
_COMPRESS_OFF_LOOP = 32 * 1024
"""Compressing more than this takes over a millisecond: a thread does it, zlib releases the GIL."""


_ABSENT: list[str] = []


class HttpTransport(Transport):
    name = "http"

    def __init__(self, config: Config) -> None:
        self._sent_max = config.integer("request.max.bytes")
        self._decoded_max = config.integer("request.decompressed.max.bytes")
        self._body_timeout_s = config.seconds("request.body.timeout.ms")
        self._body_min_rate = config.integer("request.body.min.rate")
        self._compress = config.flag("compression.enable")
        self._reject_options = config.flag("reject.options.request")
        self._cors = Cors(config)
        self._heads: dict[tuple[int, str], bytes] = {}
        self._date = b""
        self._date_at = 0
        self._extra = _extra_headers(config.text("response.http.headers.config"))
        self._access = AccessLog(config.flag("access.log.enable"))

    def claims(self, request: web.BaseRequest) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._access.flush()  # the lines of the last moment before the stop

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
        try:
            _check_head(request)
            if mark:
                query = parse_query(query_text)
            if len(accepts := request.headers.getall("Accept", _ABSENT)) > 1:
                headers = {name.lower(): value for name, value in reversed([*request.headers.items()])}
                headers["accept"] = ", ".join(accepts)  # several fields are one list (RFC 9110 §5.3)
            if request.body_exists:
                body = await self._read_body(request, gateway)
            if method == "OPTIONS" and self._cors.enabled and (preflight := self._cors.preflight(headers)) is not None:
                reply = preflight
            elif method == "OPTIONS" and self._reject_options:
                allow = tuple(each for each in gateway.router.allowed(path) if each != "OPTIONS")
                raise MethodNotAllowed(None, allow)
            else:
                base_url = _base_url(request, headers)
                reply = await gateway.dispatch(
                    Request(session, method, path, query, headers, body, base_url, begun=begun, one_reply=True)
                )
        except ServiceError as error:
            if not request.content.is_eof() or isinstance(error, _Disputable):
                # What is left of a refused body would be read as the next request's head.
                close = True
                if "Content-Encoding" in request.headers:
                    request.protocol.discard_rest()  # type: ignore[attr-defined]  # it is gateway.host.HttpConnection
            reply = Reply(error.status, "application/json", REST.error(error), error.headers)
        close = close or gateway.stopping
        if self._cors.enabled:
            reply.headers += self._cors.headers(headers)
        if not isinstance(reply.body, bytes):
            return await self._stream(request, reply, reply.body, session, gateway)
        sent = await self._write(request, reply, reply.body, method == "HEAD", close)
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

    async def _read_body(self, request: web.BaseRequest, gateway: Gateway) -> bytes:
        """The body, decompressed; PayloadTooLarge or RequestTimeout as soon as it is."""
        length = request.content_length
        if length is not None and length > self._sent_max:
            raise PayloadTooLarge(
                f"The body has {length} bytes; at most {self._sent_max} are taken (request.max.bytes)."
            )
        body_max = min(self._sent_max, self._decoded_max)
        if (coding := request.headers.get("Content-Encoding")) is not None:
            if request._message.compression is not None:
                body_max = self._decoded_max
            elif coding.lower() != "identity":
                raise UnsupportedMediaType(f"The body is {coding[:100]!r}; the gateway can undo gzip, and deflate.")
        content = request.content
        try:
            if content.is_eof():  # all of it came with the head, which is the rule for small bodies
                body = content.read_nowait()
                if len(body) > body_max:
                    raise _too_large(body_max)
                return body
            self._expect(request)
            with gateway.arriving():
                return await self._read_slow_body(request, body_max)
        except (ContentEncodingError, HttpProcessingError) as error:
            raise BadRequest(f"The body cannot be decoded: {error.message}") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"The body is broken: {error}") from None
        except zlib.error as error:
            raise BadRequest(
                f"The body is not {request.headers.get('Content-Encoding', 'compressed')}: {error}"
            ) from None
        except HTTPException as error:
            raise BadRequest(f"The body is not acceptable: {error.reason}") from None

    def _expect(self, request: web.BaseRequest) -> None:
        """Tells a client that waits with its body to go on (RFC 9110 §10.1.1); aiohttp's low-level server does not."""
        expectation = request.headers.get("Expect")
        if expectation is None or request.version < HttpVersion11:
            return
        if expectation.lower() != "100-continue":
            raise ExpectationFailed(f"The gateway cannot meet the expectation {expectation[:100]!r}.")
        transport = request.transport
        if transport is not None and not request.content.total_bytes:  # else the client did not wait
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _read_slow_body(self, request: web.BaseRequest, body_max: int) -> bytes:
        chunks: list[bytes] = []
        size = pause_at = 0
        loop = asyncio.get_running_loop()
        started = loop.time()
        content = request.content
        while True:
            if size > body_max:
                raise _too_large(body_max)
            if (content.total_compressed_bytes or 0) > self._sent_max:
                raise _too_large(self._sent_max)
            if content.at_eof():
                return b"".join(chunks)
            allowed_s = self._body_timeout_s
            if self._body_min_rate:
                allowed_s = max(allowed_s, size / self._body_min_rate)
            chunk = await self._chunk(content, started + allowed_s - loop.time())
            chunks.append(chunk)
            size += len(chunk)
            if size >= pause_at:
                # A packed body unpacks as it is read, without ever waiting for the network: others want a turn.
                pause_at = size + _PAUSE_AFTER
                await asyncio.sleep(0)

    async def _chunk(self, content: Any, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                chunk: bytes = await content.readany()
                return chunk
        except TimeoutError:
            raise RequestTimeout(
                "The body did not arrive in time (request.body.timeout.ms, request.body.min.rate)."
            ) from None

    async def _write(self, request: web.BaseRequest, reply: Reply, body: bytes, head_only: bool, close: bool) -> int:
        key = (reply.status, reply.media_type if body else "")
        head = self._heads.get(key) or self._make_head(key)
        parts = [head]
        if self._compress and len(body) >= _COMPRESS_FROM and _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            body = await _gzip(body)
            parts.append(b"Content-Encoding: gzip\r\n")
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
        parts.append(self._date)
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
        self, request: web.BaseRequest, reply: Reply, stream: Stream, session: Session, gateway: Gateway
    ) -> web.StreamResponse:
        """An endless reply: chunked, each payload sent as soon as it is there. Errors after the first byte end it."""
        response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
        response.content_type = reply.media_type
        response.headers["Cache-Control"] = "no-cache, no-transform"
        response.headers["X-Accel-Buffering"] = "no"
        await response.prepare(request)
        if request.method != "HEAD":
            try:
                await gateway.deliver(stream, _ResponseSink(response), session, host.WRITE_TIMEOUT_S)
            except ServiceError as error:
                await response.write(REST.error(error))
        else:
            await stream.aclose()
        await response.write_eof()
        return response


class _ResponseSink:
    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def send(self, payload: bytes) -> None:
        await self._response.write(payload)


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


class _Disputable(BadRequest):
    """A proxy in front may see the end of this request in another place than we do."""


def _check_head(request: web.BaseRequest) -> None:
    """What aiohttp lets pass and a proxy in front may understand otherwise (reliability.md §2.3)."""
    headers = request.headers
    if request.method == "CONNECT":  # what follows would be a tunnel's, if anybody granted it
        raise _Disputable("The gateway is no proxy.")
    if request.version < HttpVersion11 and "Transfer-Encoding" in headers:
        raise _Disputable("Transfer-Encoding is not part of HTTP/1.0.")
    # What aiohttp could grant. Java's HttpClient offers h2c with its first request, which may well have a body.
    if headers.get("Upgrade", "").strip().lower() in ("websocket", "tcp") and (
        "Content-Length" in headers or "Transfer-Encoding" in headers
    ):
        raise _Disputable("A request to upgrade must not have a body.")


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body has more than {limit} bytes (request.max.bytes, request.decompressed.max.bytes).")


def _base_url(request: web.BaseRequest, headers: Mapping[str, str]) -> str:
    scheme = "https" if request._transport_sslcontext is not None else "http"
    return f"{scheme}://{headers.get('Host', 'localhost')}"


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
    """``add X-Frame-Options: DENY, set Cache-Control: no-store`` as pairs (§9.5)."""
    pairs = []
    for item in text.split(","):
        words = item.strip().split(None, 1)
        if len(words) == 2 and words[0].lower() in ("add", "set") and ":" in words[1]:
            name, _, value = words[1].partition(":")
            pairs.append((name.strip(), value.strip()))
    return pairs


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    return [HttpTransport(config)]
