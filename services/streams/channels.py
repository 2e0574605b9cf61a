"""What ``/asyncapi.json`` says of record streams and of pushed records (docs/streaming.md, docs/sockets.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kafka_gateway.description import Channel, Message, Parameter, Shape
from kafka_gateway.dialect import StreamErrorBody
from kafka_gateway.services.streams.row_types import StreamRow
from kafka_gateway.services.streams.token import TokenPosition
from kafka_gateway.services.streams.topic_stream import GapBody

_ROWS: Final[Shape] = {"type": "array", "items": StreamRow}
_ROWS_EXAMPLE: Final = [
    {"topic": "orders", "partition": 0, "offset": 17, "timestamp": 1763700000123, "key": None, "value": {"a": 1}}
]
_POSITIONS: Final[Shape] = {
    "type": "object",
    "required": ["positions"],
    "properties": {"positions": {"type": "array", "items": TokenPosition}},
}
_POSITIONS_EXAMPLE: Final = {"positions": [{"topic": "orders", "partition": 0, "offset": 18}]}
_EVENTS: Final[Sequence[tuple[str, str, Shape, Any]]] = (
    ("ready", "The beginning is fixed: no record after it will be missed.", _POSITIONS, _POSITIONS_EXAMPLE),
    ("end", "All is read for the first time.", _POSITIONS, _POSITIONS_EXAMPLE),
    ("gap", "Records that are not there any more.", GapBody, {"topic": "orders", "partition": 0, "from": 3, "to": 9}),
    (
        "error",
        "Why the stream ends; what is retriable can be asked for again, with the token.",
        StreamErrorBody,
        {"error_code": 50301, "message": "The gateway is shutting down.", "retriable": True},
    ),
)


def _with_name(shape: Shape, name: str) -> Shape:
    """The object of an event, as a line or a message holds it."""
    return {"allOf": [{"type": "object", "required": ["event"], "properties": {"event": {"const": name}}}, shape]}


def _socket_messages() -> tuple[Message, ...]:
    return (
        Message("StreamRecords", "Records that have arrived.", _ROWS, example=_ROWS_EXAMPLE),
        *(
            Message(f"Stream{name.title()}", text, _with_name(shape, name), example={"event": name, **example})
            for name, text, shape, example in _EVENTS
        ),
    )


def _events() -> tuple[Message, ...]:
    def head(name: str) -> Shape:
        members: dict[str, Any] = {"id": {"type": "string", "description": "A token: where to go on."}}
        if name:
            members["event"] = {"const": name}
        return {"type": "object", "properties": members}

    return (
        Message(
            "RecordsEvent", "Records that have arrived; `data` of a server-sent event.", _ROWS, head(""),
            example=_ROWS_EXAMPLE,
        ),
        *(
            Message(f"{name.title()}Event", text, shape, head(name), example=example)
            for name, text, shape, example in _EVENTS
        ),
    )  # fmt: skip


_ACK: Final = Message(
    "StreamAck",
    "Everything up to this token is done with (a group, `ack=client`).",
    {"type": "object", "required": ["ack"], "properties": {"ack": {"type": ["string", "array"]}}},
    example={"ack": _POSITIONS_EXAMPLE["positions"]},
)
_TOPICS: Final = {"topics": "Names of topics, with commas between."}


def of_topics(query: Sequence[Parameter]) -> tuple[Channel, ...]:
    """The channels of ``/topics/{topics}/stream``."""
    path = "/topics/{topics}/stream"
    in_query = [each for each in query if each.place == "query"]
    return (
        Channel(
            "topicStreamSocket", path, "Record stream on a WebSocket",
            "One message a batch. What a client sends is ignored, but for acknowledgements.",
            _socket_messages(), (_ACK,), _TOPICS, in_query, carrier="websocket",
        ),
        Channel(
            "topicStreamEvents", path, "Record stream as server-sent events",
            "A GET with `Accept: text/event-stream`; `Last-Event-ID` goes on behind a token.",
            _events(), (), _TOPICS, in_query, "http", carrier="http",
        ),
    )  # fmt: skip


OF_INSTANCE: Final = (
    Channel(
        "instanceEvents",
        "/consumers/{group}/instances/{instance}/records",
        "What a consumer instance reads, as server-sent events",
        "A GET with `Accept: text/event-stream`.",
        _events(),
        (),
        {"group": "Name of a consumer group.", "instance": "Name of a consumer instance."},
        protocol="http",
        carrier="http",
    ),
)


def of_pushes(generation: str, path: str, row: type) -> tuple[Channel, ...]:
    """The channel of a push subscription of one REST generation, at its path in envelopes."""
    name = f"pushed{generation.title()}"
    head = {
        "type": "object",
        "required": ["id", "method", "path"],
        "properties": {
            "id": {"type": "string"},
            "method": {"enum": ["GET", "DELETE"]},
            "path": {"type": "string", "description": f"{path}?max_bytes=N"},
            "accept": {"type": "string"},
        },
    }
    return (
        Channel(
            name, path, f"Pushed records ({generation})",
            "A subscription is an envelope with GET and this path; it ends with DELETE. The first reply is an array, "
            "maybe empty; after it come arrays with the same id as soon as there are records.",
            (
                Message(
                    f"{name}Records", "Records of the instance.", {"type": "array", "items": row},
                    {"type": "object", "properties": {name: {} for name in ("code", "id", "type")}},
                    head_example={"code": 200, "id": "5"},
                ),
            ),
            (
                Message(
                    f"{name}Subscribe", "Begins or ends a subscription; there is no content.", {}, head,
                    head_example={"id": "5", "method": "GET", "path": path},
                ),
            ),
            {"group": "Name of a consumer group.", "instance": "Name of a consumer instance.",
             **({"topic": "Name of a topic."} if "{topic}" in path else {})},
            carrier="websocket",
        ),
    )  # fmt: skip
