"""The sockets of Kafka WebSocket Proxy's protocol as routes, for transports/websocket_proxy.py, and what goes with
them over plain HTTP, for transports/proxy_http.py.
"""

from __future__ import annotations

from gateway.config import Config
from gateway.hookspecs import hookimpl
from gateway.kafka.ports import Kafka
from gateway.router import Route
from services.proxy_admin import ProxyAdmin
from services.proxy_consume import ConsumeSockets
from services.proxy_control import ProxyControl
from services.proxy_produce import ProduceSockets


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> list[Route]:
    control = ProxyControl(config, kafka)
    produce = ProduceSockets(kafka, control.settings, control)
    consume = ConsumeSockets(kafka, control.settings, control)
    return [
        Route("GET", "/socket/in", produce.open, "socket.in", permission="topic:write", service=control),
        Route("GET", "/socket/out", consume.open, "socket.out", permission="group:read", service=control),
        *ProxyAdmin(control, kafka.admin).routes(),
    ]
