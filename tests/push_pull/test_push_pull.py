"""Push and pull on a real Kafka: the checklist of bridges.md §B4, and what else the endpoints promise."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from tests.acceptance.rest import until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.push_pull.service import EXPECTED, PushPull, committed, stored, write
from tests.transports.wire import Wire, request

pytestmark = pytest.mark.slow

PREFIX = "/flasfka/v1"


@pytest.fixture(scope="module")
def gateway(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    with GatewayProcess("access.log.enable=false", bootstrap=kafka.bootstrap) as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[PushPull]:
    async with PushPull(gateway.url + PREFIX) as client:
        yield client


async def test_what_is_pushed_is_pulled_once_by_each_group(client: PushPull, topic: str) -> None:
    """1 and 2, and 14 for each group: its first pull is a cold one."""
    await client.store(topic, "a message")
    assert (await client.pull(topic)).json == {"group": "flasfka", "messages": ["a message"]}
    assert (await client.pull(topic)).json == {"group": "flasfka", "messages": []}
    for group in ("g1", "g2"):
        answer = await client.pull(topic, group)
        assert answer.json == {"group": group, "messages": ["a message"]}
        assert answer.headers["Content-Type"] == "application/json"
    assert (await client.pull(topic, "g1")).messages == []


async def test_limits(client: PushPull, topic: str) -> None:
    """3"""
    sent = [f"hello {number}" for number in range(400)]
    await client.store(topic, *sent)
    found = []
    for _ in range(20):
        messages = (await client.pull(topic, query="?limit=10")).messages
        assert len(messages) <= 10
        found += messages
    assert found == sent[:200]
    assert (await client.pull(topic)).messages == sent[200:300]


async def test_keys_and_order(client: PushPull, kafka: KafkaCluster) -> None:
    """4"""
    topic = kafka.create_topic(partitions=6)
    for number in range(3):
        await client.store(topic, f"keyed {number}", key="the%20key%C3%A9%2B+")
    keyed = stored(kafka.bootstrap, topic, 6)
    assert {key for _, key, _ in keyed} == {"the keyé++".encode()}
    assert len({partition for partition, _, _ in keyed}) == 1
    assert [value for _, _, value in keyed] == [b"keyed 0", b"keyed 1", b"keyed 2"]
    sent = [str(number) for number in range(50)]
    for _ in range(8):
        await client.store(topic, *sent)
    used = {partition for partition, key, _ in stored(kafka.bootstrap, topic, 6) if key is None}
    assert len(used) > 1  # one partition for each request, not for ever
    found = (await client.pull(topic, query="?limit=1000")).messages
    assert sorted(found) == sorted([*sent * 8, "keyed 0", "keyed 1", "keyed 2"])
    other = kafka.create_topic(partitions=6)
    await client.store(other, *sent)
    assert (await client.pull(other)).messages == sent


BAD = [
    b'{"messages":[{"a":"dictionary"}]}',
    b'{"messages":["ok",5]}',
    b'{"messages":["ok",null]}',
    b'{"messages":"abc"}',
    b'{"messages":{"k":1}}',
    b'{"messages":null}',
    b'{"messages":7}',
    b'{"other":["a"]}',
    b'["a"]',
    b"null",
    b"",
    b'{"messages":["a"]',
    b'{"messages":["a"]} x',
    b'{"messages":["\\ud800"]}',
    b'{"messages":["a"],"deep":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "å¢¾ª§øß\0Æ½".encode("latin-1"),
]


async def test_what_is_no_push_stores_nothing(client: PushPull, kafka: KafkaCluster) -> None:
    """5 and 6"""
    topic = kafka.create_topic()
    for body in BAD:
        answer = await client.request("POST", f"/{topic}/", body)
        assert (answer.status, answer.payload) == (400, EXPECTED), body
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (await client.push(topic)).status == 204
    assert stored(kafka.bootstrap, topic) == []
    many = await client.push(topic, *[""] * 10_001)
    assert many.status == 413
    assert many.json["produced"] == 0
    assert "produce.records.max" in many.json["error"]
    assert (await client.request("POST", f"/{topic}/", b'{"messages":[' + b'"",' * 3_000_000 + b'""]}')).status == 413
    assert stored(kafka.bootstrap, topic) == []


async def test_any_content_type_and_any_text(client: PushPull, kafka: KafkaCluster) -> None:
    """6"""
    topic = kafka.create_topic()
    texts = ["", "é€😀", '\0\n"\\', "x" * 100_000]
    body = {"messages": texts, "other": 1}
    for content_type in ("text/plain", "application/vnd.kafka.binary.v2+json", "not a type"):
        answer = await client.request("POST", f"/{topic}/", body, **{"Content-Type": content_type})
        assert answer.status == 204
    assert (await client.pull(topic)).messages == texts * 3


async def test_limits_that_are_none(client: PushPull, topic: str) -> None:
    """8"""
    for limit in ("0", "-1", "x", "", "10001", "1.0", "%2B1", "1" * 30):
        answer = await client.pull(topic, query=f"?limit={limit}")
        assert answer.status == 400, limit
        assert "10000" in answer.json["error"]
    for query in ("?encoding=hex", "?meta=maybe", "?commit=maybe"):
        assert (await client.pull(topic, query=query)).status == 400


async def test_reading_never_makes_a_topic(client: PushPull, kafka: KafkaCluster, topic: str) -> None:
    """9"""
    assert (await client.pull(topic)).json == {"group": "flasfka", "messages": []}
    assert (await client.request("HEAD", f"/{topic}/")).status == 405
    assert topic not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics
    await client.store(topic, "first")
    await client.pull(topic)
    await client.store(topic, "second")
    assert (await client.request("HEAD", f"/{topic}/")).status == 405
    assert committed(kafka.bootstrap, "flasfka", topic) == [1]


async def test_other_requests(client: PushPull, topic: str) -> None:
    """10; 7 is in every answer."""
    for path in (f"/{topic}", f"/{topic}/g"):
        answer = await client.request("GET", path + "?limit=3&x=%20")
        assert (answer.status, answer.headers["Location"]) == (308, f"{PREFIX}{path}/?limit=3&x=%20")
        answer = await client.request("POST", path, {"messages": ["a"]})
        assert (answer.status, answer.headers["Location"]) == (308, f"{PREFIX}{path}/")
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await client.request(method, path + "/")
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
        answer = await client.request("OPTIONS", path + "/")
        assert (answer.status, answer.headers["Allow"]) == (200, "GET, HEAD, OPTIONS, POST")
    for path in ("", "/", f"/{topic}/a/b/"):
        answer = await client.request("GET", path)
        assert answer.status == 404, path
        assert "error" in answer.json
        assert answer.headers["Content-Type"] == "application/json"
    for path in ("//", f"/{topic}//", "//elsewhere.example", "/%0a/", "/%ff/"):
        assert (await client.request("GET", path)).status == 400, path
    assert "Location" not in (await client.request("GET", "/\\elsewhere.example")).headers


@pytest.mark.parametrize("name", ["a%2Fb", "a%20b", "%5Ea.*", "..%2F", "%C3%A9", "x" * 250])
async def test_names_that_are_none(client: PushPull, topic: str, name: str) -> None:
    """10, B-18"""
    assert (await client.pull(name)).status == 400
    assert (await client.push(name, "a")).status == 400
    assert (await client.pull(topic, name)).status == 400
    assert (await client.push(topic, key="a%2Fb")).status == 400


async def test_kafkas_own_topics_are_closed(client: PushPull) -> None:
    assert (await client.push("__consumer_offsets", "x")).status == 403
    assert (await client.pull("__consumer_offsets")).status == 403


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_leaves_within_the_answer(
    client: PushPull, gateway: GatewayProcess, kafka: KafkaCluster, reset: bool
) -> None:
    """11. Eight megabytes are more than the systems keep for a client that does not read."""
    topic = kafka.create_topic()
    write(kafka.bootstrap, topic, *(f"{number:02}".encode() + b"x" * 900_000 for number in range(20)))
    host, port = gateway.url.removeprefix("http://").split(":")
    for _ in range(2):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        wire = Wire(*await asyncio.open_connection(sock=raw, limit=16384))
        await wire.send(request("GET", f"{PREFIX}/{topic}/"))
        await wire.reader.readexactly(500_000)
        if reset:
            wire.writer.transport.abort()
        else:
            wire.writer.close()
    assert [message[:2] for message in (await client.pull(topic, query="?limit=3")).messages] == ["00", "01", "02"]
    assert committed(kafka.bootstrap, "flasfka", topic) == [3]


async def test_many_pulls_of_one_group_at_once(client: PushPull, kafka: KafkaCluster) -> None:
    """12"""
    topic = kafka.create_topic(partitions=3)
    for partition in range(3):
        write(kafka.bootstrap, topic, *(b"%d-%d" % (partition, number) for number in range(150)), partition=partition)
    seen: list[list[int]] = []

    async def watch() -> None:
        while True:
            seen.append(await asyncio.to_thread(committed, kafka.bootstrap, "flasfka", topic, 3))

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(client.pull(topic, query="?limit=9") for _ in range(50)))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    found = [message for answer in answers for message in answer.messages]
    assert len(found) == 450
    assert set(found) == {f"{partition}-{number}" for partition in range(3) for number in range(150)}
    assert len(seen) > 1
    for partition in range(3):
        offsets = [one[partition] for one in seen]
        assert offsets == sorted(offsets)
    assert committed(kafka.bootstrap, "flasfka", topic, 3) == [150] * 3


async def test_values_that_are_no_text(client: PushPull, kafka: KafkaCluster) -> None:
    """13"""
    topic = kafka.create_topic()
    values = [b"\xff\xfe", None, b"", b"y" * 990_000, b"last"]
    write(kafka.bootstrap, topic, *values)
    assert (await client.pull(topic)).messages == ["\ufffd\ufffd", None, "", "y" * 990_000, "last"]
    assert (await client.pull(topic)).messages == []
    encoded = [None if value is None else base64.b64encode(value).decode() for value in values]
    assert (await client.pull(topic, "g", "?encoding=base64")).messages == encoded


async def test_a_cut_log_is_read_from_where_it_begins(client: PushPull, kafka: KafkaCluster) -> None:
    """15, also for a group whose offset was cut off, and one whose offset is behind the end."""
    topic = kafka.create_topic()
    write(kafka.bootstrap, topic, b"0", b"1", b"2", b"3")
    assert (await client.pull(topic, "early", "?limit=1")).messages == ["0"]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_records([TopicPartition(topic, 0, 2)])[TopicPartition(topic, 0, 2)].result(20)
    assert (await client.pull(topic)).messages == ["2", "3"]
    assert (await client.pull(topic, "early")).messages == ["2", "3"]
    move(kafka, topic, "late", 1000)
    assert (await client.pull(topic, "late")).messages == ["2", "3"]


def move(kafka: KafkaCluster, topic: str, group: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


async def test_offsets_that_somebody_else_moves(client: PushPull, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    await client.store(topic, *"abcdef")
    assert (await client.pull(topic, query="?limit=4")).messages == ["a", "b", "c", "d"]
    move(kafka, topic, "flasfka", 1)
    assert (await client.pull(topic, query="?limit=2")).messages == ["b", "c"]
    move(kafka, topic, "flasfka", 5)
    assert (await client.pull(topic)).messages == ["f"]


async def test_a_group_with_members(client: PushPull, kafka: KafkaCluster, unique: Callable[..., str]) -> None:
    """B-13"""
    topic, group = kafka.create_topic(), unique("group")
    await client.store(topic, "a")
    member = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    member.subscribe([topic])
    until = time.monotonic() + 20
    while not member.assignment() and time.monotonic() < until:
        member.poll(0.1)
    answer = await client.pull(topic, group)
    assert answer.status == 409
    assert "members" in answer.json["error"]
    assert (await client.pull(topic, group, "?commit=false")).messages == ["a"]
    member.close()
    assert (await client.pull(topic, group)).messages == ["a"]


async def test_extensions(client: PushPull, kafka: KafkaCluster) -> None:
    """B-15"""
    topic = kafka.create_topic()
    await client.store(topic, "value", key="key")
    for query in ("?commit=false", "?commit=0&limit=1"):
        assert (await client.pull(topic, query=query)).messages == ["value"]
    assert committed(kafka.bootstrap, "flasfka", topic) == [-1001]
    (row,) = (await client.pull(topic, query="?meta=1")).messages
    assert abs(row.pop("timestamp") / 1000 - time.time()) < 60
    assert row == {"value": "value", "key": "key", "partition": 0, "offset": 0}
    (row,) = (await client.pull(topic, "b", "?meta=true&encoding=base64")).messages
    assert (row["value"], row["key"]) == ("dmFsdWU=", "a2V5")


@pytest.mark.timing
async def test_the_marks_of_transactions_hold_up_nobody(client: PushPull, kafka: KafkaCluster) -> None:
    """Behind the last record there is a mark, which no consumer is given: offsets alone never say "all is read"."""
    topic = kafka.create_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(20)
    began = time.monotonic()
    assert (await client.pull(topic)).messages == ["committed"]
    assert (await client.pull(topic)).messages == []
    assert time.monotonic() - began < 4


async def test_partitions_that_are_added(client: PushPull, kafka: KafkaCluster) -> None:
    """B-13: the list of partitions is refreshed."""
    topic = kafka.create_topic()
    await client.store(topic, "old")
    assert (await client.pull(topic)).messages == ["old"]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(20)
    write(kafka.bootstrap, topic, b"new", partition=2)
    async with asyncio.timeout(20):
        while not (messages := (await client.pull(topic)).messages):
            pass
    assert messages == ["new"]


async def test_a_topic_that_is_made_anew(client: PushPull, kafka: KafkaCluster) -> None:
    topic = kafka.create_topic()
    await client.store(topic, "a", "b")
    await client.pull(topic)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result(20)
    await until(lambda: topic not in admin.list_topics(timeout=10).topics)
    assert (await client.pull(topic)).messages == []
    kafka.create_topic(topic)
    write(kafka.bootstrap, topic, b"c")
    # "There is no such topic" counts for half a second (kafka/admin/topic_directory.py).
    pulled: list[str] = []

    async def comes() -> bool:
        pulled.extend((await client.pull(topic)).messages)
        return bool(pulled)

    await until(comes)
    assert pulled == ["c"]


@pytest.mark.timing
async def test_bounds(kafka: KafkaCluster, topic: str) -> None:
    """B-16, B-18 and B-13: the size of a reply, the lists of names, the number of consumers, their closing."""
    settings = (
        "push.pull.response.max.bytes=1000",
        "push.pull.topics=topic-*",
        "push.pull.groups=flasfka,g*",
        "push.pull.consumers.max=2",
        "push.pull.consumers.idle.ms=300",
        "push.pull.prefix=/pp",
        "push.pull.limit=1000",
    )
    with GatewayProcess(*settings, bootstrap=kafka.bootstrap) as gateway:
        async with PushPull(gateway.url + "/pp") as client:
            sent = ["\x01" * 100 + str(number) for number in range(8)] + ["x" * 5000, "y"]  # \x01 is six bytes of JSON
            await client.store(topic, *sent)
            answers = [await client.pull(topic) for _ in range(11)]
            assert [message for answer in answers for message in answer.messages] == sent
            assert [len(answer.messages) for answer in answers] == [1] * 10 + [0]
            await client.store(topic, *"abcdefgh" * 60)
            answers = [await client.pull(topic) for _ in range(3)]
            assert "".join(message for answer in answers for message in answer.messages) == "abcdefgh" * 60
            assert max(len(answer.payload) for answer in answers) <= 1000 + 100
            assert len(answers[0].messages) > 200
            for name in ("other", "top"):
                assert (await client.push(name, "a")).status == 403
                assert (await client.pull(name)).status == 403
            assert (await client.pull(topic, "reports")).status == 403
            for group in ("g1", "g2", "g3", "g1"):
                assert (await client.pull(topic, group, "?limit=1")).messages == sent[:1] or group == "g1"
            assert len(thread_names(gateway)) <= 2
            await until(lambda: not thread_names(gateway))
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 5
        assert not [line for line in gateway.output if re.search(r"ERROR|WARN|Traceback", line)]


def thread_names(gateway: GatewayProcess) -> list[str]:
    """The threads of the consumers that are kept (their names are cut at 15 characters)."""
    names = [each.read_text().strip() for each in Path(f"/proc/{gateway.pid}/task").glob("*/comm")]
    return [name for name in names if name.startswith("kafka-consumer")]


async def test_a_broker_that_is_down(own_kafka: KafkaCluster, topic: str) -> None:
    """16"""
    with GatewayProcess("produce.timeout.ms=3000", bootstrap=own_kafka.bootstrap) as gateway:
        async with PushPull(gateway.url + PREFIX) as client:
            for message in ("before", "as well"):
                await client.store(topic, message)
            own_kafka.kill(1)
            pushed, new, pulled = await asyncio.gather(
                client.push(topic, "lost?"), client.push("topic-new", "x"), client.pull(topic)
            )
            # The gateway had just seen the topic, and handed the message over: it cannot know what became of it.
            assert pushed.status == 504
            assert pushed.json["produced"] == 0
            for answer in (new, pulled):
                assert answer.status == 503, answer
                assert answer.headers["Retry-After"] == "1"
                assert "error" in answer.json
            own_kafka.restart(1)

            async def answers() -> bool:
                return (await client.push(topic, "after")).status == 204

            await until(answers)
            found = (await client.pull(topic)).messages
            assert found[:2] == ["before", "as well"]
            assert found[-1] == "after"


async def test_a_random_history(client: PushPull, kafka: KafkaCluster) -> None:
    """Pushes and pulls of several groups in any order: each group gets every message once."""
    topic, chance = kafka.create_topic(partitions=2), random.Random(3)
    groups: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    sent = 0
    for _ in range(40):
        if chance.random() < 0.4:
            count = chance.randrange(1, 30)
            await client.store(topic, *(f"{number}" for number in range(sent, sent + count)), key=chance.choice("kxyz"))
            sent += count
        else:
            group = chance.choice(list(groups))
            groups[group] += (await client.pull(topic, group, f"?limit={chance.randrange(1, 40)}")).messages
    for group, found in groups.items():
        found += (await client.pull(topic, group, "?limit=10000")).messages
        assert sorted(map(int, found)) == list(range(sent))
