"""Refuses clients whose frames are not masked (RFC 6455 §5.1), which aiohttp takes.

Looked at is the first frame: clients mask all of their frames or none, and to find the others each would have to be
taken apart a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, web
from aiohttp.http_websocket import WebSocketError, WebSocketWriter


class MaskedWebSocketResponse(web.WebSocketResponse[Any]):
    """A WebSocket that ends with a WebSocketError 1002 if its client does not mask its first frame."""

    before: Callable[[Any, Any], Any] | None = None
    """Gets the connection and aiohttp's parser and returns what is to stand before that."""

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        connection = request.protocol
        early, connection._message_tail = connection._message_tail, b""  # it came with the handshake
        super()._post_start(request, protocol, writer)
        parser = connection._payload_parser
        if self.before is not None:
            parser = self.before(connection, parser)
        check = _FirstFrame(connection, parser, self._reader)
        connection._payload_parser = check
        if early:
            check.feed_data(early)


class _FirstFrame:
    """Stands before aiohttp's parser until it has seen whether the first frame is masked."""

    def __init__(self, connection: Any, parser: Any, queue: Any) -> None:
        self._connection, self._parser, self._queue = connection, parser, queue
        self._head = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As aiohttp's: (whether the connection is to end, what is not used)."""
        self._head += data[: 2 - len(self._head)]
        if len(self._head) == 2:
            if not self._head[1] & 0x80:
                self._queue.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "frame without a mask"))
                return True, b""
            self._connection._payload_parser = self._parser
        result: tuple[bool, bytes] = self._parser.feed_data(data)
        return result

    def feed_eof(self) -> None:
        self._parser.feed_eof()
