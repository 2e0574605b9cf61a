"""What waits in streams, and what bodies are unpacked to, counts in the memory budget."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from kafka_gateway.auth import NoAuthentication
from kafka_gateway.config import load
from kafka_gateway.core import Gateway
from kafka_gateway.door.inflate import inflate
from kafka_gateway.memory_budget import MemoryBudget, OutOfMemory
from kafka_gateway.router import Router
from kafka_gateway.stream import Payload, StreamBuffer
from tests.keys import BUILTIN_KEYS

MIB = 1024 * 1024


class Slow:
    """A sink whose client takes nothing until it is told to."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()
        self.got = 0

    async def send(self, payload: Payload) -> None:
        await self.takes.wait()
        self.got += len(payload)


async def test_a_stream_counts_what_waits_in_it_until_it_is_taken() -> None:
    gateway, sink = Gateway(load(BUILTIN_KEYS), Router([]), {}, NoAuthentication()), Slow()
    stream = StreamBuffer(4 * MIB, MIB)
    session = await gateway.open_session("test", {})
    stream.put(b"x" * MIB)
    delivering = asyncio.ensure_future(gateway.deliver(stream, sink, session, None))
    for _ in range(3):
        await asyncio.sleep(0)
        stream.put(b"x" * MIB)
    assert gateway.memory.held == 3 * MIB  # the first is on its way
    sink.takes.set()
    stream.end()
    await delivering
    assert (gateway.memory.held, sink.got) == (0, 4 * MIB)


async def test_a_stream_that_holds_the_most_is_ended_when_memory_is_short() -> None:
    config = load(BUILTIN_KEYS, overrides=[f"memory.max.bytes={2 * MIB}"])
    gateway, sink = Gateway(config, Router([]), {}, NoAuthentication()), Slow()
    session = await gateway.open_session("test", {})
    stream = StreamBuffer(8 * MIB, MIB)
    stream.put(b"x")
    delivering = asyncio.ensure_future(gateway.deliver(stream, sink, session, None))
    await asyncio.sleep(0)
    stream.put(b"x" * 3 * MIB)
    await asyncio.wait_for(gateway.memory.room(), 10)
    sink.takes.set()
    with pytest.raises(OutOfMemory):
        await delivering
    assert (gateway.memory.held, sink.got) == (0, 1)


async def test_unpacking_counts_and_stops_when_memory_is_used_up() -> None:
    memory = MemoryBudget(4 * MIB)
    packed = gzip.compress(bytes(8 * MIB))
    with pytest.raises(OutOfMemory):
        await inflate(packed, "gzip", 16 * MIB, memory)
    assert memory.held == 0
    assert len(await inflate(gzip.compress(bytes(3 * MIB)), "gzip", 16 * MIB, memory)) == 3 * MIB
    assert memory.held == 0
