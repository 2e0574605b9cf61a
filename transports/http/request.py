"""HTTP requests on their way in, before they are dispatched: what all transports over HTTP do with one alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from gateway.config import Config
from gateway.core import Gateway
from gateway.errors import (
    BadRequest,
    ExpectationFailed,
    Forbidden,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    Unavailable,
    UnsupportedMediaType,
)
from transports.http.cors import Cors
from transports.http.inflate import CODINGS, inflate, too_large


class BodyReader:
    """Reads the bodies of requests, within the limits of the configuration."""

    def __init__(self, config: Config) -> None:
        self._sent_max = config.integer("request.max.bytes")
        self._decoded_max = config.integer("request.decompressed.max.bytes")
        self._timeout_s = config.seconds("request.body.timeout.ms")
        self._min_rate = config.integer("request.body.min.rate")

    async def read(self, request: web.BaseRequest, gateway: Gateway, raw_max: int | None = None) -> bytes:
        """The body, unpacked; PayloadTooLarge or RequestTimeout as soon as it is.

        With ``raw_max`` the body as it was sent, of so many bytes at most, whatever its Content-Encoding; one that is
        too slow is Unavailable then: senders of raw bodies throw away what a 408 answers (bridges.md A2.4).
        """
        if raw_max is not None:
            most = min(self._sent_max, raw_max)
            try:
                return await self._read(request, gateway, most)
            except PayloadTooLarge:
                raise PayloadTooLarge(f"The body has more than {most} bytes; this path takes no more.") from None
            except RequestTimeout as error:
                raise Unavailable(error.message) from None
        coding = request._message.compression or ""
        named = request.headers.get("Content-Encoding", "identity")
        if coding not in CODINGS and named.lower() != "identity":
            raise UnsupportedMediaType(f"The body is {named[:100]!r}; the gateway can undo gzip, and deflate.")
        if not coding:
            return await self._read(request, gateway, min(self._sent_max, self._decoded_max))
        body = await self._read(request, gateway, self._sent_max)
        with gateway.arriving():
            return await inflate(body, coding, self._decoded_max)

    async def _read(self, request: web.BaseRequest, gateway: Gateway, body_max: int) -> bytes:
        length = request.content_length
        if length is not None and length > self._sent_max:
            raise PayloadTooLarge(
                f"The body has {length} bytes; at most {self._sent_max} are taken (request.max.bytes)."
            )
        if length is not None and length > body_max:
            raise too_large(body_max)
        content = request.content
        try:
            if content.is_eof():  # all of it came with the head, which is the rule for small bodies
                body = content.read_nowait()
                if len(body) > body_max:
                    raise too_large(body_max)
                return body
            self._expect(request)
            with gateway.arriving():
                return await self._read_slowly(request, body_max)
        except HttpProcessingError as error:
            raise BadRequest(f"The body cannot be read: {error.message}") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"The body is broken: {error}") from None
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

    async def _read_slowly(self, request: web.BaseRequest, body_max: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        started = loop.time()
        content = request.content
        while True:
            if size > body_max:
                raise too_large(body_max)
            if content.at_eof():
                return b"".join(chunks)
            allowed_s = self._timeout_s
            if self._min_rate:
                allowed_s = max(allowed_s, size / self._min_rate)
            chunk = await self._chunk(content, started + allowed_s - loop.time())
            chunks.append(chunk)
            size += len(chunk)

    async def _chunk(self, content: Any, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                chunk: bytes = await content.readany()
                return chunk
        except TimeoutError:
            raise RequestTimeout(
                "The body did not arrive in time (request.body.timeout.ms, request.body.min.rate)."
            ) from None


def give_up(request: web.BaseRequest, error: ServiceError) -> bool:
    """Whether the connection has to close behind the refusal of this request; its body is not read any more."""
    # What is left of a refused body would be read as the next request's head.
    return not request.content.is_eof() or isinstance(error, _Disputable)


class _Disputable(BadRequest):
    """A proxy in front may see the end of this request in another place than we do."""


def check_head(request: web.BaseRequest) -> None:
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


def base_url(request: web.BaseRequest, headers: Mapping[str, str]) -> str:
    """What absolute URLs in replies to this request start with."""
    return f"{_scheme(request)}://{headers.get('Host', 'localhost')}"


def check_origin(request: web.BaseRequest, cors: Cors) -> None:
    """Forbidden for a page of another origin that is not listed, whatever it asks for.

    For what lasts: a foreign page would use it with its reader's cookies and place in the network (reliability.md S11).
    """
    for origin in request.headers.getall("Origin", ()):
        if not _is_own(origin, request) and not cors.allows(origin):
            raise Forbidden("Pages of this origin may not use the gateway (access.control.allow.origin).")


def _is_own(origin: str, request: web.BaseRequest) -> bool:
    """Whether a page comes from the gateway itself: the same scheme, host and port (RFC 6454 §5)."""
    try:
        parts = urlsplit(origin)
        port, scheme = parts.port, parts.scheme
    except ValueError:
        return False
    host = request.headers.get("Host", "").lower()
    default = {"http": 80, "https": 443}.get(scheme)
    names = {f"{parts.hostname}:{port or default}"} | ({parts.hostname or ""} if port in (None, default) else set())
    return scheme == _scheme(request) and origin.isascii() and host in names


def _scheme(request: web.BaseRequest) -> str:
    return "https" if request._transport_sslcontext is not None else "http"
