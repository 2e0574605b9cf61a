"""Tails of a topic on a real Kafka: every record from the position on, once, in order, and gaps announced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise

import pytest

from gateway.errors import PartitionNotFound, ServiceError, ShuttingDown, TopicNotFound
from gateway.kafka.cluster import KafkaCluster
from gateway.kafka.ports import Gap, Tail, TailBatch, TailStart
from gateway.records import RecordsEncoder
from tests.kafka.conftest import Place, Topic, open_cluster, places, places_of


class Follower:
    """A client of a tail that writes down what it hears."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.tail: Tail | None = None
        self.batches: list[TailBatch] = []
        self.found: list[Place] = []
        self.gaps: list[Gap] = []
        self.caught_up_at: list[int] = []
        self.error: ServiceError | None = None
        self.heard = asyncio.Event()
        self.pause_after: int | None = None

    def records(self, batch: TailBatch) -> None:
        self.batches.append(batch)
        new = places_of(batch.records.records)
        assert new, "no empty batches"
        self.found += new
        assert self.tail is None or self.tail.positions == batch.positions
        if self.pause_after is not None and len(self.found) >= self.pause_after and self.tail is not None:
            self.tail.pause()
        self.heard.set()

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.heard.set()

    def caught_up(self) -> None:
        self.caught_up_at.append(len(self.found))
        self.heard.set()

    def failed(self, error: ServiceError) -> None:
        self.error = error
        self.heard.set()

    async def until(self, condition: Callable[[], object], within_s: float = 15) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    async def count(self, count: int) -> list[Place]:
        await self.until(lambda: len(self.found) >= count)
        return self.found

    def of(self, partition: int) -> list[int]:
        return [offset for number, offset in self.found if number == partition]


class Opener:
    def __init__(self, cluster: KafkaCluster, topic: str) -> None:
        self.cluster = cluster
        self.topic = topic

    async def __call__(
        self,
        at: str = "latest",
        value: int = 0,
        *,
        positions: dict[int, int] | None = None,
        partitions: set[int] | None = None,
        until_end: bool = False,
        run: bool = True,
        encoder: RecordsEncoder = places,
        follower: Follower | None = None,
    ) -> Follower:
        follower = follower or Follower()
        follower.tail = await self.cluster.tails.open(
            self.topic,
            TailStart(at, value, positions or {}),
            follower,
            encoder,
            None if partitions is None else frozenset(partitions),
            until_end,
        )
        if run:
            follower.tail.resume()
        return follower


@pytest.fixture
def follow(cluster: KafkaCluster, filled: Topic) -> Opener:
    return Opener(cluster, filled.name)


def offsets(follower: Follower) -> list[int]:
    assert follower.tail is not None
    return [one.offset for one in follower.tail.positions]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# --- where a tail begins ---------------------------------------------------------------------------------------------


async def test_latest_gives_what_comes_and_nothing_before(filled: Topic, follow: Opener) -> None:
    filled.write(numbers(5))
    tail = await follow()
    assert offsets(tail) == [5, 0, 0, 0]
    await tail.until(lambda: tail.caught_up_at == [0])
    filled.write(numbers(3))
    filled.write(numbers(2), partition=2)
    assert sorted(await tail.count(5)) == [(0, 5), (0, 6), (0, 7), (2, 0), (2, 1)]
    assert offsets(tail) == [8, 0, 2, 0]
    assert tail.batches[0].records.encode(places) == repr(places_of(tail.batches[0].records.records)).encode()


async def test_a_record_behind_the_opening_is_never_missed(filled: Topic, follow: Opener) -> None:
    for number in range(20):
        tail = await follow(run=False)
        filled.write(numbers(1), partition=number % 4)
        assert tail.tail is not None
        tail.tail.resume()
        await tail.count(1)
        tail.tail.close()


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        ("earliest", 0, [0, 0, 0, 0]),
        ("offset", 3, [3, 2, 0, 0]),
        ("last", 2, [8, 0, 0, 0]),
        ("last", 100, [0, 0, 0, 0]),
        ("time", 0, [0, 0, 0, 0]),
        ("time", 4102444800000, [10, 2, 0, 0]),
    ],
)
async def test_starts(filled: Topic, follow: Opener, at: str, value: int, expected: list[int]) -> None:
    filled.write(numbers(10))
    filled.write(numbers(2), partition=1)
    tail = await follow(at, value)
    if at == "time" and "mock" in type(filled).__name__:
        pytest.skip("the mock cluster keeps no times")
    assert offsets(tail) == expected
    await tail.until(lambda: tail.caught_up_at)
    assert tail.of(0) == list(range(expected[0], 10))
    assert tail.of(1) == list(range(expected[1], 2))
    assert tail.caught_up_at == [len(tail.found)]
    filled.write(numbers(1), partition=3)
    await tail.count(len(tail.found) + 1)
    assert tail.found[-1] == (3, 0)
