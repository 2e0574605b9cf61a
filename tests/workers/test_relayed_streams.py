"""Streams of another worker, when the proof of their client ends here (security.md §2), or this one stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.errors import CloseReason, ProofEnded, ShuttingDown
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload
from kafka_gateway.workers.relayed_stream import RelayedStream


class FakeLink:
    """Notes what the other worker is told."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.forgotten: list[int] = []

    def send(self, frame: Any) -> None:
        self.sent.append(frame)

    def forget(self, id: int) -> None:
        self.forgotten.append(id)


async def test_it_ends_with_the_error_and_the_other_worker_is_told() -> None:
    link, session = FakeLink(), Session("http")
    stream = RelayedStream(link, 7, 0)
    session.add_stream(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert len(link.sent) == 1
    await session.aclose(CloseReason.of(ProofEnded()))
    with pytest.raises(ProofEnded):
        await reading
    assert link.forgotten == [7]


async def test_what_is_being_written_is_confirmed_before_it_ends() -> None:
    """The gateway stops while the client is sent a record: if it has that by then, the other worker hears so."""
    link, session = FakeLink(), Session("http")
    stream = RelayedStream(link, 7, 0)
    session.add_stream(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stream.put(Payload(b"record"))
    assert (await reading).data == b"record"
    settled = asyncio.ensure_future(stream.settled())
    stream.fail(ShuttingDown())
    await asyncio.sleep(0)
    assert (link.forgotten, settled.done()) == ([], False)
    with pytest.raises(ShuttingDown):
        await anext(stream)
    assert (len(link.sent), link.forgotten) == (2, [7]), "the next is asked for, which confirms, and then none"
    await settled


async def test_what_is_never_written_goes_back() -> None:
    link = FakeLink()
    stream = RelayedStream(link, 7, 0)
    stream.put(Payload(b"record"))
    await anext(stream)
    stream.fail(ShuttingDown())
    settled = asyncio.ensure_future(stream.settled())
    await asyncio.sleep(0)
    await stream.aclose()
    await settled
    assert (link.sent, link.forgotten) == ([], [7])
