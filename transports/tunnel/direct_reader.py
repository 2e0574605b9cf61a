"""Passes the data of a client's WebSocket on as it comes, without aiohttp's message queue.

aiohttp puts a message together before it hands it out; for replies of megabytes that is most of the work, and costs
memory. Kafka's stream needs no whole messages: the payload of data frames is written on as it comes. Control frames go
to aiohttp's own reader, so pings, closing and errors stay with aiohttp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import ClientWebSocketResponse, WebSocketError, WSCloseCode

from kafka_gateway.transports.websocket.frame_heads import read_head
from kafka_gateway.wire.frames import WireError

_CONTINUATION, _TEXT, _BINARY = 0, 1, 2


class DirectReader:
    """Takes the place of the reader of an open WebSocket (RFC 6455 §5.2).

    Args:
        write: gets the payload of data frames in order. ended: called after each whole message.
        message_max: bytes of one message; more than that, text, or a broken frame ends the socket with its code, which
            ``receive`` of the socket reports.
    """

    def __init__(
        self,
        socket: ClientWebSocketResponse[bool],
        write: Callable[[memoryview], None],
        ended: Callable[[], None],
        message_max: int,
    ) -> None:
        connection: Any = socket._conn
        if connection is None or connection.protocol is None:
            raise WireError("the gateway closed at once")
        self.protocol = connection.protocol
        self._queue: Any = socket._reader
        self._reader: Any = self.protocol._payload_parser
        if self._reader is None:
            raise WireError("the gateway closed at once")
        self._write, self._ended, self._message_max = write, ended, message_max
        self._rest = b""
        self._left = 0
        self._message = 0
        """Bytes of the message so far."""
        self._open = False
        """Whether fragments of a message are still to come."""
        self._final = False
        self._failed = False
        self.protocol._payload_parser = self

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp calls it with what the connection has read."""
        if self._failed:
            return False, b""
        try:
            self._feed(self._rest + data if self._rest else data)
        except WebSocketError as error:
            self._failed = True
            self._queue.set_exception(error)
        return False, b""

    def _feed(self, data: bytes) -> None:
        self._rest = b""
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._write(view[at : at + step])
                at += step
                self._left -= step
                if not self._left and self._final:
                    self._ended()
                continue
            head = read_head(data, at, end)
            if head is not None and (head.first & 0x70 or head.masked):
                raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "reserved bits or a mask")
            if head is None or (head.is_control and head.begin + head.length > end):
                self._rest = data[at:]
                return
            if head.is_control:
                at, begin = head.begin + head.length, at
                self._reader.feed_data(data[begin:at])
            else:
                self._begin(head.opcode, head.is_final, head.length)
                at = head.begin

    def _begin(self, opcode: int, final: bool, length: int) -> None:
        if opcode == _TEXT:
            raise WebSocketError(WSCloseCode.UNSUPPORTED_DATA, "text message")
        if opcode != (_CONTINUATION if self._open else _BINARY):
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "fragment out of order")
        self._message = length + (self._message if self._open else 0)
        if self._message > self._message_max:
            raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "frame over the limit")
        self._left, self._final, self._open = length, final, not final
        if final and not length:
            self._ended()
