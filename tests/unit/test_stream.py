"""StreamBuffer: bounded in bytes, one pause and one resume, an end that is not lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.stream import StreamBuffer


async def drain(stream: StreamBuffer) -> list[bytes]:
    return [payload.data async for payload in stream]


async def test_payloads_arrive_in_order_and_the_end_comes_last() -> None:
    stream = StreamBuffer(100, 10)
    for payload in (b"a", b"b", b"c"):
        stream.put(payload)
    stream.end()
    stream.put(b"after the end")
    assert await drain(stream) == [b"a", b"b", b"c"]


async def test_a_waiting_reader_is_woken() -> None:
    stream = StreamBuffer(100, 10)
    reader = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    stream.put(b"x")
    assert (await reader).data == b"x"


async def test_pause_and_resume_are_called_once_each() -> None:
    calls: list[str] = []
    stream = StreamBuffer(10, 4, lambda: calls.append("pause"), lambda: calls.append("resume"))
    for _ in range(5):
        stream.put(b"1234")
    assert calls == ["pause"]
    assert stream.size_bytes == 20
    for _ in range(4):
        await stream.__anext__()
    assert calls == ["pause"]  # 4 bytes are left: not under the low mark
    await stream.__anext__()
    assert calls == ["pause", "resume"]


async def test_an_error_comes_after_what_waits() -> None:
    stream = StreamBuffer(100, 10)
    stream.put(b"last")
    stream.end(ValueError("broken"))
    assert (await stream.__anext__()).data == b"last"
    with pytest.raises(ValueError, match="broken"):
        await stream.__anext__()


async def test_closing_twice_tells_the_source_once_and_ends_a_waiting_reader() -> None:
    closed: list[int] = []
    stream = StreamBuffer(100, 10, closed=lambda: closed.append(1))
    reader = asyncio.ensure_future(drain(stream))
    await asyncio.sleep(0)
    await stream.aclose()
    await stream.aclose()
    assert await reader == []
    assert closed == [1]


def test_marks_must_make_sense() -> None:
    with pytest.raises(ValueError, match="low"):
        StreamBuffer(1, 2)


@given(st.lists(st.binary(max_size=20), max_size=50), st.integers(0, 40), st.integers(0, 40))
def test_size_is_always_what_waits(payloads: list[bytes], high: int, low: int) -> None:
    stream = StreamBuffer(max(high, low), min(high, low))
    for payload in payloads:
        stream.put(payload)
    stream.end()
    assert stream.size_bytes == sum(map(len, payloads))

    async def read() -> None:
        assert await drain(stream) == payloads

    asyncio.run(read())
    assert stream.size_bytes == 0
