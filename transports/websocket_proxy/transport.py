"""``/socket/in`` and ``/socket/out`` of Kafka WebSocket Proxy's protocol (websocket-proxy.md; docs/websocket-proxy.md).

This module refuses and opens the sockets. ``parameters`` reads their query, ``messages`` and ``formats`` read and write
what travels on them, and ``sockets`` serves them once they are open.
"""

from __future__ import annotations

import json
import socket as sockets
from functools import partial
from typing import cast

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import Dialect
from kafka_gateway.errors import (
    BadRequest,
    CloseReason,
    NotFound,
    ServiceError,
    ShuttingDown,
    Unauthorized,
)
from kafka_gateway.jsonio import encode
from kafka_gateway.messages import Request
from kafka_gateway.query import parse_query
from kafka_gateway.router import served
from kafka_gateway.services.websocket_proxy.implied_settings import PREFIX
from kafka_gateway.services.websocket_proxy.ports import FollowerRequest, RecordFollower, RecordSender, SenderRequest
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport, refusal
from kafka_gateway.transports.websocket.socket import OVER, Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from kafka_gateway.transports.websocket_proxy.avro_messages import avro_produce_decoder, avro_result
from kafka_gateway.transports.websocket_proxy.channels import CHANNELS
from kafka_gateway.transports.websocket_proxy.messages import produce_decoder, result_frame
from kafka_gateway.transports.websocket_proxy.parameters import Formats, consume_parameters, produce_parameters
from kafka_gateway.transports.websocket_proxy.sockets import (
    ConsumeConversation,
    Messages,
    ProduceConversation,
    failed,
    keep_alive,
)

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
"""The protocol has no limit; clients may rely on 8 MiB (§1.9)."""
_WRITE_TIMEOUT_S = 300.0
"""A client that accepts nothing at all for this long is cut off."""
_FRAGMENTS_S = 5.0
"""A message in fragments must be complete within this time (§1.9)."""
_DEAD_S = 60
"""A connection whose peer confirms no bytes for this long is dead; an idle socket sends pongs, so that it shows."""


class ProxyDialect(Dialect):
    """Errors as this protocol's clients know them (§1.2)."""

    def error(self, error: ServiceError) -> bytes:
        return json.dumps({"message": error.message}, indent=2, separators=(",", " : "), ensure_ascii=False).encode()


PROXY = ProxyDialect()
_FRAMES = served("GET", "/socket/in", "socket.in.produce")
"""The messages on such a socket, for the rate limit."""
_COMMITS = served("GET", "/socket/out", "socket.out.commit")
"""The commits of clients that commit by themselves."""


