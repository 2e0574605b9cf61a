"""What ``/openapi.json`` says of the operator's resources (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.description import Description

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "operation.metrics": Description(
        "All metrics, for Prometheus",
        "Text 0.0.4, or OpenMetrics 1.0 with exemplars where `Accept` names `application/openmetrics-text`.",
        tag="Operation",
        replies={200: {"type": "string"}},
        reply_types={200: ("text/plain", "application/openmetrics-text")},
        kafka=False,
    ),
}
