"""L4, L1 (a thousand sockets) and faults of envelope clients: those that do not read, and those that die."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from confluent_kafka import Producer

from tests.acceptance.envelopes import EnvelopeClient
from tests.acceptance.rest import until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

Unique = Callable[..., str]
MB = 1 << 20


@pytest.fixture
def gateway(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    with GatewayProcess("access.log.enable=false", bootstrap=kafka.bootstrap) as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[EnvelopeClient]:
    async with await EnvelopeClient.open(gateway.url) as opened:
        yield opened


def fill(kafka: KafkaCluster, topic: str, count: int, size: int) -> None:
    """Stores the numbers from 0 to ``count``, each with ``size`` bytes behind it."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    padding = "x" * size
    for number in range(count):
        producer.produce(topic, f'"{number} {padding}"'.encode(), partition=0)
        if number % 5000 == 0:
            producer.flush(30)
    assert producer.flush(30) == 0


def numbers(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["value"].partition(" ")[0]) for row in rows]


class Pulse:
    """A subscriber that is sent a record every 20 ms; how long each took to arrive."""

    def __init__(self, url: str, topic: str, group: str) -> None:
        self._url, self._topic, self._group = url, topic, group
        self.delays: list[float] = []
        self._sent: dict[int, float] = {}

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        async with (
            await EnvelopeClient.open(self._url) as reader,
            await EnvelopeClient.open(self._url) as writer,
        ):
            reader.subscribe("s", await reader.instance(self._group), self._topic)
            assert (await reader.reply()).json == []
            tasks = [asyncio.create_task(self._read(reader)), asyncio.create_task(self._write(writer))]
            try:
                await until(lambda: self.delays)
                self.delays.clear()
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for found in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(found, asyncio.CancelledError), found

    async def _read(self, reader: EnvelopeClient) -> None:
        while True:
            for row in (await reader.reply()).json:
                self.delays.append(time.monotonic() - self._sent.pop(int(row["value"])))

    async def _write(self, writer: EnvelopeClient) -> None:
        for number in range(10**9):
            self._sent[number] = time.monotonic()
            await writer.produce(self._topic, number)
            await asyncio.sleep(0.02)  # time itself: the load's pace

    async def percentile(self, part: float, count: int = 200) -> float:
        """Of the next so many."""
        self.delays.clear()
        await until(lambda: len(self.delays) >= count, 40)
        return sorted(self.delays[:count])[int(part * count)]


@pytest.mark.alone
@pytest.mark.timing
async def test_l4_a_slow_reader_harms_nobody(
    kafka: KafkaCluster, gateway: GatewayProcess, client: EnvelopeClient, unique: Unique
) -> None:
    """It takes 1 kB/s of 60 MB that could come at once: it is held back, and gets the very next record later."""
    big, live = kafka.create_topic(), kafka.create_topic()
    await asyncio.to_thread(fill, kafka, big, 60_000, 1000)
    heartbeats = Pulse(gateway.url, live, unique("g"))
    async with heartbeats.beating():
        alone = await heartbeats.percentile(0.99)
        instance = await client.instance(unique("g"))
        before = gateway.rss_bytes()
        client.pause()
        client.subscribe("slow", instance, big)
        sipping = asyncio.create_task(_sip(client))
        beside = await heartbeats.percentile(0.99)
        grown = gateway.rss_bytes() - before
        sipping.cancel()
        print(
            f"a slow reader: {grown / MB:.1f} MiB more; p99 of the others {alone * 1000:.1f} ms without, "
            f"{beside * 1000:.1f} ms with it"
        )
        assert grown < 24 * MB
        assert beside < max(0.25, 3 * alone)
    client.resume()
    seen: list[int] = []
    while len(seen) < 30_000:
        reply = await client.reply()
        assert (reply.id, reply.status) == ("slow", 200)
        seen += numbers(reply.json)
    assert seen == list(range(len(seen)))


async def _sip(client: EnvelopeClient) -> None:
    """What the stream reader of asyncio takes at a time is more than 1 kB, so it takes it seldom."""
    while True:
        client.resume()
        await asyncio.sleep(0)
        client.pause()
        await asyncio.sleep(1)  # time itself: it reads seldom


