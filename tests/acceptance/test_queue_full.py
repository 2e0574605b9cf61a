"""F12: Kafka takes nothing and the queue fills up: 429 at once, memory bounded, and all is well afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.transports.wire import Reply, Wire, produce

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
LIMIT = 64 * MIB


def records(size: int, count: int) -> bytes:
    return b'{"records":[' + b",".join([b'{"value":"' + b"x" * (size - 2) + b'","partition":0}'] * count) + b"]}"


@pytest.mark.timing
@pytest.mark.parametrize(("size", "count"), [(10, 5000), (900_000, 1)], ids=["10 bytes", "900 kB"])
async def test_f12_a_frozen_broker(own_kafka: KafkaCluster, size: int, count: int) -> None:
    topic = own_kafka.create_topic()
    body = records(size, count)
    settings = ("access.log.enable=false", f"producer.queue.bytes={LIMIT}", "produce.timeout.ms=60000")
    with GatewayProcess(*settings, bootstrap=own_kafka.bootstrap) as gateway:
        warm = await Wire.open(gateway.url)
        await warm.send(produce(topic, body))
        assert (await warm.reply()).status == 200
        before = gateway.rss_bytes()
        own_kafka.pause(1)
        try:
            waiting = await fill(gateway.url, produce(topic, body))
            assert len(waiting) * count * (size + 400) > LIMIT * 0.8
            refused = await refuse(gateway.url, produce(topic, body), 50)
            assert sorted(refused)[len(refused) // 2] < 0.05, "the median; the machine is shared"
            assert gateway.rss_bytes() - before < LIMIT * 2 + 100 * MIB
            small = await Wire.open(gateway.url)
            assert (await small.ask("GET", "/health/live")).status == 200
            small.writer.close()
        finally:
            own_kafka.resume(1)
        for wire in waiting:
            reply = await wire.reply(timeout_s=60)
            assert (reply.status, {row["error_code"] for row in reply.json["offsets"]}) == (200, {None}), reply
            wire.writer.close()
        await warm.send(produce(topic, body))
        assert (await warm.reply()).status == 200
        warm.writer.close()
        assert gateway.stop() == 0


async def fill(url: str, data: bytes) -> list[Wire]:
    """Sends the request on one connection after the other until one is refused. Those that wait: all before it, while
    nothing makes room. On a slow machine more have been sent by the time that the refusal comes."""
    sent: list[tuple[Wire, asyncio.Task[Reply]]] = []
    while not any(reply.done() for _, reply in sent):
        assert len(sent) < 500
        wire = await Wire.open(url)
        await wire.send(data)
        sent.append((wire, asyncio.create_task(wire.reply(timeout_s=60))))
        await asyncio.wait((sent[-1][1],), timeout=0.1)
    refused = next(number for number, (_, reply) in enumerate(sent) if reply.done())
    for wire, reply in sent[refused:]:
        assert (await reply).status in (429, 503), await reply
        wire.writer.close()
    for _, reply in sent[:refused]:
        reply.cancel()
        await asyncio.wait((reply,))
    return [wire for wire, _ in sent[:refused]]


async def refuse(url: str, data: bytes, times: int) -> list[float]:
    """How long the refusals took. Each says when to come again."""
    wire = await Wire.open(url)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await wire.send(data)
        reply = await wire.reply()
        took.append(time.perf_counter() - began)
        assert reply.status in (429, 503), reply
        assert int(reply.headers["retry-after"]) >= 1
        assert not reply.closes
    wire.writer.close()
    return took


@pytest.mark.timing
async def test_f12_no_broker_at_all(unique: Callable[[str], str]) -> None:
    """The answer comes within produce.timeout.ms; nothing is kept for longer."""
    settings = ("access.log.enable=false", "producer.queue.bytes=1048576", "produce.timeout.ms=2000")
    with GatewayProcess(*settings, bootstrap="127.0.0.1:1") as gateway:
        data = produce(unique("topic"), records(10, 500))
        waiting = await fill(gateway.url, data)
        began = time.monotonic()
        await refuse(gateway.url, data, 10)
        for wire in waiting:
            reply = await wire.reply()
            assert reply.status in (200, 503, 504), reply
            assert reply.status != 200 or all(row["error_code"] for row in reply.json["offsets"])
            wire.writer.close()
        assert time.monotonic() - began < 6
        free = await Wire.open(gateway.url)
        await free.send(data)
        assert (await free.reply()).status != 429, "the queue is empty again"
        free.writer.close()
        assert gateway.stop() == 0
