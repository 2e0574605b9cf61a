"""The built-in plugin ``websocket``: requests in envelopes, and streams, over sockets."""

from __future__ import annotations

from gateway.config import Config
from gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from transports.websocket.transport import WebSocketTransport

    return [WebSocketTransport(config)]
