"""The built-in plugin ``atmosphere``: the Atmosphere binding over HTTP."""

from __future__ import annotations

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.transport import Transport, hookimpl
from kafka_gateway.transports.atmosphere.keys import ATMOSPHERE


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(ATMOSPHERE)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    from kafka_gateway.transports.atmosphere.transport import AtmosphereTransport

    return [AtmosphereTransport(config)]
