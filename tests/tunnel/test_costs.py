"""What the tunnel costs: memory when one side is slow, time for a request, throughput (bridges.md C-13, S13)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import struct
import time
from collections.abc import Callable

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kafka_gateway.wire.frames import frame
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import fetch_jars, find_java
from tests.tunnel import replies
from tests.tunnel.conftest import Tunnel
from tests.tunnel.fake_broker import Client, Connection, FakeBroker, reply, request
from tests.tunnel.local_process import LocalProcess
from tests.tunnel.test_clients import run
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1 << 20


def gateway_to(broker: FakeBroker, *more: str) -> GatewayProcess:
    return GatewayProcess("tunnel.enable=true", f"tunnel.static.brokers=7=127.0.0.1:{broker.port}", *more)


class Flood:
    """Answers with a reply of 64 MiB, and counts what of it was taken."""

    def __init__(self, head: bytes) -> None:
        self.head, self.sent = head, 0

    async def __call__(self, connection: Connection, key: int, version: int, number: int, data: bytes) -> None:
        if key == 11:
            connection.send(reply(number))
            return
        connection.send(self.head)
        for _ in range(64):
            connection.send(bytes(MIB))
            await connection.writer.drain()
            self.sent += MIB


FETCHES = {
    "without addresses": (4, frame(bytes(64 * MIB + 4))[:4] + struct.pack(">i", 1)),
    "looked through": (17, replies.fetch(17, lambda _: (b"k", 1), (), records=bytes(64 * MIB))[: 8 + 66]),
}


async def settled(read: Callable[[], int], still_s: float = 0.5) -> int:
    """The number when it does not change any more."""
    before = -1
    while (now := read()) != before:
        before = now
        await asyncio.sleep(still_s)  # time itself: it changes no more for so long
    return now


@pytest.mark.parametrize("kind", FETCHES)
async def test_a_client_that_does_not_read(kind: str) -> None:
    """The broker is not read either, nothing piles up, others go on."""
    version, head = FETCHES[kind]
    flood = Flood(head)
    async with FakeBroker(flood) as broker:
        with gateway_to(broker) as gateway:
            target = "/kafka/brokers/7?advertise=gw&base=100"
            async with await Client.open(gateway.url, target) as other:
                await other.send(request(11, 0, 1))
                await other.message()
                before = gateway.rss_bytes()
                slow = [await Client.open(gateway.url, target) for _ in range(4)]
                for client in slow:
                    client.peer.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await client.send(request(1, version, 1))
                taken = await settled(lambda: flood.sent)
                held = gateway.rss_bytes() - before
                print(f"taken of the broker {taken >> 20} MiB, held by the gateway {held >> 10} KiB")
                assert taken < 4 * 24 * MIB, "the kernel's buffers and no more"
                assert held < 4 * MIB, "1 MiB for each tunnel"
                await other.send(request(11, 0, 2))
                await other.message()
                for client in slow:
                    client.peer.kill()


async def test_a_broker_that_does_not_read() -> None:
    """The client is not read either."""
    async with FakeBroker(reads=False) as broker:
        with gateway_to(broker) as gateway:
            async with await Client.open(gateway.url, "/kafka/brokers/7") as client:
                await asyncio.sleep(0.2)  # time itself: what opening it takes has been taken
                before = gateway.rss_bytes()
                sent = 0
                message = request(11, 0, 1, bytes(64 * 1024))
                with contextlib.suppress(TimeoutError):
                    while sent < 128 * MIB:
                        async with asyncio.timeout(1):
                            await client.send(message)
                        sent += len(message)
                held = gateway.rss_bytes() - before
                print(f"taken of the client {sent >> 20} MiB, held by the gateway {held >> 10} KiB")
                assert sent < 48 * MIB
                assert held < MIB + MIB // 2


async def test_a_program_that_does_not_read_the_local_port() -> None:
    flood = Flood(FETCHES["without addresses"][1])
    async with FakeBroker(flood) as broker:
        with (
            gateway_to(broker, "tunnel.ping.interval.ms=1000") as gateway,
            LocalProcess(gateway.url, nodes=0) as local,
        ):
            local.wait_for("for broker 7$")
            reader, writer = await asyncio.open_connection("127.0.0.1", local.port + 8, limit=1024)
            before = local.rss_bytes()
            writer.write(request(1, 4, 1))
            await settled(lambda: flood.sent)
            held = local.rss_bytes() - before
            print(f"held by the local side {held >> 10} KiB")
            assert held < 3 * MIB
            # It reads on, and all of it comes.
            async with asyncio.timeout(30):
                assert len(await reader.readexactly(8 + 64 * MIB)) == 8 + 64 * MIB
            writer.close()


async def test_a_thousand_idle_tunnels() -> None:
    """S13. The 4 GB frame that one of them announces is refused at once."""
    async with FakeBroker() as broker:
        with gateway_to(broker, "tunnel.max.connections=1000") as gateway:
            clients = [await Client.open(gateway.url, "/kafka/brokers/7") for _ in range(50)]
            before = gateway.rss_bytes()
            clients += [await Client.open(gateway.url, "/kafka/brokers/7") for _ in range(950)]
            each = (gateway.rss_bytes() - before) / 950
            print(f"an idle tunnel: {each / 1024:.1f} KiB")
            assert each < 64 * 1024
            await clients[500].peer.wire.send(b"\x82\xff" + struct.pack(">Q", 4 << 30) + bytes(4) + bytes(100))
            assert (await clients[500].closed())[0] == 1009
            await clients[-1].send(request(11, 0, 1))
            assert (await clients[-1].message())[4:8] == struct.pack(">i", 1)
            for client in clients:
                client.peer.kill()
            await until(lambda: all(each.ended.is_set() for each in broker.connections))


def round_trips(port: int, count: int = 400) -> float:
    """Median time of a small request and its reply, in seconds."""
    times = []
    message = request(18, 0, 1)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as file:
            for _ in range(count):
                began = time.perf_counter()
                connection.sendall(message)
                file.read(int.from_bytes(file.read(4), "big"))
                times.append(time.perf_counter() - began)
    return statistics.median(times)


@pytest.mark.alone
@pytest.mark.timing
def test_added_latency(tunnel: Tunnel) -> None:
    added = min(round_trips(tunnel.ports[1]) - round_trips(tunnel.kafka.nodes[1].port) for _ in range(3))
    print(f"added to a round trip: {added * 1000:.2f} ms")
    assert added < 0.001


def produced_mb_s(bootstrap: str, topic: str) -> float:
    printed = run(
        *(find_java(), "-XX:+UseSerialGC", "-Xmx512m", "-cp", f"{fetch_jars()}/*"),
        *("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", "60000"),
        *(
            "--record-size",
            "1024",
            "--throughput",
            "-1",
            "--producer-props",
            f"bootstrap.servers={bootstrap}",
            "acks=1",
        ),
    )
    return float(printed.splitlines()[-1].split("(")[1].split()[0])


def consumed_per_s(bootstrap: str, topic: str, records: int) -> float:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(6)])
    found = len(consumer.consume(1, 20))
    began = time.perf_counter()
    while found < records:
        found += len(consumer.consume(10_000, 1))
    seconds = time.perf_counter() - began
    consumer.close()
    return records / seconds


@pytest.mark.alone
def test_throughput(tunnel: Tunnel, unique: Callable[..., str]) -> None:
    """At least half of what the brokers give without a tunnel, with records of 1 KiB; the best of three tries."""
    topic = unique("tunnel-speed")
    # Without replicas: copying among three brokers on one machine would hide what the tunnel costs.
    admin = AdminClient({"bootstrap.servers": tunnel.kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 6, 1)], operation_timeout=10)[topic].result(20)
    ways = {"direct": tunnel.kafka.bootstrap, "tunnel": tunnel.bootstrap}
    for measure in (produced_mb_s, lambda bootstrap, name: consumed_per_s(bootstrap, name, 120_000)):
        best = 0.0
        for _ in range(3):
            speeds = {name: measure(bootstrap, topic) for name, bootstrap in ways.items()}
            best = max(best, speeds["tunnel"] / speeds["direct"])
            print(f"{speeds}: {best:.2f}")
            if best >= 0.5:
                break
        assert best >= 0.5
