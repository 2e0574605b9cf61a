"""Record streams in HTTP responses that do not end (streams.md §2, §6): server-sent events, or one record a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.stream import Event
from transports.connection import Connection, StreamLimits
from transports.stream_frames import LAST_CHUNK, RETRY, Frame, chunk, chunked_lines, chunked_sse, lines, sse


class Body:
    """How a response's body is written. Not ``is_chunked``: for HTTP/1.0, until the connection is closed."""

    __slots__ = ("alive", "frame", "goodbye", "opening", "plain")

    def __init__(self, is_sse: bool, is_chunked: bool) -> None:
        framed: Frame = (chunked_sse if is_chunked else sse) if is_sse else (chunked_lines if is_chunked else lines)
        self.frame = framed
        self.plain: Callable[[bytes], bytes] = chunk if is_chunked else bytes
        """What makes a part of the body of a payload that is no event."""
        alive, opening = (b":\n\n", RETRY) if is_sse else (b"\n", b"")
        self.alive = chunk(alive) if is_chunked else alive
        self.opening = chunk(opening) if is_chunked and opening else opening
        self.goodbye = LAST_CHUNK if is_chunked else b""


BODIES = {(is_sse, is_chunked): Body(is_sse, is_chunked) for is_sse in (True, False) for is_chunked in (True, False)}


class HttpOutlet(Connection):
    """Writes the payloads of one stream and waits until they have left (gateway.core.Sink)."""

    __slots__ = ("_body",)

    def __init__(self, protocol: Any, limits: StreamLimits, body: Body) -> None:
        super().__init__(protocol, limits)
        self._body = body

    async def send(self, payload: bytes) -> None:
        """An event is framed; any other payload is written as it is."""
        self.put(self._body.frame(payload) if isinstance(payload, Event) else self._body.plain(payload))
        await self.flushed()

    def beat(self) -> None:
        """A sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self.put(self._body.alive)
