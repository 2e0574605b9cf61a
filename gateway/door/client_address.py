"""The address of a client, in the one form in which it is counted, limited and logged, whoever tells it."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_in(text: str) -> Address | None:
    """The address that the text is; None for any other text.

    IPv4 in IPv6 (RFC 4291 §2.5.5.2) is IPv4, and the zone behind ``%`` is left out.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def peer_of(peername: object) -> str:
    """The client's address by its connection; ``unix`` on a Unix socket."""
    if not isinstance(peername, tuple):
        return "unix"
    text = str(peername[0])
    return str(address_in(text) or text) if ":" in text else text
