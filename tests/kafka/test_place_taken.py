"""What a consumer is answered whose place in its group another one has: one answer, whoever says it first (cluster.md
§6.4), and never librdkafka's text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from kafka_gateway.errors import InstanceUnavailable, ServiceError, Unavailable
from kafka_gateway.kafka.consuming.consumer_thread import ConsumerThread
from kafka_gateway.kafka.consuming.crowd import Crowd
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.topics import PartitionOffset
from tests.kafka.conftest import limits, places
from tests.kafka.simulated_consumer import SimulatedConsumer, SimulatedKafka
from tests.waiting import PATIENCE_S, until

FATAL = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by another consumer", fatal=True)
FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID)


class Fenced(SimulatedConsumer):
    """From some moment on another one has its place."""

    refused: KafkaError | None = None
    """What is asked of it raises this."""

    def consume(self, count: int, timeout: float) -> list[Message]:
        self._meet_fence()
        return super().consume(count, timeout)

    def subscribe(self, topics: Sequence[str], **hooks: Callable[..., None]) -> None:
        self._meet_fence()
        super().subscribe(topics, **hooks)

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        self._meet_fence()
        super().commit(offsets, asynchronous)

    def _meet_fence(self) -> None:
        if self.refused is not None:
            raise KafkaException(self.refused)


class Setting:
    def __init__(self) -> None:
        self.kafka = SimulatedKafka()
        self.kafka.make("topic", 1)
        self.consumer: Fenced
        self.worker = ConsumerThread(self._build, Crowd(), 100, None, False, "consumer", "earliest", anchors={})
        self.fenced: list[None] = []
        self.worker.fenced = lambda: self.fenced.append(None)

    def _build(self, on_commit: Any) -> Any:
        self.consumer = Fenced(self.kafka, "earliest", False, on_commit)
        return self.consumer

    async def read(self) -> None:
        read = self.worker.read(limits(PATIENCE_S), places)
        try:
            await read.future
        finally:
            self.worker.settle(read, False)

    async def commit(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.worker.ask(partial(self.worker.commit, [PartitionOffset("topic", 0, 0)], done))
        await done

    async def subscribe(self) -> None:
        await self.worker.ask(partial(self.worker.subscribe, ["topic"]))


@pytest.fixture
async def it() -> AsyncIterator[Setting]:
    made = Setting()
    await made.worker.start()
    await made.subscribe()
    made.consumer.rebalance({("topic", 0)})
    await until(lambda: bool(made.worker.standing.assignment()))
    yield made
    made.consumer.refused = None
    await made.worker.close(1, leave=False)


def heard_in_a_poll(consumer: Fenced) -> None:
    consumer._events.append(Message(error=FATAL))


def told_of_the_commit(consumer: Fenced) -> None:
    consumer.refusals.append(FENCED)


def told_of_the_commit_late(consumer: Fenced) -> None:
    consumer.refusals.append(FATAL)


def answered_by(error: KafkaError) -> Callable[[Fenced], None]:
    def answer(consumer: Fenced) -> None:
        consumer.refused = error

    return answer


@pytest.mark.parametrize(
    ("ask", "fence"),
    [
        pytest.param(Setting.read, heard_in_a_poll, id="a read that waits meanwhile"),
        pytest.param(Setting.read, answered_by(FATAL), id="a read"),
        pytest.param(Setting.commit, told_of_the_commit, id="a commit that Kafka refuses"),
        pytest.param(Setting.commit, told_of_the_commit_late, id="a commit that librdkafka refuses"),
        pytest.param(Setting.commit, answered_by(FATAL), id="a commit that cannot be sent"),
        pytest.param(Setting.subscribe, answered_by(FATAL), id="a subscription"),
    ],
)
async def test_whatever_is_asked_it_is_not_available(
    it: Setting, ask: Callable[[Setting], Awaitable[None]], fence: Callable[[Fenced], None]
) -> None:
    fence(it.consumer)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ServiceError) as refused:
            await ask(it)
    error = refused.value
    assert (type(error), error.message) == (InstanceUnavailable, InstanceUnavailable.text)


async def test_the_one_who_has_it_is_told_once(it: Setting) -> None:
    heard_in_a_poll(it.consumer)
    for _ in range(2):
        with pytest.raises(InstanceUnavailable):
            await it.read()
        await until(lambda: bool(it.fenced))
    assert it.fenced == [None]


def test_no_client_is_told_of_the_state_of_a_broken_client() -> None:
    for code in (KafkaError._FATAL, KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        error = to_service_error(KafkaError(code, "Fatal error: Broker: Producer attempted a produce operation"))
        assert (type(error), error.retriable) == (Unavailable, True)
        assert "atal error" not in error.message
        assert "FATAL" not in error.message
