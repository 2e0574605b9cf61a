"""The built-in plugin ``http``: plain HTTP."""

from __future__ import annotations

from gateway.config import Config
from gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from transports.http.transport import HttpTransport

    return [HttpTransport(config)]
