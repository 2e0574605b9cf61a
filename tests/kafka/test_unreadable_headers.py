"""Anybody can produce a record whose headers the binding cannot read: reading it twice would end the process.

Every way of reading hands it out without headers, and all records round it as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.tails import Gap, TailBatch, TailStart
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.records import ConsumedRecord, RecordBatch
from tests.kafka.conftest import Opener, Topic, limits
from tests.kafka.group_work import Work
from tests.unreadable_headers import produce_with_a_name_that_is_no_utf8
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def values(records: Sequence[ConsumedRecord]) -> list[tuple[Any, Any]]:
    """What a record's reader looks at: the headers more than once."""
    return [(record.value(), record.headers() and record.headers()) for record in records]


def encoder(records: Sequence[ConsumedRecord]) -> bytes:
    return repr(values(records)).encode()


class Listener:
    """Of a member, and of a tail."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, Any]] = []

    def records(self, batch: RecordBatch | TailBatch) -> None:
        records = batch.records if isinstance(batch, RecordBatch) else batch.records.records
        self.found += values(records)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None: ...
    def gap(self, gap: Gap) -> None: ...
    def caught_up(self) -> None: ...
    def failed(self, error: ServiceError) -> None:
        raise error


@pytest.fixture
async def strange(filled: Topic) -> Topic:
    """A topic with the record in the middle of partition 0 or of another: librdkafka chooses."""

    def write() -> None:
        for partition in range(4):
            filled.write([b"before"], partition)
        produce_with_a_name_that_is_no_utf8(filled.bootstrap, filled.name)
        for partition in range(4):
            filled.write([b"after"], partition)

    await asyncio.to_thread(write)
    return filled


async def nine(found: Sequence[object]) -> bool:
    return len(found) >= 9


def check(found: Sequence[tuple[Any, Any]]) -> bool:
    """Whether all are there; none has headers."""
    assert all(not headers for _, headers in found)
    return sorted(value for value, _ in found) == [b"after"] * 4 + [b"before"] * 4 + [b"evil"]


async def test_an_instance(strange: Topic, open_consumer: Opener) -> None:
    consumer = await open_consumer()
    await consumer.assign([TopicPartition(strange.name, partition) for partition in range(4)])
    found: list[tuple[Any, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < 9:
            found += values((await consumer.read(limits(), encoder)).records)
    assert check(found)


async def test_a_direct_read(strange: Topic, cluster: KafkaCluster) -> None:
    found: list[tuple[Any, Any]] = []
    for partition in range(4):
        found += values((await cluster.reader.fetch(strange.name, partition, 0, 9, encoder)).records)
    assert check(found)


async def test_a_member_of_a_group(strange: Topic, cluster: KafkaCluster, unique: Callable[..., str]) -> None:
    listener = Listener()
    settings = ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", auto_commit=False)
    member = await cluster.member(settings, strange.name, listener, encoder)
    member.resume()
    await until(partial(nine, listener.found), 30)
    assert check(listener.found)
    member.close()


async def test_a_bridge(strange: Topic, cluster: KafkaCluster, unique: Callable[..., str]) -> None:
    class Reads(Work):
        def records(self, records: Sequence[ConsumedRecord]) -> None:
            found.extend(values(records))

    found: list[tuple[Any, Any]] = []
    settings = ConsumerSettings(unique("group"), "test", auto_offset_reset="earliest", auto_commit=False)
    reader = await cluster.group_reader(settings, [strange.name], Reads())
    await until(partial(nine, found), 30)
    assert check(found)
    await reader.close()


async def test_a_tail(strange: Topic, cluster: KafkaCluster) -> None:
    listener = Listener()
    tail = await cluster.tails.open(strange.name, TailStart("earliest"), listener, encoder)
    tail.resume()
    await until(partial(nine, listener.found))
    assert check(listener.found)
    tail.close()
