"""v1 consumer instances and direct reads: kafka-rest-http.md §5.4 to §5.9."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kafka_gateway.kafka.ports.consuming import ConsumerSettings, ReadLimits
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import KafkaError, KafkaRetriable
from tests.services.conftest import V1, Answer, Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled

JSON = embedded("json", "v1")


async def create(rest: Rest, **settings: Any) -> str:
    body = {"name": "c", "format": "json", "auto.offset.reset": "smallest"}
    answer = await rest.post("/consumers/g", body | settings, V1)
    assert answer.status == 200, answer.body
    return f"/consumers/g/instances/{answer.body['instance_id']}"


async def read(rest: Rest, instance: str, topic: str = "t", query: str = "", accept: str | None = JSON) -> Answer:
    return await rest.get(f"{instance}/topics/{topic}{query}", accept=accept)


async def test_create(rest: Rest, fake: FakeKafka) -> None:
    answer = await rest.post("/consumers/g", {"name": "c"}, V1)
    assert answer.body["base_uri"] == "http://gateway.example:8082/consumers/g/instances/c"
    assert fake.consumers[0].settings == ConsumerSettings("g", "rest-consumer-c", "latest", False, "", kind="instance")
    answer = await rest.post("/consumers/g", {"id": "i", "name": "n", "auto.commit.enable": True}, V1)
    assert answer.body["instance_id"] == "i"
    assert fake.consumers[1].settings.auto_commit is True
    assert (await rest.send("POST", "/consumers/g", b"", V1)).status == 200
    assert (await rest.post("/consumers/g", {"name": "c"}, V1)).code == 40902


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"auto.offset.reset": "earliest"}, 42204),
        ({"auto.offset.reset": "bad-config"}, 42204),
        ({"format": "protobuf"}, 422),
        ({"fetch.min.bytes": 1}, 422),
        ({"consumer.request.timeout.ms": 1}, 422),
    ],
)
async def test_create_refuses(rest: Rest, body: Any, code: int) -> None:
    answer = await rest.post("/consumers/g", body, V1)
    assert (answer.status, answer.code) == (422, code)


async def test_read(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0", None)
    began = time.monotonic()
    answer = await read(rest, await create(rest))
    assert time.monotonic() - began >= 0.2  # it collects until its time is up
    assert (answer.status, answer.media_type) == (200, JSON)
    assert answer.body == [
        {"key": None, "value": 0, "partition": 0, "offset": 0},
        {"key": None, "value": None, "partition": 0, "offset": 1},
    ]


async def test_checks_come_in_order(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    assert (await read(rest, "/consumers/g/instances/none", accept=None)).code == 40403
    assert (await read(rest, instance, "none", accept=embedded("binary", "v1"))).code == 40601
    assert (await read(rest, instance, "none")).code == 40401
    assert (await read(rest, instance, "a%20b")).code == 40401
    assert (await read(rest, instance)).status == 200
    answer = await read(rest, instance, "u")
    assert (answer.status, answer.code) == (409, 40901)
    assert (await read(rest, instance, "none")).code == 40401
    assert (await read(rest, instance)).status == 200  # the first subscription is intact
    assert [name for name, _ in fake.calls].count("subscribe") == 1


async def test_internal_topics_are_closed(rest: Rest, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    answer = await read(rest, await create(rest), "__consumer_offsets")
    assert (answer.status, answer.code) == (500, 50002)


async def test_limits(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", *[b"1" * 512] * 4)
    instance = await create(rest, format="binary")
    accept = embedded("binary", "v1")
    sizes = [len((await read(rest, instance, query="?max_bytes=1024", accept=accept)).body) for _ in range(2)]
    assert sizes == [2, 2]  # a sum that equals the limit is allowed
    limits = [argument for name, argument in fake.calls if name == "read"]
    assert limits[0] == ReadLimits(1024, 0.2, None, inclusive=True, oversized=False, group_s=10)
    fake.put("t", b"2" * 600, b"3")
    # The one that is too large stays for a read with more room (§5.6): some clients read with max_bytes=1 to be seen.
    reads = [await read(rest, instance, query=f"?max_bytes={most}", accept=accept) for most in (1, 512, 601)]
    sizes = [len(each.body) for each in reads]
    assert sizes == [0, 0, 2]
    assert (await read(rest, instance, query="?max_bytes=x", accept=accept)).code == 404


async def test_commit_lists_what_was_returned(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0", b"1")
    fake.put("t", b"2", partition=1)
    instance = await create(rest)
    answer = await rest.post(f"{instance}/offsets", b"ignored", V1)
    assert (answer.status, answer.body) == (200, [])
    await read(rest, instance)
    assert (await rest.send("POST", f"{instance}/offsets", b"", V1)).body == [
        {"topic": "t", "partition": 0, "consumed": 1, "committed": 1},
        {"topic": "t", "partition": 1, "consumed": 0, "committed": 0},
    ]
    assert fake.committed == {("g", "t", 0): (2, ""), ("g", "t", 1): (1, "")}


async def test_commit_waits_for_reads_in_flight(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0")
    instance = await create(rest)
    reading = asyncio.create_task(read(rest, instance))
    await settled()
    answer = await rest.post(f"{instance}/offsets", b"", V1)
    assert reading.done() or len((await reading).body) == 1
    assert answer.body == [{"topic": "t", "partition": 0, "consumed": 0, "committed": 0}]


async def test_delete_waits_for_reads_in_flight(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0")
    instance = await create(rest)
    reading = asyncio.create_task(read(rest, instance))
    await settled()
    deleting = asyncio.create_task(rest.delete(instance, V1))
    await asyncio.sleep(0)
    assert (await read(rest, instance)).code == 40403  # nobody else finds it any more
    assert (await deleting).status == 204
    assert len((await reading).body) == 1
    assert (await rest.delete(instance, V1)).code == 40403


async def test_failures(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    await read(rest, instance)
    fake.fail("read", KafkaError("boom"), KafkaRetriable("soon"))
    answer = await read(rest, instance)
    assert (answer.status, answer.code, answer.message) == (500, 50002, "Kafka error: boom")
    assert (await read(rest, instance)).code == 50003
    fake.put("t", b"{oops")
    answer = await read(rest, instance)
    assert (answer.status, answer.code) == (500, 50002)
    assert answer.message.startswith("Kafka error: ")


async def test_concurrent_first_reads_subscribe_once(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    answers = await asyncio.gather(*(read(rest, instance) for _ in range(3)))
    assert [answer.status for answer in answers] == [200] * 3
    assert [name for name, _ in fake.calls].count("subscribe") == 1


# --- direct reads (§5.4) ---------------------------------------------------------------------------------------------


async def messages(rest: Rest, path: str, accept: str | None = JSON) -> Answer:
    return await rest.get(f"/topics/{path}", accept=accept)


async def test_direct_reads(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0", b"1", b"2")
    row = {"key": None, "value": 0, "partition": 0, "offset": 0}
    assert (await messages(rest, "t/partitions/0/messages")).body == [row]
    answer = await messages(rest, "t/partitions/0/messages?offset=1&count=5")
    assert [(row["offset"], row["value"]) for row in answer.body] == [(1, 1), (2, 2)]
    assert (await messages(rest, "t/partitions/0/messages?offset=3")).body == []
    assert (await messages(rest, "t/partitions/0/messages?count=0")).body == []
    answer = await messages(rest, "t/partitions/0/messages", None)
    assert (answer.media_type, answer.body[0]["value"]) == (embedded("binary", "v1"), "MA==")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("none/partitions/0/messages", 404, 40401),
        ("a%20b/partitions/0/messages", 404, 40401),
        ("t/partitions/7/messages", 404, 40402),
        ("u/partitions/0/messages", 404, 40404),
        ("t/partitions/0/messages?offset=1", 500, 50002),
        ("t/partitions/0/messages?offset=-1", 500, 50002),
        ("t/partitions/0/messages?offset=x", 404, 404),
        ("t/partitions/0/messages?count=1.5", 404, 404),
        ("__consumer_offsets/partitions/0/messages", 403, 40301),
    ],
)
async def test_direct_reads_refused(rest: Rest, fake: FakeKafka, path: str, status: int, code: int) -> None:
    fake.leaderless.add(TopicPartition("u", 0))
    fake.add_topic("__consumer_offsets")
    answer = await messages(rest, path)
    assert (answer.status, answer.code) == (status, code)
    if "offset=1" in path:
        assert answer.message == "Kafka error: Fetch response contains an error code: 1"


async def test_a_commit_is_of_these_very_offsets(start: Start, fake: FakeKafka) -> None:
    rest = start()
    fake.put("t", b"0")
    instance = await create(rest)
    await read(rest, instance)
    await rest.post(f"{instance}/offsets", b"", V1)
    assert fake.calls[-1] == ("commit", [PartitionOffset("t", 0, 1)])
