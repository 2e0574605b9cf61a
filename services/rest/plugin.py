"""The built-in plugin ``rest``: the REST resources of v1 and v2, record streams, health checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.markers import hookimpl
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.streams.keys import STREAMS


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(STREAMS)


@hookimpl
def gateway_routes(
    config: Config, kafka: Kafka, codecs: Mapping[str, Codec], schemas: Schemas, metrics: Metrics
) -> Sequence[Route]:
    from kafka_gateway.services.rest.routes import RestServices

    services = RestServices(config, kafka, codecs, schemas)
    metrics.add(services.registry.families)
    return services.routes()
