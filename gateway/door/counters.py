"""What the door counts: plain numbers that are added to on the way of requests, and read when somebody asks for them.

Nothing here is rendered. Labels are what the gateway chooses (templates of routes, names of transports), never text of
clients, so there are so many of them and no more (observability.md §1).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from kafka_gateway.errors import (
    Forbidden,
    HeadTooLarge,
    PayloadTooLarge,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram; what takes longer is counted behind the last."""

_REASONS: Final[tuple[tuple[type[ServiceError], str], ...]] = (
    (ShuttingDown, "stopping"),
    (TooManyRequests, "rate"),
    (Unauthorized, "authentication"),
    (Forbidden, "authorization"),
    (PayloadTooLarge, "size"),
    (Unavailable, "busy"),
    (HeadTooLarge, "head"),
)


class RequestCounts:
    """The requests with the same labels."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        """Requests by the bucket that they fall into; not cumulative."""


class Counters:
    """Of one gateway. Belongs to its event loop."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int], RequestCounts] = {}
        """By transport, template of the route, method, and status; template and method are empty without a route."""
        self.refused: Counter[str] = Counter()
        """What never became work, by reason."""

    def add(self, transport: str, template: str, method: str, status: int, seconds: float) -> None:
        """Counts a request of the service layer. At most 0.5 µs."""
        key = (transport, template, method, status)
        counts = self.requests.get(key)
        if counts is None:
            counts = self.requests[key] = RequestCounts()
        counts.count += 1
        counts.seconds += seconds
        counts.buckets[bisect_left(BUCKETS_S, seconds)] += 1

    def refuse(self, error: ServiceError) -> None:
        """Counts a request that was refused before anything was done for it."""
        self.refused[next((reason for kind, reason in _REASONS if isinstance(error, kind)), "head")] += 1
