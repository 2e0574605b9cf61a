"""Batches that a subscription sends while it waits for records, so that nobody is woken for them (push_stream.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from kafka_gateway.dialect import REST
from kafka_gateway.errors import InstanceNotFound, NotSubscribed, ServiceError, UndecodableRecord
from kafka_gateway.kafka.ports.consuming import AtOnce, ReadLimits, TakenBatch
from kafka_gateway.records import RecordBatch, RecordsEncoder
from kafka_gateway.services.instances import push_stream
from kafka_gateway.services.instances.push_stream import PushStream

FIRST = ReadLimits(1000, 1.0)


def encode(records: Any) -> bytes:
    if b"bad" in records:
        raise UndecodableRecord()
    return b",".join(records)


class Instance:
    """What reads: each read gets what is put into ``answers``, and ``at_once`` meanwhile what the test gives it."""

    reads_from = "topics"

    def __init__(self) -> None:
        self.running = 0
        self.answers: asyncio.Queue[TakenBatch | ServiceError] = asyncio.Queue()
        self.at_once: AtOnce | None = None
        self.encoder: RecordsEncoder = encode
        self.settled: list[tuple[bytes, bool | None]] = []

    def batch(self, *records: bytes) -> TakenBatch:
        made = RecordBatch(cast(Any, records), 0)
        made.encode(self.encoder)
        return TakenBatch(made, lambda accepted: self.settled.append((b",".join(records), accepted)))

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder, at_once: AtOnce | None = None) -> TakenBatch:
        self.at_once, self.encoder = at_once, encoder
        try:
            answer = await self.answers.get()
        finally:
            self.at_once = None
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    def release(self) -> None:
        self.running -= 1


class Subscription:
    """A stream behind its first reply, whose next payload is waited for."""

    def __init__(self) -> None:
        self.instance = Instance()
        self.stream = PushStream(cast(Any, self.instance), FIRST, encode, REST)
        self.sent: list[bytes] = []
        self.delivered: list[Callable[[], None]] = []
        self.takes = True
        self.stream.push_with(self._push)
        self.next: asyncio.Task[Any]

    async def begin(self) -> Subscription:
        first = asyncio.ensure_future(anext(self.stream))
        await asyncio.sleep(0)
        assert self.instance.at_once is None, "the first reply is no push"
        self.instance.answers.put_nowait(self.instance.batch())
        assert (await first).data == b""
        await self.wait()
        return self

    async def close(self) -> None:
        await self.stream.aclose()
        with contextlib.suppress(StopAsyncIteration):
            await self.next

    async def wait(self) -> None:
        """Waits for the next payload, from now on."""
        self.next = asyncio.ensure_future(anext(self.stream))
        await asyncio.sleep(0)

    def come(self, *records: bytes) -> tuple[bool, TakenBatch]:
        """Records come while the stream waits: whether it has sent them, and they as they are."""
        taken = self.instance.batch(*records)
        assert self.instance.at_once is not None
        return self.instance.at_once(taken), taken

    def _push(self, data: bytes, delivered: Callable[[], None]) -> bool:
        if self.takes:
            self.sent.append(data)
            self.delivered.append(delivered)
        return self.takes


@pytest.fixture
async def subscription() -> Subscription:
    made = await Subscription().begin()
    made.instance.settled.clear()
    return made


async def test_what_is_sent_counts_when_the_client_has_it(subscription: Subscription) -> None:
    assert subscription.come(b"1", b"2")[0]
    assert subscription.sent == [b"1,2"]
    assert subscription.instance.settled == []
    assert not subscription.next.done()
    subscription.delivered[0]()
    assert subscription.instance.settled == [(b"1,2", True)]
    assert subscription.come(b"3")[0]
    assert subscription.sent == [b"1,2", b"3"]
    await subscription.close()
    assert subscription.instance.settled == [(b"1,2", True), (b"3", False)]


async def test_what_cannot_be_sent_comes_as_a_payload(subscription: Subscription) -> None:
    subscription.takes = False
    sent, taken = subscription.come(b"1")
    assert not sent
    subscription.instance.answers.put_nowait(taken)
    assert (await subscription.next).data == b"1"
    assert subscription.instance.settled == []
    await subscription.wait()
    assert subscription.instance.settled == [(b"1", True)]
    await subscription.close()


async def test_records_that_cannot_be_shown_come_as_payloads(subscription: Subscription) -> None:
    sent, taken = subscription.come(b"1", b"bad")
    assert not sent
    assert subscription.sent == []
    subscription.instance.answers.put_nowait(taken)
    assert (await subscription.next).data == b"1"
    assert (await anext(subscription.stream)).status == 408
    await subscription.stream.aclose()


async def test_an_error_meanwhile_confirms_nothing(subscription: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_stream, "_RETRY_S", 0.0)
    subscription.come(b"1")
    subscription.instance.answers.put_nowait(ServiceError())
    assert (await subscription.next).status == 500
    await subscription.wait()
    assert subscription.instance.settled == []
    subscription.delivered[0]()
    assert subscription.instance.settled == [(b"1", True)]
    await subscription.close()


async def test_an_end_waits_for_what_is_out(subscription: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription.come(b"1")
    at_once = subscription.instance.at_once
    assert at_once is not None
    subscription.stream.end()
    assert not at_once(subscription.instance.batch(b"2")), "nothing follows"
    ended = asyncio.ensure_future(subscription.stream.settled())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ended.done()
    assert not subscription.next.done(), "whoever delivers would close the stream, and the batch be put back"
    subscription.delivered[0]()
    await ended
    assert not at_once(subscription.instance.batch(b"3"))
    assert subscription.instance.settled == [(b"1", True)]
    assert subscription.sent == [b"1"]
    with pytest.raises(StopAsyncIteration):
        await subscription.next


@pytest.mark.parametrize("error", [InstanceNotFound, NotSubscribed])
async def test_an_instance_that_ends_waits_for_what_is_out(
    subscription: Subscription, error: type[ServiceError]
) -> None:
    subscription.come(b"1")
    subscription.instance.reads_from = "nothing"
    subscription.instance.answers.put_nowait(error())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not subscription.next.done()
    subscription.delivered[0]()
    with pytest.raises((StopAsyncIteration, NotSubscribed)):
        await subscription.next
    assert subscription.instance.settled == [(b"1", True)]
    assert subscription.stream.ended


async def test_a_client_that_is_gone_waits_for_nothing(subscription: Subscription) -> None:
    subscription.come(b"1")
    subscription.next.cancel()
    await asyncio.wait([subscription.next])
    await subscription.stream.aclose()
    assert subscription.instance.settled == [(b"1", False)]


async def test_an_end_does_not_wait_for_ever(subscription: Subscription) -> None:
    subscription.come(b"1")
    subscription.stream.end(grace_s=0.01)
    await subscription.stream.settled()
    assert subscription.instance.settled == [(b"1", None)]
    subscription.delivered[0]()  # too late
    await subscription.close()
    assert subscription.instance.settled == [(b"1", None)]
    assert subscription.instance.running == 0
