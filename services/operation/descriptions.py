"""What ``/openapi.json`` says of the operator's resources (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.description import Description
from kafka_gateway.errors import Unprocessable


class Level(jsonio.Struct, frozen=True):
    """How much a logger is to say."""

    level: str


class Loggers(jsonio.Struct, frozen=True):
    """Loggers by name, with their levels."""

    loggers: Mapping[str, str]


DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "operation.metrics": Description(
        "All metrics, for Prometheus",
        "Text 0.0.4, or OpenMetrics 1.0 with exemplars where `Accept` names `application/openmetrics-text`.",
        tag="Operation",
        replies={200: {"type": "string"}},
        reply_types={200: ("text/plain", "application/openmetrics-text")},
        kafka=False,
    ),
    "operation.loggers": Description("Loggers and their levels", tag="Operation", replies={200: Loggers}, kafka=False),
    "operation.set-level": Description(
        "Change the level of a logger",
        "`DEBUG`, `INFO`, `WARNING` or `ERROR`, until the next start or SIGHUP.",
        tag="Operation",
        replies={204: None},
        body=Level,
        body_example={"level": "DEBUG"},
        errors=(Unprocessable,),
        kafka=False,
    ),
}
