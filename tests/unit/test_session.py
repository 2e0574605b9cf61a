"""A session ends all that it owns."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.errors import GONE, SHUTDOWN
from kafka_gateway.session import Session
from kafka_gateway.stream import StreamBuffer


async def test_closing_ends_tasks_and_streams() -> None:
    session = Session("test")
    ended: list[str] = []
    stream = StreamBuffer(10, 1, closed=lambda: ended.append("stream"))
    session.streams.add(stream)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    task = session.spawn(work())
    await asyncio.sleep(0)
    assert not session.idle
    await session.aclose(SHUTDOWN)
    await session.aclose(GONE)
    assert sorted(ended) == ["stream", "task"]
    assert task.cancelled()
    assert session.closed is SHUTDOWN
    assert session.idle


async def test_a_closed_session_takes_no_work() -> None:
    session = Session("test")
    await session.aclose()

    async def work() -> None:
        raise AssertionError("must not run")

    with pytest.raises(RuntimeError, match="closed"):
        session.spawn(work())


async def test_a_task_may_close_its_own_session() -> None:
    session = Session("test")

    async def work() -> None:
        await session.aclose()

    await session.spawn(work())
    assert session.closed is GONE
