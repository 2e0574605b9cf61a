"""aiohttp's parser, made to hand out the requests that came before one that it cannot read.

By itself it drops all that it has found in a read of the connection as soon as something in it is wrong, so that valid
requests which a client sends ahead (RFC 9112 §9.3.2) got no answer when a faulty one arrived with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

_NOTHING: tuple[Sequence[Any], bool, bytes] = ((), False, b"")


class RequestsInOrder:
    """Stands in the place of aiohttp's parser, and has the methods that its connection calls.

    The parser pauses behind each request, so what is wrong is met when all before it has been handed out.
    """

    __slots__ = ("_feed", "_in_flight", "_parser", "_queue_max", "_refused", "_unfinished", "pause_reading")

    def __init__(
        self, connection: Any, refused: Callable[[HttpProcessingError], Any], queue_max: int, **settings: Any
    ) -> None:
        """``refused`` makes what is queued in the place of a request that cannot be read.

        ``queue_max`` requests may be handed out and not consumed; then parsing goes on when one is. ``settings`` are
        those of aiohttp's parser.
        """
        self._parser = HttpRequestParser(connection, max_msg_queue_size=1, **settings)
        self._feed, self.pause_reading = self._parser.feed_data, self._parser.pause_reading
        self._refused, self._queue_max = refused, queue_max
        self._in_flight = 0
        self._unfinished: Any = None
        """The body that is still coming."""

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """The requests that have begun, with their bodies; whether another protocol follows, and what came of it."""
        found: list[Any] = []
        while True:
            try:
                messages, upgraded, rest = self._feed(data)
            except HttpProcessingError as error:
                if not found:
                    raise
                found.append(self._refused(error))
                return found, False, b""
            if messages:
                found += messages
                self._unfinished = messages[-1][1]
            if upgraded:
                return found, True, rest
            if self._unfinished is None or not self._unfinished.is_eof():
                return (found, False, b"") if found else _NOTHING
            self._unfinished = None
            self._in_flight += 1
            if self._in_flight >= self._queue_max:
                return found, False, b""
            data = b""  # it has kept what follows

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
