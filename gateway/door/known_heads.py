"""Heads of requests that came before, byte for byte: what follows from a head alone is computed once.

A client that keeps its connection sends the same head again and again. Parsing it, asking which transport takes it,
whether its page may ask, and decoding target and headers costs more than all the rest of a small request. So a head
that comes again is looked up by its bytes. What must be asked each time is asked each time: the session and its proof,
and everything in `Gateway.dispatch` (rights, rates, limits).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from aiohttp import EMPTY_PAYLOAD, HttpVersion11

from kafka_gateway.door.request import Headers

if TYPE_CHECKING:
    from kafka_gateway.plans import Plan

_HEADS_MAX: Final = 2048
_HEAD_BYTES_MAX: Final = 2048
_SEEN_MAX: Final = 8192
UNKNOWN: Final = -1
"""Of a number of bytes that only the parser can tell."""

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_OTHERWISE: Final = ("Upgrade", "Expect", "Transfer-Encoding", "Content-Encoding")
"""Fields of requests that are served the long way."""


@dataclasses.dataclass(slots=True)
class KnownHead:
    """All that follows from the head of a request to plain HTTP whose reply ends."""

    message: Any
    """As aiohttp's parser made it."""
    transport: Any
    """Which takes it: an HttpTransport."""
    method: str
    target: str
    """As it was sent."""
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int
    """Bytes of the body that follows."""
    proof: Mapping[str, str]
    """The proof in its fields; a certificate is the connection's."""
    cors: Headers
    base_url: str
    accept_encoding: str
    plan: Plan | None = None
    """With which its requests are begun, if they need no task (gateway/at_once.py)."""
    plan_asked: int = 0
    """How often a plan was asked for and there was none."""


class KnownHeads:
    """The known heads of one listener: what is offered differs between listeners."""

    sights = 2
    """How often a head must have come before it is kept, so that heads that come once push out no others."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self._seen: dict[int, int] = {}
        self.find = self._heads.get
        """The known head with these bytes, the blank line included; None for any other."""

    def is_due(self, head: bytes) -> bool:
        """Counts a head that is not known; whether it has come often enough to be kept."""
        if len(head) > _HEAD_BYTES_MAX:
            return False
        seen, key = self._seen, hash(head)
        sights = seen.get(key, 0) + 1
        if sights >= self.sights:
            seen.pop(key, None)
            return True
        if len(seen) >= _SEEN_MAX:
            seen.clear()
        seen[key] = sights
        return False

    def keep(self, head: bytes, known: KnownHead) -> None:
        """From now on ``find`` finds it."""
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        self._heads[head] = known

    def forget(self) -> None:
        """Forgets all heads, because what follows from them has changed."""
        self._heads.clear()
        self._seen.clear()


def is_simple(message: Any) -> bool:
    """Whether the head of aiohttp's message leaves no question of where the request ends, and how it goes on."""
    headers = message.headers
    return (
        message.method in METHODS
        and message.version == HttpVersion11
        and not message.should_close
        and bool(headers.get("Host"))  # else its URLs are those of its connection's address
        and not any(name in headers for name in _OTHERWISE)
        and len(headers.getall("Content-Length", ())) <= 1
    )


def length_of(message: Any) -> int:
    """Bytes of the body that follows the head of aiohttp's message; -1 where only the parser knows."""
    headers = getattr(message, "headers", None)
    if headers is None or message.upgrade or message.chunked:
        return -1
    lengths = headers.getall("Content-Length", ())
    return int(lengths[0]) if len(lengths) == 1 else -1 if lengths else 0


def rest_of(head: bytes, message: Any, arrived: int) -> int:
    """Bytes that are still to come of the only request in what has arrived, which begins with this head; or UNKNOWN.

    Only for a head whose end is certain: for a parser a line that ends without CR might end it earlier.
    """
    length = length_of(message)
    if length < 0 or not head.endswith(b"\r\n\r\n") or head.count(b"\n") != head.count(b"\r\n"):
        return UNKNOWN
    rest = len(head) + length - arrived
    return rest if rest >= 0 else UNKNOWN


NO_BODY: Final = EMPTY_PAYLOAD
