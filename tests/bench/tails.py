"""What following a topic costs: ``python -m tests.bench.tails BOOTSTRAP [records]`` makes a topic of its own.

Prints, for null listeners and an encoder that does next to nothing: one tail from the past; a thousand tails opened at
the end; a thousand from the past; and the cost of a batch for each of its tails.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.config import load
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.ports.tails import Gap, Tail, TailBatch, TailStart
from kafka_gateway.records import ConsumedRecord
from tests.keys import BUILTIN_KEYS


def trivial(records: Sequence[ConsumedRecord]) -> bytes:
    return b"x"


class Null:
    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.get_running_loop().create_future()
        self.batches = 0
        self.tail: Tail | None = None

    def records(self, batch: TailBatch) -> None:
        self.batches += 1
        self.left -= len(batch.records)
        if self.left <= 0 and not self.done.done():
            self.done.set_result(None)

    def gap(self, gap: Gap) -> None:
        raise AssertionError(gap)

    def caught_up(self) -> None:
        pass

    def failed(self, error: ServiceError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def followers(cluster: KafkaCluster, topic: str, count: int, expected: int, at: str) -> list[Null]:
    found = [Null(expected) for _ in range(count)]
    tails = await asyncio.gather(*(cluster.tails.open(topic, TailStart(at), one, trivial) for one in found))
    for one, tail in zip(found, tails, strict=True):
        one.tail = tail
    return found


def resume(found: list[Null]) -> None:
    for one in found:
        assert one.tail is not None
        one.tail.resume()


def close(found: list[Null]) -> None:
    for one in found:
        assert one.tail is not None
        one.tail.close()


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Clock:
    def __init__(self) -> None:
        self.wall, self.cpu, self.rss = time.monotonic(), time.process_time(), rss_mib()

    def tell(self, what: str, count: int = 0, unit: str = "") -> None:
        wall, cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        rate = f", {count / wall:,.0f} {unit}/s, {cpu / count * 1e6:.2f} µs CPU each" if count else ""
        print(f"{what}: {wall:.3f} s{rate}, RSS {self.rss:.0f} -> {rss_mib():.0f} MiB", flush=True)


async def longest_hold(stop: asyncio.Event) -> float:
    longest = 0.0
    while not stop.is_set():
        before = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - before - 0.001)
    return longest


async def main(bootstrap: str, count: int) -> None:
    name = f"tails-bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 4, 1)])[name].result()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 10_000_000}
    )

    def produce(records: int) -> None:
        for number in range(records):
            producer.produce(name, b"%0100d" % number, partition=number // 100 % 4)
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(60) == 0

    try:
        await asyncio.sleep(1)
        await asyncio.to_thread(produce, count)
        await measure(bootstrap, name, count, produce)
    finally:
        admin.delete_topics([name])[name].result()


async def measure(bootstrap: str, name: str, count: int, produce: object) -> None:
    assert callable(produce)
    config = load(BUILTIN_KEYS, overrides=[f"bootstrap.servers={bootstrap}"])
    async with open_kafka(config) as cluster:
        for _ in range(3):
            clock = Clock()
            (one,) = await followers(cluster, name, 1, count, "earliest")
            resume([one])
            await one.done
            clock.tell("one tail from the past", count, "records")
            close([one])

        clock = Clock()
        found = await followers(cluster, name, 1000, 1, "latest")
        clock.tell("1,000 tails opened at the end")
        resume(found)
        await asyncio.sleep(1)
        await asyncio.to_thread(produce, 1)
        await asyncio.gather(*(one.done for one in found))
        before = found[0].batches
        clock = Clock()
        await asyncio.to_thread(paced, produce, 500)
        await asyncio.sleep(0.2)
        clock.tell("a batch for each of 1,000 tails", (found[0].batches - before) * 1000, "deliveries")
        close(found)

        await asyncio.sleep(6)
        stop = asyncio.Event()
        holding = asyncio.ensure_future(longest_hold(stop))
        clock = Clock()
        behind = min(count, 100_000)
        found = [Null(behind) for _ in range(1000)]

        async def follow(one: Null) -> None:
            one.tail = await cluster.tails.open(name, TailStart("last", behind // 4), one, trivial)
            one.tail.resume()

        for start in range(0, 1000, 50):  # as clients connect: some at a time
            await asyncio.gather(*(follow(one) for one in found[start : start + 50]))
        clock.tell("1,000 tails opened in the past, 50 at a time")
        await asyncio.gather(*(one.done for one in found))
        clock.tell("... and read", behind * 1000, "records")
        stop.set()
        print(f"longest hold of the loop: {await holding * 1000:.1f} ms", flush=True)
        close(found)


def paced(produce: object, count: int) -> None:
    assert callable(produce)
    for _ in range(count):
        produce(1)
        time.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000))
