"""What ``/asyncapi.json`` says of envelopes (atmosphere-binding.md §1, docs/sockets.md)."""

from __future__ import annotations

from typing import Any, Final

from kafka_gateway.description import Channel, Message

_TEXT: Final = {"type": "string"}
_ID: Final = {"type": ["string", "number"], "description": "Yours; every reply has it."}
_HEADERS: Final = {"type": "object", "additionalProperties": _TEXT}
_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["path"],
    "properties": {
        "id": _ID,
        "method": {**_TEXT, "default": "GET"},
        "path": {**_TEXT, "description": "Path and query of a REST resource: see openapi.json."},
        "type": {**_TEXT, "description": "Media type of the content."},
        "accept": {**_TEXT, "description": "Media type of the reply."},
        "headers": _HEADERS,
        "continue": {"type": "boolean", "description": "More parts of this request follow."},
    },
}
_REPLY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code"],
    "properties": {
        "code": {"type": "integer", "description": "The HTTP status."},
        "id": _ID,
        "type": _TEXT,
        "headers": _HEADERS,
        "event": {**_TEXT, "description": "Of a record stream: which event this is."},
        "cursor": {"description": "Of a record stream: the token behind this reply."},
        "continue": {"type": "boolean", "description": "More parts of this reply follow."},
    },
}

ENVELOPES: Final = Channel(
    "envelopes",
    "/",
    "Requests in envelopes",
    "A WebSocket at any path. A message is a JSON head, directly followed by the content; the head is described as the "
    "message's headers. Requests run at the same time and are answered as they finish; produce requests reach Kafka in "
    "the order of their arrival.",
    sends=(
        Message(
            "EnvelopeReply",
            "A reply, or one of several: pushed records, the events of a stream.",
            {},
            _REPLY,
            example={"offsets": [{"partition": 0, "offset": 0, "error_code": None, "error": None}]},
            head_example={"code": 200, "id": "1", "type": "application/vnd.kafka.v2+json"},
        ),
    ),
    takes=(
        Message(
            "EnvelopeRequest",
            "A request for any REST resource.",
            {},
            _REQUEST,
            example={"records": [{"value": 1}]},
            head_example={
                "id": "1",
                "method": "POST",
                "path": "/topics/orders",
                "type": "application/vnd.kafka.json.v2+json",
            },
        ),
    ),
)
