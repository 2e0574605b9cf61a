"""The built-in plugin ``bridges``: HTTP bridges into and out of Kafka."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.router import Route
from gateway.transport import hookimpl
from services.bridges.keys import BRIDGES


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(BRIDGES)


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> Sequence[Route]:
    """ConfigError: a bridge's settings are faulty."""
    from transports.bridges.assembly import routes

    return routes(config, kafka)
