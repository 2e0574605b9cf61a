"""A request over HTTP as the door hands it to the transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast
from urllib.parse import unquote_plus

from aiohttp import MultipartReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE, StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy

from kafka_gateway.dialect import REST, Dialect
from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.door.forwarded import NOTHING_TOLD, ForwardedFields
from kafka_gateway.errors import BadRequest, ServiceError
from kafka_gateway.messages import Facts
from kafka_gateway.request_ids import HEADER, request_id
from kafka_gateway.session import Session

Headers = tuple[tuple[str, str], ...]
"""Header fields of ours for a reply."""


class Bodies(Protocol):
    """Reads bodies within the limits, and writes those of errors: the door."""

    async def read_body(self, request: HttpRequest) -> bytes: ...
    def error_body(self, request: HttpRequest, error: ServiceError, dialect: Dialect) -> bytes:
        """`HttpRequest.error_body`."""

    def bound(self, request: HttpRequest) -> Any:
        """`HttpRequest.content`."""


class HttpRequest(web.BaseRequest):
    """aiohttp's request, and what the door has found out about it.

    A bearer's token that came in the query stands where it belongs, in ``Authorization``; the target is without it.
    """

    cors: Headers = ()
    """The headers that let the page that asks read the reply: aiohttp's responses get them by themselves."""
    goes_on_later = False
    """Set by ``goes_on``."""
    lasts: bool | None = None
    """Whether the reply only ends with its client, as a stream does; None where nobody has said so. `stays_open`,
    `ends_itself`."""
    told: ForwardedFields = NOTHING_TOLD
    """What the proxy that has sent it says of its client, if that is believed."""
    sent_host = ""
    """``Host`` as the proxy has sent it, where that of the client stands in its place."""
    line: tuple[AccessLog, Session, float]
    """What the line of the access log will need: whose, and since when."""
    facts: Facts | None = None
    """What the line tells of the reply, once there is one."""

    bodies: Bodies
    """The reader of the body."""
    _bounded: Any = None

    @property
    def arriving(self) -> Any:
        """The body as aiohttp has it, for what is bounded elsewhere."""
        return super().content

    @property
    def content(self) -> Any:
        """As aiohttp's, for a transport that reads the body by itself: of ``request.max.bytes`` at most, and no slower
        than bodies may be. Reading raises PayloadTooLarge, RequestTimeout; it waits while memory is used up.
        """
        if self._bounded is None:
            self._bounded = self.bodies.bound(self)
        return self._bounded

    async def multipart(self) -> MultipartReader:
        """aiohttp's reader of parts, over ``content``."""
        return MultipartReader(self.headers, self.content)

    @property
    def writer(self) -> AbstractStreamWriter:
        """aiohttp's writer of responses; most replies leave without it."""
        if cast(Any, self._payload_writer) is None:
            self._payload_writer = StreamWriter(self._protocol, self._loop)
        return self._payload_writer

    async def read(self) -> bytes:
        """The body: unpacked, within ``request.max.bytes``, the time that a body may take and the memory there is.

        Raises PayloadTooLarge, RequestTimeout, BadRequest, UnsupportedMediaType, OutOfMemory.
        """
        if self._read_bytes is None:
            self._read_bytes = await self.bodies.read_body(self)
        return self._read_bytes

    def stays_open(self) -> None:
        """Says that the reply only ends with its client, before any of it is written: a stream, or another protocol.

        Raises BadRequest if the client has closed its sending side: one that is gone looks the same, and would never be
        missed.
        """
        self.lasts = True
        if self.protocol.half_closed:  # type: ignore[attr-defined]  # HttpConnection
            raise BadRequest(
                "The client has closed its sending side, and this reply would end with its client only: keep the "
                "connection open both ways (nc without -N)."
            )

    def ends_itself(self) -> None:
        """Says that the reply has begun and ends by itself, however long it takes: it is sent to a client that has
        closed its sending side, too."""
        self.lasts = False
        self.protocol.answers()  # type: ignore[attr-defined]  # HttpConnection

    def base_url(self) -> str:
        """What absolute URLs in replies to this request start with."""
        return f"{scheme_of(self)}://{self.headers.get('Host') or _own_authority(self.transport)}"

    def goes_on(self) -> Callable[[int, int], None]:
        """For a reply that is not over when ``handle`` returns: call the answer with its status and its bytes when it
        is, and the access log has its line. It keeps nothing of the request."""
        self.goes_on_later = True
        access, session, started = self.line
        method, path, facts = self.method, self.raw_path, self.facts
        return lambda status, size: access.finish(session, method, path, started, status, size, facts)

    def error_body(self, error: ServiceError, dialect: Dialect = REST) -> bytes:
        """The body that tells the error, and its help where ``errors.help`` says so."""
        return self.bodies.error_body(self, error, dialect)

    @property
    def id(self) -> str:
        """The request's id: of the one that was dispatched, else that of the head, or a new one."""
        if self.facts is None:
            self.facts = (request_id(self.headers.get(HEADER)), "", 0, 0)
        return self.facts[0]

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        headers = response.headers
        if headers.get(hdrs.SERVER) == SERVER_SOFTWARE:
            del headers[hdrs.SERVER]  # the versions of Python and aiohttp help attackers only
        for name, value in self.cors:
            known = headers.get(name)
            headers[name] = value if known is None else f"{value}, {known}"
        headers["X-Request-Id"] = self.id


