"""The route table: node id → the broker's real address. The tunnel connects to addresses in it and to no others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time

from kafka_gateway.errors import NotFound, ServiceError
from kafka_gateway.upstream import Upstream

log = logging.getLogger("gateway.tunnel")

_ASK_AGAIN_S = 1.0
"""Unknown node ids lead to one question to Kafka in this time at most, however many clients ask."""

_FORGET_S = 600.0
"""For so long a broker that Kafka no longer lists is kept: it may be down, and its clients should hear just that."""

Target = tuple[str, int]
"""Host and port of a broker."""


class Routes:
    """Learns from Kafka's answers only (bridges.md C-4, C-18). Belongs to the event loop.

    Args:
        static: brokers known from the start, for clusters that tell the gateway nothing.
    """

    def __init__(self, upstream: Upstream, static: dict[int, Target], refresh_s: float) -> None:
        self.cluster_id = ""
        self._upstream = upstream
        self._refresh_s = refresh_s
        self._brokers: dict[int, Target] = dict(static)
        self._seen: dict[int, float] = {}
        self._turn = itertools.count()
        self._asked_at = -_ASK_AGAIN_S
        self._asking: asyncio.Task[None] | None = None
        self._failing = False

    def nodes(self) -> list[int]:
        return sorted(self._brokers)

    def learn(self, node: int, host: str, port: int) -> None:
        """A broker's address as a reply told it."""
        if 0 < port < 65536:
            self._brokers[node] = (host, port)
            self._seen[node] = time.monotonic()

    def bootstrap(self) -> list[Target]:
        """The bootstrap servers, each time beginning with the next one."""
        servers = self._upstream.servers
        first = next(self._turn) % len(servers)
        return [*servers[first:], *servers[:first]]

    async def of(self, node: int) -> Target:
        """Where the broker is. NotFound if the cluster has none with this id."""
        if node not in self._brokers:
            await self.refresh()
        try:
            return self._brokers[node]
        except KeyError:
            raise NotFound(f"The cluster has no broker {node}.") from None

    async def refresh(self) -> None:
        """Asks Kafka, unless it was asked less than `_ASK_AGAIN_S` ago. Callers at the same time share one question."""
        if self._asking is None:
            if time.monotonic() - self._asked_at < _ASK_AGAIN_S:
                return
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        await asyncio.shield(self._asking)

    async def follow(self) -> None:
        """Keeps the table fresh, until it is cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._refresh_s if self._brokers else min(1.0, self._refresh_s))

    async def _ask(self) -> None:
        try:
            cluster_id, brokers = await self._upstream.cluster()
            self.cluster_id = cluster_id
            now = time.monotonic()
            for each in brokers:
                self.learn(each.node, each.host, each.port)
            for node in [node for node, seen in self._seen.items() if now - seen > _FORGET_S]:
                del self._seen[node]
                self._brokers.pop(node, None)
            self._failing = False
        except ServiceError as error:
            if not self._failing:
                log.warning("Kafka does not say which brokers it has: %s", error.message)
            self._failing = True
        finally:
            self._asked_at = time.monotonic()
            self._asking = None

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking
