"""What ``/openapi.json`` says of Kafka WebSocket Proxy's resources (docs/websocket-proxy.md), by resource name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway.description import Description, Parameter, Shape
from kafka_gateway.errors import BadRequest, GroupActive, MethodNotAllowed, NotFound, ServiceError, UpgradeRequired
from kafka_gateway.services.websocket_proxy.limits import Side

PATH: Final = {"id": "Id of a client: of its group, or of its producer.", "group": "Name of a consumer group.",
               "topic": "Name of a topic."}  # fmt: skip

_TEXT: Final = {"type": "string"}
_INT: Final = {"type": "integer"}
_MESSAGE: Final = {"type": "object", "required": ["message"], "properties": {"message": _TEXT}}


def _object(*required: str, **members: Shape) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": members}


def _list(items: Shape) -> dict[str, Any]:
    return {"type": "array", "items": items}


_NODE: Final = _object("id", "host", "port", id=_INT, host=_TEXT, port=_INT, rack={"type": ["string", "null"]})
_SIDES: Final[Mapping[Side, str]] = {"consumer": "group-id", "producer": "producer-id"}
_LIMITS: Final = {
    side: {
        "type": "object",
        "required": [name],
        "properties": {
            name: _TEXT,
            "messages-per-second": _INT,
            "max-connections": _INT,
            **({"batch-size": _INT} if side == "consumer" else {}),
        },
    }
    for side, name in _SIDES.items()
}
_BOTH: Final = _object(
    "consumers", "producers",
    **{
        f"{side}s": _object("static", "dynamic", static=_list(_LIMITS[side]), dynamic=_list(_LIMITS[side]))
        for side in _SIDES
    },
)  # fmt: skip
_OFFSET: Final = _object(
    "topic", "partition", "offset", topic=_TEXT, partition=_INT, offset=_INT, metadata={"type": ["string", "null"]}
)
_GROUP: Final = _object("groupId", "isSimple", "state", groupId=_TEXT, isSimple={"type": "boolean"}, state=_TEXT)
_FLAG: Final = {"enum": ["true", "false"]}


def _told(summary: str, reply: Shape, *errors: type[ServiceError], **more: Any) -> Description:
    told: dict[str, Any] = {"tag": "Kafka WebSocket Proxy", "error_body": _MESSAGE, "bare_errors": True} | more
    return Description(summary, replies={200: reply}, errors=(BadRequest, *errors), **told)


_SOCKET: Final = "A WebSocket; what travels on it is told by asyncapi.json. Plain HTTP is answered 400 or 426."

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "socket.in": Description(
        "Produce over a socket", _SOCKET, tag="Kafka WebSocket Proxy", replies={101: None},
        errors=(BadRequest, NotFound, UpgradeRequired), error_body=_MESSAGE,
        parameters=(
            Parameter("clientId", "Id of the producer.", required=True),
            Parameter("topic", "Name of the topic.", required=True),
            Parameter("instanceId", "Tells producers of one id apart."),
            Parameter("transactional", "true: each record is a transaction.", _FLAG),
            Parameter("socketPayload", "json or avro."),
            Parameter("keyType", "Type of keys."),
            Parameter("valType", "Type of values."),
        ),
    ),
    "socket.out": Description(
        "Consume over a socket", _SOCKET, tag="Kafka WebSocket Proxy", replies={101: None},
        errors=(BadRequest, NotFound, UpgradeRequired), error_body=_MESSAGE,
        parameters=(
            Parameter("clientId", "Id of the consumer.", required=True),
            Parameter("topic", "Name of the topic.", required=True),
            Parameter("groupId", "Name of the group; that of the client by default."),
            Parameter("offsetResetStrategy", "earliest or latest."),
            Parameter("isolationLevel", "read_committed or read_uncommitted."),
            Parameter("autoCommit", "false: the client commits.", _FLAG),
            Parameter("rate", "Records per second at most.", _INT),
            Parameter("batchSize", "Records at a time at most.", _INT),
            Parameter("socketPayload", "json or avro."),
            Parameter("keyType", "Type of keys."),
            Parameter("valType", "Type of values."),
        ),
    ),
    "proxy.healthcheck": _told("Whether the process answers", _object("response", response=_TEXT), kafka=False),
    "proxy.cluster.info": _told("The brokers", _list(_NODE)),
    "proxy.cluster.admin-info": _told("The brokers", _list(_NODE)),
    "proxy.metrics": _told("For Prometheus", _TEXT, reply_types={200: ("text/plain",)}, kafka=False),
    "proxy.metrics.exporter": _told("For Prometheus", _TEXT, reply_types={200: ("text/plain",)}, kafka=False),
    "proxy.limits.all": _told("Limits of clients", _BOTH, kafka=False),
    "proxy.limits.clear": _told("Forget all limits set at run time", None, MethodNotAllowed),
    "proxy.groups.all": _told(
        "The consumer groups", _list(_GROUP),
        parameters=(
            Parameter("activeOnly", "true: those with members.", _FLAG),
            Parameter("includeInternals", "true: those of the gateway, too.", _FLAG),
        ),
    ),
    "proxy.groups.describe": _told("One consumer group", _GROUP),
    "proxy.groups.offsets": _told("Offsets of a group", _list(_OFFSET), NotFound),
    "proxy.groups.alter": _told(
        "Set offsets of a group", _list(_OFFSET), GroupActive, body=_list(_OFFSET),
        body_example=[{"topic": "orders", "partition": 0, "offset": 42}],
    ),
    "proxy.groups.delete": _told("Delete a group", None, GroupActive),
    "proxy.groups.delete-topic": _told("Delete a group's offsets of one topic", None, GroupActive),
    **{
        f"proxy.schemas.avro.{kind}": _told("Avro schema of a message", {"type": "object"}, kafka=False)
        for kind in ("producer.record", "producer.result", "producer.commit", "consumer.record", "consumer.commit")
    },
    **{
        f"proxy.limits.{side}.{name}": description
        for side in _SIDES
        for name, description in {
            "get": _told(f"Limits of a {side}", _LIMITS[side], NotFound, kafka=False),
            "post": _told(f"Set limits of a {side}", None, MethodNotAllowed, body=_LIMITS[side]),
            "post-id": _told(f"Set limits of a {side}", None, MethodNotAllowed, body=_LIMITS[side]),
            "put": _told(f"Change limits of a {side}", None, MethodNotAllowed, NotFound, body=_LIMITS[side]),
            "delete": _told(f"Forget limits of a {side}", None, MethodNotAllowed, NotFound),
        }.items()
    },
}  # fmt: skip
