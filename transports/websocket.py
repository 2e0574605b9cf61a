"""REST over WebSocket: every request of the service layer in an envelope, many at once, answered by id.

``transports.frames`` moves messages and ``transports.conversation`` takes them to the gateway. Here sockets are opened,
refused and greeted, the Atmosphere clients' way where they ask for it (atmosphere-binding.md §1, §3.3 to §3.6).
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web

from gateway.access import AccessLog
from gateway.config import Config
from gateway.core import Gateway
from gateway.errors import GONE, BadRequest, CloseReason, Forbidden, NotSupported, ServiceError, ShuttingDown
from gateway.session import Session
from gateway.transport import Transport, hookimpl, refusal
from transports import atmosphere
from transports.atmosphere import Parameters
from transports.conversation import Conversation, ConversationSettings
from transports.cors import Cors
from transports.frames import Socket, SocketLimits
from transports.query import parse_query

_RENEW_S = 30.0
"""How often a socket whose principal's proof expires is looked at, for those that send no requests."""

CLOSED = CloseReason(1000, "closed by the client", False)
TAKEN_OVER = CloseReason(1000, "connected again with this tracking id", False)


class WebSocketTransport(Transport):
    name = "websocket"

    def __init__(self, config: Config) -> None:
        beats = "org.atmosphere.interceptor.HeartbeatInterceptor."
        self._settings = ConversationSettings.of(config)
        self._access = AccessLog(config.flag("access.log.enable"))
        self._cors = Cors(config)
        self._disabled = config.flag("de.elakito.kafka.atmosphere.disabled")
        self._upgrades = config.flag("org.atmosphere.useWebSocket")
        self._heartbeat_s = max(0, config.integer(beats + "heartbeatFrequencyInSeconds"))
        self._client_heartbeat_ms = max(0, config.integer(beats + "clientHeartbeatFrequencyInSeconds")) * 1000
        self._delimiter = config.text("org.atmosphere.client.TrackMessageSizeInterceptor.delimiter").encode()
        self._heartbeat_id = str(uuid.uuid4())
        """One for each start of the gateway (§1.12)."""
        self._tracked: dict[str, Socket] = {}
        """Sockets of Atmosphere clients, by tracking id."""
        text_max = config.integer("org.atmosphere.websocket.maxTextMessageSize")
        binary_max = config.integer("org.atmosphere.websocket.maxBinaryMessageSize")
        self._limits = SocketLimits(
            text_max=text_max if text_max >= 0 else None,
            binary_max=binary_max if binary_max >= 0 else None,
            idle_s=config.seconds("org.atmosphere.websocket.maxIdleTime"),
            write_timeout_s=config.seconds("org.atmosphere.websocket.writeTimeout"),
            ping_s=config.seconds("transport.websocket.ping.interval.ms"),
            compress=config.flag("transport.websocket.compression.enable"),
        )

    def claims(self, request: web.BaseRequest) -> bool:
        return not self._disabled and (_is_upgrade(request) or _is_close(request))

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        # aiohttp writes a warning for every client that offers subprotocols.
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
        yield

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        own: Session | None = None
        try:
            parameters = atmosphere.parameters(request.headers, parse_query(request.raw_path.partition("?")[2]))
            if not _is_upgrade(request):
                return self._close(parameters)
            self._check(request, gateway)
            if gateway.is_open(request.method, request.raw_path.partition("?")[0]):
                # An open path does not open what comes through the socket.
                session = own = await gateway.open_session(
                    self.name, request.headers, listener=session.listener, peer=session.peer
                )
            tracking_id = parameters.tracking_id or atmosphere.new_id()
            socket = await Socket.accept(request, self._limits, _greeting_headers(parameters, tracking_id))
        except ServiceError as error:
            return self.refuse(request, error)
        conversation = self._conversation(request, parameters, socket, session, gateway)
        session.transport, session.on_close = self.name, socket.close
        if parameters.is_atmosphere:
            self._track(tracking_id, socket)
        self._greet(parameters, tracking_id, socket, conversation)
        if session.principal.until < float("inf"):
            socket.every(_RENEW_S, lambda: _renew(session, conversation))
        try:
            await socket.run(conversation.take)
        finally:
            session.on_close = None
            if self._tracked.get(tracking_id) is socket:
                del self._tracked[tracking_id]
            await conversation.aclose()
            if own is not None:
                await gateway.close_session(own, GONE)
        return cast(web.StreamResponse, _Closed())

    def refuse(self, request: web.BaseRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error)
        if isinstance(error, BadRequest):
            response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455 §4.4
        if isinstance(error, NotSupported):
            response.headers[atmosphere.ERROR] = "Websocket protocol not supported"
        response.force_close()  # what follows may be frames
        if self._access.enabled:
            size = len(cast(bytes, response.body))
            self._access.add(request.remote or "unix", "-", request.method, request.raw_path, error.status, size, 0.0)
        return response

    def _check(self, request: web.BaseRequest, gateway: Gateway) -> None:
        headers = request.headers
        if "Content-Length" in headers or "Transfer-Encoding" in headers:
            raise BadRequest("A request to upgrade must not have a body.")
        if not self._upgrades:  # Atmosphere clients then fall back on another transport (§3.6)
            raise NotSupported("WebSockets are switched off (org.atmosphere.useWebSocket).")
        for origin in headers.getall("Origin", ()):
            if not _is_own(origin, request) and not self._cors.allows(origin):
                # A foreign page would speak with its reader's cookies and place in the network (reliability.md S11).
                raise Forbidden("Pages of this origin may not use the gateway (access.control.allow.origin).")
        if gateway.stopping:
            raise ShuttingDown()

    def _conversation(
        self, request: web.BaseRequest, parameters: Parameters, socket: Socket, session: Session, gateway: Gateway
    ) -> Conversation:
        scheme = "https" if request._transport_sslcontext is not None else "http"
        return Conversation(
            self._settings,
            socket,
            session,
            gateway,
            self._access,
            request.headers,
            f"{scheme}://{request.headers.get('Host', 'localhost')}",
            form=parameters.form,
            binary=parameters.binary,
            reply_headers=parameters.reply_headers,
            wrap=partial(atmosphere.with_length, delimiter=self._delimiter) if parameters.track_length else None,
        )

    # --- Atmosphere -------------------------------------------------------------------------------------------------

    def _greet(self, parameters: Parameters, tracking_id: str, socket: Socket, conversation: Conversation) -> None:
        """The first message, and the beats that follow (§3.3, §3.5)."""
        text = self._settings.heartbeat.decode()
        if parameters.wants_handshake:
            conversation.send(atmosphere.handshake(tracking_id, self._client_heartbeat_ms, text))
        elif parameters.protocol:
            conversation.send(self._settings.heartbeat)  # clients up to 4.x then know that they are connected again
        if self._heartbeat_s:
            socket.every(self._heartbeat_s, lambda: self._beat(socket, conversation))
        quiet_s = self._heartbeat_s
        if parameters.heartbeat_s is not None:
            quiet_s = max(parameters.heartbeat_s, self._heartbeat_s) if parameters.heartbeat_s else 0
        if parameters.is_atmosphere and quiet_s:
            socket.every(quiet_s, lambda: self._pad(quiet_s, socket, conversation))

    def _beat(self, socket: Socket, conversation: Conversation) -> None:
        if not socket.congested:
            now_ms = time.time_ns() // 1_000_000
            conversation.send(f'{{"heartbeat": "{self._heartbeat_id}", "time": {now_ms}}}'.encode())

    def _pad(self, quiet_s: float, socket: Socket, conversation: Conversation) -> None:
        if not socket.congested and socket.quiet_s >= quiet_s - 0.01:
            conversation.send(self._settings.heartbeat)

    def _track(self, tracking_id: str, socket: Socket) -> None:
        """The newest connection of a tracking id replaces the one before (§3.12)."""
        older = self._tracked.get(tracking_id)
        self._tracked[tracking_id] = socket
        if older is not None:
            older.close(TAKEN_OVER)

    def _close(self, parameters: Parameters) -> web.StreamResponse:
        """The close request of an Atmosphere client; it may overtake its close frame (§3.6, §3.11)."""
        socket = self._tracked.pop(parameters.tracking_id, None)
        if socket is not None:
            socket.close(CLOSED)
        return web.Response(status=200)


