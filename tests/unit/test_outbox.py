"""The queue of a client who fetches its messages."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.transports.atmosphere.send_queue import SendQueue


async def started() -> None:
    """Lets tasks that have been made run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_messages_come_in_order_and_a_few_at_once() -> None:
    send_queue = SendQueue()
    for message in (b"aa", b"bb", b"cc", b"dddd"):
        send_queue.put(message)
    assert (len(send_queue), send_queue.size_bytes) == (4, 10)
    assert send_queue.take() == [b"aa"]
    assert send_queue.take(4) == [b"bb", b"cc"]
    assert send_queue.take(1) == [b"dddd"]
    assert (len(send_queue), send_queue.size_bytes) == (0, 10)
    send_queue.written([b"aa", b"bb", b"cc", b"dddd"])
    assert send_queue.size_bytes == 0


async def test_who_waits_is_told_of_a_message() -> None:
    send_queue = SendQueue()
    waiting = asyncio.ensure_future(send_queue.filled())
    await started()
    assert not waiting.done()
    send_queue.put(b"a")
    assert await waiting is True
    assert await send_queue.filled() is True


async def test_a_newer_reader_takes_the_place_of_an_older_one() -> None:
    send_queue = SendQueue()
    older = asyncio.ensure_future(send_queue.filled())
    await started()
    newer = asyncio.ensure_future(send_queue.filled())
    await started()
    assert older.done()
    assert older.result() is False
    send_queue.put(b"a")
    assert await newer is True


async def test_a_message_in_the_very_moment_of_the_change_goes_to_the_newer_one() -> None:
    send_queue = SendQueue()
    older = asyncio.ensure_future(send_queue.filled())
    await started()
    send_queue.put(b"a")
    assert await send_queue.filled() is True
    assert send_queue.take() == [b"a"]
    assert await older is False


async def test_drain_waits_for_what_was_put_before_and_no_longer() -> None:
    send_queue = SendQueue()
    await send_queue.drain()
    send_queue.put(b"a")
    draining = asyncio.ensure_future(send_queue.drain())
    await started()
    send_queue.put(b"b")
    taken = send_queue.take()
    await started()
    assert not draining.done()
    send_queue.written(taken)
    await draining
    assert len(send_queue) == 1


async def test_what_was_put_back_is_next() -> None:
    send_queue = SendQueue()
    send_queue.put(b"a")
    send_queue.put(b"b")
    draining = asyncio.ensure_future(send_queue.drain())
    taken = send_queue.take(2)
    waiting = asyncio.ensure_future(send_queue.filled())
    await started()
    send_queue.back(taken)
    assert await waiting is True
    assert send_queue.take(2) == [b"a", b"b"]
    assert not draining.done()
    send_queue.written(taken)
    await draining


async def test_closing_wakes_everybody() -> None:
    send_queue = SendQueue()
    send_queue.put(b"a")
    send_queue.take()
    waiting = asyncio.ensure_future(send_queue.filled())
    draining = asyncio.ensure_future(send_queue.drain())
    await started()
    send_queue.close()
    assert await waiting is False
    with pytest.raises(ConnectionResetError):
        await draining
    with pytest.raises(ConnectionResetError):
        await send_queue.drain()
    send_queue.put(b"b")
    assert len(send_queue) == 0


async def test_closing_may_leave_what_waits() -> None:
    send_queue = SendQueue()
    send_queue.put(b"a")
    send_queue.close(drop=False)
    assert await send_queue.filled() is True
    send_queue.written(send_queue.take())
    assert await send_queue.filled() is False
    await send_queue.drain()


async def test_one_who_stops_waiting_hurts_nobody() -> None:
    send_queue = SendQueue()
    send_queue.put(b"a")
    first, second = (asyncio.ensure_future(send_queue.drain()) for _ in range(2))
    await started()
    first.cancel()
    await started()
    send_queue.written(send_queue.take())
    await second
