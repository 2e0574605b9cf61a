"""One flight for equal questions: what is asked by many at the same time is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kafka_gateway.registry.client import RegistryAway

T = TypeVar("T")


class Flights:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._flights: dict[object, asyncio.Task[Any]] = {}
        self._closing = False

    async def once(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, which runs once for all that ask meanwhile. Cancelling a caller leaves it running.

        RegistryAway while the gateway stops.
        """
        flight = self._flights.get(key)
        if flight is None:
            if self._closing:
                raise RegistryAway("the gateway is stopping")
            flight = self._flights[key] = asyncio.ensure_future(_run(work))
            flight.add_done_callback(lambda done: self._landed(key, done))
        result: T = await asyncio.shield(flight)
        return result

    async def aclose(self) -> None:
        """Ends what runs; what is asked later is refused."""
        self._closing = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: object, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # everybody who asked may have gone


async def _run(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
