"""Root, brokers, topics, partitions: kafka-rest-http.md §5.2, §6.2, observed "Which call gives which 404"."""

from __future__ import annotations

import pytest

from kafka_gateway.kafka.ports.topics import ConfigEntry, TopicPartition
from kafka_gateway.kafka_errors import KafkaAuthentication, KafkaAuthorization, KafkaRetriable
from tests.services.conftest import V1, Rest, Start
from tests.services.fake_kafka import FakeKafka

REPLICAS = [{"broker": 1, "leader": True, "in_sync": True}, {"broker": 2, "leader": False, "in_sync": False}]


async def test_root(rest: Rest) -> None:
    assert (await rest.get("/")).body == {}
    assert (await rest.post("/")).body == {}
    assert (await rest.post("/", {"a": "b", "c": 1})).body == {}
    assert (await rest.post("/", [1])).status == 400
    assert (await rest.post("/", {"a": {}})).status == 400


async def test_brokers(rest: Rest) -> None:
    assert (await rest.get("/brokers")).body == {"brokers": [1, 2]}


async def test_topics_hide_internal_ones_in_v2_only(rest: Rest, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    fake.internal.add("__consumer_offsets")
    assert (await rest.get("/topics")).body == ["t", "u"]
    assert (await rest.get("/topics", accept=V1)).body == ["__consumer_offsets", "t", "u"]
    assert (await rest.get("/topics/__consumer_offsets/partitions/0/offsets")).status == 200


async def test_topic(rest: Rest, fake: FakeKafka) -> None:
    fake.configs["u"] = [
        ConfigEntry("cleanup.policy", "delete", False),
        ConfigEntry("retention.ms", "5", True),
        ConfigEntry("secret", None, False),
    ]
    partitions = [{"partition": 0, "leader": 1, "replicas": REPLICAS}]
    assert (await rest.get("/topics/u")).body == {
        "name": "u",
        "configs": {"cleanup.policy": "delete", "retention.ms": "5", "secret": None},
        "partitions": partitions,
    }
    assert (await rest.get("/topics/u", accept=V1)).body == {
        "name": "u",
        "configs": {"retention.ms": "5"},
        "partitions": partitions,
    }


async def test_partitions(rest: Rest, fake: FakeKafka) -> None:
    fake.leaderless.add(TopicPartition("t", 1))
    listed = (await rest.get("/topics/t/partitions")).body
    assert listed[0] == {"partition": 0, "leader": 1, "replicas": REPLICAS}
    assert listed[1]["leader"] == -1
    assert not any(replica["leader"] for replica in listed[1]["replicas"])
    assert (await rest.get("/topics/t/partitions/1")).body == listed[1]
    assert (await rest.get("/topics/t/partitions/+0")).body == listed[0]
    assert (await rest.get("/topics/t/partitions", accept=V1)).body == listed


async def test_offsets_of_a_partition(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"1", b"2", partition=1)
    assert (await rest.get("/topics/t/partitions/1/offsets")).body == {"beginning_offset": 0, "end_offset": 2}


@pytest.mark.parametrize("path", ["", "/partitions", "/partitions/0", "/partitions/0/offsets"])
@pytest.mark.parametrize(
    ("topic", "status", "code"),
    [
        ("none", 404, 40403),
        ("a%20b", 400, 40002),
        ("a%2Fb", 400, 40002),
        ("%C3%A9", 400, 40002),
        ("..", 400, 40002),
        (".", 400, 40002),
        ("a" * 250, 400, 40002),
        ("a" * 249, 404, 40403),
        ("%5E.*", 400, 40002),
        ("t;a=b", 404, 40403),
    ],
)
async def test_unknown_topics_and_illegal_names_in_v2(
    rest: Rest, fake: FakeKafka, topic: str, path: str, status: int, code: int
) -> None:
    answer = await rest.get(f"/topics/{topic}{path}")
    assert (answer.status, answer.code) == (status, code)
    if status == 400 or ";" in topic:
        assert fake.calls == []  # Kafka never sees such a name


@pytest.mark.parametrize("path", ["", "/partitions", "/partitions/0"])
@pytest.mark.parametrize("topic", ["none", "a%20b"])
async def test_unknown_topics_in_v1(rest: Rest, topic: str, path: str) -> None:
    answer = await rest.get(f"/topics/{topic}{path}", accept=V1)
    assert (answer.status, answer.code, answer.message) == (404, 40401, "Topic not found.")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("partitions/7", 40402),
        ("partitions/2147483647", 40402),
        ("partitions/-1/offsets", 40402),
        ("partitions/9/offsets", 40402),
        ("partitions/x", 404),
        ("partitions/2147483648", 404),
    ],
)
async def test_unknown_partitions(rest: Rest, path: str, code: int) -> None:
    answer = await rest.get(f"/topics/t/{path}")
    assert (answer.status, answer.code) == (404, code)


async def test_a_topic_without_partitions_is_absent(rest: Rest, fake: FakeKafka) -> None:
    fake.add_topic("empty", 0)
    assert (await rest.get("/topics/empty")).code == 40403
    assert (await rest.get("/topics/empty", accept=V1)).code == 40401


async def test_failures_of_kafka(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("brokers", KafkaAuthentication("no"), KafkaAuthentication("no"), KafkaRetriable("slow"))
    answer = await rest.get("/brokers")
    assert (answer.status, answer.code) == (401, 40101)
    answer = await rest.get("/brokers", accept=V1)
    assert (answer.status, answer.code, answer.message) == (500, 50002, "Kafka error: no")
    answer = await rest.get("/brokers", accept=V1)
    assert (answer.status, answer.code, answer.message) == (500, 50003, "Retriable Kafka error: slow")
    fake.fail("topic", KafkaAuthorization("Not authorized to access topics: [t]"))
    answer = await rest.get("/topics/t")
    assert (answer.status, answer.code) == (403, 40301)


async def test_generations_can_be_switched_off(start: Start) -> None:
    v2 = start(api_v1_enable="false")
    assert (await v2.get("/topics", accept=V1)).status == 406
    v1 = start(api_v2_enable="false")
    assert (await v1.get("/topics")).media_type == V1
    assert (await v1.get("/topics/t/partitions/0/offsets")).status == 404
