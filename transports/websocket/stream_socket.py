"""Record streams on plain WebSockets (streams.md §2): one message a batch, opened by the very URL of the stream.

There is no envelope and nothing to subscribe to; what the client sends is ignored, but for acknowledgements (§5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from kafka_gateway import media
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import error_event
from kafka_gateway.door.client_address import peer_of
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import GONE, SHUTDOWN, CloseReason, ServiceError
from kafka_gateway.messages import Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.session import Session
from kafka_gateway.stream import Acknowledged, Feed, Payload, Stream
from kafka_gateway.transports.records.connection import Connection, FeedConnection, StreamLimits
from kafka_gateway.transports.records.frames import PING_FRAME, text_frame
from kafka_gateway.transports.websocket.closing import LEFT, close_code, reason_bytes
from kafka_gateway.transports.websocket.frame_heads import read_head
from kafka_gateway.transports.websocket.handshake import shake_hands
from kafka_gateway.transports.websocket.incoming_frames import WINDOW_S
from kafka_gateway.transports.websocket.socket import Socket

log = logging.getLogger("gateway.websocket")

HEARTBEAT_S = 15


class SocketOutlet(Connection):
    """Writes the events of one stream as messages and waits until they have left (gateway.delivery.Sink)."""

    __slots__ = ("error",)

    CARRIER = "websocket"
    takes_errors = True
    error: ServiceError | None
    """With which the stream has ended."""

    def __init__(self, protocol: Any, limits: StreamLimits, gateway: Gateway) -> None:
        super().__init__(protocol, limits, gateway)
        self.error = None

    async def send(self, payload: Payload) -> None:
        self.put(text_frame(payload))
        if payload.error is not None:
            self.error = payload.error
        await self.flushed()

    def _stay_alive(self) -> None:
        self.put(PING_FRAME)


class SocketFeedConnection(FeedConnection):
    """A socket on which only a stream is sent. It implements as little of RFC 6455 as that needs.

    What the client sends is looked at for pings and for its close frame, and otherwise dropped.
    """

    __slots__ = ("_closing", "_deadline", "_gateway", "_in_fragments", "_received", "_unfinished")

    CARRIER = "websocket"

    def __init__(
        self,
        transport: asyncio.Transport | None,
        limits: StreamLimits,
        gateway: Gateway,
        feed: Feed,
    ) -> None:
        super().__init__(transport, limits, gateway, feed, text_frame, PING_FRAME, b"")
        self._gateway = gateway
        self._received = b""
        self._in_fragments = False
        """Whether fragments of a message are still to come."""
        self._unfinished: asyncio.TimerHandle | None = None
        """Ends a client whose message or frame does not come to its end."""
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None

    def _over(self) -> None:
        why = self.error.message if self.error is not None else ""
        self._say_close(close_code(self.error, 1001 if self._gateway.stopping else 1000), why)

    def _say_close(self, code: int, why: str = "") -> None:
        """Sends a close frame, and waits a moment for the client's: an early end could overtake what was sent."""
        if self._closing or self.transport is None:
            return
        self._closing = True
        reason = reason_bytes(why)
        self.put(b"\x88%c%b%b" % (2 + len(reason), code.to_bytes(2, "big"), reason))
        self._deadline = self._loop.call_later(_CLOSE_TIMEOUT_S, self._close)
        self._feed.end()

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        start = 0
        while (frame := _Frame.read(received, start)) is not None:
            start = frame.end
            if frame.error:
                self._refuse(frame.error)
                start = len(received)
                break
            if frame.opcode == _CLOSE:
                if self._closing:
                    self._close()
                else:
                    code = int.from_bytes(frame.payload(received)[:2], "big")
                    self._say_close(code if code in _CODES else 1000)
                    self._close()
                start = len(received)
                break
            if frame.opcode < _CLOSE:
                self._in_fragments = not frame.is_final
                self._finished()
            if frame.opcode == _PING and not self.is_full and not self._closing:
                payload = frame.payload(received)
                self.put(b"\x8a%c%b" % (len(payload), payload))
        self._received = received[start:]
        if not (self._received or self._in_fragments):
            self._finished()
        elif self._unfinished is None and not self._closing:
            self._unfinished = self._loop.call_later(WINDOW_S, self._refuse, 1008)

    def _refuse(self, code: int) -> None:
        """Ends the socket for what its client has sent."""
        if not self._closing and self.transport is not None:
            peer = peer_of(self.transport.get_extra_info("peername"))
            log.info("a socket of %s is closed with %d: %s", peer, code, _WHY[code])
        self._say_close(code, _WHY[code])

    def _finished(self) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None

    def eof_received(self) -> bool:
        """As for every feed; after the close frame nothing is sent."""
        return not self._closing and super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._finished()
        super().connection_lost(exc)


