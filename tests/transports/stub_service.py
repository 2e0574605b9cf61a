"""A plugin with a few routes that do what tests of a transport need, without Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from kafka_gateway import media
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.kafka_errors import KafkaError
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.router import Route
from kafka_gateway.stream import PushAtOnce, StreamBuffer


class StubService:
    """Each gateway under test gets one of its own."""

    def __init__(self) -> None:
        self.requests: list[Call] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self.streams: dict[str, _Stream] = {}
        self.cancelled: list[str] = []
        self.paused: list[str] = []
        self.settled: asyncio.Queue[bool | None] = asyncio.Queue()

    @hookimpl
    def gateway_routes(self) -> Sequence[Route]:
        def route(method: str, template: str, handler: Any, **more: Any) -> Route:
            return Route(method, "/stub" + template, handler, "stub", produces=media.plain_json(), **more)

        return [
            route("GET", "/echo", self.echo),
            route("POST", "/echo", self.echo),
            route("GET", "/text/{size:int}", self.text),
            route("POST", "/back", self.back),
            route("DELETE", "/nothing", self.nothing),
            route("GET", "/fail", self.fail),
            route("GET", "/redirect", self.redirect),
            route("GET", "/gate/{name}", self.gate),
            route("GET", "/stream/{name}", self.stream),
            route("GET", "/pushing/{name}", self.pushing),
            route("GET", "/settle", self.settle),
        ]

    async def echo(self, call: Call) -> Response:
        """What arrived, as JSON."""
        self.requests.append(call)
        request = call.request
        body = request.body.decode() if request.body is not None else None
        answer = {"method": request.method, "path": request.path, "query": dict(request.query), "body": body}
        return Response(answer | {"headers": dict(sorted(request.headers.items())), "base_url": call.base_url})

    async def back(self, call: Call) -> Response:
        """The body as it is, with its own type."""
        return Response(call.request.body, media_type=call.request.headers.get("content-type", ""))

    async def text(self, call: Call) -> Response:
        size = int(call.params["size"])
        return Response(("é€😀x" * size)[:size].encode(), media_type="text/plain")

    async def nothing(self, call: Call) -> Response:
        return NO_CONTENT

    async def fail(self, call: Call) -> Response:
        raise RuntimeError("a bug")

    async def redirect(self, call: Call) -> Response:
        return Response({}, 303, (("Location", "/elsewhere"), ("X-Other", "1")))

    async def gate(self, call: Call) -> Response:
        """Answers when the test opens the gate."""
        name = str(call.params["name"])
        gate = self.gates.setdefault(name, asyncio.Event())
        self.waiting.put_nowait(name)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return Response({"gate": name})

    async def stream(self, call: Call) -> Response:
        name = str(call.params["name"])
        ended = self.waiting.put_nowait
        stream = _Stream(
            1 << 20, 1 << 19, pause=lambda: self.paused.append(name), closed=lambda: ended(f"{name} closed")
        )
        self.streams[name] = stream
        self.waiting.put_nowait(name)
        return Response(stream)

    async def pushing(self, call: Call) -> Response:
        """A stream that may be sent at once: `Pushing.push`."""
        name = str(call.params["name"])
        self.streams[name] = stream = Pushing(1 << 20, 1 << 19)
        self.waiting.put_nowait(name)
        return Response(stream)

    async def settle(self, call: Call) -> Response:
        return Response({}, settle=self.settled.put_nowait)

    def end(self, name: str) -> None:
        self.streams[name].end(KafkaError("Kafka error: it ended"))


class _Stream(StreamBuffer):
    is_lost = False

    def lose(self) -> None:
        self.is_lost = True


class Pushing(_Stream):
    """``push`` sends without waiting (gateway.stream.PushesAtOnce), and ``delivered`` is what came of it."""

    def __init__(self, high: int, low: int) -> None:
        super().__init__(high, low)
        self._push: PushAtOnce = lambda data, delivered: False
        self.delivered: list[bytes] = []

    def push_with(self, push: PushAtOnce) -> None:
        self._push = push

    def push(self, data: bytes, then: Callable[[], None] = lambda: None) -> bool:
        def delivered() -> None:
            self.delivered.append(data)
            then()

        return self._push(data, delivered)
