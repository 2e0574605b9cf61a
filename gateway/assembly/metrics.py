"""The metrics of a gateway, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from kafka_gateway.config import Config
from kafka_gateway.kafka.clients.versions import library_versions
from kafka_gateway.metrics.process import ProcessMetrics
from kafka_gateway.metrics.registry import Metrics


def measures(config: Config) -> Metrics:
    """A registry with the bounds of the configuration, for one gateway."""
    return Metrics(
        topics=config.flag("metrics.labels.topic"),
        topics_max=config.integer("metrics.topics.max"),
        groups_max=config.integer("metrics.groups.max"),
    )


@contextlib.asynccontextmanager
async def measuring(metrics: Metrics) -> AsyncIterator[None]:
    """Measures the process for as long as the context is open."""
    process = ProcessMetrics(library_versions())
    metrics.add(process.families)
    async with process.measuring():
        yield
