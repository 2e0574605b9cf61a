"""What is sent through a WebSocket: messages and control frames of our own, on their way to the client (RFC 6455).

What is sent within one turn of the event loop leaves in one write, however many messages that are; aiohttp's writer
makes a write, and a coroutine, of each. A client that accepts nothing at all for the write timeout is cut off.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from aiohttp import web

from kafka_gateway.door.client_writer import ClientWriter
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.transports.records.frames import frame_head
from kafka_gateway.transports.websocket.handshake import Handshake
from kafka_gateway.transports.websocket.payloads import compressor, deflated
from kafka_gateway.transports.websocket.pongs import Pongs
from kafka_gateway.transports.websocket.socket_limits import SocketLimits

_FLUSH_AT = 64 * 1024
"""Bytes of outgoing frames that do not wait for the end of the loop's turn."""
_COMPRESS_FROM = 256
"""Smaller messages gain nothing from deflate."""
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""The first byte of a frame that is a whole message, by its kind (RFC 6455 §5.2)."""

ALL_GONE: Final = 0
"""The mark of what has left this process already."""
_NEVER: Final = sys.maxsize
"""The mark of what is not sent any more: it never leaves."""


class OutgoingFrames:
    """The writing half of a `Socket`, which reads."""

    __slots__ = (
        "_compressor",
        "_drains",
        "_ended",
        "_follows",
        "_fresh_compressor",
        "_limits",
        "_loop",
        "_out",
        "_out_bytes",
        "_pongs",
        "_protocol",
        "_sent_at",
        "_to_prove",
        "_transport",
        "_writer",
    )

    def __init__(
        self, request: web.BaseRequest, response: Handshake, limits: SocketLimits, memory: MemoryBudget, carrier: str
    ) -> None:
        self._writer = ClientWriter(request.transport, memory, limits.write_timeout_s, carrier)
        self._transport, self._limits = cast(asyncio.Transport, request.transport), limits
        self._protocol: Any = request.protocol  # HttpConnection
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._ended = False
        """Whether the close frame is out: nothing may follow it (RFC 6455 §5.5.1)."""
        self._drains: tuple[Callable[[], None], ...] = ()
        self._follows = False
        """Whether it is known when there is room again."""
        self._fresh_compressor = response.fresh_compressor
        self._compressor: Any = None
        if response.compress:
            self._compressor = compressor(int(response.compress))
        self._sent_at = self._loop.time()
        self._pongs = Pongs(self._loop, limits.write_timeout_s, partial(self._writer.cut_off, _unproven(limits)))
        self._to_prove: list[Callable[[], None]] = []
        """Called when the client has what is in ``_out``."""

    def send(self, payload: bytes | memoryview, binary: bool = False) -> None:
        """Sends a message, together with whatever else is sent in this turn of the loop. Never waits."""
        self._sent_at = self._loop.time()
        if self._compressor is None or len(payload) < _COMPRESS_FROM:
            self._frame(BINARY if binary else TEXT, payload)
            return
        payload = deflated(self._compressor, payload, self._fresh_compressor)
        self._frame((BINARY if binary else TEXT) | 0x40, payload)

    def send_at_once(self, start: bytes, rest: bytes) -> None:
        """As ``send``, for a text message in two parts that does not wait for the end of the turn."""
        if self._ended:
            return
        if self._out or self._compressor is not None:
            self.send(start + rest)
            return
        self._sent_at = self._loop.time()
        if self._transport.is_closing():
            return
        frame = b"".join((frame_head(len(start) + len(rest)), start, rest))
        self._writer.written_bytes += len(frame)
        self._transport.write(frame)
        if self._protocol.writing_paused:
            self._behind()

    def follow_drain(self, drained: Callable[[], None]) -> None:
        """Calls ``drained`` each time there is room again after the client was behind, until ``leave_drain``."""
        self._drains = (*self._drains, drained)

    def leave_drain(self, drained: Callable[[], None]) -> None:
        self._drains = tuple(each for each in self._drains if each != drained)

    def _behind(self) -> None:
        """What was written has filled the connection."""
        self._writer.watch()
        if not self._follows:
            self._follows = True
            self._protocol.drained().add_done_callback(self._tell_drained)

    def _tell_drained(self, drained: asyncio.Future[None]) -> None:
        self._follows = False
        self._writer.caught_up()
        if not drained.cancelled():
            drained.exception()  # seen: the reader finds out by itself that the client left
        if self._protocol.transport is not None:
            for each in self._drains:
                each()

    def send_part(self, part: bytes | memoryview, *, first: bool, last: bool) -> None:
        """Sends a part of a binary message, as a fragment: for what is too long to be held until all of it is there."""
        self._sent_at = self._loop.time()
        self._frame((BINARY & 0x7F if first else 0) | (0x80 if last else 0), part)

    def flush(self) -> None:
        """Writes what was sent in this turn of the loop without waiting for its end."""
        self._flush()

    def on_room(self, call: Callable[[], None]) -> None:
        """Calls back, once, when the client has read what it is behind with, or has left."""

        def room(drained: asyncio.Future[None]) -> None:
            if not drained.cancelled():
                drained.exception()  # seen: the reader finds out by itself that the client left
            call()

        self._protocol.drained().add_done_callback(room)

    def send_frames(self, frames: bytes) -> int:
        """Sends messages that are frames already (`text_frame`), at once. Returns a mark for ``gone``; `ALL_GONE` if
        everything has left this process by now."""
        if self._ended:
            return _NEVER
        transport = self._transport
        self._sent_at = self._loop.time()
        if self._out:
            self._out.append(frames)
            self._out_bytes += len(frames)
            self._flush()
        else:
            self._writer.written_bytes += len(frames)
            if not transport.is_closing():
                transport.write(frames)
        if not transport.get_write_buffer_size() and not transport.is_closing():
            return ALL_GONE
        if self._protocol.writing_paused:
            self._behind()
        return self._writer.written_bytes

    def gone(self, mark: int) -> bool:
        """Whether everything up to the mark has left this process; never once the connection is lost."""
        transport = self._transport
        return not transport.is_closing() and self._writer.written_bytes - transport.get_write_buffer_size() >= mark

    def pong(self) -> None:
        """Sends a pong that nobody asked for: a sign of life that needs no answer (RFC 6455 §5.5.3)."""
        self._frame(PONG, b"")

    async def drain(self) -> None:
        """Returns when the client has read all that was sent to it; ConnectionResetError if it left.

        What is merely written may still be in the buffers of two systems, and goes with a client that dies: of 125,000
        records pushed to clients that were killed, 27,000 were lost. So a ping follows, and its pong is the proof.
        Where pings are switched off, clients have to be content with what was written.
        """
        if not self._limits.ping_s:
            await self.written()
            return
        number = self._pongs.expect()
        self._frame(PING, b"%d" % number)
        try:
            await self.written()
            if not await self._pongs.wait(number, self._limits.write_timeout_s):
                self._writer.cut_off(_unproven(self._limits))
                raise ConnectionResetError("the client answers no pings any more")
        finally:
            self._pongs.forget(number)

    @property
    def can_prove(self) -> bool:
        """Whether `prove` may be used: the client answers pings, and there is room to write more."""
        return self._pongs.come and not (
            self._ended or self._protocol.writing_paused or self._transport.is_closing() or not self._limits.ping_s
        )

    def prove(self, delivered: Callable[[], None]) -> None:
        """Calls back, later, when the client has all that was sent to it by now: as ``drain``, without waiting.

        One ping is the proof of all that leaves in one write.
        """
        if not self._out:
            self._loop.call_soon(self._flush)
        self._to_prove.append(delivered)

    async def written(self) -> None:
        """Returns when there is room to write more; ConnectionResetError if the client left."""
        if self._out_bytes:
            self._flush()
        while self._protocol.writing_paused:
            if self._protocol.transport is None:
                break
            # Others wait for the same future: cancelling one must not hurt them.
            await asyncio.shield(self._protocol.drained())
        if self._transport.is_closing():
            raise ConnectionResetError("the client left")

    def has_written(self) -> bool:
        """Whether ``written`` would return at once."""
        if self._out_bytes:
            self._flush()
        return not self._protocol.writing_paused and not self._transport.is_closing()

    @property
    def quiet_s(self) -> float:
        """Seconds since the last message was sent."""
        return self._loop.time() - self._sent_at

    @property
    def congested(self) -> bool:
        """Whether the client is behind with reading."""
        behind: bool = self._protocol.writing_paused
        return behind

    @property
    def is_full(self) -> bool:
        """Whether so much waits that a stream must pause (stream.buffer.bytes)."""
        return self.congested and self._writer.waiting_bytes > self._limits.buffer_bytes

    def _frame(self, first: int, payload: bytes | memoryview) -> None:
        if self._ended:
            return
        length = len(payload)
        head = frame_head(length, first)
        if not (out := self._out):
            self._loop.call_soon(self._flush)
        out += (head, payload)
        size = self._out_bytes = self._out_bytes + length + len(head)
        if size >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        out = self._out
        if self._to_prove and not self._ended:
            calls, self._to_prove = self._to_prove, []
            ping = self._pongs.ping(calls)
            out.append(ping)
            self._out_bytes += len(ping)
        if not out:
            return
        self._out = []
        self._writer.written_bytes += self._out_bytes
        self._out_bytes = 0
        if self._transport.is_closing():
            return
        self._transport.write(b"".join(out))
        if self._protocol.writing_paused:
            self._behind()


def _unproven(limits: SocketLimits) -> str:
    return f"its client has not answered the ping behind what it was sent, for {limits.write_timeout_s:g} s"
