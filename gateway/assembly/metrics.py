"""The metrics of a gateway, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from kafka_gateway.kafka.clients.versions import library_versions
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.kafka import kafka as of_kafka
from kafka_gateway.metrics.process import ProcessMetrics
from kafka_gateway.metrics.registry import Metrics


@contextlib.asynccontextmanager
async def measuring(metrics: Metrics, kafka: Kafka) -> AsyncIterator[None]:
    """Measures the process, and tells what the Kafka room counts, for as long as the context is open."""
    process = ProcessMetrics(library_versions())
    metrics.add(process.families)
    if isinstance(kafka, KafkaCluster):
        metrics.add(of_kafka(kafka.numbers, kafka.statistics, lambda: kafka.own.admin.presence.is_there()))
    async with process.measuring():
        yield
