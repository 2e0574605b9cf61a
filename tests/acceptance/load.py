"""Producing by HTTP from several connections, and comparing what was acknowledged with what is stored."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from tests.acceptance.rest import Rest, until

BATCH = 5
PAUSE_S = 0.06
"""Between the requests of a connection: 16 of them produce about 1,000 records/s."""


@dataclasses.dataclass
class Load:
    """What became of the records. An id is (connection, number), its key the connection."""

    topic: str
    acked: dict[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Partition and offset by id."""
    failed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    unanswered: set[tuple[int, int]] = dataclasses.field(default_factory=set)
    """The connection broke; whoever repeats them may store them twice."""
    acked_at: float = 0.0
    slowest_s: float = 0.0

    async def run(self, rest: Rest, connection: int, first: int = 0) -> None:
        """Produces for ever, one request after the other."""
        for start in range(first, 10**9, BATCH):
            ids = [(connection, number) for number in range(start, start + BATCH)]
            began = time.monotonic()
            try:
                answer = await rest.produce(self.topic, *({"key": str(connection), "value": each} for each in ids))
            except (aiohttp.ClientError, ConnectionError):
                self.unanswered.update(ids)
                return
            if answer.status == 200:
                for each, row in zip(ids, answer.json["offsets"], strict=True):
                    if row["error_code"] is None:
                        self.acked[each] = (row["partition"], row["offset"])
                        self.acked_at = time.monotonic()
                        self.slowest_s = max(self.slowest_s, self.acked_at - began)
                    else:
                        assert row["error_code"] == 50003, answer
                        self.failed[row["error"]] += 1
            else:
                assert answer.status in (429, 503), answer
                self.failed[answer.message] += 1
            await asyncio.sleep(PAUSE_S)  # time itself: the load's pace

    @contextlib.asynccontextmanager
    async def running(self, rest: Rest, connections: int = 16) -> AsyncIterator[None]:
        """Load in the background; the requests that are at work at the end are waited for."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(rest, number)) for number in range(connections)]
            yield
            for task in tasks:
                group.create_task(_stop(task))

    async def acknowledged(self, more: int = 500, within_s: float = 40) -> float:
        """Waits until so many more are acknowledged; how long the first of them took."""
        count = len(self.acked)
        first = await until(lambda: len(self.acked) > count, within_s)
        await until(lambda: len(self.acked) >= count + more, within_s)
        return first


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def stored(bootstrap: str, topic: str) -> list[tuple[int, int, str, tuple[int, int]]]:
    """All records of the topic, partition by partition in order: partition, offset, key, id."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "audit", "enable.auto.commit": False, "check.crcs": True}
    )
    try:
        found = []
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, low)])
            position, until = low, time.monotonic() + 30
            while position < high and time.monotonic() < until:
                for message in consumer.consume(1000, 0.5):
                    assert message.error() is None, message.error()
                    connection, number = json.loads(message.value() or b"")
                    position = (message.offset() or 0) + 1
                    found.append((partition, position - 1, (message.key() or b"").decode(), (connection, number)))
            assert position >= high, f"partition {partition} cannot be read to its end: {position} of {high}"
        return found
    finally:
        consumer.close()


def compare(load: Load, log: list[tuple[int, int, str, tuple[int, int]]], repeated: bool = False) -> None:
    """Every acknowledged record is stored where the answer said; none twice; those of a key are in order."""
    places: dict[tuple[int, int], list[tuple[int, int]]] = collections.defaultdict(list)
    for partition, offset, _, each in log:
        places[each].append((partition, offset))
    lost = {each: place for each, place in load.acked.items() if place not in places.get(each, ())}
    assert not lost, f"{len(lost)} acknowledged records are not where the answer said, e.g. {list(lost.items())[:3]}"
    doubled = {each: found for each, found in places.items() if len(found) > 1}
    if repeated:
        doubled = {each: found for each, found in doubled.items() if each not in load.unanswered}
    assert not doubled, f"{len(doubled)} records are stored twice, e.g. {list(doubled.items())[:3]}"
    if not repeated:
        last: dict[str, int] = {}
        for _, _, key, (_, number) in log:
            assert number > last.get(key, -1), f"key {key}: {number} comes after {last[key]}"
            last[key] = number
