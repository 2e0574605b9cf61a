"""A worker that hangs: what it was asked is answered for it (cluster.md §10)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.cluster.ports import Process
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.workers.frames import Answer, Cancel, Head, Next, Ping, Pong, Question
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.link import Link
from kafka_gateway.workers.terms import Terms
from kafka_gateway.workers.wire import Wire

PATIENCE_S = 30
TERMS = Terms(hold_s=1.0, ping_s=0.05)
"""Many times what a ping takes, on a machine that is busy, too."""


class Other(Wire):
    """The other worker. It answers pings for as long as it is alive."""

    def __init__(self) -> None:
        super().__init__(Greeting(Process("", "1", ""), asks=False))
        self.is_alive = True
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard: asyncio.Queue[Head] = asyncio.Queue()

    def take(self, head: Head, content: bytes) -> None:
        self.heard.put_nowait(head)
        if isinstance(head, Ping) and self.is_alive:
            self.send(Pong())

    def lost(self) -> None:
        self.gone.set_result(None)

    async def until(self, kind: type[Head]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(head := await self.heard.get(), kind):
                pass
        return head


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Other]]:
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[Link] = loop.create_future()
    one, two = socket.socketpair()
    _, other = await loop.create_unix_connection(Other, sock=two)
    _, link = await loop.create_unix_connection(
        lambda: Link(Greeting(Process("", "0", ""), asks=True), TERMS, gone.set_result), sock=one
    )
    try:
        await link.ready
        yield link, other
    finally:
        link.close()
        other.close()
        await asyncio.gather(gone, other.gone)


async def test_one_that_takes_its_time_is_waited_for_and_one_that_hangs_is_not() -> None:
    async with linked() as (link, other):
        asked = asyncio.ensure_future(link.question("clients", {}))
        question = await other.until(Question)
        for _ in range(5):
            await other.until(Ping)
        assert not asked.done()
        other.is_alive = False
        with pytest.raises(InstanceUnavailable):
            async with asyncio.timeout(PATIENCE_S):
                await asked
        # Should it come to itself, it need not do it any more; and it may be asked again.
        assert (await other.until(Cancel)).id == question.id
        other.is_alive = True
        again = asyncio.ensure_future(link.question("clients", {}))
        other.send(Answer((await other.until(Question)).id), b"[7]")
        assert await again == [7]


async def test_its_streams_end() -> None:
    async with linked() as (link, other):
        asked = asyncio.ensure_future(link._ask(1, Question(1, "stream"), b""))
        await other.until(Question)
        other.send(Answer(1, streams=True))
        await asked
        reading = asyncio.ensure_future(anext(link._streams[1]))
        await other.until(Next)
        for _ in range(5):
            await other.until(Ping)
        assert not reading.done()
        other.is_alive = False
        with pytest.raises(InstanceUnavailable):
            async with asyncio.timeout(PATIENCE_S):
                await reading
        assert (await other.until(Cancel)).id == 1
