"""Query parameters (kafka-rest-http.md §3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kafka_gateway.errors import BadRequest, NotFound

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
        raise NotFound().with_help(f"{name} takes a whole number of 64 bits, or leave it out.")
    return value


def read_max_bytes(query: Mapping[str, str], most: int) -> int:
    """``max_bytes`` of a read: how many bytes of keys and values it may take, ``most`` at most. NotFound as above."""
    wanted = read_long(query, "max_bytes", -1)
    return min(wanted, most) if wanted > 0 else most


def read_include(text: str, known: tuple[str, ...]) -> frozenset[str]:
    """``include`` of a read: names with commas between. BadRequest for one that is not known."""
    names = frozenset(name for each in text.split(",") if (name := each.strip()))
    if unknown := names.difference(known):
        raise BadRequest(f"include takes {' and '.join(known)}, with commas between; not {min(unknown)[:100]!r}.")
    return names
