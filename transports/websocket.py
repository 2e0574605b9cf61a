"""REST over WebSocket: every request of the service layer in an envelope, many at once, answered by id.

``transports.frames`` moves messages, ``transports.envelope`` says what they mean, ``transports.atmosphere`` what the
Atmosphere clients want besides; here they meet the gateway (atmosphere-binding.md §1, §3.3 to §3.6).

Each request runs in a task of its own. Tasks begin in the order in which they were made, and ``Gateway.dispatch`` hands
a produce request to Kafka before it first waits, so records reach Kafka in the order in which they were sent.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from gateway import media
from gateway.access import AccessLog
from gateway.config import Config
from gateway.core import Gateway
from gateway.dialect import REST
from gateway.errors import (
    GONE,
    SLOW,
    BadRequest,
    CloseReason,
    Forbidden,
    NotSupported,
    RequestTimeout,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
)
from gateway.messages import NOTHING, Reply, Request
from gateway.session import Session
from gateway.stream import Stream
from gateway.transport import Transport, hookimpl, refusal
from transports import atmosphere, envelope
from transports.cors import Cors
from transports.envelope import Envelope, Form
from transports.frames import Socket, SocketLimits
from transports.query import parse_query
from transports.sequences import Sequences

_INHERITED = ("authorization", "cookie", "host", "forwarded", "accept-language", "user-agent")
"""Headers of the upgrade request that its envelopes inherit (§1.9); and those that begin with ``x-forwarded-``."""
_REPLY_HEADERS = frozenset({"location", "retry-after", "etag", "www-authenticate"})
_IDENTITIES_MAX = 16
"""Different proofs of identity in the envelopes of one socket."""
_HEADER_SETS_MAX = 64
_FORMS = {"true": Form.DETACHED, "false": Form.EMBEDDED, "lf": Form.DETACHED_LF}

TAKEN_OVER = CloseReason(1000, "connected again with this tracking id", False)
CLOSED = CloseReason(1000, "closed by the client", False)
REVOKED = CloseReason(1008, "the proof of identity is not valid any more", False)


@dataclass(frozen=True, slots=True)
class _Settings:
    requests_max: int
    sequences_max: int
    sequence_idle_s: float
    body_max: int
    reply_max: int
    form: Form | None
    binary: bool
    heartbeat_s: int
    client_heartbeat_s: int
    heartbeat: str
    delimiter: str
    generation: str
    write_timeout_s: float

    @classmethod
    def of(cls, config: Config) -> _Settings:
        detached = "atmosphere.simple-rest.protocol.detached"
        beats = "org.atmosphere.interceptor.HeartbeatInterceptor."
        own_generation = config.given("api.default.generation") or not config.flag("api.v1.enable")
        return cls(
            requests_max=config.integer("transport.websocket.requests.max"),
            sequences_max=config.integer("transport.websocket.sequences.max"),
            sequence_idle_s=config.seconds("transport.websocket.sequence.timeout.ms"),
            body_max=min(config.integer("request.max.bytes"), config.integer("request.decompressed.max.bytes")),
            reply_max=config.integer("transport.websocket.reply.max.size"),
            form=_FORMS[config.text(detached)] if config.given(detached) else None,
            binary=config.flag("org.atmosphere.websocket.binaryWrite"),
            heartbeat_s=max(0, config.integer(beats + "heartbeatFrequencyInSeconds")),
            client_heartbeat_s=max(0, config.integer(beats + "clientHeartbeatFrequencyInSeconds")),
            heartbeat=config.text(beats + "paddingChar"),
            delimiter=config.text("org.atmosphere.client.TrackMessageSizeInterceptor.delimiter"),
            # The binding was made on v1: its clients take a request without media types for one of v1 (§1.14).
            generation="" if own_generation else "v1",
            write_timeout_s=config.seconds("org.atmosphere.websocket.writeTimeout"),
        )


class WebSocketTransport(Transport):
    name = "websocket"

    def __init__(self, config: Config) -> None:
        self.settings = _Settings.of(config)
        self.access = AccessLog(config.flag("access.log.enable"))
        self.heartbeat_id = str(uuid.uuid4())
        """One for each start of the gateway (§1.12)."""
        self.tracked: dict[str, Socket] = {}
        """Sockets of Atmosphere clients, by tracking id."""
        self._disabled = config.flag("de.elakito.kafka.atmosphere.disabled")
        self._upgrades = config.flag("org.atmosphere.useWebSocket")
        self._cors = Cors(config)
        text_max = config.integer("org.atmosphere.websocket.maxTextMessageSize")
        binary_max = config.integer("org.atmosphere.websocket.maxBinaryMessageSize")
        self._limits = SocketLimits(
            text_max=text_max if text_max >= 0 else None,
            binary_max=binary_max if binary_max >= 0 else None,
            idle_s=config.seconds("org.atmosphere.websocket.maxIdleTime"),
            write_timeout_s=self.settings.write_timeout_s,
            ping_s=config.seconds("transport.websocket.ping.interval.ms"),
            compress=config.flag("transport.websocket.compression.enable"),
        )

    def claims(self, request: web.BaseRequest) -> bool:
        if self._disabled:
            return False
        return request.headers.get("Upgrade", "").lower().strip() == "websocket" or _is_close(request)

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        # aiohttp writes a warning for every client that offers subprotocols.
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
        yield

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        try:
            if not request.headers.get("Upgrade"):
                return self._close(request)
            self._check(request, gateway)
            parameters = atmosphere.parameters(request.headers, parse_query(request.query_string))
            if gateway.is_open(request.method, request.raw_path.partition("?")[0]):
                # What comes through the socket are requests of all kinds: an open path does not open them.
                session = await gateway.open_session(
                    self.name, request.headers, listener=session.listener, peer=session.peer
                )
            tracking_id = parameters.tracking_id or atmosphere.new_id()
            socket = await Socket.accept(request, self._limits, _response_headers(parameters, tracking_id))
        except ServiceError as error:
            return self.refuse(request, error)
        session.transport = self.name
        session.on_close = socket.close
        client = Client(self, socket, session, gateway, request, parameters)
        if parameters.is_atmosphere:
            older = self.tracked.get(tracking_id)
            self.tracked[tracking_id] = socket
            if older is not None:
                older.close(TAKEN_OVER)
        try:
            client.greet(tracking_id)
            await socket.run(client.take)
        finally:
            if self.tracked.get(tracking_id) is socket:
                del self.tracked[tracking_id]
            session.on_close = None
            await client.aclose()
        return cast(web.StreamResponse, _Done())

    def refuse(self, request: web.BaseRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error)
        if isinstance(error, BadRequest):
            response.headers["Sec-WebSocket-Version"] = "13"
        if isinstance(error, NotSupported):
            response.headers[atmosphere.ERROR] = "Websocket protocol not supported"
        response.force_close()
        if self.access.enabled:
            size = len(cast(bytes, response.body))
            self.access.add(request.remote or "unix", "-", request.method, request.raw_path, error.status, size, 0.0)
        return response

    def _check(self, request: web.BaseRequest, gateway: Gateway) -> None:
        headers = request.headers
        if "Content-Length" in headers or "Transfer-Encoding" in headers:
            raise BadRequest("A request to upgrade must not have a body.")
        if not self._upgrades:  # Atmosphere clients then try another way (§3.6)
            raise NotSupported("WebSockets are switched off (org.atmosphere.useWebSocket).")
        origin = headers.get("Origin")
        if origin is not None and not _is_same_origin(request, origin) and not self._cors.allows(origin):
            # A page of somebody else would speak with the cookies and the place in the network of its reader (S11).
            raise Forbidden(f"Pages of {origin[:200]!r} may not use this gateway (access.control.allow.origin).")
        if gateway.stopping:
            raise ShuttingDown()

    def _close(self, request: web.BaseRequest) -> web.StreamResponse:
        """The close request of an Atmosphere client; it may overtake the close frame (§3.6, §3.11)."""
        parameters = atmosphere.parameters(request.headers, parse_query(request.query_string))
        socket = self.tracked.pop(parameters.tracking_id, None)
        if socket is not None:
            socket.close(CLOSED)
        return web.Response(status=200)


class Client:
    """One socket's envelopes: takes messages, starts requests, writes replies."""

    __slots__ = (
        "_base_url",
        "_binary",
        "_delimiter",
        "_form",
        "_gateway",
        "_handshake_proof",
        "_header_sets",
        "_heartbeat",
        "_inherited",
        "_others",
        "_parameters",
        "_peer_settings",
        "_reply_headers",
        "_running",
        "_sequences",
        "_session",
        "_settings",
        "_socket",
        "_transport",
        "_x_period_s",
    )
