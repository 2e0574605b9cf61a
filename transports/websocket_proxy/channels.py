"""What ``/asyncapi.json`` says of ``/socket/in`` and ``/socket/out`` (websocket-proxy.md §1.5, §1.6)."""

from __future__ import annotations

from typing import Any, Final

from kafka_gateway.description import Channel, Message
from kafka_gateway.services.websocket_proxy.descriptions import DESCRIPTIONS

_TEXT: Final = {"type": "string"}
_INT: Final = {"type": "integer"}
_DATUM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["value", "format"],
    "properties": {"value": {}, "format": {"type": ["string", "null"]}},
}
_HEADERS: Final[dict[str, Any]] = {
    "type": ["array", "null"],
    "items": {
        "type": "object",
        "required": ["key", "value"],
        "properties": {"key": _TEXT, "value": {"type": ["string", "null"]}},
    },
}


def _object(*required: str, **members: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": members}


CHANNELS: Final = (
    Channel(
        "socketIn",
        "/socket/in",
        "Produce over a socket",
        "Each message is a record; results come in the order of the messages.",
        sends=(
            Message(
                "ProducerResult",
                "Where a record is stored.",
                _object(
                    "topic", "partition", "offset", "timestamp",
                    topic=_TEXT, partition=_INT, offset=_INT, timestamp=_INT,
                    clientMessageId={"type": ["string", "null"]}, messageId=_TEXT,
                ),
                example={"topic": "orders", "partition": 0, "offset": 3, "timestamp": 1763700000123,
                         "clientMessageId": None},
            ),
        ),
        takes=(
            Message(
                "ProducerRecord",
                "A record.",
                _object("value", key=_DATUM, value=_DATUM, headers=_HEADERS, messageId=_TEXT),
                example={"key": {"value": "a", "format": "string"}, "value": {"value": "b", "format": "string"}},
            ),
        ),
        query=DESCRIPTIONS["socket.in"].parameters,
    ),
    Channel(
        "socketOut",
        "/socket/out",
        "Consume over a socket",
        "Each message is a record. With autoCommit=false the client commits.",
        sends=(
            Message(
                "ConsumerRecord",
                "A record.",
                _object(
                    "wsProxyMessageId", "topic", "partition", "offset", "timestamp", "value",
                    wsProxyMessageId=_TEXT, topic=_TEXT, partition=_INT, offset=_INT, timestamp=_INT,
                    key=_DATUM, value=_DATUM, headers=_HEADERS,
                ),
            ),
        ),
        takes=(
            Message(
                "ConsumerCommit",
                "The record with this id, and all before it, is done with.",
                _object("wsProxyMessageId", wsProxyMessageId=_TEXT),
                example={"wsProxyMessageId": "orders-0-3-1763700000123"},
            ),
        ),
        query=DESCRIPTIONS["socket.out"].parameters,
    ),
)  # fmt: skip
