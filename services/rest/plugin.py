"""The built-in plugin ``rest``: the REST resources of v1 and v2, record streams, health checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.codec import Codec
from gateway.config import Config, ConfigKey
from gateway.kafka.ports import Kafka
from gateway.markers import hookimpl
from gateway.router import Route
from services.streams.keys import STREAMS


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(STREAMS)


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, codecs: Mapping[str, Codec]) -> Sequence[Route]:
    from services.rest.routes import RestServices

    return RestServices(config, kafka, codecs).routes()
