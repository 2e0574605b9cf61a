"""Faults of the proxy's clients, and of the gateway under them: memory, offsets, places (websocket-proxy.md §2, §3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.websocket_proxy.conftest import HANDSHAKE, Log, Peer, Sockets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
STACK = 100
"""The default of kafka.ws.proxy.commit-handler.max-stack-size."""
QUIET = "access.log.enable=false"
NewTopic = Callable[..., str]


@pytest.fixture
def new_topic(create_topic: NewTopic) -> NewTopic:
    return create_topic


@pytest.fixture
def log(kafka: KafkaCluster) -> Log:
    return Log(kafka.bootstrap)


@contextlib.asynccontextmanager
async def sockets_of(gateway: GatewayProcess) -> AsyncIterator[Sockets]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        opened = Sockets(session, gateway.url)
        yield opened
        await opened.aclose()


def raw_socket(gateway: GatewayProcess, target: str) -> socket.socket:
    """A WebSocket by hand, with a small window for what comes."""
    address = urlsplit(gateway.url)
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    opened.connect((address.hostname, address.port))
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    opened.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
    opened.settimeout(10)
    reply = b""
    while not reply.endswith(b"\r\n\r\n"):
        reply += opened.recv(1)
    assert reply.startswith(b"HTTP/1.1 101"), reply
    return opened


def frame(text: bytes) -> bytes:
    length = (
        struct.pack("!BB", 0x81, 0x80 | len(text)) if len(text) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(text))
    )
    return length + b"\0\0\0\0" + text


def read_frames(opened: socket.socket, count: int) -> list[bytes]:
    data, found = b"", []
    while len(found) < count:
        while len(data) >= 4:
            size, start = data[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            if len(data) < start + size:
                break
            if data[0] == 0x81:
                found.append(data[start : start + size])
            data = data[start + size :]
        if len(found) < count:
            more = opened.recv(1 << 20)
            assert more, f"the socket ended after {len(found)} frames"
            data += more
    return found


def test_a_client_that_does_not_read_its_results_is_not_read(kafka: KafkaCluster, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
        opened = raw_socket(gateway, f"/socket/in?clientId=deaf&topic={topic}")
        before = gateway.rss_bytes()
        message = frame(b'{"value":{"value":"%b","format":"string"},"messageId":"%b"}' % (b"v" * 100, b"m" * 200))
        opened.settimeout(3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000:
                opened.sendall(message * 100)
                sent += 100
        assert 10_000 < sent < 200_000, "it is held back, but not before ten thousand are in flight"
        assert gateway.rss_bytes() - before < 60 * MIB
        opened.settimeout(20)
        results = [json.loads(each) for each in read_frames(opened, sent)]  # what was sent whole is answered whole
        for partition in range(2):
            offsets = [each["offset"] for each in results if each["partition"] == partition]
            assert offsets == sorted(set(offsets))
        opened.close()


async def test_a_client_that_never_commits_gets_a_stack_and_no_more(
    kafka: KafkaCluster, new_topic: NewTopic, log: Log
) -> None:
    topic = new_topic(partitions=4)
    for partition in range(4):
        log.append(topic, *[b"x" * 200] * 250, partition=partition)
    with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
        async with sockets_of(gateway) as sockets:
            peer = await sockets.consumer(topic, autoCommit="false")
            held = await peer.hear(STACK, 60)
            await peer.silence(1)
            for _ in range(9):  # no id is forgotten: every record comes, in its turn
                await peer.say(*({"wsProxyMessageId": each["wsProxyMessageId"]} for each in held))
                held = await peer.hear(STACK)
            await peer.silence(1)


async def test_a_client_that_does_not_read_keeps_its_place(kafka: KafkaCluster, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    for _ in range(50):
        log.append(topic, *[b"x" * 10_000] * 100)
    with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
        before = gateway.rss_bytes()
        opened = await asyncio.to_thread(raw_socket, gateway, f"/socket/out?clientId=deaf&topic={topic}&groupId=deaf")
        await asyncio.sleep(3)  # time itself: all that is sent would be by then
        assert gateway.rss_bytes() - before < 30 * MIB, "50 MB wait in the topic"
        assert log.committed("deaf", topic) < 5000
        records = await asyncio.to_thread(read_frames, opened, 5000)
        assert [json.loads(each)["offset"] for each in records] == list(range(5000))
        await log.committed_becomes("deaf", topic, 5000)
        opened.close()


async def test_killed_clients_lose_nothing_that_was_confirmed(
    kafka: KafkaCluster, new_topic: NewTopic, log: Log
) -> None:
    topic = new_topic(partitions=3)
    confirmed: dict[tuple[int, int], str] = {}
    with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
        async with sockets_of(gateway) as sockets:

            async def client(number: int) -> None:
                peer = await sockets.producer(topic, f"c{number}")
                for record in range(60):
                    await peer.produce(f"{number}-{record}", messageId=f"{number}-{record}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.002 * number):
                        for _ in range(60):
                            (result,) = await peer.hear()
                            confirmed[result["partition"], result["offset"]] = result["messageId"]
                peer.socket._response.connection.transport.abort()

            await asyncio.gather(*(client(number) for number in range(40)))
            last = await sockets.producer(topic)
            await last.produce("end")
            await last.hear()
    stored = {(each.partition(), each.offset()): each.value().decode() for each in log.read(topic, 3)}
    assert confirmed.items() <= stored.items()
    assert len(set(stored.values())) == len(stored), "nothing twice"
    for number in range(40):  # a client's records are a beginning of what it sent, in order
        numbers = [int(value.partition("-")[2]) for value in stored.values() if value.startswith(f"{number}-")]
        assert sorted(numbers) == list(range(len(numbers)))


async def test_a_killed_gateway_has_committed_no_more_than_it_sent(
    kafka: KafkaCluster, new_topic: NewTopic, log: Log
) -> None:
    topic = new_topic()
    log.append(topic, *(b"%d" % number for number in range(20_000)))
    for after_s in (0.4, 0.9):
        group = f"killed-{uuid.uuid4().hex}"
        with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
            async with sockets_of(gateway) as sockets:
                peer = await sockets.consumer(topic, groupId=group, rate=5000)
                heard = [(await peer.hear())[0]["offset"]]
                kill_at = time.monotonic() + after_s
                with contextlib.suppress(AssertionError, aiohttp.ClientError):
                    while True:
                        heard += [each["offset"] for each in await peer.hear()]
                        if time.monotonic() > kill_at and gateway.process.poll() is None:
                            gateway.process.kill()
        assert heard == list(range(len(heard)))
        # Whoever goes on in the group begins here: nothing that was not sent is left out.
        assert 0 < log.committed(group, topic) <= len(heard)


@pytest.mark.alone
@pytest.mark.timing
async def test_five_hundred_groups(kafka: KafkaCluster, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    with GatewayProcess(QUIET, bootstrap=kafka.bootstrap) as gateway:
        async with sockets_of(gateway) as sockets:
            await sockets.consumer(topic, "first")
            before = gateway.rss_bytes()
            began = time.monotonic()
            peers: list[Peer] = await asyncio.gather(
                *(sockets.consumer(topic, f"c{number}", groupId=f"five-{number}") for number in range(500))
            )
            assert time.monotonic() - began < 20, "10 s on a machine that has nothing else to do"
            log.append(topic, b"to all")
            for found in await asyncio.gather(*(peer.hear(within_s=30) for peer in peers)):
                assert found[0]["offset"] == 0
            assert (gateway.rss_bytes() - before) / 500 < MIB


def place_of(record: dict[str, Any]) -> tuple[int, int]:
    return record["partition"], record["offset"]


def places(records: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return set(map(place_of, records))


async def test_the_broker_restarts_under_groups_that_share_what_is_read(own_kafka: KafkaCluster) -> None:
    topic = own_kafka.create_topic("shared", partitions=2)
    log = Log(own_kafka.bootstrap)
    with GatewayProcess(QUIET, bootstrap=own_kafka.bootstrap) as gateway:
        async with sockets_of(gateway) as sockets:
            peers = [await sockets.consumer(topic, f"c{number}", groupId=f"g{number}") for number in range(4)]
            producer = await sockets.producer(topic)
            sent = 0

            async def exchange(count: int, within_s: float) -> None:
                nonlocal sent
                for number in range(count):
                    await producer.produce(f"{sent + number}")
                await producer.hear(count, within_s)
                sent += count

            heard: list[list[dict[str, Any]]] = [[] for _ in peers]
            for _ in range(20):
                await exchange(10, 20)
                for peer, records in zip(peers, heard, strict=True):
                    records += await peer.hear(10)
            before = [places(records) for records in heard]
            await asyncio.to_thread(own_kafka.kill, 1)
            await asyncio.to_thread(own_kafka.restart, 1)
            await exchange(200, 60)
            for peer, records in zip(peers, heard, strict=True):
                while len(places(records)) < sent:
                    records += await peer.hear(1, 60)
            for records, had in zip(heard, before, strict=True):
                # Again only what the group had not committed when its coordinator was killed.
                assert {place for place, times in Counter(map(place_of, records)).items() if times > 1} <= had
            end = max(each["offset"] for each in heard[0] if each["partition"] == 0) + 1
            await log.committed_becomes("g0", topic, end)
