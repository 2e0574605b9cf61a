"""The built-in plugin ``websocket_proxy``: Kafka WebSocket Proxy's sockets and the plain HTTP beside them."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.websocket_proxy.implied_settings import ADMIN, HTTP, METRICS
from kafka_gateway.services.websocket_proxy.keys import WEBSOCKET_PROXY
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(WEBSOCKET_PROXY)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from kafka_gateway.transports.websocket_proxy.http import ProxyHttp
    from kafka_gateway.transports.websocket_proxy.transport import WebSocketProxyTransport

    return [
        ProxyHttp(config, HTTP, "websocket-proxy", named_only=False),
        ProxyHttp(config, ADMIN, "websocket-proxy-admin", named_only=True),
        ProxyHttp(config, METRICS, "websocket-proxy-metrics", named_only=True),
        WebSocketProxyTransport(config),
    ]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, schemas: Schemas, metrics: Metrics) -> Sequence[Route]:
    from kafka_gateway.services.websocket_proxy.routes import routes

    return routes(config, kafka, schemas, metrics)
