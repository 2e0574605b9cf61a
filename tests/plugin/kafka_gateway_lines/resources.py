"""Two resources: one that answers at once, and one that answers with a stream."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter

from kafka_gateway.errors import BadRequest
from kafka_gateway.media import plain_json
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from kafka_gateway.stream import StreamBuffer

ECHOES = Counter("lines_echoes", "Answers of /plugin/echo", registry=None)
_HIGH, _LOW = 64 * 1024, 16 * 1024


async def echo(call: Call) -> Response:
    """Who asks, how, and with which parameters."""
    session = call.session
    ECHOES.inc()
    return Response({"transport": session.transport, "principal": session.principal.name, "query": dict(call.query)})


async def ticks(call: Call) -> Response:
    """A stream of ``count`` numbers, one every ``ms`` milliseconds."""
    count, ms = _number(call, "count", 3), _number(call, "ms", 100)
    return Response(Ticker(count, ms / 1000).buffer, media_type="application/x-ndjson")


class Ticker:
    """A source of payloads that stops while nobody reads."""

    def __init__(self, count: int, interval_s: float) -> None:
        self.buffer = StreamBuffer(_HIGH, _LOW, pause=self._stop, resume=self._wait, closed=self._stop)
        self._left = iter(range(1, count + 1))
        self._interval_s = interval_s
        self._next: asyncio.TimerHandle | None = None
        self._wait()

    def _wait(self) -> None:
        self._next = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        number = next(self._left, None)
        if number is None:
            self.buffer.end()
            return
        self._wait()
        self.buffer.put(b'{"tick":%d}\n' % number)

    def _stop(self) -> None:
        if self._next is not None:
            self._next.cancel()


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise BadRequest(f"{name}={text[:20]} is not a number from 0 to 999999.")
    return int(text)


ROUTES = [
    Route("GET", "/plugin/echo", echo, name="plugin.echo", produces=plain_json(), permission="open"),
    Route("GET", "/plugin/ticks", ticks, name="plugin.ticks", permission="read gateway:ticks"),
]