class SentResponse:
    """A response that has left already, in the shape in which aiohttp's connection finishes a request.

    The transport has written the `Reply` itself; a `StreamResponse` of aiohttp's would cost more than the writing does.
    """

    __slots__ = ("body_length", "keep_alive", "status")

    def __init__(self, status: int, keep_alive: bool, body_length: int) -> None:
        self.status = status
        self.keep_alive = keep_alive
        self.body_length = body_length

    def force_close(self) -> None:
        """The connection ends behind the response."""
        self.keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self) -> None:
        return None


sent_response = cast(Callable[[int, bool, int], web.StreamResponse], SentResponse)
"""Status, whether the connection stays, payload bytes."""


def move_token(message: Any, parameter: str, is_read: bool = True) -> Any:
    """aiohttp's message with the token of that query parameter in the header (RFC 6750 §2.3), and out of the target.

    Browsers cannot set the header on a socket or an event stream. So nobody behind this knows how the token came: no
    parameter of a resource is mistaken, no log holds it, and a later look at the proof finds it. A bearer's token
    that is in the header already is the one that counts. Two tokens become two fields, which `check_head` refuses
    (RFC 6750 §3.1: a parameter that is repeated). Where nobody reads tokens (``is_read``) it counts as none.
    """
    path, mark, query = message.path.partition("?")
    tokens, kept = [], []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == parameter:
            tokens.append(unquote_plus(value))
        else:
            kept.append(part)
    if not mark or not tokens:
        return message
    text = "&".join(kept)
    changes: dict[str, Any] = {"path": f"{path}?{text}" if text else path, "url": message.url.with_query(text or None)}
    before = message.headers.getall("Authorization", ("",))
    if is_read and len(before) == 1 and not before[0].lower().startswith("bearer "):
        headers = CIMultiDict(message.headers)
        headers.popall("Authorization", None)
        raw = [each for each in message.raw_headers if each[0].lower() != b"authorization"]
        for token in tokens:
            headers.add("Authorization", f"Bearer {token}")
            raw.append((b"Authorization", f"Bearer {token}".encode("utf-8", "surrogateescape")))
        changes |= {"headers": CIMultiDictProxy(headers), "raw_headers": tuple(raw)}
    return message._replace(**changes)


def scheme_of(request: HttpRequest) -> str:
    """``https`` for a connection with TLS, whatever the request's target says; else what a trusted proxy says."""
    return request.told.scheme or ("https" if request._transport_sslcontext is not None else "http")


def _own_authority(transport: asyncio.Transport | None) -> str:
    """The address at which the client has reached the gateway, if it sends no Host; localhost for a Unix socket."""
    own = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(own, tuple):
        return "localhost"
    host, port = own[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