@pytest.mark.alone
@pytest.mark.timing
async def test_ten_thousand_requests_without_reading_a_reply() -> None:
    """60 MB of replies: the gateway stops reading, others are answered, and in the end every request is."""
    topics = [f"a-topic-with-a-rather-long-name-{number:03}" for number in range(150)]
    count = 10_000
    with GatewayProcess("access.log.enable=false", f"embedded.topics={','.join(topics)}") as gateway:
        async with (
            await EnvelopeClient.open(gateway.url) as greedy,
            await EnvelopeClient.open(gateway.url) as other,
        ):
            assert sorted((await other.ask("GET", "/topics")).json) == topics
            before = gateway.rss_bytes()
            greedy.pause()
            for number in range(count):
                greedy.write(str(number), "GET", "/topics")
            sending = asyncio.create_task(greedy.peer.wire.writer.drain())
            slowest = 0.0
            for _ in range(50):
                began = time.monotonic()
                await other.ask("GET", "/topics")
                slowest = max(slowest, time.monotonic() - began)
                await asyncio.sleep(0.02)  # time itself: the load's pace
            grown = gateway.rss_bytes() - before
            print(f"ten thousand requests: {grown / MB:.1f} MiB more; others answered within {slowest * 1000:.0f} ms")
            assert grown < 16 * MB
            assert slowest < 1
            greedy.resume()
            replies = [await greedy.reply() for _ in range(count)]
            await sending
            assert {int(reply.id) for reply in replies} == set(range(count))
            assert {reply.status for reply in replies} == {200}
            assert gateway.rss_bytes() - before < 24 * MB


async def test_a_socket_that_dies_in_the_middle_of_a_push(
    kafka: KafkaCluster, gateway: GatewayProcess, client: EnvelopeClient, unique: Unique
) -> None:
    """Fifty times: what a client had not read, the next one gets. None is lost, and those between come in order."""
    count = 60_000
    topic = kafka.create_topic()
    await asyncio.to_thread(fill, kafka, topic, count, 300)
    instance = await client.instance(unique("g"))
    seen: set[int] = set()
    repeated = kills = 0
    chance = random.Random(50)
    while len(seen) < count:
        async with await EnvelopeClient.open(gateway.url) as reader:
            reader.subscribe("s", instance, topic, max_bytes=100_000)
            pushes_left = chance.randrange(4) if kills < 50 else count
            last = None
            while len(seen) < count:
                if pushes_left == 0:
                    with contextlib.suppress(TimeoutError):
                        await reader.peer.frame(chance.random() * 0.01)  # and this one is not counted
                    kills += 1
                    break
                reply = await reader.reply()
                assert reply.status == 200, reply
                found = numbers(reply.json)
                if last is not None and found:
                    assert found[0] == last + 1
                if found:
                    last = found[-1]
                    assert found == list(range(found[0], last + 1))
                    assert found[0] <= len(seen), f"{len(seen)} to {found[0] - 1} are lost after {kills} kills"
                repeated += len(seen.intersection(found))
                seen.update(found)
                pushes_left -= bool(found)
    print(f"{kills} sockets killed: {count} records, {repeated} of them twice")
    assert kills >= 50
    assert seen == set(range(count))
    assert repeated < count / 2


@pytest.mark.timing
async def test_l1_a_thousand_idle_sockets() -> None:
    """None is cut, and each costs little. The generous bound is Centrifugo's figure."""
    warm_up, count = 100, 1000
    with GatewayProcess("access.log.enable=false", "transport.websocket.ping.interval.ms=2000") as gateway:
        async with contextlib.AsyncExitStack() as stack:
            beats: list[asyncio.Task[int]] = []

            async def beat(client: EnvelopeClient) -> int:
                """Answers its first ping, while others are still opened: that may take longer than a ping waits."""
                ping = await client.peer.frame()
                client.peer.write(b"", 10)
                return ping.opcode

            async def more(number: int) -> list[EnvelopeClient]:
                opened = []
                for _ in range(number):
                    opened.append(await stack.enter_async_context(await EnvelopeClient.open(gateway.url)))
                    beats.append(asyncio.create_task(beat(opened[-1])))
                return opened

            await more(warm_up)
            before = gateway.rss_bytes()
            clients = await more(count)
            each_bytes = (gateway.rss_bytes() - before) / count
            print(f"{count} idle sockets: {each_bytes / 1024:.1f} KiB each")
            assert each_bytes < 39 * 1024
            assert set(await asyncio.gather(*beats)) == {9}, "the pings, all of them"
            began = time.monotonic()
            replies = await asyncio.gather(*(each.ask("GET", "/topics") for each in clients))
            assert {reply.status for reply in replies} == {200}
            assert time.monotonic() - began < 10
