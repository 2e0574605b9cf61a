"""The built-in plugin ``v3``: the REST resources of v3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.markers import hookimpl
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.v3.keys import V3


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(V3)


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, codecs: Mapping[str, Codec], schemas: Schemas) -> Sequence[Route]:
    if not config.flag("api.v3.enable"):
        return []
    from kafka_gateway.services.v3.routes import V3Routes

    return V3Routes(config, kafka, codecs, schemas).routes()
