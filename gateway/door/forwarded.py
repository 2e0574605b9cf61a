"""Proxies in front of the gateway: the clients that trusted ones name (security.md §6).

``forwarded.trust`` names their networks. In a chain of addresses the last one that is not a trusted proxy's counts:
the client may have written the ones before it. ``X-Forwarded-For`` counts before ``Forwarded``
(RFC 7239); a proxy must set one of them, or add to it, and remove the other.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy

from kafka_gateway.config import Config, Fault
from kafka_gateway.door.client_address import address_in

TRUST: Final = "forwarded.trust"
_UNIX: Final = "unix"
_HOPS_MAX: Final = 32
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(;|,|$)')
_ADDRESS = re.compile(r"\[(?P<six>[^\]]*)\](?::.*)?|(?P<four>[0-9.]+)(?::[0-9]+)?|(?P<bare>[0-9a-fA-F:.]+)")


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardedFields:
    """What proxies tell of a client; "" where they say nothing."""

    peer: str = ""
    scheme: str = ""
    host: str = ""


NOTHING_TOLD: Final = ForwardedFields()


class Proxies:
    """The trusted proxies."""

    def __init__(self, config: Config) -> None:
        self._networks = [ipaddress.ip_network(each) for each in config.items(TRUST) if each != _UNIX]
        self._unix = _UNIX in config.items(TRUST)
        self.any = bool(config.items(TRUST))
        """Whether there are any."""

    def trusts(self, peer: str) -> bool:
        """Whether a connection from this address, or ``unix``, is a trusted proxy's."""
        if peer == _UNIX:
            return self._unix
        address = address_in(peer)
        return address is not None and any(
            address in each for each in self._networks if each.version == address.version
        )

    def told_by(self, headers: Mapping[str, str], proxy: str) -> ForwardedFields:
        """What a request that a trusted proxy, at that address, has sent says of its client."""
        chain = _all(headers, "X-Forwarded-For")
        if chain:
            hops = [{"for": each.strip()} for each in chain.split(",")]
        elif forwarded := _all(headers, "Forwarded"):
            hops = _elements(forwarded)
        else:
            hops = []
        hop = self._client(hops)
        scheme = (_last(headers, "X-Forwarded-Proto") or hop.get("proto", "")).lower()
        host = _last(headers, "X-Forwarded-Host") or hop.get("host", "")
        return ForwardedFields(hop.get("address", proxy), scheme if scheme in ("http", "https") else "", host)

    def _client(self, hops: Sequence[dict[str, str]]) -> dict[str, str]:
        """The last hop that is no trusted proxy; the first, if all are proxies."""
        found: dict[str, str] = {}
        for hop in reversed(hops[-_HOPS_MAX:]):
            address = address_in(_bare(hop.get("for", "")))
            if address is None:  # "unknown", or an obfuscated name: the hops before it are not known
                break
            found = {**hop, "address": str(address)}
            if not self.trusts(str(address)):
                break
        return found


def proxy_faults(config: Config) -> list[Fault]:
    """What is wrong with ``forwarded.trust``."""
    found = []
    for each in config.items(TRUST):
        try:
            if each != _UNIX:
                ipaddress.ip_network(each)
        except ValueError as error:
            found.append(Fault(config.place(TRUST), TRUST, f"{error}; write 10.0.0.0/8, ::1 or {_UNIX}"))
    names = [each.name for each in config.listeners() if config.flag(f"listener.{each.name}.proxy.protocol")]
    for name in names if not config.items(TRUST) else ():
        key = f"listener.{name}.proxy.protocol"
        found.append(Fault(config.place(key), key, f"needs {TRUST}: only of those proxies it is believed"))
    return found


def move_host(message: Any, host: str) -> Any:
    """aiohttp's message with the host that the client asked for in ``Host``, where all that makes URLs reads it."""
    headers = CIMultiDict(message.headers)
    headers["Host"] = host
    raw = [each for each in message.raw_headers if each[0].lower() != b"host"]
    raw.append((b"Host", host.encode("utf-8", "surrogateescape")))
    return message._replace(headers=CIMultiDictProxy(headers), raw_headers=tuple(raw))


def _all(headers: Mapping[str, str], name: str) -> str:
    """The field, its lines joined (RFC 9110, section 5.2)."""
    lines = headers.getall(name, ()) if hasattr(headers, "getall") else [headers.get(name, "")]
    return ",".join(each for each in lines if each)


def _last(headers: Mapping[str, str], name: str) -> str:
    return _all(headers, name).rpartition(",")[2].strip()


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of ``Forwarded``; nothing if it is malformed: then it is not known where one begins."""
    found: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            return []
        name, quoted, plain, end = pair.groups()
        found[-1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if end == ",":
            found.append({})
        position = pair.end()
        if not end:
            break
    return found


def _bare(text: str) -> str:
    """The address of ``192.0.2.1:8080``, ``[2001:db8::1]:80``."""
    found = _ADDRESS.fullmatch(text)
    return (found["six"] or found["four"] or found["bare"]) if found is not None else ""
