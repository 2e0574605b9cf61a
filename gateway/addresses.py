"""Addresses of Kafka brokers, as operators write them."""

from __future__ import annotations

import re
from typing import Final

_DEFAULT_PORT: Final = 9092
_NO_NAME = re.compile(r"[\s/${}@]")
"""What is in no host name, but in a path, a placeholder that was not filled in, or a user's part."""


def split_address(server: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[IPv6]:PORT`` or ``HOST``; a protocol before ``://`` is skipped, as librdkafka
    does.

    Raises:
        ValueError: with a message for the operator.
    """
    text = server.rpartition("://")[2]
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        good = bool(bracket) and (not rest or rest.startswith(":"))
    else:
        host, _, port = text.partition(":")
        good = ":" not in port
    good = good and not _NO_NAME.search(host)
    if not host or not good or (port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536)):
        raise ValueError("is not of the form HOST:PORT")
    return host, int(port) if port else _DEFAULT_PORT


def read_servers(text: str) -> str:
    """The text of a list of brokers, as it is. ValueError, for the operator, if one of them is no address."""
    for server in filter(None, map(str.strip, text.split(","))):
        try:
            split_address(server)
        except ValueError as error:
            # In front of an @ may stand a password.
            _, user, address = server.rpartition("@")
            raise ValueError(f"{('…@' if user else '') + address[:80]!r} {error}") from None
    return text
