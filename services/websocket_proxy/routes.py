"""The sockets of Kafka WebSocket Proxy's protocol as routes, for transports/websocket_proxy/transport.py, and what goes
with them over plain HTTP, for transports/websocket_proxy/http.py.
"""

from __future__ import annotations

from gateway.config import Config
from gateway.kafka.ports import Kafka
from gateway.router import Route
from services.websocket_proxy.admin import ProxyAdmin
from services.websocket_proxy.consume import ConsumeSockets
from services.websocket_proxy.control import ProxyControl
from services.websocket_proxy.produce import ProduceSockets


def routes(config: Config, kafka: Kafka) -> list[Route]:
    control = ProxyControl(config, kafka)
    produce = ProduceSockets(kafka, control.settings, control)
    consume = ConsumeSockets(kafka, control.settings, control)
    return [
        Route("GET", "/socket/in", produce.open, "socket.in", permission="topic:write", service=control),
        Route("GET", "/socket/out", consume.open, "socket.out", permission="group:read", service=control),
        *ProxyAdmin(control, kafka.admin).routes(),
    ]
