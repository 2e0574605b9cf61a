"""A plugin whose WebSocket sends every message back: what the Autobahn test suite talks to."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from kafka_gateway.core import Gateway
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport, hookimpl
from kafka_gateway.transports.websocket.socket import OVER, Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits

PATH = "/echo"
LIMITS = SocketLimits(text_max=1 << 24, binary_max=1 << 24, compress=True)
"""The suite's longest message has 16 MiB."""


class EchoTransport(Transport):
    """Reads and writes as the transport ``websocket`` does: with ``transports.websocket.socket``."""

    name = "echo"

    def claims(self, request: web.BaseRequest) -> bool:
        return request.raw_path == PATH

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        socket = await Socket.accept(request, LIMITS, {}, gateway.memory, self.name)
        await socket.run(lambda message, is_text: socket.send(message, not is_text))
        return OVER


class EchoPlugin:
    @hookimpl
    def gateway_transports(self) -> Sequence[Transport]:
        return [EchoTransport()]
