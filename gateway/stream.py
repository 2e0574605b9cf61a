"""Streams: what a service answers to a subscription, and the byte-bounded buffer behind it.

A source (a worker thread's hand-over on the loop, a timer) calls :meth:`StreamBuffer.put`; ``Gateway.deliver``
iterates. Over ``high`` bytes the buffer asks its source to pause, under ``low`` to resume, so a slow client costs a
bounded amount of memory and the source simply is not read meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Stream(Protocol):
    """An endless reply: payloads in order. ``aclose`` may be called twice and ends the iteration.

    Whoever asks for a payload has written the one before: that is how a stream of records knows what was delivered.
    """

    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


class ErrorPayload(bytes):
    """A payload that tells of an error behind which the stream goes on, in the dialect of the request.

    A transport that gives every payload a status of its own gives it this one's.
    """

    status: int

    def __new__(cls, body: bytes, status: int) -> ErrorPayload:
        payload = super().__new__(cls, body)
        payload.status = status
        return payload


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
        self._payloads: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._paused = False
        self._ended = False
        self._error: BaseException | None = None
        self.size_bytes = 0

    def put(self, payload: bytes) -> None:
        """Adds a payload; after the end it is dropped. Never blocks: the source is told to pause instead."""
        if self._ended:
            return
        self._payloads.append(payload)
        self.size_bytes += len(payload)
        if self.size_bytes > self._high and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more payloads: the iteration ends, or raises ``error``, once what waits has been taken."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def __aiter__(self) -> StreamBuffer:
        return self

    async def __anext__(self) -> bytes:
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
        if self._paused and self.size_bytes < self._low:
            self._paused = False
            self._resume()
        return payload

    async def aclose(self) -> None:
        """Drops what waits and ends the iteration; the source is told once."""
        self._ended, self._error = True, None
        self._payloads.clear()
        self.size_bytes = 0
        closed, self._closed = self._closed, _told
        closed()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _told() -> None:
    """Stands where ``closed`` stood once it has been called."""
