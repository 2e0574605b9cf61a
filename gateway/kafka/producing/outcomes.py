"""What becomes of batches that were sent together, one of each request, told in as few calls as can be.

A future for each would have the event loop call back for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.producing import Delivery, Outcomes
from kafka_gateway.records import RecordToSend


class Collected:
    """The outcomes of one `Producer.send_each`: all that come in one turn of the event loop are told at its end."""

    __slots__ = ("_told", "ready")

    def __init__(self, told: Outcomes) -> None:
        self._told = told
        self.ready: list[tuple[int, list[Delivery] | Exception]] = []

    def add(self, place: int, result: list[Delivery] | Exception) -> None:
        """The batch at this place is over."""
        if not self.ready:
            asyncio.get_running_loop().call_soon(self.tell)
        self.ready.append((place, result))

    def follow(self, place: int, future: asyncio.Future[list[Delivery]]) -> None:
        """What the future gets is the outcome at this place."""

        def done(future: asyncio.Future[list[Delivery]]) -> None:
            if not future.cancelled():  # else the event loop has ended
                error = future.exception()
                self.add(place, future.result() if not isinstance(error, Exception) else error)

        future.add_done_callback(done)

    def tell(self) -> None:
        """Tells what has not been told yet."""
        ready, self.ready = self.ready, []
        self._told(ready)


class Outcome(msgspec.Struct, eq=False):
    """What a `Batch` has for a future when its outcome is told with those of others."""

    collected: Collected
    place: int
    is_done: bool = False
    calls: tuple[Callable[[Any], object], ...] = ()

    def done(self) -> bool:
        return self.is_done

    def set_result(self, rows: list[Delivery]) -> None:
        self.is_done = True
        if ready := self.collected.ready:  # `Collected.add`, which would be another call
            ready.append((self.place, rows))
        else:
            self.collected.add(self.place, rows)
        if self.calls:
            self._call()

    def set_exception(self, error: Exception) -> None:
        self.is_done = True
        self.collected.add(self.place, error)
        self._call()

    def exception(self) -> None:
        """A future wants to be asked for what it has failed with; here it is told."""

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        self.calls = (*self.calls, call)

    def _call(self) -> None:
        for call in self.calls:
            call(self)


class _Sends(Protocol):
    def send(self, topic: str, records: Sequence[RecordToSend]) -> asyncio.Future[list[Delivery]]: ...


def send_one_by_one(producer: _Sends, topic: str, batches: Sequence[Sequence[RecordToSend]], told: Outcomes) -> None:
    """`Producer.send_each` by `Producer.send`."""
    collected = Collected(told)
    for place, batch in enumerate(batches):
        try:
            collected.follow(place, producer.send(topic, batch))
        except ServiceError as error:
            collected.add(place, error)
