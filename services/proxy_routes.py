"""The sockets of Kafka WebSocket Proxy's protocol as routes, for transports/websocket_proxy.py."""

from __future__ import annotations

from gateway.config import Config
from gateway.hookspecs import hookimpl
from gateway.kafka.ports import Kafka
from gateway.router import Route
from services.proxy_consume import ConsumeSockets
from services.proxy_produce import ProduceSockets
from services.proxy_sessions import OpenSessions, ProxySettings


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> list[Route]:
    settings, sessions = ProxySettings(), OpenSessions()
    return [
        Route(
            "GET", "/socket/in", ProduceSockets(kafka, settings, sessions).open, "socket.in", permission="topic:write"
        ),
        Route(
            "GET", "/socket/out", ConsumeSockets(kafka, settings, sessions).open, "socket.out", permission="group:read"
        ),
    ]
