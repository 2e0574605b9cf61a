"""The built-in plugin ``docs``: what clients can ask of the gateway, for programs and for people."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from kafka_gateway.transports.docs.transport import DocsTransport

    return [DocsTransport()]
