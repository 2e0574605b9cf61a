"""A consumer is handed over though its group's coordinator does not answer: what it knows by itself counts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from tests.kafka.conftest import Topic, limits, open_cluster, places
from tests.mock_cluster import MOVED, OFFSET_COMMIT, OFFSET_FETCH, MockCluster

LATE_MS = 10_000
"""Far above what a hand-over waits for."""


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    del cluster


@contextlib.asynccontextmanager
async def reading(mock: MockCluster, place: TopicPartition, auto_commit: bool) -> AsyncIterator[KafkaConsumer]:
    """A consumer that reads a partition of four records."""
    Topic(mock.bootstrap, place.topic).write([b"0", b"1", b"2", b"3"])
    settings = ConsumerSettings(
        place.topic, "test", auto_offset_reset="earliest", auto_commit=auto_commit, instance_id=place.topic
    )
    async with open_cluster(mock.bootstrap, "consumer.auto.commit.interval.ms=600000") as cluster:
        consumer = await cluster.consumer(settings)
        await consumer.assign([place])
        yield consumer


async def read_two(consumer: KafkaConsumer) -> None:
    batch = await consumer.read(dataclasses.replace(limits(20), max_records=2), places)
    assert len(batch) == 2


async def test_what_was_committed_last_is_known_without_kafka(mock: MockCluster, unique: Callable[..., str]) -> None:
    place = TopicPartition(unique("topic"), 0)
    async with reading(mock, place, auto_commit=False) as consumer:
        await read_two(consumer)
        await consumer.commit()
        await read_two(consumer)
        mock.fail_next(OFFSET_FETCH, *(MOVED * 50))
        assert await consumer.hand_over() == ({place: 4}, {place: 2})


async def test_what_cannot_be_committed_is_where_reading_goes_on(mock: MockCluster, unique: Callable[..., str]) -> None:
    """It may have been stored all the same. Then the group has what it should, and the anchor does not count."""
    place = TopicPartition(unique("topic"), 0)
    async with reading(mock, place, auto_commit=True) as consumer:
        await read_two(consumer)
        await consumer.commit()
        await read_two(consumer)
        mock.answer_next_after(OFFSET_COMMIT, LATE_MS)
        assert await consumer.hand_over() == ({place: 4}, {place: 2})
