"""The built-in plugin ``websocket``: requests in envelopes, and streams, over sockets."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from kafka_gateway.transports.websocket.transport import WebSocketTransport

    return [WebSocketTransport(config)]
