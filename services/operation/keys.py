"""Configuration keys of metrics and of the operator's pages."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

METRICS = section(
    "Metrics",
    ConfigKey(name="metrics.enable", type="bool", default=True, doc="Serve GET /metrics for Prometheus."),
    ConfigKey(
        name="metrics.labels.topic",
        type="bool",
        default=True,
        doc="Tell topics and groups apart in the metrics; false: all are called other.",
    ),
    ConfigKey(
        name="metrics.topics.max",
        type="int",
        default=200,
        minimum=0,
        doc="How many topics have series of their own in the metrics: the first that are used. The rest is other.",
    ),
    ConfigKey(
        name="metrics.groups.max",
        type="int",
        default=200,
        minimum=0,
        doc="How many consumer groups have series of their own in the metrics. The rest is other.",
    ),
    ConfigKey(
        name="metrics.kafka.interval.ms",
        type="duration",
        default=15_000,
        unit="ms",
        maximum=86_400_000,
        doc="How often librdkafka tells of brokers, queues and the lag of groups; 0: never.",
    ),
)

TRACING = section(
    "Traces",
    ConfigKey(
        name="tracing.enable",
        type="bool",
        default=False,
        doc="Make OpenTelemetry spans of requests and records; the OTEL_* variables say where they go. "
        "Needs kafka-gateway[otel].",
    ),
)
