"""How much each principal may use (security.md §5): buckets and counts that all its sessions share.

A request beyond a limit is refused with 429 and ``Retry-After``, before any of it is done; streams that have begun are
slowed down instead. A principal without limits costs nothing: its sessions share `UNLIMITED`.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from kafka_gateway.config import Config
from kafka_gateway.errors import QuotaUsedUp, TooManyRequests, rate_headers
from kafka_gateway.limits import TokenBucket
from kafka_gateway.session import Principal, Session

NAMES: Final = (
    "requests.per.sec",
    "produce.bytes.per.sec",
    "consume.bytes.per.sec",
    "connections",
    "streams",
    "consumer.instances",
)


_DEBT_MAX_S: Final = 10.0
"""For how long a principal's other requests wait at most because of one that was larger than a second's bytes. A
broker of Kafka looks at the last 11 s (``quota.window.num``), and knows nothing of what was before."""


_ASK_EVERY_S: Final = 0.5
"""After which time one that is slowed down asks again: the limit may have become another one."""
_ASK_AGAIN_S: Final = 0.01


class Allowance:
    """The limits of one principal, and what of them is used. Belongs to the event loop."""

    __slots__ = (
        "__weakref__",
        "_left",
        "_told",
        "consume_bytes",
        "limits",
        "metered",
        "principal",
        "produce_bytes",
        "requests",
        "sessions",
    )

    def __init__(self, principal: Principal | None, limits: Mapping[str, int]) -> None:
        self.principal = principal
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.limits: Mapping[str, int] = {}
        self.requests: TokenBucket | None = None
        self.produce_bytes: TokenBucket | None = None
        self.consume_bytes: TokenBucket | None = None
        self._left = -1
        self.metered = False
        """Whether single requests have to be looked at."""
        self.set(limits)

    def set(self, limits: Mapping[str, int]) -> None:
        """Takes other limits; a bucket whose rate stays keeps what it has."""
        before, self.limits = self.limits, dict(limits)

        def bucket(name: str, kept: TokenBucket | None) -> TokenBucket | None:
            rate = limits.get(name, 0)
            if kept is not None and before.get(name) == rate:
                return kept
            return TokenBucket(rate, debt_max=rate * _DEBT_MAX_S) if rate else None

        self.requests = bucket("requests.per.sec", self.requests)
        self._left = -1
        self._told = rate_headers(limits.get("requests.per.sec", 0), 0, 1)
        self.produce_bytes = bucket("produce.bytes.per.sec", self.produce_bytes)
        self.consume_bytes = bucket("consume.bytes.per.sec", self.consume_bytes)
        self.metered = any(limits.get(name, 0) for name in NAMES if name not in ("connections", "consumer.instances"))

    # --- requests ---------------------------------------------------------------------------------------------------

    def told(self, bucket: TokenBucket) -> tuple[tuple[str, str], ...]:
        """Headers that tell the principal how many requests it has left in this second, of its ``requests``."""
        permits = bucket.permits
        left = int(permits) if permits > 0 else 0
        if left != self._left:  # else the client is told the same as before
            limit, (name, _), reset = self._told
            self._left, self._told = left, (limit, (name, str(left)), reset)
        return self._told

    def check_consume(self) -> None:
        """TooManyRequests if earlier reads have used up the bytes of this second."""
        if self.consume_bytes is not None and (wait_s := self.consume_bytes.wait_s(0)) > 0:
            raise self._refusal("quota.consume.bytes.per.sec", wait_s)

    def consumed(self, size_bytes: int) -> None:
        """Counts bytes that were read."""
        if self.consume_bytes is not None:
            self.consume_bytes.charge(size_bytes)

    def pace(self) -> ReadPace:
        """For a stream of what is read."""
        return ReadPace(self)

    async def slowed(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body in portions, each when its bytes may be produced (security.md §5: streams are slowed, not cut).

        A portion is paid for when it is handed over: what nobody takes any more costs nothing. What is not taken stays
        with the client: nothing more is read from its connection meanwhile.
        """
        async for piece in body:
            at, size = 0, len(piece)
            while at < size:
                bucket = self.produce_bytes
                # Half of what may be saved up: other requests of the principal find something, too.
                end = min(size, at + max(1, bucket.rate // 2)) if bucket is not None else size
                if bucket is None or bucket.take_now(end - at):
                    yield piece[at:end]
                    at = end
                else:
                    await asyncio.sleep(_pause_s(bucket.until_s(end - at)))

    # --- what stays open --------------------------------------------------------------------------------------------

    def check_connections(self) -> None:
        """TooManyRequests if another connection is one too many."""
        most = self.limits.get("connections", 0)
        if most and sum(each.closed is None and not each.forwarded for each in self.sessions) >= most:
            raise self._refusal("quota.connections", 1.0)

    def check_streams(self) -> None:
        """TooManyRequests if another stream is one too many."""
        most = self.limits.get("streams", 0)
        if most and sum(len(each.streams) for each in self.sessions) >= most:
            raise self._refusal("quota.streams", 1.0)

    @property
    def instances_max(self) -> int:
        """Consumer instances that the principal may have; 0: any number."""
        return self.limits.get("consumer.instances", 0)

    def short_of(self, bucket: TokenBucket, cost: float, name: str) -> TooManyRequests:
        """What a request is told for which one of the buckets did not have enough; ``name`` is that of the property."""
        wait_s = bucket.wait_s(cost)
        bucket.give_back(cost)
        return self._refusal(name, wait_s)

    def _refusal(self, name: str, wait_s: float) -> TooManyRequests:
        quota = name.removeprefix("quota.")
        limit = self.limits.get(quota) if name.endswith(".per.sec") else None
        return QuotaUsedUp(f"{self.principal} has used up its {name}.", quota, max(1, math.ceil(wait_s)), limit)


class ReadPace:
    """What a stream owes of the bytes that its principal may read: it pays for them before it goes on.

    It takes of what is there, so that reads of the same principal that are no streams come first, and are not refused
    because of it.
    """

    __slots__ = ("_allowance", "_owed")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._owed = 0.0

    def owe(self, size_bytes: int) -> None:
        """So much was sent."""
        self._owed += size_bytes

    def pay(self) -> float:
        """Pays with what is there. Seconds until this should be asked again; 0 if all is paid."""
        bucket = self._allowance.consume_bytes
        self._owed -= bucket.take_some(self._owed) if bucket is not None else self._owed
        return _pause_s(self._owed / bucket.rate) if bucket is not None and self._owed > 0 else 0.0


def _pause_s(missing_s: float) -> float:
    return min(_ASK_EVERY_S, max(_ASK_AGAIN_S, missing_s))


UNLIMITED: Final = Allowance(None, {})


class Quotas:
    """The allowances of all principals that are here.

    Args:
        of_principal: limits of a principal that differ from the configuration's.
    """

    def __init__(self, config: Config, of_principal: Callable[[Principal], Mapping[str, int]]) -> None:
        self.follow(config)
        self._of_principal = of_principal
        self._known: weakref.WeakValueDictionary[str, Allowance] = weakref.WeakValueDictionary()

    def follow(self, config: Config) -> None:
        """Takes the limits of this configuration for all who come; `renew` gives them to those who are here."""
        self._usual = {name: config.integer(f"quota.{name}") for name in NAMES}
        if not config.asks_who and not config.given("quota.consumer.instances"):
            self._usual["consumer.instances"] = 0  # without authentication all clients are one principal

    def of(self, principal: Principal) -> Allowance:
        """The allowance of the principal, the same for all its sessions."""
        name = str(principal)
        known = self._known.get(name)
        if known is None:
            limits = self._limits(principal)
            if not any(limits.values()):
                return UNLIMITED
            known = self._known[name] = Allowance(principal, limits)
        return known

    def renew(self, sessions: set[Session]) -> None:
        """Gives every principal the present limits, because the rules have changed."""
        for allowance in list(self._known.values()):
            if allowance.principal is not None:
                allowance.set(self._limits(allowance.principal))
        for session in sessions:
            if session.allowance is UNLIMITED:
                session.allowance = self.of(session.principal)
                if session.allowance is not UNLIMITED:
                    session.allowance.sessions.add(session)

    def _limits(self, principal: Principal) -> dict[str, int]:
        return {**self._usual, **self._of_principal(principal)}
