"""Whoever gave a reply learns whether it was written: ``Response.settle`` (reliability.md F8)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.dialect import Dialect
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.messages import Call, Request, Response
from kafka_gateway.router import Route
from kafka_gateway.session import Session
from tests.loop_watch import LoopWatch
from tests.transports.conftest import Connect, gateway
from tests.transports.peer import Peer, frame
from tests.transports.wire import Wire, request
from tests.waiting import PATIENCE_S

LARGE = 12 << 20
"""More than the buffers of two systems take on loopback (Linux: 4 MiB and 6 MiB)."""


class Settling:
    """A plugin whose replies are of a given size."""

    def __init__(self) -> None:
        self.settled: asyncio.Queue[bool] = asyncio.Queue()
        self.answered = asyncio.Event()

    @hookimpl
    def gateway_routes(self) -> Sequence[Route]:
        return [Route("GET", "/settle/{size:int}", self.answer)]

    async def answer(self, call: Call) -> Response:
        self.answered.set()
        return Response(b"x" * int(call.params["size"]), settle=self.settled.put_nowait)

    async def outcome(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            outcome = await self.settled.get()
        assert self.settled.empty()
        return outcome


@pytest.fixture
def settling() -> Settling:
    return Settling()


@pytest.fixture
async def app(settling: Settling) -> AsyncIterator[App]:
    async with gateway(settling, transport_websocket_enable=True) as running:
        yield running


async def slow_wire(app: App) -> Wire:
    """A connection whose client has little room for what it does not read."""
    host, port = app.addresses[0].removeprefix("http://").split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=16384)
    return Wire(reader, writer)


@pytest.mark.parametrize("size", [0, 10, LARGE])
async def test_a_reply_that_is_read(connect: Connect, settling: Settling, size: int) -> None:
    wire = await connect()
    for _ in range(2):
        assert len((await wire.ask("GET", f"/settle/{size}")).body) == size
        assert await settling.outcome() is True


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_in_the_middle_of_the_reply(app: App, settling: Settling, reset: bool) -> None:
    wire = await slow_wire(app)
    await wire.send(request("GET", f"/settle/{LARGE}"))
    await wire.reader.readexactly(100_000)
    assert settling.settled.empty()
    if reset:
        wire.writer.transport.abort()
    else:
        wire.writer.close()
    assert await settling.outcome() is False


async def test_a_client_that_does_not_read_keeps_it_open(app: App, settling: Settling) -> None:
    wire = await slow_wire(app)
    async with wire:
        await wire.send(request("GET", f"/settle/{LARGE}"))
        await settling.answered.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await settling.settled.get()
        assert len((await wire.reply()).body) == LARGE
        assert await settling.outcome() is True


@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_socket(app: App, settling: Settling, size: int, loop_watch: LoopWatch) -> None:
    if size == LARGE:
        loop_watch.limit_s = 0.15  # in one step 12 MiB are made, looked through for UTF-8, and copied
    peer = await Peer.open(app.addresses[0])
    async with peer.wire:
        await peer.wire.send(frame(b'{"id":1,"path":"/settle/%d"}' % size))
        if size == LARGE:
            await settling.answered.wait()
            peer.wire.writer.transport.abort()
        assert await settling.outcome() is (size == 10)


async def test_a_transport_that_cannot_tell(app: App, settling: Settling) -> None:
    reply = await app.gateway.dispatch(Request(Session("test"), "GET", "/settle/10"))
    assert reply.settle is None
    assert await settling.outcome() is True


async def test_a_reply_that_cannot_be_rendered(app: App, settling: Settling) -> None:
    class Broken(Dialect):
        def render(self, value: Any) -> bytes:
            raise ValueError

    reply = await app.gateway.dispatch(Request(Session("test"), "GET", "/settle/10", dialect=Broken(), settles=True))
    assert (reply.status, reply.settle) == (500, None)
    assert await settling.outcome() is False
