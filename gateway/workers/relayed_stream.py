"""A stream that another process answers, as its client's process has it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kafka_gateway.errors import InstanceUnavailable, ServiceError
from kafka_gateway.stream import Payload
from kafka_gateway.workers.frames import Next


class Line(Protocol):
    """The connection to that process: `Link`."""

    def send(self, head: Next, /) -> None:
        """Sends the frame."""

    def forget(self, id: int) -> None:
        """Nobody reads that stream any more."""


class InstanceLost(InstanceUnavailable):
    """What a stream ends with whose instance was in a worker that is gone."""

    text = "The worker process that had this consumer instance is gone, and the instance with it; create it again."


class RelayedStream:
    """A stream of another worker. A payload is asked for when the one before has been written, so that worker knows
    what was delivered, as if it had written itself."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_error",
        "_failure",
        "_id",
        "_is_out",
        "_link",
        "_payload",
        "_settled",
        "_waiting",
        "heartbeat_s",
    )

    def __init__(self, link: Line, id: int, heartbeat_s: int) -> None:
        self._link, self._id = link, id
        self.heartbeat_s = heartbeat_s
        self._waiting: asyncio.Future[None] | None = None
        self._payload: Payload | None = None
        self._is_out = False
        """Whether a payload is being written."""
        self._settled: asyncio.Event | None = None
        """Somebody waits until none is."""
        self._failure: ServiceError | None = None
        """What it is to end with when the payload has been written."""
        self._ended = False
        self._error: Exception | None = None

    def __aiter__(self) -> RelayedStream:
        return self

    async def __anext__(self) -> Payload:
        """The next payload. ServiceError: what the stream ended with; InstanceLost if its worker is gone."""
        self._no_more_out()
        if not self._ended and self._payload is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self._link.send(Next(self._id))
            if self._failure is not None:
                self.fail(self._failure)
            try:
                await self._waiting
            finally:
                self._waiting = None
        payload, self._payload = self._payload, None
        if payload is not None:
            self._is_out = True
            return payload
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    def fail(self, error: ServiceError) -> None:
        """Ends it for a reason that is not its own: whoever iterates gets the error. If a payload is being written,
        when that has been: the other process is to know of it."""
        if self._is_out:
            self._failure = error
        elif not self._ended:
            self._link.forget(self._id)
            self._payload = None
            self.finish(error)

    async def settled(self) -> None:
        """See `gateway.stream.Settling`."""
        while self._is_out:
            if self._settled is None:
                self._settled = asyncio.Event()
            await self._settled.wait()

    def _no_more_out(self) -> None:
        self._is_out = False
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    async def aclose(self) -> None:
        """What was not written goes back to the instance."""
        self._no_more_out()
        if not self._ended:
            self._link.forget(self._id)
        self._payload = None
        self.finish(None)

    def put(self, payload: Payload) -> None:
        """The payload that was asked for."""
        self._payload = payload
        self._wake()

    def finish(self, error: Exception | None) -> None:
        """No payload comes any more."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
