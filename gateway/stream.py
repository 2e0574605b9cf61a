"""Streams: what a service answers to a subscription, and the byte-bounded buffer behind it.

A source (a worker thread's hand-over on the loop, a timer) calls :meth:`StreamBuffer.put`; ``Gateway.deliver``
iterates. Over ``high`` bytes the buffer asks its source to pause, under ``low`` to resume, so a slow client costs a
bounded amount of memory and the source simply is not read meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from kafka_gateway.errors import ServiceError
from kafka_gateway.memory_budget import COUNT_FROM, Claim


class Stream(Protocol):
    """An endless reply: payloads in order. ``aclose`` may be called twice and ends the iteration.

    A stream with ``fail(error)`` can be ended for a reason that is not its own, such as rights that were taken away:
    its client is told. Without it, the whole session is closed then. ``lose()``, if there is one, is called when
    nobody will know whether the last payload was written: the process that has the client is gone or out of reach.

    The caller asks for a payload when it has written the one before: so a stream of records knows what was delivered.
    """

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> Payload: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class Acknowledged(Protocol):
    """A Stream whose client may say what it has processed (streams.md §5)."""

    def acknowledge(self, message: bytes) -> None:
        """Takes a message of the client, whatever it is."""


PushAtOnce = Callable[[bytes, Callable[[], None]], bool]
"""Sends a payload without waiting, and has the callback called, later, when the client has it. False: it sends nothing,
and the payload is to come by iteration."""


@runtime_checkable
class PushesAtOnce(Protocol):
    """A Stream that can do without whoever iterates it: while that waits, payloads go out from where they come from."""

    def push_with(self, push: PushAtOnce) -> None:
        """Sends with this what need not wait. What has been sent so is delivered when the callback has come."""

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> Payload: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class Settling(Protocol):
    """A Stream that knows of what it has handed out whether its client has it."""

    async def settled(self) -> None:
        """Returns when that is known: soon, for a stream that has ended."""


@runtime_checkable
class ReplyInParts(Protocol):
    """A Stream that is one reply whose parts are ready one after the other: it has an end, which its client is told.

    Its payloads are lines. A transport that frames what it sends gives each line a frame of its own.
    """

    @property
    def is_over(self) -> bool:
        """Whether nothing follows the payload that was taken last."""


@runtime_checkable
class Counted(Protocol):
    """A Stream in which something may wait for its client: that counts in the memory budget."""

    def count_in(self, claim: Claim) -> None:
        """Keeps ``claim`` as large as what waits, from now on; whoever gives it releases it."""

    def fail(self, error: ServiceError) -> None:
        """Drops what waits and ends, telling the client why."""

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> Payload: ...
    async def aclose(self) -> None: ...


class Payload:
    """One piece of a stream: what a transport sends as one message, event or line. Nobody changes it.

    ``name`` says what it is in a record stream (streams.md §2): ``record`` (JSON objects, one record a line),
    ``ready``, ``gap``, ``end`` or ``error`` (one JSON object each). It is empty in other streams, whose payloads are
    sent as they are.
    ``cursor`` is the resume token behind it, JSON; empty for none. ``status`` is for transports that give every payload
    one: 200, or that of an error behind which the stream goes on, or with which it ends. ``error`` is that error where
    it ends the stream: `Gateway.deliver` raises it, so that every stream ends with errors in the same way.
    """

    __slots__ = ("cursor", "data", "error", "frames", "name", "status")

    def __init__(
        self,
        data: bytes,
        name: str = "",
        cursor: bytes = b"",
        status: int = 200,
        error: ServiceError | None = None,
    ) -> None:
        self.data = data
        self.name = name
        self.cursor = cursor
        self.status = status
        self.error = error
        self.frames: dict[object, Any] = {}
        """What carriers make of it: one payload goes to all clients in step, so it is framed once for all."""

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Payload({self.data[:80]!r}, {self.name!r}, {self.cursor!r}, {self.status})"


class StreamBuffer:
    """A Stream that is fed by ``put`` and bounded in bytes. Everything happens on the event loop.

    ``pause`` is called once when more than ``high`` bytes wait, ``resume`` once when fewer than ``low`` are left.
    ``closed`` is called when the reader has closed the stream.
    """

    def __init__(
        self,
        high: int,
        low: int,
        pause: Callable[[], None] = lambda: None,
        resume: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 <= low <= high:
            raise ValueError(f"StreamBuffer needs 0 <= low <= high, got low={low}, high={high}")
        self._high, self._low = high, low
        self._pause, self._resume, self._closed = pause, resume, closed
        self._payloads: deque[Payload] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._paused = False
        self._ended = False
        self._error: BaseException | None = None
        self._claim: Claim | None = None
        self.size_bytes = 0

    def put(self, payload: Payload | bytes) -> None:
        """Adds a payload, bytes as one without a name; after the end it is dropped.

        Never blocks: the source is told to pause instead.
        """
        if self._ended:
            return
        if isinstance(payload, bytes):
            payload = Payload(payload)
        self._payloads.append(payload)
        self.size_bytes += len(payload)
        self._count()
        if self.size_bytes > self._high and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more payloads: the iteration ends, or raises ``error``, once what waits has been taken."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Drops what waits; the iteration raises the error."""
        self._payloads.clear()
        self.size_bytes = 0
        self._count()
        self.end(error)

    def count_in(self, claim: Claim) -> None:
        """What waits here counts in ``claim`` from now on."""
        self._claim = claim
        self._count()

    def _count(self) -> None:
        if self._claim is not None and (self._claim.held or self.size_bytes >= COUNT_FROM):
            self._claim.set_to(self.size_bytes)

    def __aiter__(self) -> StreamBuffer:
        return self

    async def __anext__(self) -> Payload:
        while not self._payloads:
            if self._ended:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        payload = self._payloads.popleft()
        self.size_bytes -= len(payload)
        self._count()
        if self._paused and self.size_bytes < self._low:
            self._paused = False
            self._resume()
        return payload

    async def aclose(self) -> None:
        """Drops what waits and ends the iteration; the source is told once."""
        self._ended, self._error = True, None
        self._payloads.clear()
        self.size_bytes = 0
        self._count()
        closed, self._closed = self._closed, _told
        closed()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _told() -> None:
    """Takes the place of ``closed`` when that has been called."""


