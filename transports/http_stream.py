"""Record streams in HTTP responses that do not end (streams.md §2, §6): server-sent events, or one record a line.

What a client is sent is written from the callback that brings it, without waking a task; the handler's task sleeps
until the stream or the client is gone.
"""

from __future__ import annotations

from typing import Any

from gateway.stream import Event, Feed
from transports.connection import Connection, StreamLimits
from transports.stream_frames import LAST_CHUNK, RETRY, Frame, chunk, chunked_lines, chunked_sse, lines, sse

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class HttpOutlet(Connection):
    """Writes the events of one stream into the body of a response (gateway.stream.Outlet, gateway.core.Sink).

    ``is_chunked`` False: for HTTP/1.0, whose clients read until the connection is closed.
    """

    __slots__ = ("_alive", "_frame", "_is_chunked")

    def __init__(self, protocol: Any, limits: StreamLimits, feed: Feed | None, is_sse: bool, is_chunked: bool) -> None:
        super().__init__(protocol, limits, feed.resume if feed is not None else None)
        self._is_chunked = is_chunked
        self._frame: Frame = (
            (chunked_sse if is_chunked else sse) if is_sse else (chunked_lines if is_chunked else lines)
        )
        alive = b":\n\n" if is_sse else b"\n"
        self._alive = chunk(alive) if is_chunked else alive

    @staticmethod
    def opening(is_sse: bool, is_chunked: bool) -> bytes:
        """The first bytes of the body."""
        if not is_sse:
            return b""
        return chunk(RETRY) if is_chunked else RETRY

    def write(self, event: Event) -> bool:
        frames = event.frames
        frame: bytes | None = frames.get(self._frame)
        if frame is None:
            frame = frames[self._frame] = self._frame(event)
        return self.put(frame)

    async def send(self, payload: bytes) -> None:
        self.write(payload if isinstance(payload, Event) else Event(payload + b"\n"))
        await self.flushed()

    def beat(self) -> None:
        """A sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self.put(self._alive)

    def finish(self) -> None:
        """The end of the body."""
        if self._is_chunked:
            self.put(LAST_CHUNK)
