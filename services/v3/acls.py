"""Kafka's ACLs: searched, created, deleted (kafka-rest-http.md §7.8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, NotFound, PayloadError
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.administration import Acl, AclFilter, Administration
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.services.common.json_members import (
    NULL,
    check_names,
    read_document,
    read_list,
    read_object,
    read_text,
    shown,
)
from kafka_gateway.services.v3.bodies import required
from kafka_gateway.services.v3.links import ClusterLinks, Links, Metadata, listed

_NULL_INPUT = "Payload error. Null input provided. Data is required."
_EMPTY_INPUT = "Payload error. Empty input provided. Data is required."

ENUMS: dict[str, tuple[str, ...]] = {
    "resource_type": ("UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN"),
    "pattern_type": ("UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"),
    "operation": (
        *("UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION"),
        *("DESCRIBE_CONFIGS", "ALTER_CONFIGS", "IDEMPOTENT_WRITE"),
    ),
    "permission": ("UNKNOWN", "ANY", "DENY", "ALLOW"),
}
"""The values of each enumeration, in the order in which results are sorted."""

_JAVA = {
    "resource_type": "ResourceType",
    "pattern_type": "PatternType",
    "operation": "Operation",
    "permission": "Permission",
}
_MEMBERS = AclFilter._fields
_NOT_OF_A_RIGHT = {
    "resource_type": ("UNKNOWN", "ANY"),
    "pattern_type": ("UNKNOWN", "ANY", "MATCH"),
    "operation": ("UNKNOWN", "ANY"),
    "permission": ("UNKNOWN", "ANY"),
}
_ORDERS = {name: {word: place for place, word in enumerate(words)} for name, words in ENUMS.items()}


class AclResource(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    resource_type: str
    resource_name: str
    pattern_type: str
    principal: str
    host: str
    operation: str
    permission: str


class Deleted(jsonio.Struct):
    data: list[AclResource]


class AclsService:
    """The handlers of ``…/acls`` and ``…/acls:batch``."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    async def search(self, call: Call) -> Response:
        """``GET …/acls``"""
        matching = _filter(call, required_enums=False)
        links = await self._links.of(call)
        found = sorted(await self._administration.acls(matching), key=_order)
        elements = (_resource(each, links) for each in found)
        return await links.listed("KafkaAcl", _path(matching), len(found), elements)

    async def create(self, call: Call) -> Response:
        """``POST …/acls``: one right; it may be there already."""
        links = await self._links.of(call)
        acl: Acl = call.body
        await self._administration.create_acls([acl])
        return Response(None, 201, (("Location", links.url(_path(acl))),))

    async def create_many(self, call: Call) -> Response:
        """``POST …/acls:batch``: all of them in one request."""
        await self._links.of(call)
        acls: Sequence[Acl] = call.body
        if acls:
            await self._administration.create_acls(acls)
        return NO_CONTENT

    async def delete(self, call: Call) -> Response:
        """``DELETE …/acls``: those that match, which it answers with."""
        matching = _filter(call, required_enums=True)
        links = await self._links.of(call)
        deleted = sorted(await self._administration.delete_acls(matching), key=_order)
        return await listed(len(deleted), Deleted, (_resource(each, links) for each in deleted))


def _filter(call: Call, *, required_enums: bool) -> AclFilter:
    """The filter that a query asks for. Enumerations ignore case; an unknown word is a 404 (§3.1, §7.8)."""
    values: dict[str, Any] = {}
    for name in _MEMBERS:
        text = call.query.get(name)
        if name not in ENUMS:
            values[name] = text
            continue
        if text is not None and text.upper() not in ENUMS[name]:
            raise NotFound(f"The valid values for {_JAVA[name]} do not include '{shown(text)}'").with_help(
                f"{name} takes one of {', '.join(ENUMS[name])}."
            )
        values[name] = (text or "ANY").upper()
    for name in ("resource_type", "pattern_type", "operation", "permission"):
        if values[name] == "UNKNOWN" or (required_enums and call.query.get(name) is None):
            what = "unspecified or UNKNOWN" if required_enums else "UNKNOWN"
            raise BadRequest(f"Bad Request: {name} cannot be {what}")
    return AclFilter(**values)


def _order(acl: Acl) -> tuple[object, ...]:
    return tuple(
        _ORDERS[name].get(word, -1) if name in _ORDERS else word for name, word in zip(_MEMBERS, acl, strict=True)
    )


def _path(acl: Acl | AclFilter) -> str:
    """All seven values, in the contract's order and form-encoded; ``*`` stays."""
    values = [(name, value or "") for name, value in zip(_MEMBERS, acl, strict=True)]
    return f"/acls?{urlencode(values, safe='*')}"


def _resource(acl: Acl, links: Links) -> AclResource:
    return AclResource("KafkaAcl", Metadata(links.url(_path(acl))), links.cluster, *acl)


# --- bodies ----------------------------------------------------------------------------------------------------------


def read_acl(body: bytes, codec: Codec | None) -> Acl:
    """The body of ``POST …/acls``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NULL_INPUT)
    return _acl(members, "")


def read_acls(body: bytes, codec: Codec | None) -> list[Acl]:
    """The body of ``POST …/acls:batch``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NULL_INPUT)
    check_names(members, ("data",))
    elements = read_list(members.get("data", NULL), "data")
    if elements is None:
        raise PayloadError(_EMPTY_INPUT)
    acls = []
    for i, element in enumerate(elements):
        place = f"data[{i}]"
        acls.append(_acl(required(read_object(element, place), place), place))
    return acls


def _acl(members: dict[str, Raw], place: str) -> Acl:
    check_names(members, _MEMBERS, place)
    values: dict[str, str] = {}
    for name in _MEMBERS:
        where = f"{place}.{name}" if place else name
        value = required(read_text(members.get(name, NULL), where), where)
        if name in ENUMS and value not in ENUMS[name]:
            raise BadRequest(f"{where} must be one of {', '.join(ENUMS[name])}, not {shown(repr(value))}.")
        values[name] = value
    for name, refused in _NOT_OF_A_RIGHT.items():
        if values[name] in refused:
            raise BadRequest(f"Bad Request: {name} cannot be {values[name]}")
    return Acl(**values)
