"""The built-in plugin ``push_pull``: flasfka's push and pull."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.services.push_pull.keys import PUSH_PULL
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(PUSH_PULL)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    if not config.flag("push.pull.enable"):
        return []
    from kafka_gateway.transports.push_pull.transport import PushPullTransport

    return [PushPullTransport(config)]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, metrics: Metrics) -> Sequence[Route]:
    if not config.flag("push.pull.enable"):
        return []
    from kafka_gateway.services.push_pull.service import PushPull

    service = PushPull(config, kafka)
    metrics.add(service.families)
    return service.routes()
