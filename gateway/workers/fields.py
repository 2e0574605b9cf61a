"""Header fields and query parameters in the heads of frames, of which most come again and again.

A client that keeps its connection sends the same head with each request, and the door hands on the very same mappings
for it (gateway/door/known_heads.py). So what frames say of them is worked out once at either end.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.messages import Request
from kafka_gateway.workers.frames import FrameError, told, untold

_KEPT_MAX: Final = 256
_KEPT_BYTES_MAX: Final = 2048
"""Longer ones are rare, and are not kept: a stranger's client decides what it sends."""

_OURS: Final = "x-gateway-"
"""What processes tell each other stands in members of the heads. A header field of a client that looks as if it were
such a thing goes no further than to the process that the client has come to (cluster.md §9)."""

_decode: Final = jsonio.Decoder(dict[str, str]).decode


class FieldsOut:
    """For the end that asks."""

    __slots__ = ("_kept", "_left_out")

    def __init__(self, left_out: frozenset[str]) -> None:
        """``left_out``: lower-case names of the header fields that stay here."""
        self._left_out = left_out
        self._kept: dict[int, tuple[Mapping[str, str], Mapping[str, str], jsonio.Raw, jsonio.Raw]] = {}
        """By the identity of the header fields, which are kept with it, so that it is nobody else's meanwhile."""

    def of(self, request: Request) -> tuple[jsonio.Raw, jsonio.Raw]:
        """The request's header fields, and its query."""
        headers, query = request.headers, request.query
        kept = self._kept.get(id(headers))
        if kept is not None and kept[1] is query:
            return kept[2], kept[3]
        left_out = self._left_out
        fields = jsonio.encode(
            {
                lower: told(value)
                for name, value in headers.items()
                if (lower := name.lower()) not in left_out and not lower.startswith(_OURS)
            }
        )
        parameters = jsonio.encode({told(name): told(value) for name, value in query.items()})
        made = jsonio.Raw(fields), jsonio.Raw(parameters)
        if len(fields) + len(parameters) <= _KEPT_BYTES_MAX:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            self._kept[id(headers)] = headers, query, *made
        return made


class FieldsIn:
    """For the end that answers."""

    __slots__ = ("_kept", "known")

    def __init__(self) -> None:
        self._kept: dict[bytes, Mapping[str, str]] = {}
        self.known = self._kept.get
        """What `read` has kept, for whoever reads each request's."""

    def read(self, raw: jsonio.Raw) -> Mapping[str, str]:
        """What ``FieldsOut`` has made this of; nobody may change it. FrameError if it is nothing of the kind."""
        text = bytes(raw)
        found = self._kept.get(text)
        if found is None:
            try:
                found = MappingProxyType({untold(name): untold(value) for name, value in _decode(text).items()})
            except ValueError as error:
                raise FrameError(f"fields that cannot be read: {error}") from None
            if len(text) <= _KEPT_BYTES_MAX:
                if len(self._kept) >= _KEPT_MAX:
                    self._kept.clear()
                self._kept[text] = found
        return found
