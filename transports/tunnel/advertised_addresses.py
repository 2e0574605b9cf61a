"""The addresses that clients are told for brokers, so that they come back through the tunnel (bridges.md C5.1, C-6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka_gateway.errors import BadRequest
from kafka_gateway.wire.frames import WireError

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_NUMBER = re.compile(r"[0-9]{1,10}")
NODE_MAX = 2**31 - 1
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class AdvertisedAddresses:
    """One rule of addresses: node N is at ``host``, and at port ``base`` + N or its own in ``ports``.

    ``host`` may hold ``{node}``; then ``base`` is the port of all nodes.
    """

    host: str
    base: int
    ports: Mapping[int, int] = field(default_factory=dict)

    def address(self, node: int) -> tuple[bytes, int]:
        """Host and port of a node. WireError if the port is out of range: a wrong address is never told (C-20)."""
        if "{node}" in self.host:
            return self.host.replace("{node}", str(node)).encode(), self.base
        port = self.ports.get(node, self.base + node)
        if not 0 < port <= _PORT_MAX:
            raise WireError(f"node {node} has no port")
        return self.host.encode(), port


def of_query(query: Mapping[str, str]) -> AdvertisedAddresses | None:
    """The addresses that a handshake asks for: ``advertise=HOST&base=PORT[&map=ID:PORT,…]``; None if it asks for none.

    Raises:
        BadRequest: what they say is not an address (C-6).
    """
    if not query.keys() & {"advertise", "base", "map"}:
        return None
    host, base = query.get("advertise", ""), query.get("base", "")
    if not _HOST.fullmatch(host):
        raise BadRequest("advertise is not a host: 1 to 255 of A-Z a-z 0-9 . _ : -")
    return AdvertisedAddresses(host, _port("base", base), ports_of("map", query.get("map", "")))


def ports_of(name: str, text: str) -> dict[int, int]:
    """``ID:PORT,…``. BadRequest says what is wrong with the parameter of that name."""
    ports: dict[int, int] = {}
    for item in filter(None, text.split(",")):
        node, colon, port = item.partition(":")
        if not colon or not _NUMBER.fullmatch(node) or int(node) > NODE_MAX:
            raise BadRequest(f"{name} is not ID:PORT,ID:PORT,…")
        ports[int(node)] = _port(name, port)
    return ports


def node_of(text: str) -> int | None:
    """The last part of a path as a node id; None if it is no such id."""
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= NODE_MAX else None


def _port(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= _PORT_MAX:
        raise BadRequest(f"{name} is not a port from 1 to 65535")
    return int(text)
