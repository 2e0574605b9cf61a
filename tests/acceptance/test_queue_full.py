"""F12: Kafka takes nothing and the queue fills up: 429 at once, memory bounded, and all is well afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.transports.wire import Reply, Wire, produce

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
LIMIT = 64 * MIB
REFUSED = (429, 503)


Connect = Callable[[str], Awaitable[Wire]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connections that end with the test, also where it fails: what is left open fails some other test."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(url: str) -> Wire:
            return await stack.enter_async_context(await Wire.open(url))

        yield connect


def records(size: int, count: int) -> bytes:
    return b'{"records":[' + b",".join([b'{"value":"' + b"x" * (size - 2) + b'","partition":0}'] * count) + b"]}"


@pytest.mark.timing
@pytest.mark.parametrize(("size", "count"), [(10, 5000), (900_000, 1)], ids=["10 bytes", "900 kB"])
async def test_f12_a_frozen_broker(own_kafka: KafkaCluster, connect: Connect, size: int, count: int) -> None:
    topic = own_kafka.create_topic()
    body = records(size, count)
    settings = ("access.log.enable=false", f"producer.queue.bytes={LIMIT}", "produce.timeout.ms=60000")
    with GatewayProcess(*settings, bootstrap=own_kafka.bootstrap) as gateway:
        warm = await connect(gateway.url)
        served = []
        for _ in range(5):
            began = time.perf_counter()
            await warm.send(produce(topic, body))
            assert (await warm.reply()).status == 200
            served.append(time.perf_counter() - began)
        before = gateway.rss_bytes()
        own_kafka.pause(1)
        try:
            waiting = await fill(connect, gateway.url, produce(topic, body))
            refused = await refuse(connect, gateway.url, produce(topic, body), 50)
            # At once: this machine takes no longer than for the same request when Kafka takes it.
            print(
                f"F12: refused after {statistics.median(refused):.3f} s, served after {statistics.median(served):.3f} s"
            )
            assert statistics.median(refused) < max(0.05, statistics.median(served)), served
            assert gateway.rss_bytes() - before < LIMIT * 2 + 100 * MIB
            small = await connect(gateway.url)
            assert (await small.ask("GET", "/health/live")).status == 200
            small.writer.close()
        finally:
            own_kafka.resume(1)
        stored = 0
        for wire in waiting:
            reply = await wire.reply(timeout_s=60)
            if reply.status not in REFUSED:
                assert (reply.status, {row["error"] for row in reply.json["offsets"]}) == (200, {None})
                stored += 1
            wire.writer.close()
        assert stored * count * (size + 400) > LIMIT * 0.8
        await warm.send(produce(topic, body))
        assert (await warm.reply()).status == 200
        warm.writer.close()
        assert gateway.stop() == 0


async def fill(connect: Connect, url: str, data: bytes) -> list[Wire]:
    """Sends the request on one connection after the other until one is answered, with a refusal. Those that were not
    answered by then: they wait, but for the last of them perhaps, of which a slow machine has not said so yet."""
    waiting: list[Wire] = []
    replies: list[asyncio.Task[Reply]] = []
    while not any(reply.done() for reply in replies):
        assert len(waiting) < 500
        waiting.append(await connect(url))
        await waiting[-1].send(data)
        replies.append(asyncio.create_task(waiting[-1].reply(timeout_s=60)))
        await asyncio.wait(replies[-1:], timeout=0.1)
    left = []
    for wire, reply in zip(waiting, replies, strict=True):
        if reply.done():
            assert (await reply).status in REFUSED, await reply
            wire.writer.close()
        else:
            reply.cancel()
            await asyncio.wait((reply,))
            left.append(wire)
    return left


async def refuse(connect: Connect, url: str, data: bytes, times: int) -> list[float]:
    """How long the refusals took. Each says when to come again."""
    wire = await connect(url)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await wire.send(data)
        reply = await wire.reply()
        took.append(time.perf_counter() - began)
        assert reply.status in REFUSED, reply
        assert int(reply.headers["retry-after"]) >= 1
        assert not reply.closes
    wire.writer.close()
    return took


@pytest.mark.timing
async def test_f12_no_broker_at_all(unique: Callable[[str], str], connect: Connect) -> None:
    """The answer comes within produce.timeout.ms; nothing is kept for longer."""
    settings = ("access.log.enable=false", "producer.queue.bytes=1048576", "produce.timeout.ms=2000")
    with GatewayProcess(*settings, bootstrap="127.0.0.1:1") as gateway:
        data = produce(unique("topic"), records(10, 500))
        waiting = await fill(connect, gateway.url, data)
        began = time.monotonic()
        await refuse(connect, gateway.url, data, 10)
        for wire in waiting:
            reply = await wire.reply()
            assert reply.status in (200, *REFUSED, 504), reply
            assert reply.status != 200 or all(row["error_code"] for row in reply.json["offsets"])
            wire.writer.close()
        assert time.monotonic() - began < 6
        free = await connect(gateway.url)
        await free.send(data)
        assert (await free.reply()).status != 429, "the queue is empty again"
        free.writer.close()
        assert gateway.stop() == 0