class WebSocketProxyTransport(Transport):
    name = "websocket-proxy"
    paths = ("/socket/*",)
    resources = (_FRAMES, _COMMITS)
    channels = CHANNELS

    def __init__(self, config: Config) -> None:
        # With the protocol's own keys for authentication the close codes are its own (§1.9), else those of security.md
        # §2. The second of the two is for consumers.
        own = any(config.flag(f"{PREFIX}server.{each}.enabled") for each in ("openid-connect", "basic-auth"))
        own = own or bool(config.text(f"{PREFIX}server.openid-connect.well-known-url"))
        self._proof_ended = (1000, 1011) if own else (1008, 1008)
        self._limits = SocketLimits(
            text_max=MESSAGE_MAX_BYTES,
            binary_max=MESSAGE_MAX_BYTES,
            idle_s=0,
            write_timeout_s=_WRITE_TIMEOUT_S,
            ping_s=0,
            fragments_s=_FRAGMENTS_S,
            message_rate=config.integer("request.body.min.rate"),
            echo_close=True,
            server_name="",
        )

    def claims(self, request: web.BaseRequest) -> bool:
        target = request.raw_path
        return target.startswith("/socket/") and target.partition("?")[0] in ("/socket/in", "/socket/out")

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        query = parse_query(query_text)
        wanted: SenderRequest | FollowerRequest
        if path == "/socket/in":
            wanted, formats = produce_parameters(query)
            gateway.check_not_blocked(_FRAMES)
        else:
            wanted, formats = consume_parameters(query)
            if not wanted.auto_commit:
                gateway.check_not_blocked(_COMMITS)
        _check_upgrade(request)
        if gateway.stopping:
            raise ShuttingDown()
        reply = await gateway.dispatch(Request(session, "GET", path, query=query, body=wanted, dialect=PROXY))
        if isinstance(reply.body, bytes):
            return _refusal(_with(refusal(NotFound()), reply.status, reply.body, reply.headers))
        behind = cast(RecordSender | RecordFollower, reply.body)
        try:
            socket = await Socket.accept(request, self._limits, {}, gateway.memory, self.name)
        except BaseException:
            behind.end(0)
            session.streams.discard(reply.body)
            raise
        proof_ended = self._proof_ended[isinstance(wanted, FollowerRequest)]
        session.keep_open(partial(_session_closed, socket, behind, proof_ended), None)
        _watch_peer(request)
        keep_alive(socket)
        code = 1006
        try:
            if isinstance(wanted, SenderRequest):
                code = await self._produce(socket, cast(RecordSender, behind), wanted, formats, gateway)
            else:
                code = await self._consume(socket, cast(RecordFollower, behind), wanted, formats, gateway)
        finally:
            session.on_close = None
            behind.end(code)
            session.streams.discard(reply.body)
        return OVER

    async def _produce(
        self, socket: Socket, sender: RecordSender, wanted: SenderRequest, formats: Formats, gateway: Gateway
    ) -> int:
        if formats.avro:
            messages = Messages(avro_produce_decoder(formats.key, formats.value), avro_result(wanted.topic), True)
        else:
            decode = produce_decoder(formats.key, formats.value)
            messages = Messages(decode, partial(result_frame, encode(wanted.topic)), False)
        conversation = ProduceConversation(
            socket, sender, messages, gateway.memory.claim(), gateway, gateway.meter(_FRAMES)
        )
        try:
            return (await socket.run(conversation.take, conversation.before_close)).code
        finally:
            conversation.stop()

    async def _consume(
        self, socket: Socket, follower: RecordFollower, wanted: FollowerRequest, formats: Formats, gateway: Gateway
    ) -> int:
        meter = None if wanted.auto_commit else gateway.meter(_COMMITS)
        conversation = ConsumeConversation(
            socket, follower, wanted.encoder, wanted.auto_commit, formats.avro, meter, self._proof_ended[True]
        )
        follower.start(conversation)
        try:
            return (await socket.run(conversation.take)).code
        finally:
            conversation.stop()

    def refuse(self, request: web.BaseRequest, error: ServiceError) -> web.StreamResponse:
        if isinstance(error, Unauthorized) and error.message == Unauthorized.text:
            challenge = dict(error.headers).get("WWW-Authenticate", "")
            text = (
                "The supplied authentication is invalid"
                if "Authorization" in request.headers
                else "The resource requires authentication, which was not supplied with the request"
            )
            error = Unauthorized(text, challenge)
        return _refusal(_with(refusal(error), error.status, PROXY.error(error)))


def _refusal(response: web.Response) -> web.Response:
    if response.status == 400:
        response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455 §4.4
    response.force_close()  # what follows may be frames
    return response


def _check_upgrade(request: web.BaseRequest) -> None:
    """BadRequest if this is no handshake. Called before anything is registered, so that it leaves no trace (§1.2)."""
    try:
        # A plain request on a socket's path is answered alike, whatever its method (§1.2).
        wanted = request.method == "GET" and web.WebSocketResponse().can_prepare(request).ok
    except HTTPException:
        wanted = False
    if not wanted or request.headers.get("Sec-WebSocket-Version") != "13":  # aiohttp takes two drafts as well
        raise BadRequest("Expected WebSocket Upgrade request")


def _with(response: web.Response, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> web.Response:
    response.set_status(status)
    response.body = body
    for name, value in headers:
        response.headers[name] = value
    return response


def _session_closed(
    socket: Socket, behind: RecordSender | RecordFollower, proof_ended: int, reason: CloseReason
) -> None:
    """Closes the socket of a session that ends."""
    if reason.error is not None:
        reason = failed(reason.error, proof_ended)
        behind.end(reason.code)
    socket.close(reason)


def _watch_peer(request: web.BaseRequest) -> None:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is not None and connection.family in (sockets.AF_INET, sockets.AF_INET6):
        option = getattr(sockets, "TCP_USER_TIMEOUT", None)  # Linux
        if option is not None:
            connection.setsockopt(sockets.IPPROTO_TCP, option, _DEAD_S * 1000)
