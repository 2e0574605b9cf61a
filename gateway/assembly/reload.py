"""Reading the configuration again while the gateway runs (SIGHUP; observability.md §6).

The new configuration is judged whole, by everything that follows it, before anything changes. If something is wrong all
of it is told and nothing changes. What only a start can change is named, and left as it is.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from kafka_gateway import limits
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.core import Gateway
from kafka_gateway.following import Change
from kafka_gateway.metrics.families import counter
from kafka_gateway.metrics.registry import Families
from kafka_gateway.router import Route, RouteClash, Router

log = logging.getLogger("gateway")


class Reload:
    """Of one running gateway. Belongs to its event loop.

    Args:
        config: what the gateway was started with.
        read: reads the same sources again; raises ConfigError. It is called on a thread.
        resources: what transports serve by themselves, for the names in lists.
    """

    def __init__(
        self, gateway: Gateway, config: Config, read: Callable[[], Config], resources: Iterable[Route] = ()
    ) -> None:
        self._gateway = gateway
        self._started = self._current = config
        self._read = read
        self._resources = tuple(resources)
        self._turn = asyncio.Lock()
        self._count: Counter[str] = Counter(taken=0, refused=0)
        gateway.metrics.add(self._families)

    def _families(self) -> Families:
        rows = [((result,), number) for result, number in self._count.items()]
        yield counter("config_reloads", "How often the configuration was read again", ("result",), rows)

    async def __call__(self) -> bool:
        """Reads, judges and takes the configuration; whether it was taken. Never raises."""
        async with self._turn:
            try:
                taken = await self._reload()
            except ConfigError as error:
                for fault in error.faults:
                    log.error("%s", fault)
                count = len(error.faults)
                log.error("the configuration has %d fault%s; nothing was changed", count, "" if count == 1 else "s")
                taken = False
            except Exception:
                log.exception("the configuration could not be read again")
                taken = False
            self._count["taken" if taken else "refused"] += 1
            return taken

    async def _reload(self) -> bool:
        new = await asyncio.to_thread(self._read)
        changes, router = self._judge(new)
        for change in changes:
            done = change.apply()
            if inspect.isawaitable(done):
                await done
        if router is not None:
            self._gateway.router.adopt(router)
        before, self._current = self._current, new
        self._gateway.reload()
        self._tell(before, new)
        return True

    def _judge(self, new: Config) -> tuple[list[Change], Router | None]:
        """The changes to be made. ConfigError with everything that is wrong."""
        faults: list[Fault] = []
        changes: list[Change] = []
        for judge in self._gateway.following:
            try:
                changes.append(judge(new))
            except ConfigError as error:
                faults += error.faults
        router, routes = None, self._gateway.router.routes
        if any(change.routes is not None for change in changes):
            routes = _with(routes, changes)
            try:
                router = Router(routes)
            except RouteClash as error:
                faults.append(Fault("", "", str(error)))
        faults += limits.faults(new, [*routes, *self._resources])
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return changes, router

    def _tell(self, before: Config, new: Config) -> None:
        live = [name for name in changed(before, new) if new.is_live(name)]
        what = f"changed: {', '.join(live)}" if live else "its properties are the same"
        log.info("the configuration was read again; %s; files of rules, users and certificates are read, too", what)
        if waiting := [name for name in changed(self._started, new) if not new.is_live(name)]:
            log.warning("these properties take effect with the next start only: %s", ", ".join(waiting))


def changed(one: Config, other: Config) -> list[str]:
    """Properties that the two set differently, by name."""
    texts, others = one.texts(), other.texts()
    return sorted(name for name in texts.keys() | others.keys() if texts.get(name) != others.get(name))


def _with(routes: Iterable[Route], changes: Iterable[Change]) -> tuple[Route, ...]:
    """The routes, those of the owners that bring new ones replaced."""
    brought = {change.owner: change.routes for change in changes if change.routes is not None}
    kept = [route for route in routes if route.owner not in brought]
    own = [replace(route, owner=owner, name=route.name or owner) for owner, found in brought.items() for route in found]
    return (*kept, *own)
