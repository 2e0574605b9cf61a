"""Equal questions at about the same time: Kafka is asked once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SingleFlight:
    """Questions by key. A caller shares the answer to one that is in flight, or began no longer than ``for_s`` ago.

    Failures are shared by those who wait for them, and not kept. Belongs to the event loop.
    """

    def __init__(self, for_s: float = 0.1) -> None:
        self._for_s = for_s
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer; nobody changes it. Cancelling leaves the question to the others."""
        flight = self._flights.get(key)
        if flight is None:
            loop = asyncio.get_running_loop()
            flight = self._flights[key] = loop.create_task(ask())
            self._tasks.add(flight)
            until = loop.time() + self._for_s
            flight.add_done_callback(lambda done: self._landed(key, done, until))
        return cast(T, await asyncio.shield(flight))

    def forget(self) -> None:
        """Something was changed: who asks from now on gets an answer that is made from now on."""
        self._flights.clear()

    def _landed(self, key: Hashable, flight: asyncio.Task[Any], until: float) -> None:
        self._tasks.discard(flight)
        failed = flight.cancelled() or flight.exception() is not None
        if failed:
            self._drop(key, flight)
        else:
            asyncio.get_running_loop().call_at(until, self._drop, key, flight)

    def _drop(self, key: Hashable, flight: asyncio.Task[Any]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def close(self) -> None:
        """Cancels the questions in flight."""
        flights = list(self._tasks)
        self._flights.clear()
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
