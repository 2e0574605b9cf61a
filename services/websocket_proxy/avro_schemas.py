"""The Avro schemas of Kafka WebSocket Proxy's messages, as that program has them (websocket-proxy.md §1.4.3)."""

from __future__ import annotations

from typing import Any

NAMESPACE = "net.scalytica.kafka.wsproxy.avro"
_VALUES = ["bytes", "string", "int", "long", "double", "float"]
_HEADERS = [
    "null",
    {
        "type": "array",
        "items": {
            "type": "record",
            "name": "KafkaMessageHeader",
            "fields": [{"name": "key", "type": "string"}, {"name": "value", "type": "string"}],
        },
    },
]


def _record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": NAMESPACE, "fields": list(fields)}


_PLACE = (
    {"name": "topic", "type": "string"},
    {"name": "partition", "type": "int"},
    {"name": "offset", "type": "long"},
    {"name": "timestamp", "type": "long"},
)

PRODUCER_RECORD = _record(
    "AvroProducerRecord",
    {"name": "key", "type": ["null", *_VALUES], "default": None},
    {"name": "value", "type": _VALUES},
    {"name": "headers", "type": _HEADERS, "default": None},
    {"name": "clientMessageId", "type": ["null", "string"], "default": None},
)
PRODUCER_RESULT = _record(
    "AvroProducerResult", *_PLACE, {"name": "clientMessageId", "type": ["null", "string"], "default": None}
)
CONSUMER_RECORD = _record(
    "AvroConsumerRecord",
    {"name": "wsProxyMessageId", "type": "string"},
    *_PLACE,
    {"name": "key", "type": ["null", *_VALUES]},
    {"name": "value", "type": _VALUES},
    {"name": "headers", "type": _HEADERS},
)
COMMIT = _record("AvroCommit", {"name": "wsProxyMessageId", "type": "string"})

SCHEMAS: dict[str, dict[str, Any]] = {
    "/schemas/avro/producer/record": PRODUCER_RECORD,
    "/schemas/avro/producer/result": PRODUCER_RESULT,
    "/schemas/avro/producer/commit": COMMIT,
    "/schemas/avro/consumer/record": CONSUMER_RECORD,
    "/schemas/avro/consumer/commit": COMMIT,
}
"""By the path of the resource that shows them; the commit is at two (D4)."""
