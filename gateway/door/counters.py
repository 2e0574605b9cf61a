"""Counters of the door: plain numbers that requests add to, and that are read when somebody asks for them.

Nothing here is rendered. The gateway chooses the labels (templates of routes, names of transports), never clients, so
their number is bounded (observability.md §1).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from kafka_gateway.errors import (
    Forbidden,
    HeadTooLarge,
    PayloadTooLarge,
    QuotaUsedUp,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from kafka_gateway.metrics.numbers import REQUEST_SECONDS, Histogram
from kafka_gateway.session import Session

LEFT: Final = 499
"""The status that is counted and logged for a client that left before its reply was complete."""
_REASONS: Final[tuple[tuple[type[ServiceError], str], ...]] = (
    (ShuttingDown, "stopping"),
    (QuotaUsedUp, "quota"),
    (TooManyRequests, "rate"),
    (Unauthorized, "authentication"),
    (Forbidden, "authorization"),
    (PayloadTooLarge, "size"),
    (Unavailable, "busy"),
    (HeadTooLarge, "head"),
)


class Way:
    """The numbers of a transport on one listener."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0
        """Requests at work."""


class Counters:
    """Of one gateway. Belongs to its event loop."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int], Histogram] = {}
        """Seconds by transport, template of the route, method, and status; template and method are empty without a
        route."""
        self.ways: dict[tuple[str, str], Way] = {}
        """By transport and listener."""
        self.refused: Counter[str] = Counter()
        """What never became work, by reason."""

    def add(self, key: tuple[str, str, str, int], seconds: float, trace_id: str = "") -> None:
        """Counts a request of the service layer, by the key of ``requests``. At most 0.5 µs."""
        counts = self.requests.get(key)
        if counts is None:
            counts = self.requests[key] = Histogram()
        if trace_id:
            counts.add(seconds, trace_id)
            return
        counts.buckets[bisect_left(REQUEST_SECONDS, seconds)] += 1  # Histogram.add, which would be another call
        counts.count += 1
        counts.sum += seconds

    def add_equal(self, key: tuple[str, str, str, int], seconds: float, number: int) -> None:
        """Counts so many requests that took the same time."""
        counts = self.requests.get(key)
        if counts is None:
            counts = self.requests[key] = Histogram()
        counts.buckets[bisect_left(REQUEST_SECONDS, seconds)] += number
        counts.count += number
        counts.sum += seconds * number

    def way(self, session: Session) -> Way:
        """The numbers of the session's transport and listener; the session remembers them."""
        key = (session.transport, session.listener)
        found = self.ways.get(key)
        if found is None:
            found = self.ways[key] = Way()
        session.way = found
        return found

    def refuse(self, error: ServiceError) -> None:
        """Counts a request that was refused before anything was done for it."""
        self.refused[next((reason for kind, reason in _REASONS if isinstance(error, kind)), "head")] += 1
