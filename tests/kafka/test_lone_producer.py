"""A record that has no company does not linger (gateway/kafka/producing/sender.py)."""

from __future__ import annotations

import asyncio
import time

import confluent_kafka
import pytest

from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka.producing.sender import Batch, Sender
from kafka_gateway.records import OutgoingRecord
from tests.mock_cluster import MockCluster

LINGER_S = 20


@pytest.fixture(scope="module")
def mock() -> MockCluster:
    """Slow enough that sends in one go are under way together, however slow this machine is."""
    mock = MockCluster()
    mock.answer_after(30)
    return mock


class Sending:
    """A sender whose records linger for longer than any test lasts."""

    def __init__(self, mock: MockCluster, *, lingers: bool = False) -> None:
        config = {"bootstrap.servers": mock.bootstrap, "linger.ms": LINGER_S * 1000, "enable.idempotence": True}
        self.sender = Sender(
            lambda: confluent_kafka.Producer(config), 1_000_000, self._finished, lambda _: None, lingers=lingers
        )

    @staticmethod
    def _finished(batches: object) -> None:
        assert isinstance(batches, list)
        for batch in batches:
            batch.future.set_result(batch.rows)

    def send(self, *values: bytes) -> asyncio.Future[list[Delivery]]:
        future: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        batch = Batch("lone", len(values), 0, time.monotonic(), future, self.sender)
        self.sender.send(batch, [OutgoingRecord(None, value, 0) for value in values], None)
        return future

    async def offsets(self, *values: bytes) -> list[int | None]:
        async with asyncio.timeout(LINGER_S / 2):
            return [row.offset() for row in await self.send(*values)]  # type: ignore[union-attr]

    async def lingers(self, *values: bytes) -> bool:
        """Whether they are still there after a time in which others are stored."""
        future = self.send(*values)
        await asyncio.wait([future], timeout=0.5)
        was_open = not future.done()
        await self.sender.flush(10)
        await future
        return was_open

    async def close(self) -> None:
        await self.sender.close()


async def test_only_company_makes_records_linger(mock: MockCluster) -> None:
    sending = Sending(mock)
    try:
        first = (await sending.offsets(b"0"))[0] or 0
        for number in range(1, 10):
            assert await sending.offsets(b"%d" % number) == [first + number]
        assert await sending.offsets(b"a", b"b") == [first + 10, first + 11]
        crowd = [sending.send(b"c%d" % number) for number in range(30)]
        await sending.sender.flush(10)
        rows = [row for done in crowd for row in await done]
        assert [row.offset() for row in rows] == list(range(first + 12, first + 42))  # type: ignore[union-attr]
        assert await sending.lingers(b"after a crowd")
        for _ in range(30):  # alone again: flushed for them by this test
            future = sending.send(b"x")
            await sending.sender.flush(10)
            await future
        await sending.offsets(b"alone")
    finally:
        await sending.close()


async def test_a_bulk_has_company(mock: MockCluster) -> None:
    sending = Sending(mock)
    try:
        for _ in range(10):
            future = sending.send(*[b"x"] * 101)
            await sending.sender.flush(10)
            await future
        assert await sending.lingers(b"alone")
    finally:
        await sending.close()


async def test_a_longer_linger_is_obeyed(mock: MockCluster) -> None:
    sending = Sending(mock, lingers=True)
    try:
        assert await sending.lingers(b"alone")
    finally:
        await sending.close()
