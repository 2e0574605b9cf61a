"""One WebSocket: messages in, messages out, and everything that may go wrong in between (RFC 6455).

aiohttp does the handshake and takes frames apart; writing is done in outgoing_frames.py. Nothing is buffered without
bound: a client that does not read what it is sent is not read any more either.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import WSMsgType, hdrs, web
from aiohttp.http_websocket import WebSocketError
from aiohttp.streams import EofStream

from kafka_gateway.door.client_address import peer_of
from kafka_gateway.door.request import sent_response
from kafka_gateway.door.subprotocol_proof import PROTOCOL
from kafka_gateway.errors import FAILED, IDLE, CloseReason
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.transports.websocket.closing import LEFT, NOT_UTF8, TOO_LARGE, answer_to, reason_bytes
from kafka_gateway.transports.websocket.handshake import Handshake, Watch, shake_hands
from kafka_gateway.transports.websocket.incoming_frames import FrameRules, IncomingFrames
from kafka_gateway.transports.websocket.outgoing_frames import CLOSE, PING, PONG, OutgoingFrames
from kafka_gateway.transports.websocket.payloads import is_utf8
from kafka_gateway.transports.websocket.periodic_calls import PeriodicCall, PeriodicCalls
from kafka_gateway.transports.websocket.socket_limits import SocketLimits

log = logging.getLogger("gateway.websocket")

_TURN = 64
"""Messages read of one socket before the others get their turn."""
_CLOSE_TIMEOUT_S = 2.0
"""How long a closing socket waits for the client's close frame."""
_TEXT_MESSAGE, _BINARY_MESSAGE, _PONG_MESSAGE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PONG
"""Found anew for each message they would cost 0.1 µs."""

OVER = sent_response(101, False, 0)
"""A connection that was a socket and is over, in the shape in which aiohttp wants a response to be finished."""


