"""What operators allow: which resources are offered, and how many requests a second (kafka-rest-http.md §3.9)."""

from __future__ import annotations

import asyncio
import difflib
import math
import re
import time
from collections.abc import Callable, Iterable

from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import MethodNotAllowed, NoRoute, TooManyRequests
from kafka_gateway.router import Route

_REFUSED = "Request rate limit exceeded: The rate limit of requests per second has been exceeded."


class TokenBucket:
    """``rate`` permits a second, as many saved up at most. Clock in seconds, replaceable for tests."""

    __slots__ = ("_at", "_clock", "_floor", "_rate", "permits", "rate")

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic, debt_max: float = math.inf) -> None:
        """``debt_max``: below 0 by how many permits ``take`` and ``charge`` go at most. What cost more has gone, and
        the others do not wait for the rest of it."""
        self._rate = rate
        self._floor = -debt_max
        self.rate = int(rate)
        """Permits a second."""
        self._clock = clock
        self.permits = rate
        """Those that were there when somebody took some last, less what was taken: below 0 if somebody waits."""
        self._at = clock()

    def take(self, cost: float, now: float) -> bool:
        """Takes the permits if they are there now, a time of the clock; else none of them.

        A caller that asks several buckets reads the clock once.
        """
        rate = self._rate
        permits = self.permits + (now - self._at) * rate
        if permits > rate:
            permits = rate
        self._at = now
        if permits < cost and permits < rate:
            self.permits = permits
            return False
        permits -= cost
        self.permits = permits if permits > self._floor else self._floor
        return True

    def take_now(self, cost: float) -> bool:
        """``take``, for who has not looked at the clock."""
        return self.take(cost, self._clock())

    def take_some(self, most: float) -> float:
        """Takes what is there, ``most`` permits at most, and returns how many."""
        self._fill()
        taken = max(0.0, min(most, self.permits))
        self.permits -= taken
        return taken

    def charge(self, cost: float) -> None:
        """Takes permits for what is done already, also those that are not there."""
        self._fill()
        self.permits = max(self.permits - cost, self._floor)

    def wait_s(self, cost: float) -> float:
        """Takes the permits and returns how long to wait until they are really there; 0.0 if they are there now.

        A request that costs more than the bucket holds goes when it is full, and those behind it wait longer.
        """
        now = self._clock()
        self.permits = min(self._rate, self.permits + (now - self._at) * self._rate)
        self._at = now
        missing = min(cost, self._rate) - self.permits
        self.permits -= cost
        return max(0.0, missing / self._rate)

    def give_back(self, cost: float) -> None:
        self.permits += cost

    def _fill(self) -> None:
        now = self._clock()
        self.permits = min(self._rate, self.permits + (now - self._at) * self._rate)
        self._at = now

    def available(self, cost: float) -> int:
        """How many things of this cost could go now, for callers that can wait; see ``spend``."""
        now = self._clock()
        self.permits = min(self._rate, self.permits + (now - self._at) * self._rate)
        self._at = now
        if cost >= self._rate:
            return int(self.permits >= self._rate)
        return max(0, int((self.permits + 1e-6) / cost))

    def spend(self, cost: float) -> None:
        """Takes permits that are ``available``."""
        self.permits -= cost

    def until_s(self, cost: float) -> float:
        """Seconds until one thing of this cost could go."""
        return max(0.0, (min(cost, self._rate) - self.permits) / self._rate)


_MESSAGES_EVERY_S = 0.1


class Meter:
    """The rate limit for messages that wait where nobody is refused: their socket is not read meanwhile."""

    __slots__ = ("_bucket", "_cost")

    def __init__(self, bucket: TokenBucket, cost: int) -> None:
        self._bucket, self._cost = bucket, cost

    def available(self) -> int:
        """How many messages may go now."""
        return self._bucket.available(self._cost)

    def spend(self, count: int) -> None:
        """Takes what so many messages cost."""
        self._bucket.spend(count * self._cost)

    def wait_s(self) -> float:
        """Seconds until to ask again. Not as soon as there is a permit: requests that are refused when there is none
        would never find one while messages wait.
        """
        return max(_MESSAGES_EVERY_S, self._bucket.until_s(self._cost))


