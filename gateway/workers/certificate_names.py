"""Whether a certificate, as ``SSLSocket.getpeercert`` gives it, is that of a host (RFC 9525, RFC 6125 §6.4.3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any


def names_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Whether its subject alternative names have the host, a name or an address. A ``*`` stands for the whole first
    label of a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for kind, value in certificate.get("subjectAltName", ()):
        if address is not None:
            if kind == "IP Address" and _is_address(value, address):
                return True
        elif kind == "DNS" and _is_name(value.lower().rstrip("."), host.lower().rstrip(".")):
            return True
    return False


def told_names(certificate: Mapping[str, Any]) -> str:
    """The hosts that it names, for a message."""
    return ", ".join(f"{kind}:{value}" for kind, value in certificate.get("subjectAltName", ()))


def _is_address(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(text.strip()) == address
    except ValueError:
        return False


def _is_name(pattern: str, host: str) -> bool:
    if pattern == host:
        return True
    first, _, rest = host.partition(".")
    return bool(first) and pattern.startswith("*.") and "." in rest and pattern[2:] == rest
