"""The built-in plugin ``atmosphere``: the Atmosphere binding over HTTP."""

from __future__ import annotations

from gateway.config import Config, ConfigKey
from gateway.transport import Transport, hookimpl
from transports.atmosphere.keys import ATMOSPHERE


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(ATMOSPHERE)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from transports.atmosphere.transport import AtmosphereTransport

    return [AtmosphereTransport(config)]
