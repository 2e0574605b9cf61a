"""Record streams of the whole program on a real Kafka: F10, F11, F18, H10, H11, L2, L4, L7 of the reliability contract,
scaled down as each test says, and groups whose members die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.acceptance.rest import until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.transports.peer import Peer
from tests.transports.streams import HttpStream
from tests.unreadable_headers import produce_with_a_name_that_is_no_utf8

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

MB = 1 << 20
Unique = Callable[..., str]


@pytest.fixture(scope="module")
def gateway(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    with GatewayProcess("access.log.enable=false", "stream.linger.ms=500", bootstrap=kafka.bootstrap) as running:
        yield running


def store(kafka: KafkaCluster, topic: str, *values: bytes | None, partition: int = 0, **more: Any) -> None:
    """Stores the values, without the gateway."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 2, "message.max.bytes": 4 * MB})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=partition, **more)
        if number % 5000 == 4999:
            producer.flush(30)
    assert producer.flush(30) == 0


async def put(kafka: KafkaCluster, topic: str, *values: bytes | None, **more: Any) -> None:
    await asyncio.to_thread(store, kafka, topic, *values, **more)


async def sse(gateway: GatewayProcess, topic: str, query: str = "", token: str = "") -> HttpStream:
    headers = {"Accept": "text/event-stream"} | ({"Last_Event_ID": token} if token else {})
    opened = await HttpStream.open(gateway.url, f"/topics/{topic}/stream?format=json&{query}", **headers)
    assert opened.status == 200, opened.headers
    return opened


async def last_id(stream: HttpStream, name: str = "ready") -> str:
    """The token of the next event of that name."""
    while True:
        event = await stream.event()
        if event.get("event") == name:
            return event["id"]


async def delete(kafka: KafkaCluster, topic: str, before: int | None = None) -> None:
    """Deletes the topic, or its records with lower offsets."""

    def work() -> None:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        if before is None:
            admin.delete_topics([topic])[topic].result(20)
        else:
            place = TopicPartition(topic, 0, before)
            admin.delete_records([place])[place].result(20)

    await asyncio.to_thread(work)


# --- what Kafka does --------------------------------------------------------------------------------------------------


