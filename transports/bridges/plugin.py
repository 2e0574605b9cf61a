"""The built-in plugin ``bridges``: HTTP bridges into and out of Kafka."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.following import Judge
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.services.bridges.keys import BRIDGES
from kafka_gateway.transport import hookimpl


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(BRIDGES)


@hookimpl
def gateway_routes(config: Config, kafka: Kafka, metrics: Metrics, following: list[Judge]) -> Sequence[Route]:
    """ConfigError: a bridge's settings are faulty."""
    from kafka_gateway.transports.bridges.assembly import BridgeAssembly

    bridges = BridgeAssembly(config, kafka, metrics)
    following.append(bridges.judge)
    return bridges.routes()
