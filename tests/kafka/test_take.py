"""Records that are taken now and confirmed, or put back, later: what pushes read with (`KafkaConsumer.take`)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable

import pytest

from kafka_gateway.errors import InstanceNotFound
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import TakenBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Opener, Topic, limits, places, places_of, read_until
from tests.waiting import until


async def take(consumer: KafkaConsumer, timeout_s: float = 20.0) -> TakenBatch:
    return await consumer.take(limits(timeout_s), places)


@pytest.fixture
async def consumer(filled: Topic, open_consumer: Opener) -> KafkaConsumer:
    """A consumer of partition 0, in which there are three records."""
    filled.write([b"0", b"1", b"2"])
    opened = await open_consumer()
    await opened.assign([TopicPartition(filled.name, 0)])
    return opened


async def test_only_what_is_confirmed_counts_as_returned(filled: Topic, consumer: KafkaConsumer) -> None:
    taken = await take(consumer)
    assert places_of(taken.batch.records) == [(0, 0), (0, 1), (0, 2)]
    assert consumer.returned() == []
    await consumer.commit()
    assert await consumer.committed([TopicPartition(filled.name, 0)]) == []
    taken.confirm()
    assert consumer.returned() == [PartitionOffset(filled.name, 0, 2)]
    await consumer.commit()
    assert await consumer.committed([TopicPartition(filled.name, 0)]) == [PartitionOffset(filled.name, 0, 3)]
    taken.put_back()  # too late
    await asyncio.to_thread(filled.write, [b"3"])
    assert await read_until(consumer, 1) == [(0, 3)]


async def test_who_goes_on_elsewhere_gets_again_what_nobody_has_accepted(
    filled: Topic, consumer: KafkaConsumer
) -> None:
    """A push that ends while a record comes gives it back a moment later: its consumer may have been asked before."""
    place = TopicPartition(filled.name, 0)
    taken = await take(consumer)
    positions, _ = await consumer.standing()
    assert positions == {place: 0}
    taken.confirm()
    positions, _ = await consumer.standing()
    assert positions == {place: 3}


async def test_what_is_handed_over_is_committed_and_nothing_behind_it(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str]
) -> None:
    """Whoever goes on there commits in the same group, and is not to be taken back by what this one knew."""
    group, place = unique("group"), TopicPartition(filled.name, 0)
    filled.write([b"0", b"1", b"2"])
    consumer = await open_consumer(group, auto_commit=True)
    await consumer.assign([place])
    first = await consumer.take(dataclasses.replace(limits(20), max_records=2), places)
    first.confirm()
    assert await consumer.hand_over() == ({place: 2}, {place: 2})
    (await take(consumer)).confirm()
    await consumer.close()
    other = await open_consumer(group)
    assert await other.committed([place]) == [PartitionOffset(*place, 2)]


async def test_what_is_put_back_comes_next_and_nothing_overtakes_it(filled: Topic, consumer: KafkaConsumer) -> None:
    taken = await take(consumer)
    await asyncio.to_thread(filled.write, [b"3"])
    waiting = asyncio.ensure_future(take(consumer))
    assert len(await consumer.read(limits(0.2), places)) == 0
    assert not waiting.done()
    taken.put_back()
    assert consumer.returned() == []
    found = places_of((await waiting).batch.records)
    assert found[:3] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.timing
async def test_a_read_waits_for_its_time_and_no_longer_while_records_are_out(consumer: KafkaConsumer) -> None:
    taken = await take(consumer)
    start = time.monotonic()
    batch = await consumer.read(limits(0.3), places)
    assert 0.25 < time.monotonic() - start < 3
    assert batch.encode(places) == b"[]"
    taken.put_back()
    assert await read_until(consumer, 3) == [(0, 0), (0, 1), (0, 2)]


async def test_a_take_that_is_cancelled_in_the_moment_of_the_answer_gives_its_records_back(
    consumer: KafkaConsumer,
) -> None:
    consumer._reach = None  # the first take of all asks whether there is a Kafka
    taking = asyncio.ensure_future(take(consumer))
    await asyncio.sleep(0)
    while consumer._worker._reads.unsettled is None:
        time.sleep(0.001)  # time itself: so that the loop has not seen the answer yet  # noqa: ASYNC251
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert consumer.returned() == []
    assert await read_until(consumer, 3) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_seeking_while_records_are_out(filled: Topic, consumer: KafkaConsumer, confirmed: bool) -> None:
    taken = await take(consumer)
    await consumer.seek([PartitionOffset(filled.name, 0, 1)])
    (taken.confirm if confirmed else taken.put_back)()  # the position is the one that was asked for since
    await consumer.commit()
    assert await consumer.committed([TopicPartition(filled.name, 0)]) == [PartitionOffset(filled.name, 0, 1)]
    assert await read_until(consumer, 2) == [(0, 1), (0, 2)]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_partition_that_goes_while_records_are_out_is_not_put_back(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str], confirmed: bool
) -> None:
    group = unique("group")
    filled.write([b"0"])
    first = await open_consumer(group, auto_commit=True)
    await first.subscribe([filled.name])
    taken = await take(first)
    await first.unsubscribe()
    (taken.confirm if confirmed else taken.put_back)()
    second = await open_consumer(group)
    await second.subscribe([filled.name])
    assert await read_until(second, 1) == [(0, 0)]  # nothing was committed


async def test_automatic_commits_are_of_confirmed_records(
    filled: Topic, open_consumer: Opener, unique: Callable[..., str]
) -> None:
    group = unique("group")
    filled.write([b"0", b"1"])
    first = await open_consumer(group, auto_commit=True)
    await first.assign([TopicPartition(filled.name, 0)])
    (await take(first)).confirm()
    await asyncio.to_thread(filled.write, [b"2"])
    await take(first)
    await first.close()
    second = await open_consumer(group)

    async def committed() -> bool:
        return await second.committed([TopicPartition(filled.name, 0)]) == [PartitionOffset(filled.name, 0, 2)]

    await until(committed)


@pytest.mark.timing
async def test_closing_while_records_are_out(consumer: KafkaConsumer) -> None:
    taken = await take(consumer)
    start = time.monotonic()
    await consumer.close()
    assert time.monotonic() - start < 3
    taken.put_back()
    with pytest.raises(InstanceNotFound):
        await take(consumer)
