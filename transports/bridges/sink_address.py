"""Where the gateway may post records to (reliability.md S12).

The operator chooses the address of a sink, but not where a name leads: whoever answers for the name may give the
loopback, the cloud's metadata service or a machine of the inner network. So everything that is not public must be
listed. The address that is checked is the one to which the connection is made, every time, and redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AllowedAddresses:
    """What ``bridge.sink.allow`` lists: networks and addresses (``10.0.0.0/8``, ``::1``), and names of hosts.

    A listed name may lead to any address but those of the link (169.254.0.0/16, fe80::/10), where the metadata services
    of clouds are: these must be listed as networks.
    """

    def __init__(self, items: Iterable[str]) -> None:
        """ValueError for what is neither."""
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: set[str] = set()
        for item in items:
            try:
                self._networks.append(ipaddress.ip_network(item))
            except ValueError:
                if "/" in item or not item.replace("-", "a").replace(".", "a").replace("_", "a").isalnum():
                    raise ValueError(f"{item} is not a network, an address or the name of a host") from None
                self._names.add(item.lower().rstrip("."))

    def permits(self, address: str, host: str = "") -> bool:
        """Whether a connection to this address may be made for a sink at this host."""
        try:
            found = _innermost(ipaddress.ip_address(address))
        except ValueError:
            return False
        if any(found.version == network.version and found in network for network in self._networks):
            return True
        if found.is_global and not found.is_multicast:
            return True
        return host.lower().rstrip(".") in self._names and not found.is_link_local


def _innermost(address: Address) -> Address:
    """The IPv4 address in an IPv6 address that only wraps one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def sink_url(text: str, allowed: AllowedAddresses) -> URL:
    """The URL of a sink. ValueError, with what is wrong about it, for one that must not or cannot be posted to."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("the URL has characters that no URL has")
    try:
        url = URL(text, encoded=True)
        host, port = url.host, url.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("a sink is reached by http:// or https://")
    if url.user is not None or url.password is not None or "@" in url.raw_authority:
        raise ValueError("user and password have no place in the URL; see sink.token.location")
    if url.raw_fragment or "#" in text:
        raise ValueError("a fragment (#) is not sent to anybody")
    if not host or not port:
        raise ValueError("the URL has no host")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # 127.1, 2130706433 and 0x7f000001 are addresses to some programs and names to others.
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ValueError(f"{host} is neither the name of a host nor an address as one writes it") from None
        return url
    # aiohttp asks no resolver for a literal address.
    if not allowed.permits(host):
        raise ValueError(f"{host} is not a public address; list it in bridge.sink.allow to post there")
    return url


class CheckedResolver(AbstractResolver):
    """Resolves names as the system does, and leaves out addresses that are not permitted.

    aiohttp connects to the addresses that this answers and to no others, so a name that leads elsewhere between the
    check and the connection (DNS rebinding) changes nothing.
    """

    def __init__(self, allowed: AllowedAddresses) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """OSError if the name has no address, or none that is permitted."""
        found = await self._look_up(host, port, family)
        permitted = [each for each in found if self._allowed.permits(str(each[4][0]), host)]
        if not permitted:
            addresses = ", ".join(sorted({str(each[4][0]) for each in found}))
            raise OSError(None, f"{host} leads to {addresses}, which is not public; list it in bridge.sink.allow")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in permitted
        ]

    async def _look_up(self, host: str, port: int, family: int) -> list[Any]:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family))

    async def close(self) -> None:
        return None
