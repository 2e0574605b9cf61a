"""Addresses of processes of a gateway, as the processes tell each other (cluster.md §4.4, §9). No I/O here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

_NET: Final = re.compile(
    r"(?P<scheme>tcp|tls)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?)"
    r":(?P<port>[0-9]{1,5})"
)
_UNIX: Final = re.compile(r"unix:(?P<name>[a-z0-9-]{1,40}/(?!\.)[A-Za-z0-9._-]{1,80}/[0-9]{1,4}\.sock)")
_NO_NAME: Final = re.compile(r"^\.|[^A-Za-z0-9._-]")
_NUMERIC: Final = re.compile(r"[0-9.]+|.*:.*")
"""What can only be meant as an IP address."""
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a process listens for others. ``scheme`` is ``unix``, ``tcp`` or ``tls``."""

    scheme: str
    host: str = ""
    port: int = 0
    name: str = ""
    """Of the socket below ``cluster.peer.dir``, for ``unix``: good for processes that share that directory."""

    @property
    def everywhere(self) -> bool:
        """Whether it is no address that anybody could connect to: all addresses of a machine."""
        return self.host in ("0.0.0.0", "::")

    @property
    def is_loopback(self) -> bool:
        """Whether it leads to the machine itself, whoever connects."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def of_worker(self, number: int) -> PeerAddress:
        """The address of that worker, from 0. ValueError: there are not so many ports."""
        if self.port + number > _PORT_MAX:
            raise ValueError(f"worker {number} would have port {self.port + number}; a port is at most {_PORT_MAX}")
        return replace(self, port=self.port + number)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.name}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_net_address(text: str) -> PeerAddress:
    """The address that ``tcp://HOST:PORT`` or ``tls://HOST:PORT`` names. ValueError tells the operator what to do."""
    found = _NET.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:100]!r} is not tls://HOST:PORT or tcp://HOST:PORT")
    port = int(found["port"])
    if not 0 < port <= _PORT_MAX:
        raise ValueError(f"{text[:100]!r}: a port is 1 to {_PORT_MAX}")
    host = found["host"].strip("[]")
    if _NUMERIC.fullmatch(host):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{text[:100]!r}: {host} is no IP address") from None
    return PeerAddress(found["scheme"], host, port)


def parse_address(text: str) -> PeerAddress:
    """As ``parse_net_address``, and for ``unix:NAME.sock``."""
    found = _UNIX.fullmatch(text)
    return PeerAddress("unix", name=found["name"]) if found is not None else parse_net_address(text)


def unix_name(cluster: str, process: str) -> str:
    """The name below ``cluster.peer.dir`` of the socket of a process: other clusters may share the directory."""
    node, _, index = process.rpartition("/")
    return f"{cluster}/{_NO_NAME.sub('_', node)[:80]}/{index}.sock"


def usable(told: Iterable[str], brings_proofs: bool) -> Sequence[PeerAddress]:
    """Of what a process tells of itself, the addresses that this one may use, the best first: a Unix socket, if it is
    there, else TLS, else TCP. What cannot be read is left out: a later version may have other forms.

    ``brings_proofs``: requests may bring credentials for Kafka, which never go over TCP (cluster.md §9).
    """
    found = []
    for text in told:
        try:
            address = parse_address(text)
        except ValueError:
            continue
        if address.scheme != "tcp" or not brings_proofs:
            found.append(address)
    return sorted(found, key=lambda each: ("unix", "tls", "tcp").index(each.scheme))
