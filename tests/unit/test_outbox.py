"""The queue of a client who fetches its messages."""

from __future__ import annotations

import asyncio

import pytest

from transports.atmosphere.send_queue import Outbox


async def started() -> None:
    """Lets tasks that have been made run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_messages_come_in_order_and_a_few_at_once() -> None:
    outbox = Outbox()
    for message in (b"aa", b"bb", b"cc", b"dddd"):
        outbox.put(message)
    assert (len(outbox), outbox.size_bytes) == (4, 10)
    assert outbox.take() == [b"aa"]
    assert outbox.take(4) == [b"bb", b"cc"]
    assert outbox.take(1) == [b"dddd"]
    assert (len(outbox), outbox.size_bytes) == (0, 10)
    outbox.written([b"aa", b"bb", b"cc", b"dddd"])
    assert outbox.size_bytes == 0


async def test_who_waits_is_told_of_a_message() -> None:
    outbox = Outbox()
    waiting = asyncio.ensure_future(outbox.filled())
    await started()
    assert not waiting.done()
    outbox.put(b"a")
    assert await waiting is True
    assert await outbox.filled() is True


async def test_a_newer_reader_takes_the_place_of_an_older_one() -> None:
    outbox = Outbox()
    older = asyncio.ensure_future(outbox.filled())
    await started()
    newer = asyncio.ensure_future(outbox.filled())
    await started()
    assert older.done()
    assert older.result() is False
    outbox.put(b"a")
    assert await newer is True


async def test_a_message_in_the_very_moment_of_the_change_goes_to_the_newer_one() -> None:
    outbox = Outbox()
    older = asyncio.ensure_future(outbox.filled())
    await started()
    outbox.put(b"a")
    assert await outbox.filled() is True
    assert outbox.take() == [b"a"]
    assert await older is False


async def test_drain_waits_for_what_was_put_before_and_no_longer() -> None:
    outbox = Outbox()
    await outbox.drain()
    outbox.put(b"a")
    draining = asyncio.ensure_future(outbox.drain())
    await started()
    outbox.put(b"b")
    taken = outbox.take()
    await started()
    assert not draining.done()
    outbox.written(taken)
    await draining
    assert len(outbox) == 1


async def test_what_was_put_back_is_next() -> None:
    outbox = Outbox()
    outbox.put(b"a")
    outbox.put(b"b")
    draining = asyncio.ensure_future(outbox.drain())
    taken = outbox.take(2)
    waiting = asyncio.ensure_future(outbox.filled())
    await started()
    outbox.back(taken)
    assert await waiting is True
    assert outbox.take(2) == [b"a", b"b"]
    assert not draining.done()
    outbox.written(taken)
    await draining


async def test_closing_wakes_everybody() -> None:
    outbox = Outbox()
    outbox.put(b"a")
    outbox.take()
    waiting = asyncio.ensure_future(outbox.filled())
    draining = asyncio.ensure_future(outbox.drain())
    await started()
    outbox.close()
    assert await waiting is False
    with pytest.raises(ConnectionResetError):
        await draining
    with pytest.raises(ConnectionResetError):
        await outbox.drain()
    outbox.put(b"b")
    assert len(outbox) == 0


async def test_closing_may_leave_what_waits() -> None:
    outbox = Outbox()
    outbox.put(b"a")
    outbox.close(drop=False)
    assert await outbox.filled() is True
    outbox.written(outbox.take())
    assert await outbox.filled() is False
    await outbox.drain()


async def test_one_who_stops_waiting_hurts_nobody() -> None:
    outbox = Outbox()
    outbox.put(b"a")
    first, second = (asyncio.ensure_future(outbox.drain()) for _ in range(2))
    await started()
    first.cancel()
    await started()
    outbox.written(outbox.take())
    await second
