"""Push subscriptions and streams of instances that outlive the process which has the instance (cluster.md §6.3).

When the instance moves, the stream ends with 50303 there, and this one asks for it again, as its client would. The
client sees a pause. What the client had got is known where the move was planned, so no record comes twice then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kafka_gateway.core import Gateway
from kafka_gateway.errors import InstanceUnavailable, ServiceError
from kafka_gateway.messages import Request
from kafka_gateway.stream import Payload, Settling, Stream


class MovingStream:
    """Belongs to the event loop, and to the client's session. One task iterates over it."""

    def __init__(self, gateway: Gateway, request: Request, stream: Stream, moved: Callable[[], None]) -> None:
        """``request`` is what asked for the stream; ``moved`` is called when it is asked for again."""
        self._gateway = gateway
        self._request = request
        self._stream = stream
        self._moved = moved
        self._asking: asyncio.Task[Stream] | None = None
        self._ended = False
        self._error: ServiceError | None = None
        self.heartbeat_s = getattr(stream, "heartbeat_s", 0)

    def __aiter__(self) -> MovingStream:
        return self

    async def __anext__(self) -> Payload:
        """The next payload. ServiceError: what it ended with; 50303 if nobody has the instance in time."""
        while True:
            try:
                payload = await anext(self._stream)
            except ServiceError as error:
                await self._follow(error)
                continue
            if payload.error is None:
                return payload
            await self._follow(payload.error)

    async def aclose(self) -> None:
        self._ended = True
        if self._asking is not None:
            self._asking.cancel()
        await self._stream.aclose()

    def fail(self, error: ServiceError) -> None:
        """Ends it for a reason that is not its own: the iteration raises the error."""
        if self._ended:
            return
        self._ended, self._error = True, error
        if self._asking is not None:
            self._asking.cancel()
        fail = getattr(self._stream, "fail", None)
        if fail is not None:
            fail(error)

    async def settled(self) -> None:
        """See `gateway.stream.Settling`."""
        if isinstance(self._stream, Settling):
            await self._stream.settled()

    async def _follow(self, error: ServiceError) -> None:
        """Goes on where the instance is now. Raises the error if another process would not help."""
        if self._ended or self._gateway.stopping or error.error_code != InstanceUnavailable.error_code:
            raise error
        await self._stream.aclose()
        self._moved()
        asking = self._asking = asyncio.get_running_loop().create_task(self._ask_again())
        try:
            self._stream = await asking
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._error is not None and not (task is not None and task.cancelling()):
                raise self._error from None
            asking.cancel()
            raise
        finally:
            self._asking = None

    async def _ask_again(self) -> Stream:
        request = self._request
        request.id = ""  # it is a request of its own, in the log of the process that answers it
        session = request.session
        session.streams.discard(self)  # it does not count twice
        try:
            stream = (reply := await self._gateway.dispatch(request)).body
        finally:
            session.add_stream(self)
        if isinstance(stream, bytes):
            raise _Refused(reply.status)
        if isinstance(stream, MovingStream):  # asked for by this one: no client has it
            session.streams.discard(stream)
            return stream._stream
        return stream


class _Refused(InstanceUnavailable):
    """The instance is gone, or may not be read any more, or nobody has it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{self.text} Its new place has answered with the status {status}.")
