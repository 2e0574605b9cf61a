"""The built-in plugin ``http``: plain HTTP."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from kafka_gateway.transports.http.transport import HttpTransport

    return [HttpTransport(config)]