# --- streams that feed their sink ------------------------------------------------------------------------------------


@runtime_checkable
class Outlet(Protocol):
    """A sink that can be written without waiting: what a Feed is connected to."""

    def write(self, event: Payload) -> bool:
        """Takes the event in any case. False: there is no room, write nothing more until ``Feed.resume``."""


class Feed:
    """A Stream of events that come by themselves, from callbacks: nobody is woken up for one of them.

    ``connect`` gives it an outlet, which calls ``resume`` when it has room again. A Feed is a Stream as well:
    iterating it gives the events through a buffer. Subclasses implement ``begin``, ``pause``, ``resume`` and ``close``,
    write to ``outlet``, and call ``end``. Everything happens on the event loop.
    """

    __slots__ = ("__weakref__", "_buffer", "_over", "heartbeat_s", "outlet")

    ends_itself = False
    """Whether it ends by itself, so that it may be sent to a client that has closed its sending side."""

    def __init__(self, heartbeat_s: int) -> None:
        self.heartbeat_s = heartbeat_s
        """A connection on which nothing else is sent shows a sign of life so often."""
        self.outlet: Outlet = NOWHERE
        self._over: Callable[[], None] | None = None
        self._buffer: StreamBuffer | None = None

    def begin(self) -> None:
        """The outlet is there: the first events may be written."""
        raise NotImplementedError

    def pause(self) -> None:
        """Nothing must be written until ``resume``."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what feeds it; called once or more."""
        raise NotImplementedError

    def connect(self, outlet: Outlet, over: Callable[[], None]) -> None:
        """Writes into the outlet from now on. ``over`` is called once, when it has ended or been closed."""
        self.outlet, self._over = outlet, over
        self.begin()

    async def run(self, outlet: Outlet) -> None:
        """As ``connect``; returns when it is over."""
        over = asyncio.Event()
        self.connect(outlet, over.set)
        await over.wait()

    def fail(self, error: ServiceError) -> None:
        """Says why, and ends."""
        raise NotImplementedError

    def end(self) -> None:
        """Nothing comes any more: ``run`` returns."""
        self.close()
        self.outlet = NOWHERE
        over, self._over = self._over, None
        if over is not None:
            over()
        if self._buffer is not None:
            self._buffer.end()

    async def aclose(self) -> None:
        self.end()

    def __aiter__(self) -> Stream:
        if self._buffer is None:
            self._buffer = StreamBuffer(_BUFFERED, _BUFFERED // 2, self.pause, self.resume, self.end)
            self.outlet = _Buffered(self._buffer)
            self.begin()
        return self._buffer

    async def __anext__(self) -> Payload:
        return await anext(aiter(self))


_BUFFERED = 256 * 1024


class _Nowhere:
    __slots__ = ()

    def write(self, event: Payload) -> bool:
        return True


NOWHERE = _Nowhere()
"""The outlet of a feed that has not begun, or is over."""


class _Buffered:
    __slots__ = ("_buffer",)

    def __init__(self, buffer: StreamBuffer) -> None:
        self._buffer = buffer

    def write(self, event: Payload) -> bool:
        self._buffer.put(event)
        return True
