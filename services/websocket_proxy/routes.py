"""The routes of Kafka WebSocket Proxy's protocol: its sockets, for transports/websocket_proxy/transport.py, and its
resources over plain HTTP, for transports/websocket_proxy/http.py.
"""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route, described
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.websocket_proxy.admin import ProxyAdmin
from kafka_gateway.services.websocket_proxy.consume import ConsumeSockets
from kafka_gateway.services.websocket_proxy.control import ProxyControl
from kafka_gateway.services.websocket_proxy.descriptions import DESCRIPTIONS, PATH
from kafka_gateway.services.websocket_proxy.produce import ProduceSockets


def routes(config: Config, kafka: Kafka, schemas: Schemas, metrics: Metrics) -> list[Route]:
    control = ProxyControl(config, kafka.own, schemas)
    metrics.add(control.metrics.families)
    produce = ProduceSockets(kafka, control.settings, control)
    consume = ConsumeSockets(kafka, control.settings, control)
    writes, reads = "write topic; write transactional-id", "read topic; read group"  # their names are in the query
    found = [
        Route("GET", "/socket/in", produce.open, "socket.in", permission=writes, service=control),
        Route("GET", "/socket/out", consume.open, "socket.out", permission=reads, service=control),
        *ProxyAdmin(control, kafka.own.admin).routes(),
    ]
    return described(found, DESCRIPTIONS, PATH)
