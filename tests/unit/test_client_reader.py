"""What a port's clients send: in whatever pieces it comes, bounded in bytes and time, and counted while it comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.client_reader import PIECE, ClientReader
from kafka_gateway.config import load
from kafka_gateway.errors import BadRequest, PayloadTooLarge, RequestTimeout
from kafka_gateway.memory_budget import MemoryBudget, OutOfMemory
from tests.keys import BUILTIN_KEYS


class Sent:
    """A client's bytes, and the reader of them."""

    def __init__(self, budget: int = 1 << 30, most: int | None = None, **settings: Any) -> None:
        self.memory = MemoryBudget(budget)
        self.stream = asyncio.StreamReader(PIECE)
        config = load(BUILTIN_KEYS).with_values({f"request.{name}": settings[name] for name in settings})
        self.reader = ClientReader(self.stream, config, self.memory, most)

    async def reading(self, call: Any) -> asyncio.Task[bytes]:
        """A read that waits for the client."""
        task = asyncio.ensure_future(call)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        return task


async def test_lines_separators_and_sizes_in_pieces_of_every_length() -> None:
    text = b"one\r\n\ntwo\nabc--d--\x00\x0012345rest"
    for size in range(1, len(text) + 1):
        sent = Sent()
        for at in range(0, len(text), size):
            sent.stream.feed_data(text[at : at + size])
        sent.stream.feed_eof()
        reader = sent.reader
        assert [await reader.readline() for _ in range(3)] == [b"one\r\n", b"\n", b"two\n"]
        assert await reader.readuntil(b"--") == b"abc--"
        assert await reader.readuntil(b"--\x00\x00") == b"d--\x00\x00"
        assert (await reader.readexactly(0), await reader.readexactly(5)) == (b"", b"12345")
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(5)
        assert await reader.readline() == b""
        assert sent.memory.held == 0


async def test_a_line_may_end_with_the_connection() -> None:
    sent = Sent()
    sent.stream.feed_data(b"last")
    sent.stream.feed_eof()
    assert await sent.reader.readline() == b"last"


async def test_more_than_the_limit_is_refused_before_it_is_all_there() -> None:
    sent = Sent(most=10)
    sent.stream.feed_data(b"0123456789")
    assert await sent.reader.readexactly(10) == b"0123456789"
    with pytest.raises(PayloadTooLarge):
        await sent.reader.readexactly(11)
    sent.stream.feed_data(b"01234567890")
    with pytest.raises(PayloadTooLarge):
        await sent.reader.readline()
    with pytest.raises(BadRequest):
        await sent.reader.readexactly(-1)


async def test_the_limit_is_that_of_bodies_unless_another_is_given() -> None:
    sent = Sent(**{"max.bytes": 1000})
    with pytest.raises(PayloadTooLarge, match=r"1000 bytes.*request\.max\.bytes"):
        await sent.reader.readexactly(1001)


async def test_what_has_begun_must_go_on_and_what_has_not_may_wait() -> None:
    sent = Sent(**{"body.timeout.ms": 1})
    idle = await sent.reading(sent.reader.readline())
    assert not (await asyncio.wait([idle], timeout=0.05))[0]
    sent.stream.feed_data(b"beg")
    with pytest.raises(RequestTimeout):
        await idle


async def test_it_counts_while_it_comes_and_may_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.memory_budget.PATIENCE_S", 0.0)
    sent = Sent(budget=100_000)
    sent.stream.feed_data(b"x" * 1000)
    task = await sent.reading(sent.reader.readexactly(50_000))
    assert sent.memory.held == 1000
    sent.stream.feed_data(b"x" * 49_000)
    assert len(await task) == 50_000
    assert sent.memory.held == 0
    sent.stream.feed_data(b"x" * 60_000)
    task = await sent.reading(sent.reader.readexactly(90_000))
    other = sent.memory.claim()
    other.add(50_000)
    with pytest.raises(OutOfMemory):
        await asyncio.wait_for(task, 20)
    other.release()
    assert sent.memory.held == 0
