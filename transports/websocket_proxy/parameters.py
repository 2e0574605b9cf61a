"""What the query of a proxy socket asks for (websocket-proxy.md §1.5, §1.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kafka_gateway.errors import BadRequest
from kafka_gateway.services.websocket_proxy.ports import FollowerRequest, SenderRequest
from kafka_gateway.transports.websocket_proxy.avro_messages import avro_record_encoder
from kafka_gateway.transports.websocket_proxy.formats import FORMATS, Format
from kafka_gateway.transports.websocket_proxy.messages import record_encoder

_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_RESETS = frozenset({"earliest", "latest", "none"})
_ISOLATIONS = frozenset({"read_uncommitted", "read_committed"})


@dataclass(frozen=True, slots=True)
class Formats:
    key: Format | None
    value: Format
    avro: bool
    """Whether messages are Avro, not JSON."""


def produce_parameters(query: Mapping[str, str]) -> tuple[SenderRequest, Formats]:
    """The request and the formats that the query of ``/socket/in`` asks for. BadRequest names what is wrong."""
    client_id = _required(query, "clientId")
    topic = _required(query, "topic")
    formats = _formats(query)
    transactional = _boolean(query, "transactional", False)
    return SenderRequest(client_id, topic, query.get("instanceId"), transactional), formats


def consume_parameters(query: Mapping[str, str]) -> tuple[FollowerRequest, Formats]:
    """As `produce_parameters`, for ``/socket/out``."""
    client_id = _required(query, "clientId")
    topic = _required(query, "topic")
    formats = _formats(query)
    reset = query.get("offsetResetStrategy", "earliest")
    if reset.lower() not in _RESETS:
        raise BadRequest(f"{reset} is not a valid offset reset strategy")
    isolation = query.get("isolationLevel", "read_uncommitted")
    if isolation.lower() not in _ISOLATIONS:
        raise BadRequest(
            f"Read isolation '{isolation}' is not a valid value. Please use one of 'read_committed' or "
            "'read_uncommitted'."
        )
    request = FollowerRequest(
        client_id,
        query.get("groupId") or f"{client_id}-group",  # librdkafka knows no group with an empty name
        topic,
        (avro_record_encoder if formats.avro else record_encoder)(topic, formats.key, formats.value),
        reset.lower(),
        isolation.lower(),
        _boolean(query, "autoCommit", True),
        _integer(query, "rate"),
        _integer(query, "batchSize"),
    )
    return request, formats


def _required(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise BadRequest(f"Request param '{name}' is missing.")
    return value


def _is_avro(query: Mapping[str, str]) -> bool:
    payload = query.get("socketPayload", "json")
    if payload.lower() not in ("json", "avro"):
        raise BadRequest(f"'{payload}' is not a valid socket payload")
    return payload.lower() == "avro"


def _formats(query: Mapping[str, str]) -> Formats:
    avro, key = _is_avro(query), query.get("keyType")
    return Formats(None if key is None else _format(key), _format(query.get("valType", "string")), avro)


def _format(name: str) -> Format:
    found = FORMATS.get(name.lower())
    if found is None:
        raise BadRequest(f"'{name}' is not a valid format type")
    return found


def _boolean(query: Mapping[str, str], name: str, default: bool) -> bool:
    value = query.get(name, "")
    if not value:
        return default
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise BadRequest(f"'{value}' is not a valid Boolean value")


def _integer(query: Mapping[str, str], name: str) -> int:
    """0 if it is not given."""
    value = query.get(name, "")
    if not value:
        return 0
    if _INTEGER.fullmatch(value) and -(2**31) <= int(value) < 2**31:
        return int(value)
    raise BadRequest(f"'{value}' is not a valid 32-bit signed integer value")
