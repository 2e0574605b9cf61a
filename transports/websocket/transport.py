"""REST over WebSocket: every request of the service layer in an envelope, many at once, answered by id.

``transports.websocket.socket`` moves messages and ``transports.envelope.session`` takes them to the gateway. Here
sockets are opened, refused and greeted, the Atmosphere clients' way where they ask for it (atmosphere-binding.md §1,
§3.3 to §3.6).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from aiohttp import web

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.request import HttpRequest, sent_response
from kafka_gateway.door.subprotocol_proof import PROTOCOL
from kafka_gateway.errors import BadRequest, CloseReason, MethodNotAllowed, NotSupported, ServiceError, ShuttingDown
from kafka_gateway.query import parse_query
from kafka_gateway.route_traits import has_stream
from kafka_gateway.session import Session
from kafka_gateway.stream import Feed
from kafka_gateway.transport import Transport, refusal
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.protocol import AtmosphereSettings, Parameters
from kafka_gateway.transports.envelope.channels import ENVELOPES
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.envelope.tracking_ids import TrackedClient, TrackingIds
from kafka_gateway.transports.records.connection import StreamLimits
from kafka_gateway.transports.websocket.closing import LEFT
from kafka_gateway.transports.websocket.socket import OVER, Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from kafka_gateway.transports.websocket.stream_socket import feed_socket, open_stream, serve_stream


class WebSocketTransport(Transport):
    name = "websocket"
    upgrades = True
    channels = (ENVELOPES,)

    def __init__(self, config: Config) -> None:
        self._settings = EnvelopeSettings.of(config)
        self._atmosphere = AtmosphereSettings.of(config)
        self._disabled = config.flag("de.elakito.kafka.atmosphere.disabled")
        self._upgrades = config.flag("org.atmosphere.useWebSocket")
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
        self._limits = replace(
            self._limits,
            buffer_bytes=config.integer("stream.buffer.bytes"),
            message_rate=config.integer("request.body.min.rate"),
        )
        # A client of a quiet stream is not idle, and its signs of life come from the heartbeats of all streams.
        self._stream_limits = replace(self._limits, idle_s=0, ping_s=0, compress=False)
        self._limits_of_streams = StreamLimits(config)

    def claims(self, request: web.BaseRequest) -> bool:
        return not self._disabled and request.headers.get("Upgrade", "").strip().lower() == "websocket"

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        # aiohttp writes a warning for every client that offers subprotocols.
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
        yield

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if request.method != "GET":  # RFC 6455 §4.1
            raise MethodNotAllowed("A WebSocket handshake is a GET.", ("GET",))
        if not self._upgrades:  # Atmosphere clients then fall back on another transport (§3.6)
            raise NotSupported("WebSockets are switched off (org.atmosphere.useWebSocket).")
        if gateway.stopping:
            raise ShuttingDown()
        if has_stream(gateway.router, path):
            return await self._stream(request, session, gateway)
        parameters = atmosphere.parameters(request.headers, parse_query(query))
        clients = TrackingIds.of(gateway)
        tracking_id = parameters.tracking_id or atmosphere.new_id(clients.mark)
        headers = atmosphere.response_headers(parameters, tracking_id) if parameters.is_atmosphere else {}
        socket = await Socket.accept(request, self._limits, headers, gateway.memory, self.name)
        conversation = self._conversation(request, parameters, socket, session, gateway)
        session.keep_open(socket.close, f"{request.method} {path}")
        client = TrackedClient(tracking_id, path, session, conversation, socket, conversation.room)
        if parameters.is_atmosphere:
            clients.add(client)
        self._greet(parameters, client, socket, clients.heartbeat_id)

        async def before_close(reason: CloseReason) -> None:
            if socket.closed_by_client or socket.broken_by_client:
                await conversation.settle(questions=reason is LEFT)

        try:
            await socket.run(conversation.take, before_close)
        finally:
            session.on_close = None
            clients.remove(client)
            await conversation.aclose()
        return OVER

    async def _stream(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        """A socket for one record stream: no envelopes."""
        reply = await open_stream(request, session, gateway)
        if isinstance(reply.body, bytes):
            return _refused(reply.status, reply.body, reply.headers)
        stream = reply.body
        try:
            if isinstance(stream, Feed):
                response: web.WebSocketResponse[bool] = web.WebSocketResponse(
                    autoping=False, compress=False, protocols=(PROTOCOL,)
                )
                await feed_socket(request, response, stream, session, gateway, self._limits_of_streams)
                return OVER
            socket = await Socket.accept(request, self._stream_limits, {}, gateway.memory, self.name)
        except ServiceError:
            session.streams.discard(stream)
            await stream.aclose()
            raise
        return sent_response(
            101, False, await serve_stream(request, socket, stream, session, gateway, self._limits_of_streams)
        )

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error, request)
        if isinstance(error, BadRequest):
            response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455 §4.4
        if isinstance(error, NotSupported):
            response.headers[atmosphere.ERROR] = "Websocket protocol not supported"
        response.force_close()  # what follows may be frames
        return response

    def _conversation(
        self, request: HttpRequest, parameters: Parameters, socket: Socket, session: Session, gateway: Gateway
    ) -> EnvelopeSession:
        return EnvelopeSession(
            self._settings,
            socket,
            session,
            gateway,
            request.headers,
            request.base_url(),
            form=parameters.form,
            binary=parameters.binary,
            reply_headers=parameters.reply_headers,
            wrap=partial(atmosphere.with_length, delimiter=self._atmosphere.delimiter)
            if parameters.track_length
            else None,
        )

    # --- Atmosphere -------------------------------------------------------------------------------------------------

    def _greet(self, parameters: Parameters, client: TrackedClient, socket: Socket, heartbeat_id: str) -> None:
        """The first message, and the beats that follow (§3.3, §3.5)."""
        settings, conversation = self._atmosphere, client.conversation
        if parameters.wants_handshake:
            conversation.send(
                atmosphere.handshake(client.tracking_id, settings.client_heartbeat_ms, settings.heartbeat.decode())
            )
        elif parameters.protocol:
            conversation.send(settings.heartbeat)  # clients up to 4.x then know that they are connected again
        if settings.heartbeat_s:
            socket.every(settings.heartbeat_s, lambda: _beat(heartbeat_id, socket, conversation))
        quiet_s = parameters.quiet_s(settings.heartbeat_s)
        if parameters.is_atmosphere and quiet_s:
            socket.every(quiet_s, lambda: self._pad(quiet_s, socket, conversation))

    def _pad(self, quiet_s: float, socket: Socket, conversation: EnvelopeSession) -> None:
        if not socket.congested and socket.quiet_s >= quiet_s - 0.01:
            conversation.send(self._atmosphere.heartbeat)


def _refused(status: int, body: bytes, headers: tuple[tuple[str, str], ...]) -> web.StreamResponse:
    response = web.Response(status=status, body=body, headers=dict(headers), content_type="application/json")
    response.force_close()  # what follows may be frames
    return response


def _beat(heartbeat_id: str, socket: Socket, conversation: EnvelopeSession) -> None:
    if not socket.congested:
        conversation.send(atmosphere.json_heartbeat(heartbeat_id))
