"""Bodies that are processed while their parts still come: ``continue`` sequences to routes that take a body in pieces.

A part is handed over when it arrives (atmosphere-binding.md §1.7). What nobody has taken yet is bounded: beyond that
the client is not read, with everything else that it sends, because one connection has one flow control.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from kafka_gateway.arriving import ArrivingBody, Patience
from kafka_gateway.errors import RequestTimeout, ServiceError, TooManyRequests
from kafka_gateway.memory_budget import COUNT_FROM, Claim, MemoryBudget
from kafka_gateway.transports.envelope.codec import Envelope

WAITING_MAX = 256 * 1024
"""Bytes of parts of one connection that wait to be taken, before it is not read any further."""


class StreamedBody(ArrivingBody):
    """The body of one request.

    The iteration ends behind the final part. It raises RequestTimeout if that does not come, ConnectionResetError if
    the client leaves before it.
    """

    def __init__(self, waits: Callable[[int], None], memory: MemoryBudget) -> None:
        """``waits`` is told by how much there is more, or less, that nobody has taken."""
        super().__init__(Patience())
        self._waits, self._memory = waits, memory
        self._parts: deque[bytes] = deque()
        self._end: BaseException | None = None
        self._dropped = False
        self._news = asyncio.Event()
        self.deadline = 0.0

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self.patience.wait(self._news.wait())
        await self._memory.room()
        data = self._parts.popleft()
        self._waits(-len(data))
        return data

    def put(self, data: bytes) -> None:
        """A further part. One that comes when the request is over already is ignored."""
        if data and not self._dropped and self._end is None:
            self._parts.append(data)
            self._waits(len(data))
            self._news.set()

    def end(self, error: BaseException | None = None) -> None:
        """No part follows; or none will, and this is why."""
        if self._end is None:
            self._end = StopAsyncIteration() if error is None else error
            self._news.set()

    def drop(self) -> None:
        """The request is over: drops what is here and what still comes."""
        self._dropped = True
        size = sum(map(len, self._parts))
        self._parts.clear()
        if size:
            self._waits(-size)


class StreamedBodies:
    """The unfinished bodies of one connection.

    Args:
        open_max: how many there may be.
        idle_s: seconds after which one without a further part is given up; those in which the connection is not read,
            because ``is_full``, do not count.
        memory, claim: the budget, and the account in it where their bytes count.
        room: called when the connection may be read again.
    """

    def __init__(
        self, open_max: int, idle_s: float, memory: MemoryBudget, claim: Claim, room: Callable[[], None]
    ) -> None:
        self._open_max, self._idle_s, self._memory, self._claim, self._room = open_max, idle_s, memory, claim, room
        self._open: dict[bytes, StreamedBody] = {}
        self._waiting_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """Whether the connection must not be read for the moment."""
        return self._waiting_bytes > WAITING_MAX

    def open(self, part: Envelope) -> StreamedBody:
        """The body that begins with this part. TooManyRequests: the parts that follow are ignored."""
        assert part.id is not None
        body = StreamedBody(self._waits, self._memory)
        if len(self._open) < 2 * self._open_max:  # those that were refused are remembered as well, up to a number
            self._open[part.id] = body
            body.deadline = self._loop.time() + self._idle_s
            self._watch()
        if len(self._open) > self._open_max or part.id not in self._open:
            body.drop()
            raise TooManyRequests(f"More than {self._open_max} unfinished requests on this connection.")
        body.put(part.content)
        return body

    def add(self, part: Envelope) -> bool:
        """Hands the part over to the body that it belongs to; False if there is none."""
        body = self._open.get(part.id) if part.id is not None else None
        if body is None:
            return False
        body.put(part.content)
        if part.more:
            body.deadline = self._loop.time() + self._idle_s
        else:
            body.end()
            del self._open[part.id]  # type: ignore[arg-type]
        return True

    def close(self) -> None:
        """The client has left."""
        if self._timer is not None:
            self._timer.cancel()
        bodies, self._open = list(self._open.values()), {}
        for body in bodies:
            body.end(ConnectionResetError("the client left"))
            body.drop()
        self._claim.release()

    def _waits(self, change: int) -> None:
        was_full = self.is_full
        self._waiting_bytes += change
        if self._claim.held or self._waiting_bytes >= COUNT_FROM:
            self._claim.set_to(self._waiting_bytes)
        if was_full and not self.is_full:
            self._wait_anew()
            self._room()

    def _wait_anew(self) -> None:
        """The client has not been read: that was no silence of it."""
        for body in self._open.values():
            body.deadline = self._loop.time() + self._idle_s

    def _watch(self) -> None:
        if self._timer is None and self._open:
            at = min(body.deadline for body in self._open.values())
            self._timer = self._loop.call_at(at, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.is_full:
            self._wait_anew()
        until = self._loop.time() + 0.001  # the timer may be early by less than the clock's resolution
        for id, body in list(self._open.items()):
            if body.deadline <= until:
                del self._open[id]
                body.end(_incomplete())
        self._watch()


def _incomplete() -> ServiceError:
    return RequestTimeout("Incomplete message sequence")