async def test_f10_a_topic_deleted_and_made_again(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    await put(kafka, topic, b"1", b"2", b"3")
    async with await sse(gateway, topic, "offset=earliest") as stream:
        assert [row["value"] for row in await stream.records(3)] == [1, 2, 3]
        token = await last_id(stream, "end")
        await delete(kafka, topic)
        event = await stream.event()
        assert (event["event"], json.loads(event["data"])["error_code"]) == ("error", 40401)
        assert await stream.chunk() == b""

    async def gone() -> bool:
        opened = await HttpStream.open(gateway.url, f"/topics/{topic}/stream")
        async with opened:
            return opened.status == 404

    await until(gone)
    kafka.create_topic(topic)
    await put(kafka, topic, b"9")

    async def there() -> bool:
        opened = await HttpStream.open(gateway.url, f"/topics/{topic}/stream")
        async with opened:
            return opened.status == 200

    await until(there)
    async with await sse(gateway, topic, "offset=earliest", token) as stream:
        await stream.event()
        gap = await stream.event()
        assert gap["event"] == "gap", gap
        assert json.loads(gap["data"])["from"] == 3
        await put(kafka, topic, b"10")
        assert (await stream.records(1))[-1]["value"] in (9, 10)  # nothing of the old life


async def test_f11_records_deleted_before_a_reader_comes_back(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    await put(kafka, topic, *[b"%d" % n for n in range(10)])
    async with await sse(gateway, topic, "offset=2&limit=1") as stream:
        assert [row["offset"] for row in await stream.records(1)] == [2]
        token = await last_id(stream, "end")
    await delete(kafka, topic, 7)
    async with await sse(gateway, topic, "", token) as stream:
        events = [await stream.event() for _ in range(2)]
        assert [each["event"] for each in events] == ["ready", "gap"]
        assert json.loads(events[1]["data"]) == {"topic": topic, "partition": 0, "from": 3, "to": 7}
        assert [row["offset"] for row in await stream.records(3)] == [7, 8, 9]
    peer = await Peer.open(gateway.url, f"/topics/{topic}/stream?last_event_id={quote(token)}&limit=1")
    async with peer:
        assert '"event":"ready"' in await peer.text()
        assert (await peer.text()).startswith('{"event":"gap","topic":')
        assert json.loads(await peer.text())[0]["offset"] == 7


async def test_h10_h11_hostile_and_poisoned_records(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    await put(kafka, topic, b"1")
    await put(kafka, topic, b'"a"', headers=[("a\r\nb: c\n\ndata: x", b"\r\n\x00\xff"), ("n", None)])
    await put(kafka, topic, b'"b"', headers=[(f"h{n}", b"v") for n in range(10_000)])
    await put(kafka, topic, b'"c"', key=b"\xff" * 1_000_000)
    await put(kafka, topic, b"\x00\x00\x00\x00\x01poison")
    await put(kafka, topic, b"{\r\n}", None, key=b"\n\ndata: forged\n\n")
    async with await sse(gateway, topic, "offset=earliest&until=end") as stream:
        rows = await stream.records(7)
        assert (await stream.event())["event"] == "end"
        assert await stream.chunk() == b""
    assert [row["offset"] for row in rows] == list(range(7))
    assert [row["value"] for row in rows] == [1, "a", "b", "c", None, {}, None]
    assert [row.get("error", {}).get("error_code") for row in rows] == [None, None, None, *[42208] * 4]
    assert rows[1]["headers"] == [{"name": "a\r\nb: c\n\ndata: x", "value": "DQoA/w=="}, {"name": "n", "value": None}]
    assert len(rows[2]["headers"]) == 10_000
    async with await HttpStream.open(
        gateway.url, f"/topics/{topic}/stream?format=json&offset=earliest&until=end"
    ) as ndjson:
        lines = [json.loads(await ndjson.line()) for _ in range(9)]
    assert lines[1:8] == rows


async def test_h10_headers_that_the_binding_cannot_read(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    for _ in range(30):  # so many that Python specialises the call
        await put(kafka, topic, b'"before"', headers=[("a", b"1")])
    await asyncio.to_thread(produce_with_a_name_that_is_no_utf8, kafka.bootstrap, topic)
    await put(kafka, topic, b'"after"', headers=[("a", b"2")])
    async with await sse(gateway, topic, "offset=earliest&until=end") as stream:
        rows = await stream.records(32)
    assert [(row["value"], "headers" in row, "error" in row) for row in rows[29:]] == [
        ("before", True, False),
        (None, False, True),  # its value is no JSON
        ("after", True, False),
    ]
    await asyncio.to_thread(gateway.wait_for, "the headers cannot be read")


# --- many clients, slow ones, and those that come back ----------------------------------------------------------------


async def test_l4_slow_readers_harm_nobody(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    """20 MB past one SSE and one WebSocket client that do not read, while 20 do (contract: 10 MB/s past 1,000)."""
    topic = kafka.create_topic(partitions=2)
    count, value = 2000, b'"%b"' % (b"x" * 10_000)
    slow = await sse(gateway, topic)
    slow_socket = await Peer.open(gateway.url, f"/topics/{topic}/stream?format=json")
    readers = [await sse(gateway, topic) for _ in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        for each in (slow, slow_socket, *readers):
            await stack.enter_async_context(each)
        token = await last_id(slow)
        for reader in readers:
            await last_id(reader)
        before = most = gateway.rss_bytes()
        began = time.monotonic()
        reading = asyncio.gather(*(reader.records(count) for reader in readers))
        storing = asyncio.create_task(put(kafka, topic, *[value] * count))
        while not reading.done():
            most = max(most, gateway.rss_bytes())
            await asyncio.sleep(0.05)  # time itself: it measures so often
        await storing
        took = time.monotonic() - began
        assert all([row["offset"] for row in rows] == list(range(count)) for rows in await reading)
        print(f"L4: {count} records of 10 kB to 20 readers in {took:.1f} s, memory + {(most - before) / MB:.0f} MiB")
        assert most - before < 80 * MB
        rows = await slow.records(count)  # it has missed nothing
        assert [row["offset"] for row in rows] == list(range(count))
        assert token
        seen = -1
        while seen < count - 1:
            found = json.loads(await slow_socket.text())
            if isinstance(found, list):
                assert found[0]["offset"] == seen + 1
                seen = found[-1]["offset"]


@pytest.mark.alone
@pytest.mark.timing
async def test_l2_all_clients_are_cut_and_come_back(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    """500 clients (the contract: 10,000), cut in the middle of the records; with their tokens they miss none."""
    topic = kafka.create_topic(partitions=3)
    clients = 500
    began = time.monotonic()
    streams = await asyncio.gather(*(sse(gateway, topic) for _ in range(clients)))
    tokens = await asyncio.gather(*(last_id(stream) for stream in streams))
    await put(kafka, topic, *[b"%d" % n for n in range(20)])
    seen: list[list[int]] = []
    for number, stream in enumerate(streams):
        rows = await stream.records(1)
        seen.append([row["value"] for row in rows])
        tokens[number] = json.dumps([{"topic": topic, "partition": 0, "offset": rows[-1]["offset"] + 1},
                                     {"topic": topic, "partition": 1, "offset": 0},
                                     {"topic": topic, "partition": 2, "offset": 0}])  # fmt: skip
        stream.wire.writer.transport.abort()
    await put(kafka, topic, *[b"%d" % n for n in range(20, 40)], partition=1)
    streams = await asyncio.gather(*(sse(gateway, topic, "", token) for token in tokens))
    for number, stream in enumerate(streams):
        async with stream:
            while len(seen[number]) < 40:
                seen[number] += [row["value"] for row in await stream.records(1)]
    print(f"L2: {clients} clients twice in {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 15
    assert all(sorted(values) == list(range(40)) for values in seen)


@pytest.mark.alone
@pytest.mark.timing
async def test_l7_many_readers_resume_in_the_past(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    """100 clients (the contract: 1,000) resume at the same place, 20,000 records ago."""
    topic = kafka.create_topic(partitions=2)
    count, clients = 20_000, 100
    await put(kafka, topic, *[b"%d" % n for n in range(count)])
    token = json.dumps([{"topic": topic, "partition": 0, "offset": 0}, {"topic": topic, "partition": 1, "offset": 0}])

    async def resume() -> int:
        size = 0
        async with await sse(gateway, topic, "", token) as stream:
            while True:
                chunk = await stream.chunk()
                size += chunk.count(b'"timestamp":')
                if b"event: end" in chunk:
                    return size

    before = gateway.rss_bytes()
    began = time.monotonic()
    threads = len(os.listdir(f"/proc/{gateway.pid}/task"))
    resuming = asyncio.gather(*(resume() for _ in range(clients)))
    most, most_threads = before, threads
    while not resuming.done():
        most = max(most, gateway.rss_bytes())
        most_threads = max(most_threads, len(os.listdir(f"/proc/{gateway.pid}/task")))
        await asyncio.sleep(0.05)  # time itself: it measures so often
    took = time.monotonic() - began
    print(f"L7: {took:.1f} s, memory + {(most - before) / MB:.0f} MiB, threads {threads} to {most_threads}")
    assert await resuming == [count] * clients
    assert took <= 10
    assert most - before <= 200 * MB
    assert most_threads - threads < 60  # one way to read, not one for each


async def test_f18_clients_come_and_go(gateway: GatewayProcess, kafka: KafkaCluster) -> None:
    """250 clients one after the other (the contract: 100 a second for 5 minutes), behind 100 to warm up."""
    topic = kafka.create_topic()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{gateway.pid}/fd"))

    async def churn(count: int) -> None:
        for number in range(count):
            query = "offset=latest" if number % 2 else "offset=earliest"
            if number % 3:
                async with await sse(gateway, topic, query) as stream:
                    await stream.event()
            else:
                async with await Peer.open(gateway.url, f"/topics/{topic}/stream?{query}") as peer:
                    await peer.text()
            await asyncio.sleep(0.005)  # time itself: clients that come one by one

    await put(kafka, topic, *[b"1"] * 100)
    await churn(100)
    opened, before = descriptors(), gateway.rss_bytes()
    await churn(250)
    await asyncio.sleep(1.5)  # time itself: behind stream.linger.ms
    grown = gateway.rss_bytes() - before
    print(f"F18: 250 clients, memory + {grown / MB:.1f} MiB, descriptors {opened} to {descriptors()}")
    assert grown < 8 * MB
    assert descriptors() <= opened + 8


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_members_of_a_group_share_and_inherit(
    gateway: GatewayProcess, kafka: KafkaCluster, unique: Unique
) -> None:
    """Two streams of one group, one of them killed: together they get every record."""
    topic, group = kafka.create_topic(partitions=2), unique("group")
    query = f"group={group}&offset=earliest"
    values: set[int] = set()

    async def assigned(stream: HttpStream, count: int) -> None:
        while True:
            event = await stream.event()
            if event.get("event") == "ready" and len(json.loads(event["data"])["positions"]) == count:
                return
            if "event" not in event:
                values.update(row["value"] for row in json.loads(event["data"]))

    async def read(stream: HttpStream, count: int) -> None:
        values.update(row["value"] for row in await stream.records(count))

    first = await sse(gateway, topic, query)
    await assigned(first, 2)
    second = await sse(gateway, topic, query)
    async with first, second:
        await asyncio.gather(assigned(first, 1), assigned(second, 1))
        for partition in range(2):
            await put(
                kafka, topic, *[b"%d" % n for n in range(partition * 100, partition * 100 + 50)], partition=partition
            )
        await asyncio.gather(*(read(stream, 50) for stream in (first, second)))
        second.wire.writer.transport.abort()
        for partition in range(2):
            await put(kafka, topic, b"%d" % (300 + partition), partition=partition)
        async with asyncio.timeout(20):
            while not values >= {300, 301}:
                event = await first.event()
                if "event" not in event:
                    values.update(row["value"] for row in json.loads(event["data"]))
    assert values == {*range(50), *range(100, 150), 300, 301}


async def test_what_a_client_acknowledged_is_not_sent_again(
    gateway: GatewayProcess, kafka: KafkaCluster, unique: Unique
) -> None:
    topic, group = kafka.create_topic(), unique("group")
    await put(kafka, topic, *[b"%d" % n for n in range(10)])
    target = f"/topics/{topic}/stream?format=json&group={group}&offset=earliest&ack=client"

    async def rows(peer: Peer) -> list[int]:
        while True:
            found = json.loads(await peer.text())
            if isinstance(found, list):
                return [row["value"] for row in found]

    async with await Peer.open(gateway.url, target) as peer:
        assert await rows(peer) == list(range(10))
        await peer.send(json.dumps({"ack": [{"topic": topic, "partition": 0, "offset": 4}]}))
        await peer.send(b"\x03\xe8", 8)
        assert (await peer.frame()).opcode in (1, 8)
    async with await Peer.open(gateway.url) as envelopes:
        await envelopes.send(json.dumps({"id": "1", "path": target}))
        seen: list[int] = []
        while not seen:
            head, end = json.JSONDecoder().raw_decode(text := await envelopes.text())
            if "event" not in head:
                seen = [row["value"] for row in json.loads(text[end:])]
        assert seen == list(range(4, 10))
        await envelopes.send(json.dumps({"id": "1", "ack": head["cursor"]}))
        await asyncio.sleep(0.3)  # time itself: nothing tells that an ack has been read
    async with await Peer.open(gateway.url, target) as peer:
        await put(kafka, topic, b"10")
        assert await rows(peer) == [10]
