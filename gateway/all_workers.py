"""What all workers of a gateway are asked together, and how their answers become one: metrics, readiness, who is
connected. How a worker is reached is up to whoever makes this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from kafka_gateway.errors import ServiceError
from kafka_gateway.forwarding import Join
from kafka_gateway.messages import Reply, Request

log = logging.getLogger("gateway.workers")

_JOIN_S: Final = 1.5
"""How long the others may take: a probe gives up soon."""
_Other = TypeVar("_Other")


async def answers_of(others: Iterable[_Other], question: Callable[[_Other], Awaitable[list[Any]]]) -> list[Any]:
    """What all of them answer to a question, one after the other; what a process does not answer in time is left out,
    and logged. ``question`` asks one of them. ServiceError: it does not answer."""

    async def one(other: _Other) -> list[Any]:
        try:
            async with asyncio.timeout(_JOIN_S):
                return await question(other)
        except (TimeoutError, ServiceError):
            log.warning("process %s does not answer", other)
            return []

    return [each for found in await asyncio.gather(*map(one, others)) for each in found]


class AllWorkers:
    """Belongs to the event loop.

    Args:
        number: of this worker, from 0.
        workers: how many there are.
        ask: sends another worker a request. ServiceError: it does not answer.
    """

    def __init__(self, number: int, workers: int, ask: Callable[[Request, int], Awaitable[Reply]]) -> None:
        self._number = number
        self.others: Sequence[int] = tuple(each for each in range(workers) if each != number)
        self._ask = ask

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """As `kafka_gateway.forwarding.Forwarder.join`; ``reply`` as it is where there are no others."""
        if not self.others:
            return reply

        async def one(worker: int) -> Reply | None:
            try:
                async with asyncio.timeout(_JOIN_S):
                    return await self._ask(request, worker)
            except (TimeoutError, ServiceError):
                return None

        found = await asyncio.gather(*(one(worker) for worker in self.others))
        # Not on the loop: the metrics of many series take longer than it may be held.
        return await asyncio.to_thread(join, reply, dict(zip(self.others, found, strict=True)), self._number)