class Limits:
    """The allow and block lists, and the request rate limit."""

    def __init__(self, config: Config) -> None:
        self._bucket: TokenBucket | None = None
        self._rate = 0
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Takes what this configuration says; a rate that stays keeps its permits."""
        self._allowed = frozenset(config.items("api.endpoints.allowlist"))
        self._blocked = frozenset(config.items("api.endpoints.blocklist"))
        self._costs: dict[str, int] = {}
        rate = config.integer("rate.limit.permits.per.sec") if config.flag("rate.limit.enable") else 0
        if rate != self._rate:
            self._bucket, self._rate = TokenBucket(rate) if rate else None, rate
        self._default_cost = config.integer("rate.limit.default.cost")
        for item in config.items("rate.limit.costs"):
            name, _, cost = item.rpartition("=")
            self._costs[name.strip()] = int(cost)
        self._patience_s = config.seconds("rate.limit.timeout.ms")

    def check_offered(self, name: str, route: Route) -> None:
        """A resource that is switched off: NoRoute for GET, MethodNotAllowed for the others. ``name`` as in §14.1."""
        if is_probe(route):
            return
        refused = bool(self._allowed)
        for level in _levels(name, route):
            if level in self._blocked or level in self._allowed:
                refused = level in self._blocked
                break
        if refused:
            if route.method == "GET":
                raise NoRoute()
            raise MethodNotAllowed().with_help(
                "The operator has switched this off (api.endpoints.blocklist, allowlist)."
            )

    def check_not_blocked(self, route: Route) -> None:
        """As ``check_offered``, for what belongs to a resource that is offered: only the block list counts."""
        if any(level in self._blocked for level in _levels(route.name, route)):
            raise NoRoute()

    def cost(self, name: str, route: Route) -> int:
        """The permits that a request of this resource takes; 0 without a rate limit."""
        if self._bucket is None or is_probe(route):
            return 0
        found = (self._costs[level] for level in _levels(name, route) if level in self._costs)
        return next(found, self._default_cost)

    def meter(self, route: Route) -> Meter | None:
        """Counts what comes through an open socket, message by message; None if nothing is counted."""
        cost = self.cost(route.name, route)
        return Meter(self._bucket, cost) if self._bucket is not None and cost else None

    async def take(self, cost: int) -> None:
        """Takes the permits, waiting at most ``rate.limit.timeout.ms``; TooManyRequests if that is too short."""
        assert self._bucket is not None
        wait_s = self._bucket.wait_s(cost)
        if not wait_s:
            return
        if wait_s > self._patience_s:
            self._bucket.give_back(cost)
            raise TooManyRequests(_REFUSED, max(1, math.ceil(wait_s)), self._bucket.rate)
        await asyncio.sleep(wait_s)


def is_probe(route: Route) -> bool:
    """Whether the resource tells if the gateway is healthy. Its caller may restart the gateway, so no limit applies."""
    return route.name.startswith(_PROBES)


def is_for_operators(route: Route, apart: bool) -> bool:
    """Whether clients get the resource at the operators' own listeners only. ``apart``: there are such listeners, and
    then probes, and what ``extras["operators"]`` names, are theirs, too."""
    return bool(route.extras.get("admin") or (apart and (is_probe(route) or route.extras.get("operators"))))


_PROBES = ("health.", "bridge.healthz", "bridge.readyz", "proxy.healthcheck")


def _levels(name: str, route: Route) -> tuple[str, str, str]:
    """The entries that fit a resource, the one that counts most first: its name with the embedded format, its name
    without, which stands for all formats, and its class."""
    return name, route.name, _class_of(name)


def _class_of(name: str) -> str:
    return (name.rpartition(".")[0] or name) + ".*"


_COST = re.compile(r"(?P<name>[^=]+?)\s*=\s*[0-9]{1,9}")


def faults(config: Config, routes: Iterable[Route]) -> list[Fault]:
    """Entries of the lists and of the costs that fit no resource: a misspelt one would protect nothing.

    Those of generations that are not served may stay, ``api.v3.*`` for one.
    """
    names = {
        level
        for route in routes
        if not is_probe(route)
        for name in route.extras.get("names", {}).values() or (route.name,)
        for level in _levels(name, route)
    }
    generations = {name.split(".")[1] for name in names if name.startswith("api.")}
    found = []
    for key in ("api.endpoints.allowlist", "api.endpoints.blocklist", "rate.limit.costs"):
        for entry in config.items(key):
            name = entry
            if key == "rate.limit.costs":
                cost = _COST.fullmatch(entry)
                if cost is None:
                    found.append(Fault(config.place(key), key, f"{entry!r} is not NAME=NUMBER"))
                    continue
                name = cost["name"]
            generation = re.match(r"api\.(v[0-9]+)\.", name)
            if name not in names and (generation is None or generation[1] in generations):
                near = difflib.get_close_matches(name, names, 1)
                found.append(Fault(config.place(key), key, f"there is no resource {name!r}", near[0] if near else ""))
    return found