class _Closed:
    """A connection that is over, in the shape in which aiohttp wants a response to be finished."""

    status = 101
    keep_alive = False
    body_length = 0

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self) -> None:
        return None


def _is_upgrade(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def _is_close(request: web.BaseRequest) -> bool:
    target = request.raw_path
    if "?" not in target or "x-atmosphere-transport=close" not in target.lower():
        return False
    return request.method in ("GET", "POST")


def _is_own(origin: str, request: web.BaseRequest) -> bool:
    """Whether a page comes from the gateway itself: the same scheme, host and port (RFC 6454 §5)."""
    try:
        parts = urlsplit(origin)
        port, scheme = parts.port, parts.scheme
    except ValueError:
        return False
    own_scheme = "https" if request._transport_sslcontext is not None else "http"
    host = request.headers.get("Host", "").lower()
    default = {"http": 80, "https": 443}.get(scheme)
    names = {f"{parts.hostname}:{port or default}"} | ({parts.hostname or ""} if port in (None, default) else set())
    return scheme == own_scheme and origin.isascii() and host in names


def _greeting_headers(parameters: Parameters, tracking_id: str) -> dict[str, str]:
    """What Atmosphere clients get with the upgrade (§3.6, §3.14)."""
    if not parameters.is_atmosphere:
        return {}
    headers = {
        atmosphere.TRACKING_ID: tracking_id,
        "Expires": "-1",
        "Cache-Control": "no-store, no-cache, must-revalidate",
        "Pragma": "no-cache",
    }
    if not parameters.tracking_id:
        headers[atmosphere.FIRST_REQUEST] = "true"
    return headers


def _renew(session: Session, conversation: Conversation) -> None:
    async def renew() -> None:
        with contextlib.suppress(ServiceError):  # Unauthorized has closed the socket; of others the next request hears
            await conversation.renew()

    if session.closed is None:
        session.spawn(renew(), "renew")


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    return [WebSocketTransport(config)]
