"""What ``/openapi.json`` says of push and pull (docs/push-pull.md), by method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway.description import Description, Parameter
from kafka_gateway.errors import (
    BadRequest,
    Forbidden,
    GatewayTimeout,
    MethodNotAllowed,
    PayloadTooLarge,
    Unavailable,
)
from kafka_gateway.services.push_pull.group_pull import GroupInUse

_TAG: Final = "Push and pull"
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"enum": ["true", "false", "1", "0"]}
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"error": _TEXT, "produced": {"type": "integer"}},
    "required": ["error"],
}
_PATH: Final = {"topic": "Name of a topic.", "name": "Of a push: the key. Of a pull: the group."}

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "POST": Description(
        "Push messages",
        "204 when Kafka has every one of them. Without the slash at the path's end the answer is 308.",
        tag=_TAG,
        replies={204: None},
        body={
            "type": "object",
            "required": ["messages"],
            "properties": {"messages": {"type": "array", "items": _TEXT}},
        },
        body_example={"messages": ["message1", "message2"]},
        path=_PATH,
        slash=True,
        parameters=(
            Parameter(
                "dry_run",
                "true: say what would become of the messages, and write nothing.",
                {"enum": ["true", "false"]},
            ),
        ),
        errors=(BadRequest, Forbidden, PayloadTooLarge, Unavailable, GatewayTimeout),
        error_body=_ERROR,
        reply_types={400: ("application/json", "text/plain")},
    ),
    "GET": Description(
        "Pull a group's next messages",
        "They are committed when the reply has been written. Without the slash at the path's end the answer is 308.",
        tag=_TAG,
        replies={
            200: {
                "type": "object",
                "required": ["group", "messages"],
                "properties": {"group": _TEXT, "messages": {"type": "array", "items": {}}},
            },
        },
        path=_PATH,
        slash=True,
        parameters=(
            Parameter("limit", "How many messages at most.", {"type": "integer", "minimum": 1}),
            Parameter("encoding", "base64: messages that are no text, too.", {"enum": ["", "base64"]}),
            Parameter("meta", "true: each with its place, key and time.", _FLAG),
            Parameter("commit", "false: the next pull gets the same.", _FLAG),
        ),
        errors=(BadRequest, Forbidden, GroupInUse, Unavailable, GatewayTimeout),
        error_body=_ERROR,
    ),
    "HEAD": Description(
        "Not served: 405",
        tag=_TAG,
        replies={},
        path=_PATH,
        slash=True,
        errors=(MethodNotAllowed,),
        error_body=_ERROR,
        kafka=False,
    ),
}
