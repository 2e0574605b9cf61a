"""What a client has asked for that changes something, and has not been told the outcome of."""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("gateway.websocket")

ANSWER_S = 60.0
"""How long a client that has closed its side waits for its last replies, as on ``/socket/in`` (websocket-proxy.md
§2.9)."""


class Unanswered:
    """Counts such requests of one client. Belongs to the event loop.

    Those that only read are none of them: what they would have been given goes to the next reader.
    """

    __slots__ = ("_count", "_settled")

    def __init__(self) -> None:
        self._count = 0
        self._settled: asyncio.Event | None = None

    def begin(self) -> None:
        self._count += 1

    def end(self) -> None:
        self._count -= 1
        if self._settled is not None and not self._count:
            self._settled.set()

    async def settle(self) -> None:
        """Returns when all are answered, or cannot be within `ANSWER_S`."""
        if not self._count:
            return
        self._settled = asyncio.Event()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._settled.wait()
        except TimeoutError:
            log.warning("a socket is closed without the replies to %d requests: Kafka did not answer", self._count)
