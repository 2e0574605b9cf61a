"""Streams of another worker, when the proof of their client ends here (security.md §2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.errors import CloseReason, ProofEnded
from kafka_gateway.session import Session
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
