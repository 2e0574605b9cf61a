"""Query parameters (kafka-rest-http.md §3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kafka_gateway.errors import NotFound

_LONG = re.compile(r"[+-]?[0-9]{1,40}")
_LONG_MAX = 2**63 - 1


def read_long(query: Mapping[str, str], name: str, default: int) -> int:
    """The parameter as a 64-bit integer; ``default`` if absent or empty (kafka-rest-http.md, observed §3.1).

    Raises:
        NotFound: if it is anything else. That is what the contract says (§3.1), odd as it is.
    """
    text = query.get(name)
    if not text:
        return default
    if not _LONG.fullmatch(text) or not -_LONG_MAX - 1 <= (value := int(text)) <= _LONG_MAX:
        raise NotFound()
    return value


def read_max_bytes(query: Mapping[str, str], most: int) -> int:
    """``max_bytes`` of a read: how many bytes of keys and values it may take, ``most`` at most. NotFound as above."""
    wanted = read_long(query, "max_bytes", -1)
    return min(wanted, most) if wanted > 0 else most
