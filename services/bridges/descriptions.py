"""What ``/openapi.json`` says of the bridges (docs/bridges.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.description import Description
from kafka_gateway.errors import BadRequest, GatewayTimeout, MethodNotAllowed, PayloadTooLarge, Unavailable
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.services.bridges.replies import BridgesReply
from kafka_gateway.services.common.health import HealthReply

_TAG: Final = "Bridges"
_TEXT: Final = {"type": "string"}

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "bridge.list": Description("The bridges, and what they have done", tag=_TAG, replies={200: BridgesReply}),
    "bridge.metrics": Description(
        "The same for Prometheus", tag=_TAG, replies={200: _TEXT}, reply_types={200: ("text/plain",)}
    ),
    "bridge.healthz": Description("Whether the process answers", tag="Health", replies={200: HealthReply}, kafka=False),
    "bridge.readyz": Description(
        "Whether Kafka answers and every bridge reads what it was assigned",
        tag="Health",
        replies={200: HealthReply, 503: HealthReply},
        kafka=False,
    ),
}


def of_producer(name: str, topic: str) -> Description:
    """The description of the paths of one bridge into Kafka."""
    return Description(
        f"Produce the body to {topic} (bridge {name})",
        "The body is the record's value as it is, the header's fields are its headers. Any method with a body will do.",
        tag=_TAG,
        replies={200: _TEXT, 307: None, 301: None},
        reply_types={200: ("text/plain",)},
        body={"type": "string", "format": "binary"},
        body_types=("application/octet-stream",),
        errors=(BadRequest, MethodNotAllowed, PayloadTooLarge, Unavailable, BrokerNotAvailable, GatewayTimeout),
        bare_errors=True,
    )
