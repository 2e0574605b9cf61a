"""Sends that wait for word of what their topic demands now, because of records that it seems not to take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("gateway.kafka.producer")

_CHECK_S = 1.0
"""How long the sends to a topic wait, at most, for word of what it demands."""


class DemandChecks:
    """The sends of one producer that wait so. Belongs to the event loop."""

    def __init__(self, ask: Callable[[str], Awaitable[None]], count: Callable[[int, int], None]) -> None:
        """``ask`` returns when it is known what the topic demands. ``count`` gets the records and bytes that wait more,
        or less."""
        self._ask, self._count = ask, count
        self._loop = asyncio.get_running_loop()
        self.waiting: dict[str, list[tuple[int, int, Callable[[], None]]]] = {}
        """By topic: records, bytes, what sends them."""
        self._checking: dict[str, asyncio.Task[None]] = {}

    def send_later(self, topic: str, size: int, cost: int, send: Callable[[], None]) -> None:
        """Sends when Kafka has told what the topic demands now. Calls for one topic keep their order."""
        waiting = self.waiting.get(topic)
        if waiting is None:
            waiting = self.waiting[topic] = []
            self._checking[topic] = self._loop.create_task(self._check(topic))
        self._count(size, cost)
        waiting.append((size, cost, send))

    def close(self) -> None:
        """Sends all at once."""
        for topic, checking in list(self._checking.items()):
            checking.cancel()
            self._send(topic)

    async def _check(self, topic: str) -> None:
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._ask(topic)
        except TimeoutError:
            _log.info("what topic %s demands of records was not told in time: what was told before counts", topic)
        finally:
            self._send(topic)

    def _send(self, topic: str) -> None:
        self._checking.pop(topic, None)
        for size, cost, send in self.waiting.pop(topic, ()):
            self._count(-size, -cost)
            send()
