"""Record streams in HTTP responses that do not end (streams.md §2, §6): server-sent events, or one record a line."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable
from typing import Any

from kafka_gateway.core import Gateway
from kafka_gateway.stream import Feed, Payload
from kafka_gateway.transports.records.connection import Connection, FeedConnection, StreamLimits
from kafka_gateway.transports.records.frames import (
    LAST_CHUNK,
    RETRY,
    Frame,
    chunk,
    chunked_lines,
    chunked_sse,
    lines,
    sse,
)


class StreamBody:
    """How a response's body is written. Not ``is_chunked``: for HTTP/1.0, until the connection is closed."""

    __slots__ = ("alive", "frame", "last_bytes", "opening", "plain", "plain_opening")

    def __init__(self, is_sse: bool, is_chunked: bool) -> None:
        framed: Frame = (chunked_sse if is_chunked else sse) if is_sse else (chunked_lines if is_chunked else lines)
        self.frame = framed
        self.plain: Callable[[bytes], bytes] = chunk if is_chunked else bytes
        """What makes a part of the body of a payload that is no event."""
        alive, opening = _ALIVE[is_sse], RETRY if is_sse else b""
        self.plain_opening = opening
        self.alive = chunk(alive) if is_chunked else alive
        self.opening = chunk(opening) if is_chunked and opening else opening
        self.last_bytes = LAST_CHUNK if is_chunked else b""


class GzipFeedConnection(FeedConnection):
    """As FeedConnection, for a client that takes gzip.

    An event is deflated once for all such clients: without history, and flushed so that what follows needs none
    either (RFC 1951, Z_FULL_FLUSH), it fits behind whatever each of them was sent before. Only the checksum is its own.
    """

    __slots__ = ("_crc", "_size")

    def __init__(
        self, transport: asyncio.Transport | None, limits: StreamLimits, gateway: Gateway, feed: Feed, is_sse: bool
    ) -> None:
        super().__init__(transport, limits, gateway, feed, sse if is_sse else lines, _ALIVE[is_sse], b"")
        self._crc = self._size = 0

    def open(self, head: bytes, opening: bytes) -> None:
        """The first bytes: the response's head, and what the body begins with."""
        self.put(head + chunk(_GZIP_HEAD))
        if opening:
            self._put_deflated(opening, _deflated(opening))

    def write(self, event: Payload) -> bool:
        found = event.frames.get((GzipFeedConnection, self._frame))
        if found is None:
            plain = self._frame(event)
            found = event.frames[GzipFeedConnection, self._frame] = (plain, _deflated(plain))
        self._put_deflated(*found)
        return self.transport is not None and not self.is_full

    def _put_deflated(self, plain: bytes, packed: bytes) -> None:
        self._crc = zlib.crc32(plain, self._crc)
        self._size += len(plain)
        self.put(packed)

    def _stay_alive(self) -> None:
        self._put_deflated(self._alive, _deflated(self._alive))

    def _over(self) -> None:
        # An empty last block, and the trailer of RFC 1952.
        self.put(chunk(b"\x03\x00" + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF)) + LAST_CHUNK)
        self._close()


_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_ALIVE = {True: b":\n\n", False: b"\n"}


def _deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return chunk(packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH))


BODIES = {
    (is_sse, is_chunked): StreamBody(is_sse, is_chunked) for is_sse in (True, False) for is_chunked in (True, False)
}


class HttpOutlet(Connection):
    """Writes the payloads of one stream and waits until they have left (gateway.delivery.Sink)."""

    __slots__ = ("_body",)

    takes_errors = True

    def __init__(self, protocol: Any, limits: StreamLimits, gateway: Gateway, body: StreamBody) -> None:
        super().__init__(protocol, limits, gateway)
        self._body = body

    async def send(self, payload: Payload) -> None:
        """What has a name is framed; any other payload is written as it is."""
        self.put(self._body.frame(payload) if payload.name else self._body.plain(payload.data))
        await self.flushed()

    def _stay_alive(self) -> None:
        self.put(self._body.alive)
