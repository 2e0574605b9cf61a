"""What all workers of a gateway are asked together, and how their answers become one: metrics, readiness, who is
connected. How a worker is reached is up to whoever makes this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from kafka_gateway.errors import ServiceError
from kafka_gateway.homes import Join
from kafka_gateway.messages import Reply, Request

log = logging.getLogger("gateway.workers")

_JOIN_S: Final = 1.5
"""How long the others may take: a probe gives up soon."""


class AllWorkers:
    """Belongs to the event loop.

    Args:
        number: of this worker, from 0.
        workers: how many there are.
        ask: sends another worker a request. ServiceError: it does not answer.
        question: asks another worker what beside requests can be asked, as `kafka_gateway.homes.Question` says; in the
            same way.
    """

    def __init__(
        self,
        number: int,
        workers: int,
        ask: Callable[[Request, int], Awaitable[Reply]],
        question: Callable[[int, str, Mapping[str, Any]], Awaitable[list[Any]]],
    ) -> None:
        self._number = number
        self._others: Sequence[int] = tuple(each for each in range(workers) if each != number)
        self._ask = ask
        self._question = question

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """As `kafka_gateway.homes.Homes.join`; ``reply`` as it is where there are no others."""
        if not self._others:
            return reply

        async def one(worker: int) -> Reply | None:
            try:
                async with asyncio.timeout(_JOIN_S):
                    return await self._ask(request, worker)
            except (TimeoutError, ServiceError):
                return None

        found = await asyncio.gather(*(one(worker) for worker in self._others))
        # Not on the loop: the metrics of many series take longer than it may be held.
        return await asyncio.to_thread(join, reply, dict(zip(self._others, found, strict=True)), self._number)

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """As `kafka_gateway.homes.Homes.ask_all`."""

        async def one(worker: int) -> list[Any]:
            try:
                async with asyncio.timeout(_JOIN_S):
                    return await self._question(worker, name, parameters)
            except (TimeoutError, ServiceError):
                log.warning("worker %d does not answer", worker)
                return []

        return [each for found in await asyncio.gather(*(one(worker) for worker in self._others)) for each in found]
