"""Records wait for nobody but those that are under way (gateway/kafka/producing/sender.py)."""

from __future__ import annotations

import asyncio
import time

import confluent_kafka
import pytest

from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka.producing.batch import Batch
from kafka_gateway.kafka.producing.sender import Sender
from kafka_gateway.records import OutgoingRecord
from tests.mock_cluster import MockCluster
from tests.waiting import until

LINGER_S = 20
ROUND_TRIP_S = 0.03


@pytest.fixture(scope="module")
def mock() -> MockCluster:
    """Slow enough that sends in one go are under way together, however slow this machine is."""
    mock = MockCluster()
    mock.answer_after(int(ROUND_TRIP_S * 1000))
    return mock


class Sending:
    """A sender whose librdkafka lingers for longer than any test lasts, unless it is flushed."""

    def __init__(self, mock: MockCluster, *, gathers_s: float | None = LINGER_S) -> None:
        config = {"bootstrap.servers": mock.bootstrap, "linger.ms": LINGER_S * 1000, "enable.idempotence": True}
        self.finished: list[int] = []
        """How many batches each round of reports has finished."""
        self.sender = Sender(
            lambda: confluent_kafka.Producer(config), 1_000_000, self._finished, lambda _: None, gathers_s=gathers_s
        )

    def _finished(self, batches: object) -> None:
        assert isinstance(batches, list)
        self.finished.append(len(batches))
        for batch in batches:
            batch.future.set_result(batch.rows)

    def send(self, *values: bytes, cost_bytes: int = 0) -> asyncio.Future[list[Delivery]]:
        future: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        rows: list[object] = [None] * len(values)
        batch = Batch("lone", rows, len(values), cost_bytes, time.monotonic(), future, self.sender, "")
        if self.sender.send(batch, [OutgoingRecord(None, value, 0) for value in values], None):
            self._finished([batch])
        return future

    async def offsets(self, *sent: asyncio.Future[list[Delivery]]) -> list[int | None]:
        async with asyncio.timeout(LINGER_S / 2):
            return [row.offset() for rows in sent for row in await rows]  # type: ignore[union-attr]

    async def close(self) -> None:
        await self.sender.flush(10)
        await self.sender.close()


async def test_records_go_at_once_or_with_those_that_came_meanwhile(mock: MockCluster) -> None:
    sending = Sending(mock)
    try:
        first = (await sending.offsets(sending.send(b"0")))[0] or 0
        for number in range(1, 5):
            assert await sending.offsets(sending.send(b"x")) == [first + number]
        assert await sending.offsets(sending.send(b"a", b"b")) == [first + 5, first + 6]
        sending.finished.clear()
        crowd = [sending.send(b"c") for _ in range(30)]
        assert await sending.offsets(*crowd) == list(range(first + 7, first + 37))
        assert sending.finished[0] == 1, "it had no company"
        assert len(sending.finished) < 6, (
            "the others go together, but for those of the moment in which the flush begins"
        )
        assert await sending.offsets(sending.send(b"alone again")) == [first + 37]
    finally:
        await sending.close()


async def test_much_waits_for_nobody(mock: MockCluster) -> None:
    """A second round trip shows that it was not: what has gathered is gone before the first report is there."""
    sending = Sending(mock)
    try:
        await sending.offsets(sending.send(b"known now"))
        for much in ([b"x"] * 5001, [b"x"]):
            sent = [sending.send(b"first"), sending.send(*much, cost_bytes=600_000)]
            offsets = await sending.offsets(*sent)
            assert offsets == list(range(offsets[0] or 0, (offsets[0] or 0) + 1 + len(much)))
            assert len(sending.sender._gathered) == 0
    finally:
        await sending.close()


async def test_what_is_under_way_holds_others_up_for_a_while_only(mock: MockCluster) -> None:
    sending = Sending(mock, gathers_s=0.02)
    try:
        await sending.offsets(sending.send(b"known now"))
        mock.answer_after(1000)
        slow = sending.send(b"slow")
        other = sending.send(b"other")
        queued = len(sending.sender.producer)
        await until(lambda: len(sending.sender.producer) > queued)
        assert not slow.done()
        mock.answer_after(int(ROUND_TRIP_S * 1000))
        offsets = await sending.offsets(slow, other)
        assert offsets == [offsets[0], (offsets[0] or 0) + 1]
    finally:
        mock.answer_after(int(ROUND_TRIP_S * 1000))
        await sending.close()


async def test_what_has_gathered_is_sent_before_the_end(mock: MockCluster) -> None:
    sending = Sending(mock)
    sent = [sending.send(b"x") for _ in range(3)]
    await sending.close()
    assert all(each.done() for each in sent)
    assert len(await sending.offsets(*sent)) == 3


async def test_a_record_that_librdkafka_cannot_take_costs_no_other(mock: MockCluster) -> None:
    sending = Sending(mock)
    try:
        await sending.offsets(sending.send(b"known now"))
        before = sending.send(b"first")
        wrong = sending.send("\ud800")  # type: ignore[arg-type]
        behind = sending.send(b"last")
        assert isinstance((await wrong)[0], Exception)
        offsets = await sending.offsets(before, behind)
        assert offsets == [offsets[0], (offsets[0] or 0) + 1]
    finally:
        await sending.close()


async def test_a_longer_linger_is_obeyed(mock: MockCluster) -> None:
    sending = Sending(mock, gathers_s=None)
    try:
        future = sending.send(b"alone")
        await asyncio.wait([future], timeout=0.5)
        assert not future.done()
        await sending.sender.flush(10)
        assert len(await sending.offsets(future)) == 1
    finally:
        await sending.close()


async def test_what_gathers_waits_longer_where_reports_take_long(mock: MockCluster) -> None:
    """librdkafka asks again and again while it has records and may send no more requests."""
    sending = Sending(mock, gathers_s=0.001)
    try:
        for _ in range(8):
            await sending.offsets(*(sending.send(b"x") for _ in range(3)))
        sent, before = [sending.send(b"first")], time.monotonic()
        sent.append(sending.send(b"gathered"))
        release = sending.sender._release_at
        assert release is not None
        assert release.when() >= before + ROUND_TRIP_S / 4
        await sending.offsets(*sent)
    finally:
        await sending.close()
