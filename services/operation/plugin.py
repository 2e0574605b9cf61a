"""The built-in plugin ``operation``: metrics, log levels and the state of the cluster, for the operator."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.markers import hookimpl
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.services.operation.keys import METRICS, TRACING
from kafka_gateway.services.operation.service import Operation


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return [*METRICS, *TRACING]


@hookimpl
def gateway_routes(config: Config, metrics: Metrics) -> Sequence[Route]:
    return Operation(config, metrics).routes()
