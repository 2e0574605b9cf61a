"""The built-in plugin ``v3``: the REST resources of v3."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.markers import hookimpl
from gateway.router import Route
from services.v3.keys import V3


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(V3)


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> Sequence[Route]:
    if not config.flag("api.v3.enable"):
        return []
    from services.v3.routes import V3Routes

    return V3Routes(config, kafka).routes()
