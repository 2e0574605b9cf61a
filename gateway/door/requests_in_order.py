"""aiohttp's parser, made to bound heads, and to hand out the requests that came before one that it cannot read.

By itself it bounds the lines of a head and their number, which is a megabyte together. And it drops all that it has
found in a read of the connection as soon as something in it is wrong, so that valid requests which a client sends ahead
(RFC 9112 §9.3.2) got no answer when a faulty one arrived with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from kafka_gateway.door.head_errors import HeadTooLong
from kafka_gateway.door.known_heads import length_of

_NOTHING: tuple[Sequence[Any], bool, bytes] = ((), False, b"")


class RequestsInOrder:
    """Stands in the place of aiohttp's parser, and has the methods that its connection calls.

    The parser pauses behind each request, so what is wrong is met when all before it has been handed out.
    """

    __slots__ = (
        "_feed",
        "_gathered",
        "_head_max",
        "_in_flight",
        "_kept",
        "_parser",
        "_payload_error",
        "_queue_max",
        "_refused",
        "_tell_gathered",
        "_unfinished",
        "pause_reading",
    )

    def __init__(
        self,
        connection: Any,
        refused: Callable[[HttpProcessingError], Any],
        queue_max: int,
        head_max: int,
        tell_gathered: Callable[[int], None],
        **settings: Any,
    ) -> None:
        """``refused`` makes what is queued in the place of a request that cannot be read.

        ``queue_max`` requests may be handed out and not consumed; then parsing goes on when one is. A head may have
        ``head_max`` bytes, and as many again where requests before it came with it; so may what follows the last chunk
        of a body. ``tell_gathered`` is told how many bytes have been gathered of one that is not complete, and 0 when
        it is, or is refused. ``settings`` are those of aiohttp's parser.
        """
        self._parser: Any = HttpRequestParser(connection, max_msg_queue_size=1, **settings)
        self._feed: Any = self._parser.feed_data
        self.pause_reading: Callable[[], None] = self._parser.pause_reading
        self._payload_error = settings["payload_exception"]
        self._refused, self._queue_max = refused, queue_max
        self._head_max, self._tell_gathered = head_max, tell_gathered
        self._in_flight = 0
        self._gathered = 0
        """Bytes that have come since something was handed out, and are not a request's yet."""
        self._kept = b""
        """What came behind more requests than may be handed out."""
        self._unfinished: Any = None
        """The last request and its body, which is still coming."""

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """The requests that have begun, with their bodies; whether another protocol follows, and what came of it."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        if len(data) <= self._head_max - self._gathered or self._is_of_body(len(data)):
            return self._feed_piece(data)
        found: list[Any] = []
        while True:  # never more of a head at a time than it may have
            room = self._head_max - self._gathered
            piece, data = data[:room], data[room:]
            messages, upgraded, rest = self._feed_piece(piece)
            found += messages
            if upgraded:
                return found, True, rest + data
            if not data or self._parser is None:
                return found, False, b""
            if self._in_flight >= self._queue_max:
                self._kept = data
                return found, False, b""

    def _is_of_body(self, size: int) -> bool:
        """Whether the next so many bytes are all of the body that is still coming."""
        if self._unfinished is None:
            return False
        message, payload = self._unfinished
        return size <= length_of(message) - int(payload.total_bytes)

    def _feed_piece(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        if self._parser is None:  # nothing is read behind a head that was refused
            return _NOTHING
        found: list[Any] = []
        size, body = len(data), self._unfinished
        taken = body[1].total_bytes if body is not None else 0
        while True:
            try:
                messages, upgraded, rest = self._feed(data)
            except HttpProcessingError as error:
                self._count(0)
                found.append(self._refuse(error))
                return found, False, b""
            if messages:
                found += messages
                self._in_flight += len(messages)  # it may be consumed before its body has come
                self._unfinished = messages[-1]
            if upgraded:
                self._count(0)
                return found, True, rest
            if self._unfinished is None or not self._unfinished[1].is_eof():
                is_gathered = not found and self._unfinished is body and (body is None or body[1].total_bytes == taken)
                if is_gathered:
                    if self._gathered + size >= self._head_max:
                        return self._too_long()
                    self._count(self._gathered + size)
                elif self._gathered:
                    self._count(0)
                return (found, False, b"") if found else _NOTHING
            self._unfinished = None
            if self._in_flight >= self._queue_max:
                self._count(0)
                return found, False, b""
            data = b""  # it has kept what follows

    def _count(self, gathered: int) -> None:
        if gathered != self._gathered:
            self._gathered = gathered
            self._tell_gathered(gathered)

    def _too_long(self) -> tuple[Sequence[Any], bool, bytes]:
        """Refuses the head that is gathered; of a body, what follows its last chunk. Nothing is read behind it."""
        self._parser = self._feed = None  # with all that it has gathered
        self.pause_reading = _pause_nothing
        self._count(0)
        unfinished, self._unfinished = self._unfinished, None
        error = HeadTooLong()
        if unfinished is None:
            return [self._refuse(error)], False, b""
        unfinished[1].set_exception(self._payload_error(error.message))
        return _NOTHING

    def _refuse(self, error: HttpProcessingError) -> Any:
        # The frames of its traceback hold what was read, for as long as the refusal waits.
        return self._refused(error.with_traceback(None))

    def message_consumed(self) -> None:
        """One of the requests that were handed out is taken from the queue."""
        if self._in_flight:
            self._in_flight -= 1

    def feed_eof(self) -> Any:
        """As aiohttp's."""
        return self._parser.feed_eof()

    def set_upgraded(self, upgraded: bool) -> None:
        """As aiohttp's."""
        self._parser.set_upgraded(upgraded)


def _pause_nothing() -> None:
    """There is no parser any more that could pause."""
