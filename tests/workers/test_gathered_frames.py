"""Frames between two processes leave together: in one write for all that is said in a turn of the event loop, but for
what is alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.workers.frames import PIECE_MAX, Cancel, Head, Ping
from kafka_gateway.workers.wire import Wire
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.waiting import until
from tests.workers.test_peers import asked, settings, two

TOGETHER = 8


class Watched:
    """A transport that keeps how long its writes were."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[int] = []

    def write(self, data: bytes) -> None:
        self.writes.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @classmethod
    def of(cls, wire: Wire) -> list[int]:
        watched = cls(wire._transport)
        wire._transport = watched  # type: ignore[assignment]
        return watched.writes


@pytest.fixture
async def app() -> AsyncIterator[App]:
    async with gateway(StubService()) as running:
        yield running


async def test_what_is_said_in_one_turn_leaves_in_one_write(app: App, tmp_path: Path) -> None:
    values = settings("unix", tmp_path, tmp_path)
    async with two(app, values, values) as (one, other):
        await one.call("gw-2/0", asked("POST /stub/echo", b"x"))
        link = one._known["gw-2/0"].link
        (answering,) = other._answering
        assert link is not None
        asks, answers = Watched.of(link), Watched.of(answering)
        bodies = [b"%d" % number for number in range(TOGETHER)]
        replies = await asyncio.gather(*[one.call("gw-2/0", asked("POST /stub/echo", body)) for body in bodies])
        assert [b'"body":"%b"' % body in reply.body for body, reply in zip(bodies, replies, strict=True)] == [
            True
        ] * TOGETHER
        assert len(asks) == 2, "the first, of which nobody knew that others follow, and these"
        assert len(answers) <= 2


async def test_what_was_said_goes_before_what_follows(app: App, tmp_path: Path) -> None:
    """A piece of a long content is written at once, and so is what is said before the end of a connection."""
    values = settings("unix", tmp_path, tmp_path)
    async with two(app, values, values) as (one, other):
        await one.call("gw-2/0", asked("POST /stub/echo", b"x"))
        link = one._known["gw-2/0"].link
        (answering,) = other._answering
        assert link is not None
        heard: list[Head] = []
        take = answering.take

        def hear(head: Head, content: bytes) -> None:
            heard.append(head)
            take(head, content)

        answering.take = hear  # type: ignore[method-assign]
        asks = Watched.of(link)
        link.send(Ping())
        body = b"x" * (PIECE_MAX + 1)
        reply = await link.ask(asked("POST /stub/echo", body))
        assert reply.status == 200
        assert [type(head).__name__ for head in heard] == ["Ping", "Ask", "More", "More", "Ask"]
        assert len(asks) == 3, "the ping with the head, and two pieces"
        link.send(Cancel(0))
        link.close()
        await until(lambda: answering._transport is None)
        assert isinstance(heard[-1], Cancel)