class Socket(OutgoingFrames):
    """A WebSocket after its handshake. Belongs to the connection's handler task, which calls ``run``."""

    __slots__ = (
        "_answered",
        "_closing",
        "_heard_at",
        "_held",
        "_idle_check",
        "_memory",
        "_periodic",
        "_queue",
        "_silent",
        "_wake",
        "broken_by_client",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        response: Handshake,
        limits: SocketLimits,
        memory: MemoryBudget,
        carrier: str,
    ) -> None:
        super().__init__(request, response, limits, memory, carrier)
        self._queue = response.take_queue()
        response.watch_pongs(self._take_pong)
        self._memory = memory
        self._held = False
        self._closing: CloseReason | None = None
        self._answered = False
        """Whether the close frame answers the client's."""
        self.broken_by_client = False
        """Whether reading has ended with something that is no message, or with none that is taken."""
        self._wake: asyncio.Future[None] | None = None
        self._heard_at = self._sent_at
        self._silent = False
        """Whether nothing came since the last ping."""
        self._periodic = PeriodicCalls(self._loop)
        if limits.idle_s:
            self._idle_check = self.every(limits.idle_s, self._check_idle)
        if limits.ping_s:
            self.every(limits.ping_s, self._ping)

    @classmethod
    async def accept(
        cls,
        request: web.BaseRequest,
        limits: SocketLimits,
        headers: Mapping[str, str],
        memory: MemoryBudget,
        carrier: str,
        watch: Watch | None = None,
    ) -> Socket:
        """Answers the upgrade request. BadRequest if it is none that RFC 6455 §4.2.1 allows.

        Unfinished messages count in ``memory``, unless something else than `IncomingFrames` is to ``watch`` them.
        ``carrier`` is the transport under whose name a client that does not read is counted.
        """
        sizes = (limits.text_max, limits.binary_max)
        response = Handshake(
            decode_text=False,
            autoping=False,
            autoclose=False,
            compress=limits.compress,
            protocols=(PROTOCOL,),
            # aiohttp refuses a message that is exactly as long as its limit.
            max_msg_size=0 if None in sizes else max(size for size in sizes if size is not None) + 1,
        )
        rules = FrameRules(memory, limits.fragments_s, limits.message_rate)
        response.watch = watch or partial(IncomingFrames, rules=rules)
        response.headers.update(headers)
        response.headers.setdefault(hdrs.SERVER, limits.server_name)
        await shake_hands(request, response)
        return cls(request, response, limits, memory, carrier)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def run(
        self,
        take: Callable[[bytes, bool], None],
        before_close: Callable[[CloseReason], Awaitable[None]] | None = None,
    ) -> CloseReason:
        """Gives every message to ``take`` (payload, whether it is text) until the socket is closed; returns the reason.

        The client is told its own reason again, or with which one `close` was called before all was answered.

        ``take`` is called in the order of arrival. Nothing is read while ``hold`` is in force, while the client does
        not read what it is sent, or while memory is short. ``before_close`` may still send messages in front of the
        close frame, or to a client that has closed its sending side (`LEFT`). ConnectionResetError if it is gone.
        """
        self._protocol.half_close = self._queue.feed_eof
        try:
            try:
                reason = await self._read(take)
                self.broken_by_client = self._closing is None and not self._answered and reason is not LEFT
                if self.broken_by_client:
                    self._tell(f"is closed with {reason.code}: {reason.text}")
                if before_close is not None:
                    await before_close(reason)
                    if self._closing is not None and (self._answered or reason is LEFT):
                        # What was still under way has failed: the client's own reason would hide that.
                        reason = self._closing
            except ConnectionError:
                raise
            except Exception:
                log.exception("a message could not be taken")
                reason = FAILED
            if reason is LEFT:
                self._flush()
                raise ConnectionResetError("the client left")
            await self._finish(reason)
            return reason
        finally:
            self._protocol.half_close = None
            self._periodic.stop()
            self._pongs.stop()
            self._writer.unwatch()

    async def _read(self, take: Callable[[bytes, bool], None]) -> CloseReason:
        read, protocol, now, memory = self._queue.read, self._protocol, self._loop.time, self._memory
        text_max, binary_max = self._limits.text_max, self._limits.binary_max
        turn = 0
        while True:
            if self._held or protocol.writing_paused or memory.used_up:
                await self._room()
            try:
                message: Any = await read()
            except WebSocketError as error:
                return CloseReason(error.code, str(error))
            except EofStream:
                if self._transport.is_closing():
                    raise ConnectionResetError("the client left") from None
                return LEFT
            except ConnectionError:
                raise ConnectionResetError("the client left") from None
            if self._closing is not None:
                return self._closing
            kind, payload = message[0], message[1]
            self._silent = False
            if kind is not _PONG_MESSAGE:
                self._heard_at = now()
            if kind is _TEXT_MESSAGE:
                if text_max is not None and len(payload) > text_max:
                    return TOO_LARGE
                if not payload.isascii() and not is_utf8(payload):
                    return NOT_UTF8
                take(payload, True)
            elif kind is _BINARY_MESSAGE:
                if binary_max is not None and len(payload) > binary_max:
                    return TOO_LARGE
                take(payload, False)
            elif kind is WSMsgType.PING:
                self._frame(PONG, bytes(payload))
            elif kind is _PONG_MESSAGE:
                self._pongs.take(bytes(payload))
            elif kind is WSMsgType.CLOSE:
                self._answered = True
                if self._limits.echo_close:
                    return answer_to(payload or 1000, message[2] or "")
                return answer_to(payload)
            turn += 1
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)

    def _take_pong(self, payload: bytes) -> None:
        """A pong that came alone, and did not go through the queue."""
        self._silent = False
        self._pongs.take(payload)

    @property
    def closed_by_client(self) -> bool:
        """Whether its close frame has come, or the end of what it sends."""
        return self._answered or self._protocol.half_closed

    def hold(self) -> None:
        """Stops reading, until ``release``; messages that were read already still come."""
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._wake_up()

    async def _room(self) -> None:
        memory = self._memory
        while (self._held or self.congested or memory.used_up) and self._closing is None:
            self._wake = self._loop.create_future()
            if self.congested:
                self._protocol.drained().add_done_callback(self._wake_up)
            if memory.used_up:
                memory.on_room(self._wake_up)
            try:
                await self._wake
            finally:
                memory.forget(self._wake_up)
            if self._protocol.transport is None:
                raise ConnectionResetError("the client left")

    def _wake_up(self, drained: asyncio.Future[None] | None = None) -> None:
        if drained is not None and not drained.cancelled():
            drained.exception()  # seen: the reader finds out by itself that the client left
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _tell(self, what: str) -> None:
        """The log, of an end that is the gateway's own doing, and nobody else tells of."""
        log.info("a socket of %s %s", peer_of(self._transport.get_extra_info("peername")), what)

    # --- time -------------------------------------------------------------------------------------------------------

    def every(self, period_s: float, call: Callable[[], None]) -> PeriodicCall:
        """Calls every ``period_s`` seconds for as long as the socket is open."""
        return self._periodic.add(period_s, call)

    def _check_idle(self) -> None:
        last = max(self._heard_at, self._sent_at)
        if self._loop.time() - last >= self._limits.idle_s - 0.001:
            if self._closing is None:
                self._tell(f"is closed with {IDLE.code}: {IDLE.text}")
            self.close(IDLE)
            return
        self._idle_check.due = last + self._limits.idle_s

    def _ping(self) -> None:
        if self._silent:  # not even a pong since the last one: the client is gone without closing
            if not self._ended:
                self._tell(
                    f"is cut off: nothing has come from its client for {self._limits.ping_s:g} s, no pong either"
                )
            self._transport.abort()
            return
        self._silent = not (
            self._held or self.congested or self._memory.used_up
        )  # while nothing is read no pong can be seen
        self._frame(PING, b"")

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self, reason: CloseReason) -> None:
        """Ends the socket with a close frame; ``run`` returns. The first reason counts."""
        if self._closing is None:
            self._closing = reason
            self._periodic.close()
            self._queue.feed_data((WSMsgType.CLOSING, None, None), 0)
            self._wake_up()

    def abort(self) -> None:
        """Ends the connection without a close frame."""
        self._transport.abort()

    async def _finish(self, reason: CloseReason) -> None:
        """Sends the close frame; what the client still sends is read and dropped until it has closed as well: else the
        system would answer it with a reset, which may overtake the close frame."""
        text = b"" if self._answered and not self._limits.echo_close else reason_bytes(reason.text)
        self._frame(CLOSE, struct.pack("!H", reason.code) + text if reason.code else b"")
        self._ended = True
        self._flush()
        if self._answered or self._protocol.half_closed:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if self._closing is None:  # the client broke the protocol: aiohttp drops what comes until it leaves
                    if self._transport.can_write_eof():
                        self._transport.write_eof()  # the client sees the end of the connection at once
                    left = asyncio.Event()
                    self._protocol.half_close = left.set
                    await left.wait()
                while (await self._queue.read())[0] is not WSMsgType.CLOSE:
                    pass
        except (TimeoutError, WebSocketError, EofStream, ConnectionError):
            if self._transport.get_write_buffer_size():
                self._transport.abort()
