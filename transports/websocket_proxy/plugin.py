"""The built-in plugin ``websocket_proxy``: Kafka WebSocket Proxy's sockets and the plain HTTP beside them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.router import Route
from gateway.transport import Transport, hookimpl
from services.websocket_proxy.keys import ADMIN, HTTP, METRICS, WEBSOCKET_PROXY


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(WEBSOCKET_PROXY)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from transports.websocket_proxy.http import ProxyHttp
    from transports.websocket_proxy.transport import WebSocketProxyTransport

    return [
        ProxyHttp(config, HTTP, "websocket-proxy", named_only=False),
        ProxyHttp(config, ADMIN, "websocket-proxy-admin", named_only=True),
        ProxyHttp(config, METRICS, "websocket-proxy-metrics", named_only=True),
        WebSocketProxyTransport(config),
    ]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> Sequence[Route]:
    from services.websocket_proxy.routes import routes

    return routes(config, kafka)