_CLOSE_TIMEOUT_S = 2.0
_FRAME_MAX = 65536
"""Bytes of a frame that is waited for, only to be dropped."""
_WHY = {
    1002: "the frame is not one that a client may send",
    1008: "the message does not come to its end",
    1009: f"a frame has at most {_FRAME_MAX} bytes here",
}
_CLOSE, _PING = 8, 9
_KNOWN = frozenset({0, 1, 2, 8, 9, 10})
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""Close codes that may be sent back (RFC 6455 §7.4)."""


class _Frame(NamedTuple):
    """A frame of the client (RFC 6455 §5.2)."""

    opcode: int
    start: int
    end: int
    is_final: bool = True
    error: int = 0
    """The code to close with, if it is none that a client may send."""

    @classmethod
    def read(cls, data: bytes, at: int) -> _Frame | None:
        """The frame that begins there; None if it is not complete."""
        head = read_head(data, at, len(data))
        if head is None:
            return None
        opcode = head.opcode
        if head.first & 0x70 or not head.masked or opcode not in _KNOWN:
            return cls(opcode, at, len(data), error=1002)
        if head.is_control and (head.length > 125 or not head.is_final):
            return cls(opcode, at, len(data), error=1002)
        if head.length > _FRAME_MAX:
            return cls(opcode, at, len(data), error=1009)
        end = head.begin + head.length
        return cls(opcode, head.begin, end, head.is_final) if len(data) >= end else None

    def payload(self, data: bytes) -> bytes:
        """Its content, unmasked."""
        mask = data[self.start - 4 : self.start]
        return bytes(each ^ mask[place & 3] for place, each in enumerate(data[self.start : self.end]))


async def open_stream(request: HttpRequest, session: Session, gateway: Gateway) -> Reply:
    """What the gateway answers to the request for a stream: the stream, or why there is none."""
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {name.lower(): value for name, value in request.headers.items()}
    headers["accept"] = media.EVENTS
    asked: Mapping[str, str] = parse_query(query)
    return await gateway.dispatch(Request(session, "GET", path, asked, headers, base_url=request.base_url))


async def feed_socket(
    request: HttpRequest,
    response: web.WebSocketResponse[Any],
    feed: Feed,
    session: Session,
    gateway: Gateway,
    limits: StreamLimits,
) -> None:
    """Answers the handshake; the rest goes on without a task."""
    await shake_hands(request, response)
    connection = SocketFeedConnection(request.transport, limits, gateway, feed)
    lost = request.protocol.hand_over(connection, session)  # type: ignore[attr-defined]  # HttpConnection
    tell = request.goes_on()

    def left(sent: int) -> None:
        lost()
        tell(101, sent)

    connection.begin(left)


async def serve_stream(
    request: web.BaseRequest, socket: Socket, stream: Stream, session: Session, gateway: Gateway, limits: StreamLimits
) -> int:
    """Sends the stream until it or the client is gone; how many bytes that were."""
    outlet = SocketOutlet(request.protocol, limits, gateway)
    heartbeat_s = getattr(stream, "heartbeat_s", HEARTBEAT_S)
    session.keep_open(socket.close, None)

    async def deliver() -> None:
        try:
            await gateway.deliver(stream, outlet, session, None, heartbeat_s=heartbeat_s)
        except ServiceError as error:
            outlet.put(text_frame(error_event(error)))
            outlet.error = error
        reason = SHUTDOWN if gateway.stopping else GONE
        socket.close(CloseReason(close_code(outlet.error, reason.code), reason.text))

    def take(message: bytes, is_text: bool) -> None:
        if isinstance(stream, Acknowledged):
            stream.acknowledge(message)

    async def before_close(reason: CloseReason) -> None:
        if reason is LEFT and getattr(stream, "ends_itself", False):
            await asyncio.wait([delivery])  # it may still read what it has asked for, and sends nothing any more

    delivery = session.spawn(deliver(), "stream")
    try:
        await socket.run(take, before_close)
    finally:
        session.on_close = None
        outlet.release()
        session.streams.discard(stream)
        await stream.aclose()
    return outlet.written_bytes
