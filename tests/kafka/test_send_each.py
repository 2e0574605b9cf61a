"""Batches of several requests that are sent together: each has an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kafka_gateway.config import load
from kafka_gateway.errors import TooManyRequests
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka_errors import OutcomeUnknown, RecordTooLarge
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from tests.kafka.conftest import open_cluster
from tests.keys import BUILTIN_KEYS
from tests.waiting import PATIENCE_S


class Told:
    """What is told of some batches."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Any] = {}
        self.calls = 0
        self._news = asyncio.Event()

    def __call__(self, found: Sequence[tuple[int, Any]]) -> None:
        self.calls += 1
        for place, outcome in found:
            assert place not in self.outcomes
            self.outcomes[place] = outcome
        self._news.set()

    async def all(self, count: int) -> list[Any]:
        """The outcomes, in the order of the batches."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.outcomes) < count:
                self._news.clear()
                await self._news.wait()
        return [self.outcomes[place] for place in range(count)]


def batches(*sizes: int) -> list[list[OutgoingRecord]]:
    return [[OutgoingRecord(b"k", b"x" * size, 0)] for size in sizes]


async def ready(cluster: KafkaCluster, topic: str) -> None:
    if (waiting := cluster.producer.ready(topic, EVERYTHING)) is not None:
        await waiting


async def test_each_has_its_place_in_the_order_of_sending(cluster: KafkaCluster, topic: str) -> None:
    await ready(cluster, topic)
    told = Told()
    cluster.producer.send_each(topic, [*batches(1, 1), batches(1)[0] * 500, *batches(1)], told)
    assert not told.outcomes, "in another turn of the event loop"
    found = await told.all(4)
    assert [row.offset() for rows in found for row in rows] == list(range(503))
    assert [len(rows) for rows in found] == [1, 1, 500, 1]
    assert cluster.producer.waiting == (0, 0)


async def test_those_that_are_complete_together_are_told_together(cluster: KafkaCluster, topic: str) -> None:
    await ready(cluster, topic)
    first = Told()
    cluster.producer.send_each(topic, batches(1), first)
    await first.all(1)
    told = Told()
    cluster.producer.send_each(topic, batches(*[1] * 100), told)
    await told.all(100)
    assert told.calls < 100


async def test_one_that_is_refused_costs_no_other(bootstrap: str, topic: str) -> None:
    async with open_cluster(bootstrap, "producer.message.max.bytes=2000") as cluster:
        await ready(cluster, topic)
        told = Told()
        cluster.producer.send_each(topic, batches(10, 5000, 10), told)
        found = await told.all(3)
        assert [isinstance(rows[0], RecordTooLarge) for rows in found] == [False, True, False]
        assert [found[0][0].offset(), found[2][0].offset()] == [0, 1]
        assert cluster.producer.waiting == (0, 0)


async def test_what_the_queue_has_no_room_for_is_refused_alone(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(cluster, topic)
    monkeypatch.setattr(cluster.producer, "_queue_records", 2)
    told = Told()
    cluster.producer.send_each(topic, batches(1, 1, 1), told)
    found = await told.all(3)
    assert [each.__class__ for each in found] == [list, list, TooManyRequests]
    assert cluster.producer.waiting == (0, 0)


async def test_a_producer_that_ends_tells_what_nobody_knows(topic: str) -> None:
    async with open_kafka(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1"])) as cluster:
        told = Told()
        cluster.producer.send_each(topic, batches(1, 1), told)
        await cluster.producer.close(0.1)
        found = await told.all(2)
        assert [type(each) for each in found] == [OutcomeUnknown] * 2


async def test_one_without_records_is_over_at_once(cluster: KafkaCluster, topic: str) -> None:
    await ready(cluster, topic)
    told = Told()
    cluster.producer.send_each(topic, [[], *batches(1), []], told)
    found = await told.all(3)
    assert [len(each) for each in found] == [0, 1, 0]
