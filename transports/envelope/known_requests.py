"""What is known of the requests that a client repeats and that need no task (gateway/at_once.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.at_once import RequestsAtOnce
from kafka_gateway.messages import Request
from kafka_gateway.plans import Plan
from kafka_gateway.transports.envelope.codec import Envelope

_SETS_MAX: Final = 64
_PATH_MAX: Final = 1024
"""Characters of a path that is remembered."""
_TEXT_MAX: Final = 256
"""Characters of Accept and Content-Type together."""

Known = tuple[Plan, str, Mapping[str, str]]
"""With what a request is begun: plan, path, headers."""


class KnownRequests:
    """Of one client."""

    __slots__ = ("_at_once", "sets")

    def __init__(self, at_once: RequestsAtOnce) -> None:
        self._at_once = at_once
        self.sets: dict[tuple[str, str | None, str | None], Known] = {}
        """By path as it was sent, accept and type of envelopes without further headers."""

    def remember(self, part: Envelope, request: Request) -> None:
        """Keeps what is known of the request, which has been dispatched, where others like it need no task."""
        plan = self._at_once.plan(request)
        key = (part.path, part.accept, part.type)
        if plan is None:
            self.sets.pop(key, None)
        elif len(part.path) <= _PATH_MAX and len(part.accept or "") + len(part.type or "") < _TEXT_MAX:
            if len(self.sets) >= _SETS_MAX:
                self.sets.clear()
            self.sets[key] = plan, request.path, request.headers
