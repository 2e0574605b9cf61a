"""Answering the upgrade request, and taking over what aiohttp has made for the socket.

All that aiohttp keeps private about an open WebSocket of a server is used here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http_websocket import WebSocketWriter
from aiohttp.web_exceptions import HTTPBadRequest

from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import BadRequest
from kafka_gateway.transports.websocket.incoming_frames import IncomingFrames

Watch = Callable[[Any, Any, Any], Any]
"""Gets the connection, aiohttp's parser and its queue of messages, and returns what is to stand before the parser."""


class Handshake(web.WebSocketResponse[Any]):
    """The response to an upgrade request, with aiohttp's parts of the socket until a `Socket` has taken them over."""

    watch: Watch
    frames: Any = None

    def take_queue(self) -> Any:
        """aiohttp's queue of messages. Nothing of the socket stays with the response, whose request refers to it
        and is referred to: what they keep is not free before the collector comes.
        """
        queue, self._reader, self._parser = self._reader, None, None
        if queue is None or self._writer is None:
            raise ConnectionResetError("the client left")
        return queue

    def watch_pongs(self, pong: Callable[[bytes], None]) -> None:
        """Has pongs that come between frames go there directly, if `IncomingFrames` stands before the parser."""
        frames, self.frames = self.frames, None
        if isinstance(frames, IncomingFrames):
            frames.pong = pong

    @property
    def fresh_compressor(self) -> bool:
        """Whether each message is compressed by itself (RFC 7692 §7.1.1)."""
        return self._writer is not None and self._writer.notakeover

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        if not self._headers.get(hdrs.SERVER):
            self._headers.popall(hdrs.SERVER, None)

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        connection = request.protocol
        early, connection._message_tail = connection._message_tail, b""  # it came with the handshake
        super()._post_start(request, protocol, writer)
        frames = connection._payload_parser = self.watch(connection, connection._payload_parser, self._reader)
        self.frames = frames
        if early:
            frames.feed_data(early)


async def shake_hands(request: web.BaseRequest, response: web.WebSocketResponse[Any]) -> None:
    """Answers the upgrade request. BadRequest if it is none that RFC 6455 §4.2.1 allows."""
    response.headers.setdefault(hdrs.SERVER, "kafka-gateway")
    cast(HttpRequest, request).stays_open()
    try:
        await response.prepare(request)
    except HTTPBadRequest as error:
        raise BadRequest(f"Not a WebSocket handshake: {error.text}") from None
