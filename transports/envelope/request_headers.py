"""The headers of a client's requests: those of its envelopes, and inherited ones (atmosphere-binding.md §1.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.transports.envelope.codec import Envelope

_INHERITED: Final = ("authorization", "cookie", "host", "forwarded", "accept-language", "user-agent")
"""Headers of the opening request that its envelopes inherit; and those that begin with ``x-forwarded-``."""
_SETS_MAX: Final = 64
_TEXT_MAX: Final = 256
"""Characters of Accept and Content-Type together, of a set that is remembered."""


class RequestHeaders:
    """The headers of one client. Most of its envelopes have the same, so a set is made once and shared."""

    __slots__ = ("_inherited", "_sets")

    def __init__(self, opening: Mapping[str, str], proof: Mapping[str, str]) -> None:
        """``opening``: headers of the request that opened the connection; ``proof``: what was shown there."""
        self._inherited = {
            name.lower(): value
            for name, value in opening.items()
            if name.lower() in _INHERITED or name.lower().startswith("x-forwarded-")
        } | dict(proof)
        self._sets: dict[tuple[str | None, str | None], dict[str, str]] = {}

    def of(self, part: Envelope) -> Mapping[str, str]:
        """The headers of a request, by lower-case name. Shared, so nobody changes them."""
        key = (part.accept, part.type)
        if part.headers is None and (known := self._sets.get(key)) is not None:
            return known
        headers = {**self._inherited, **(part.headers or {})}
        if part.accept is not None:
            headers["accept"] = part.accept
        if part.type is not None:
            headers["content-type"] = part.type
        if part.headers is None and len(part.accept or "") + len(part.type or "") < _TEXT_MAX:
            if len(self._sets) >= _SETS_MAX:
                self._sets.clear()
            self._sets[key] = headers
        return headers

    def inherit(self, proof: Mapping[str, str]) -> None:
        """Sets a newer proof, which all later envelopes inherit."""
        self._inherited.update(proof)
        self._sets.clear()
