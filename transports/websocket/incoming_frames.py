"""Watches the frames of a client before aiohttp's parser puts messages together.

aiohttp hands out whole messages, and holds what there is of an unfinished one where nobody can see it. Here the heads
of frames are followed, which costs 0.1 µs for one of up to 64 KiB that has come whole, so that three rules can be kept:
every frame is masked (RFC 6455 §5.1), what unfinished messages hold is counted in the memory budget, and no frame or
message may stay unfinished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import WebSocketError, WSCloseCode

from kafka_gateway.memory_budget import COUNT_FROM, Claim, MemoryBudget
from kafka_gateway.transports.websocket.frame_heads import read_head

_PONG = b"\x8a"
"""The first byte of a pong (RFC 6455 §5.5.3)."""
_NO_MASK = bytes(4)
_number = int.from_bytes
WINDOW_S = 10.0
"""How long an unfinished message or frame may be silent."""


@dataclass(frozen=True, slots=True)
class FrameRules:
    """``fragments_s``: a message in fragments is complete within so many seconds; 0: no limit. ``rate``: bytes a
    second that an unfinished message or frame keeps up, over ``window_s``; 0: a byte in that time.
    """

    memory: MemoryBudget
    fragments_s: float = 0.0
    rate: int = 0
    window_s: float = WINDOW_S


class IncomingFrames:
    """Stands before aiohttp's parser (``_payload_parser`` of its connection) and lets all bytes through.

    What is wrong with a frame the parser finds, but for a missing mask. Belongs to the event loop.
    """

    def __init__(self, connection: Any, parser: Any, queue: Any, rules: FrameRules) -> None:
        """``connection`` and ``queue`` (of messages) are aiohttp's."""
        self._connection, self._parser, self._queue, self._rules = connection, parser, queue, rules
        self._head = b""
        """Of a frame whose head has not come completely."""
        self._left = 0
        """Bytes of a payload that are still to come."""
        self._final = self._control = True
        """What is known of the frame under way."""
        self._open = False
        """Whether fragments of a message are still to come."""
        self._pending = 0
        """Bytes of the unfinished message that are here."""
        self._claim: Claim | None = None
        self._counted = 0
        self._fragments: asyncio.TimerHandle | None = None
        self._progress: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        """Looks whether a frame that is not complete goes on."""
        self._since = 0.0
        """When the frame under way was found incomplete, or was found to go on."""
        self._came = 0
        """Bytes of it since."""
        self._paused = False
        self.pong: Callable[[bytes], None] | None = None
        """Gets the payloads of pongs that come between frames, in the place of the parser: through its queue of
        messages each of them would wake up the socket's task."""

    # --- what aiohttp's connection calls ----------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As aiohttp's: (whether the connection is to end, what is not used)."""
        parser = self._parser
        if parser is None:
            return False, b""
        if data[:1] == _PONG and self.pong is not None and not (self._left or self._head):
            data = self._without_pongs(data, self.pong)
            if not data:
                return False, b""
        try:
            self._follow(data)
        except WebSocketError as error:
            self.fail(error)
            return True, b""
        result: tuple[bool, bytes] = parser.feed_data(data)
        return result

    def feed_eof(self) -> None:
        """The client has left: what there is of its message is free at once."""
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.feed_eof()
        self.close()

    def _without_pongs(self, data: bytes, pong: Callable[[bytes], None]) -> bytes:
        """What is behind the pongs with which the data begins."""
        while data[:1] == _PONG and len(data) >= 6 and 0x80 <= (second := data[1]) < 0xFE:
            length, end = second - 0x80, second - 0x7A
            if end > len(data):
                break
            payload = data[6:end]
            if length and (mask := data[2:6]) != _NO_MASK:
                masks = (mask * 32)[:length]
                payload = (_number(payload, "big") ^ _number(masks, "big")).to_bytes(length, "big")
            pong(payload)
            data = data[end:]
        return data

    # --- the end ----------------------------------------------------------------------------------------------------

    def fail(self, error: WebSocketError) -> None:
        """Ends the socket for this reason. What it holds is free at once; what still comes is dropped."""
        if self._parser is not None:
            self._parser = None
            self._queue.set_exception(error)
            self.close()

    def close(self) -> None:
        """Gives back what is counted."""
        self.pong = None
        self._message_ended()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._paused:
            self._rules.memory.forget(self._go_on)
            self._go_on()

    # --- following --------------------------------------------------------------------------------------------------

    def _follow(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        at, end = self._left, len(data)
        if at:
            if at > end:
                self._left = at - end
                self._came += end
                self._arrived(end)
                return
            self._left = 0
            self._arrived(at)
            self._frame_ended()
        while True:
            if not self._open:
                while end - at >= 6 and data[at] >= 0x80:  # the usual: a message in one frame, masked
                    second = data[at + 1]
                    if 0x80 <= second < 0xFE:
                        at += second - 0x7A
                    elif second == 0xFE and (after := at + 8 + (data[at + 2] << 8 | data[at + 3])) <= end:
                        at = after
                    else:
                        break
                if at > end:
                    self._left = at - end
                    self._final = self._control = True  # so short that nothing of it is counted
                    self._unfinished()
                    return
            if at == end:
                return
            head = read_head(data, at, end)
            if head is None:
                self._head = data[at:]
                self._unfinished()
                return
            if not head.masked:
                raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "frame without a mask")
            self._control = head.is_control
            if not self._control:
                self._final = head.is_final
                self._frame_began(head.length)
            at = head.begin + head.length
            if at > end:
                self._left = at - end
                self._unfinished()
                self._arrived(end - head.begin)
                return
            self._arrived(head.length)
            self._frame_ended()

    def _frame_began(self, length: int) -> None:
        """The head of a data frame was seen."""
        if not self._final and not self._open:
            self._open = True
            if self._progress is None:
                self._look_at_progress(0)
            if self._rules.fragments_s:
                loop = asyncio.get_running_loop()
                self._fragments = loop.call_later(self._rules.fragments_s, self._too_slow)

    def _arrived(self, size: int) -> None:
        if not self._control:
            self._pending += size
            if self._pending - self._counted >= COUNT_FROM and (self._left or not self._final):
                self._count()

    def _frame_ended(self) -> None:
        if self._final and not self._control:
            self._message_ended()

    def _message_ended(self) -> None:
        self._pending, self._open = 0, False
        if self._claim is not None:
            self._claim.release()
            self._claim, self._counted = None, 0
        for timer in (self._fragments, self._progress):
            if timer is not None:
                timer.cancel()
        self._fragments = self._progress = None

    # --- frames that do not go on -----------------------------------------------------------------------------------

    def _unfinished(self) -> None:
        """What has come ends within a frame that has just begun."""
        loop = asyncio.get_running_loop()
        self._since, self._came = loop.time(), 0
        if self._stall is None:  # one for all frames of the socket: nearly every read ends within one
            self._stall = loop.call_later(self._rules.window_s, self._look_at_frame)

    def _look_at_frame(self) -> None:
        self._stall = None
        if self._parser is None or not (self._left or self._head):
            return
        loop, rules = asyncio.get_running_loop(), self._rules
        wait_s = self._since + rules.window_s - loop.time()
        if wait_s <= 0.001:
            transport = self._connection.transport
            if transport is not None and transport.is_reading() and self._came < max(1, rules.rate * rules.window_s):
                self._too_slow()
                return
            self._since, self._came = loop.time(), 0
            wait_s = rules.window_s
        self._stall = loop.call_later(wait_s, self._look_at_frame)

    # --- messages that do not go on ----------------------------------------------------------------------------------

    def _count(self) -> None:
        memory = self._rules.memory
        if self._claim is None:
            self._claim = memory.claim(self._give_up)
        self._counted = self._pending
        self._claim.set_to(self._pending)
        if self._progress is None:
            self._look_at_progress(self._pending)
        if memory.used_up and not self._paused:
            self._paused = True
            self._connection.pause_reading()
            memory.on_room(self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        self._connection.resume_reading()

    def _give_up(self) -> None:
        self.fail(WebSocketError(WSCloseCode.TRY_AGAIN_LATER, "memory is short and this message is not complete"))

    def _look_at_progress(self, before: int) -> None:
        loop, rules = asyncio.get_running_loop(), self._rules
        wanted = before + max(1, int(rules.rate * rules.window_s))
        self._progress = loop.call_later(rules.window_s, self._check_progress, wanted)

    def _check_progress(self, wanted: int) -> None:
        transport = self._connection.transport
        if self._pending < wanted and transport is not None and transport.is_reading():
            self._too_slow()
        else:
            self._look_at_progress(self._pending)

    def _too_slow(self) -> None:
        self.fail(WebSocketError(WSCloseCode.POLICY_VIOLATION, "the message does not come to its end"))
