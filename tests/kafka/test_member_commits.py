"""What a member of a group commits of batches that its client has had, while the group takes and gives partitions, and
what is counted of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from kafka_gateway.config import load
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.members import Member
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.records import RecordBatch
from tests.kafka.simulated_consumer import VALUE, SimulatedClients, SimulatedConsumer, SimulatedKafka
from tests.keys import BUILTIN_KEYS
from tests.waiting import until

FIRST, SECOND = ("t", 0), ("t", 1)


class Group:
    """A member that reads two partitions, and its Kafka."""

    member: Member

    def __init__(self, kafka: SimulatedKafka, cluster: KafkaCluster) -> None:
        self.kafka = kafka
        self.numbers = cluster.numbers
        self.consumer: SimulatedConsumer
        self.batches: list[RecordBatch] = []
        self.commits = False
        """Whether batches are to be committed as soon as they have been handed on."""
        self.taken: list[TopicPartition] = []

    def records(self, batch: RecordBatch) -> bool:
        self.batches.append(batch)
        return self.commits

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.taken += partitions

    def failed(self, error: ServiceError) -> None:
        raise error

    async def assign(self, *share: tuple[str, int]) -> None:
        self.taken.clear()
        had = bool(self.consumer.assignment())
        self.consumer.rebalance(set(share))

        async def done() -> bool:
            here = {(each.topic, each.partition) for each in self.consumer.assignment()}
            return here == set(share) and bool(self.taken) is had

        await until(done)

    async def batch(self, ends: dict[tuple[str, int], int]) -> RecordBatch:
        """The logs grow; what comes of it, as the batch whose last records are there."""
        self.kafka.logs |= ends

        async def come() -> bool:
            return any(each.next_offsets() == ends for each in self.batches)

        await until(come)
        return next(each for each in self.batches if each.next_offsets() == ends)

    async def committed(self, offsets: dict[tuple[str, int], int]) -> None:
        async def stored() -> bool:
            return self.kafka.committed == offsets

        await until(stored)


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    kafka = SimulatedKafka()
    kafka.make("t", 2)
    clients = SimulatedClients(kafka)
    cluster = KafkaCluster(load(BUILTIN_KEYS), cast(Any, clients), embedded=True)
    found = Group(kafka, cluster)
    settings = ConsumerSettings("g", "c", auto_offset_reset="earliest", auto_commit=True, kind="socket")
    found.member = await cluster.member(settings, "t", found, lambda records: b"")
    found.consumer = clients.made[0]
    found.member.resume()
    yield found
    found.consumer.frozen = False
    await cluster.members.aclose(5.0)


async def test_a_batch_commits_all_its_partitions_behind_their_last_records(group: Group) -> None:
    await group.assign(FIRST, SECOND)
    group.member.commit_batch(await group.batch({FIRST: 3, SECOND: 2}))
    await group.committed({FIRST: 3, SECOND: 2})


async def test_what_has_left_when_it_is_handed_on_is_committed_without_another_word(group: Group) -> None:
    group.commits = True
    await group.assign(FIRST, SECOND)
    await group.batch({FIRST: 3, SECOND: 2})
    await group.committed({FIRST: 3, SECOND: 2})


async def test_what_is_handed_on_is_counted(group: Group) -> None:
    await group.assign(FIRST, SECOND)
    await group.batch({FIRST: 3, SECOND: 2})
    consumed = group.numbers.consumed
    assert dict(consumed.records()) == {("socket", "t"): 5}
    assert dict(consumed.sizes()) == {("socket", "t"): 5 * len(VALUE)}


async def test_batches_that_wait_for_a_commit_are_committed_together_as_far_as_the_last(group: Group) -> None:
    await group.assign(FIRST, SECOND)
    group.consumer.frozen = True
    for ends in ({FIRST: 3, SECOND: 2}, {FIRST: 4}, {SECOND: 9}, {FIRST: 6}):
        group.member.commit_batch(await group.batch(ends))
    assert group.kafka.committed == {FIRST: 3, SECOND: 2}, "one commit at a time"
    group.consumer.frozen = False
    await group.committed({FIRST: 6, SECOND: 9})


async def test_partitions_that_were_taken_away_are_not_committed(group: Group) -> None:
    await group.assign(FIRST, SECOND)
    batch = await group.batch({FIRST: 3, SECOND: 2})
    await group.assign(SECOND)
    group.member.commit_batch(batch)
    await group.committed({SECOND: 2})


async def test_what_waits_since_before_a_partition_was_away_is_not_committed(group: Group) -> None:
    await group.assign(FIRST)
    group.consumer.frozen = True
    group.member.commit_batch(await group.batch({FIRST: 3}))
    late = await group.batch({FIRST: 5})
    await group.assign()
    group.member.commit_batch(late)
    group.kafka.committed[FIRST] = group.kafka.logs[FIRST] = 10  # by the member that has it meanwhile
    await group.assign(FIRST, SECOND)
    group.consumer.frozen = False
    group.member.commit_batch(await group.batch({SECOND: 7}))
    await group.committed({FIRST: 10, SECOND: 7})
