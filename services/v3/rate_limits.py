"""How many records a second v3 takes (kafka-rest-http.md §7.12, §9.3)."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka_gateway.config import Config
from kafka_gateway.errors import TooManyRequests
from kafka_gateway.limits import TokenBucket

_PREFIX = "api.v3.produce.rate.limit."
_REFUSED = "Request rate limit exceeded: The rate limit of requests per second has been exceeded."


class RateLimits:
    """The four limiters that every record passes, in the contract's order."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.enabled = config.flag(_PREFIX + "enabled")

        def bucket(name: str) -> TokenBucket:
            return TokenBucket(config.integer(f"{_PREFIX}max.{name}.per.sec"), clock)

        # The gateway knows one cluster, so process and cluster see the same records; the smaller bound counts.
        names = (("requests.global", False), ("bytes.global", True), ("requests", False), ("bytes", True))
        self._limiters = [(bucket(name), by_size) for name, by_size in names] if self.enabled else []

    def refusal(self, size: int) -> TooManyRequests | None:
        """Takes the permits of a record of so many bytes of JSON; why it is refused, if it is. Never waits."""
        for limiter, by_size in self._limiters:
            cost = size if by_size else 1
            if limiter.wait_s(cost):
                limiter.give_back(cost)
                return TooManyRequests(_REFUSED)
        return None
