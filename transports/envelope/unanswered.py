"""Requests of a client whose outcome it has not been told yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kafka_gateway.messages import Request

log = logging.getLogger("gateway.websocket")

ANSWER_S = 60.0
"""How long a client that has closed its side waits for its last replies, as on ``/socket/in`` (websocket-proxy.md
§2.9)."""


class Unanswered:
    """The requests of one client. Belongs to the event loop.

    Requests that may wait for records do not count: the records go to the next reader.
    """

    __slots__ = ("_changes", "_may_wait", "_reads", "_settled")

    def __init__(self, may_wait: Callable[[Request], bool]) -> None:
        """``may_wait``: whether the answer to a request that changes nothing may wait for records."""
        self._may_wait = may_wait
        self._changes = 0
        self._reads: dict[object, Request] = {}
        """Which of them may wait is only worked out for a client that closes its side."""
        self._settled: asyncio.Event | None = None

    def begin(self) -> None:
        """A request that changes something."""
        self._changes += 1

    def end(self) -> None:
        """One of those is answered."""
        self._changes -= 1
        if self._settled is not None:
            self._look()

    def begin_read(self, key: object, request: Request) -> None:
        """A request that changes nothing, under a key of its own."""
        self._reads[key] = request

    def end_read(self, key: object) -> None:
        """It is answered, or has become a stream."""
        self._reads.pop(key, None)
        self._look()

    def _look(self) -> None:
        if self._settled is not None and not self._changes and not self._reads:
            self._settled.set()

    async def settle(self, questions: bool) -> None:
        """Returns when all are answered, or cannot be within `ANSWER_S`. ``questions``: also what changes nothing."""
        for key in [key for key, request in self._reads.items() if not questions or self._may_wait(request)]:
            del self._reads[key]
        if not self._changes and not self._reads:
            return
        self._settled = asyncio.Event()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._settled.wait()
        except TimeoutError:
            count = self._changes + len(self._reads)
            log.warning("a socket is closed without the replies to %d requests: Kafka did not answer", count)
