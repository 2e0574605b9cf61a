"""A plugin with the resources that the behaviour suite needs: streams that never end, break, or come too fast."""

from __future__ import annotations

import asyncio

from kafka_gateway.errors import Unavailable
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from kafka_gateway.service import Service
from kafka_gateway.stream import StreamBuffer
from kafka_gateway.transport import hookimpl

HIGH, LOW = 256 * 1024, 64 * 1024
BROKEN = "The stream is broken on purpose."


class Flood:
    """A source of lines that is as fast as its reader, and stops while too much waits."""

    LINE = b"x" * 1023 + b"\n"

    def __init__(self) -> None:
        self.buffer = StreamBuffer(HIGH, LOW, pause=self._pause, resume=self._resume, closed=self.closed_at)
        self.is_paused = False
        self.is_closed = False
        self.sent_bytes = 0
        self._timer: asyncio.Handle | None = None
        self._resume()

    def closed_at(self) -> None:
        self.is_closed = True
        self._pause()

    def _pause(self) -> None:
        self.is_paused = True
        if self._timer is not None:
            self._timer.cancel()

    def _resume(self) -> None:
        self.is_paused = False
        self._timer = asyncio.get_running_loop().call_soon(self._put)

    def _put(self) -> None:
        for _ in range(16):
            if self.is_paused:
                return
            self.sent_bytes += len(self.LINE)
            self.buffer.put(self.LINE)
        self._resume()


class Resources(Service):
    """``/behaviour/…``; remembers the streams that it has opened."""

    def __init__(self) -> None:
        self.floods: list[Flood] = []
        self.open_streams = 0

    async def flood(self, call: Call) -> Response:
        """Lines without end."""
        self.floods.append(Flood())
        return Response(self.floods[-1].buffer)

    async def silent(self, call: Call) -> Response:
        """One line, and nothing more."""
        self.open_streams += 1
        buffer = StreamBuffer(HIGH, LOW, closed=self._left)
        buffer.put(b"first\n")
        return Response(buffer)

    async def broken(self, call: Call) -> Response:
        """Two lines, then an error."""
        buffer = StreamBuffer(HIGH, LOW)
        buffer.put(b"first\n")
        buffer.put(b"second\n")
        buffer.end(Unavailable(BROKEN))
        return Response(buffer)

    def _left(self) -> None:
        self.open_streams -= 1

    @hookimpl
    def gateway_routes(self) -> list[Route]:
        return [
            Route("GET", f"/behaviour/{name}", handler, name=f"behaviour.{name}", service=self)
            for name, handler in (("flood", self.flood), ("silent", self.silent), ("broken", self.broken))
        ]
