"""``?dry_run=true`` on produce routes: everything is judged, nothing is written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.errors import BadRequest
from kafka_gateway.kafka.ports.administration import ConfigOf, Setting
from kafka_gateway.kafka.ports.producing import SizeLimit
from kafka_gateway.kafka.ports.topics import BrokerNode, ConfigEntry
from kafka_gateway.kafka_errors import KafkaAuthorization, KafkaRetriable
from kafka_gateway.messages import Request
from kafka_gateway.services.common.dry_run import murmur2
from kafka_gateway.session import Session
from tests.registry.fake_registry import FakeRegistry, serving
from tests.services.conftest import Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.services.test_push_pull import Endpoints
from tests.services.test_v3_produce import Pieces, reports_of

JSON = embedded("json")
V3 = "/v3/clusters/any/topics/t/records"


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_what_would_be_stored(rest: Rest, generation: str) -> None:
    body = {"records": [{"value": 1}, {"value": 2, "partition": 1}, {"key": "k", "value": 3}]}
    answer = await rest.post("/topics/t?dry_run=true", body, embedded("json", generation))
    assert answer.status == 200
    key_partition = murmur2(b'"k"') % 2
    assert [row["partition"] for row in answer.body["offsets"]] == [None, 1, key_partition]
    assert {row["offset"] for row in answer.body["offsets"]} == {None}
    after = await rest.produce("t", {"value": 1, "partition": 1})
    assert after.body["offsets"][0]["offset"] == 0  # the first that is there


async def test_what_would_not_be(rest: Rest) -> None:
    body: dict[str, Any] = {"records": [{"value": 1, "partition": 7}, {"value": 1}]}
    answer = await rest.post("/topics/t?dry_run=true", body, JSON)
    assert [row["error_code"] for row in answer.body["offsets"]] == [50003, None]
    answer = await rest.post("/topics/bad%20name?dry_run=true", {"records": [{"value": 1}]}, JSON)
    assert answer.body["offsets"][0]["error_code"] == 50002
    assert (await rest.post("/topics/t?dry_run=maybe", body, JSON)).status == 400
    assert (await rest.post("/topics/t?dry_run=true", {"records": []}, JSON)).status == 422


# --- v3 ---------------------------------------------------------------------------------------------------------------

RECORDS = [
    {"value": {"type": "JSON", "data": 1}},
    {"partition_id": 1, "key": {"type": "STRING", "data": "k"}, "value": {"type": "STRING", "data": "x"}},
    {"key": {"type": "STRING", "data": "k"}},
    {"partition_id": 7, "value": {"type": "JSON", "data": 1}},
    {"value": {"type": "BINARY", "data": "!"}},
]


def told(report: Any) -> tuple[Any, ...]:
    return report["error_code"], report.get("partition_id"), report.get("offset"), report.get("timestamp")


EXPECTED = [
    (200, None, None, None),
    (200, 1, None, None),
    (200, murmur2(b"k") % 2, None, None),
    (40401, None, None, None),
    (400, None, None, None),
]


async def test_v3_one_record(rest: Rest, fake: FakeKafka) -> None:
    for record, expected in zip(RECORDS, EXPECTED, strict=True):
        (report,) = await reports_of(rest, json.dumps(record).encode(), f"{V3}?dry_run=true")
        assert told(report) == expected
    assert not any(fake.logs["t"])


async def test_v3_a_stream(rest: Rest, fake: FakeKafka) -> None:
    body = b"".join(json.dumps(record).encode() for record in RECORDS)
    pieces = Pieces()
    pieces.put(body[:50], body[50:], None)
    for each in (body, pieces):
        assert [told(report) for report in await reports_of(rest, each, f"{V3}?dry_run=true")] == EXPECTED
    assert not any(fake.logs["t"])


async def test_v3_a_batch(rest: Rest, fake: FakeKafka) -> None:
    entries = [{"id": str(i), **record} for i, record in enumerate(RECORDS)]
    answer = await rest.post(f"{V3}:batch?dry_run=true", {"entries": entries}, "application/json")
    assert answer.status == 207
    assert [(row["id"], row["partition_id"], row["offset"], row["timestamp"]) for row in answer.body["successes"]] == [
        (str(i), *expected[1:]) for i, expected in enumerate(EXPECTED) if expected[0] == 200
    ]
    assert [(row["id"], row["error_code"]) for row in answer.body["failures"]] == [("3", 40401), ("4", 400)]
    assert not any(fake.logs["t"])


async def test_v3_a_topic_that_is_not_there(start: Start) -> None:
    record = json.dumps(RECORDS[0]).encode()
    path = f"{V3.replace('/t/', '/none/')}?dry_run=true"
    assert told((await reports_of(start(), record, path))[0]) == (200, None, None, None)
    strict = start(auto_create_topics_enable=False)
    for body in (record, record * 2):
        assert {told(report)[0] for report in await reports_of(strict, body, path)} == {40401}


async def test_a_topic_that_would_be_made_has_the_settings_of_the_brokers(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.nodes.append(BrokerNode(2, "kafka-2", 9093, None))
    defaults = {"num.partitions": "3", "message.max.bytes": "1000"}
    settings = {name: Setting(name, value, "STATIC_BROKER_CONFIG") for name, value in defaults.items()}
    for broker in ("1", "2"):
        fake.administration.settings[ConfigOf("BROKER", broker)] = settings
    body = {"records": [{"value": "x" * 1000}, {"value": 1, "partition": 3}, {"value": 1, "partition": 2}]}
    answer = await rest.post("/topics/none?dry_run=true", body, JSON)
    assert [row["error_code"] for row in answer.body["offsets"]] == [50002, 50003, None]
    assert "at most 1000" in answer.body["offsets"][0]["error"]
    fake.fail("configs", KafkaAuthorization())  # who may write need not be allowed to see them
    answer = await rest.post("/topics/none?dry_run=true", body, JSON)
    assert [row["error_code"] for row in answer.body["offsets"]] == [None] * 3


async def test_what_the_gateway_itself_takes(rest: Rest, fake: FakeKafka) -> None:
    fake.configs["t"] = [ConfigEntry("max.message.bytes", "2000", True)]
    body = {
        "records": [{"value": "x" * length} for length in (962, 963, 1962, 1963)]
    }  # and the quotes, 36 for librdkafka

    async def judged() -> list[int | None]:
        answer = await rest.post("/topics/t?dry_run=true", body, JSON)
        return [row["error_code"] for row in answer.body["offsets"]]

    assert await judged() == [None, None, 50002, 50002]
    fake.producer.size_limit = SizeLimit(1000, compresses=False)
    assert await judged() == [None, 50002, 50002, 50002]
    # How large they are for the topic is seen when they have been compressed.
    fake.producer.size_limit = SizeLimit(2000, compresses=True)
    assert await judged() == [None, None, None, 50002]


async def test_a_failing_kafka_is_told(rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(topic: str) -> Any:
        raise KafkaRetriable()

    monkeypatch.setattr(fake.admin, "topic", away)
    record = json.dumps(RECORDS[0]).encode()
    for body in (record, record * 3):
        assert {told(report)[0] for report in await reports_of(rest, body, f"{V3}?dry_run=true")} == {50003}


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as found:
        yield found


async def test_schemas_are_judged_and_not_registered(start: Start, registry: FakeRegistry, fake: FakeKafka) -> None:
    rest = start(schema_registry_url=(registry.url,))
    value = {"type": "AVRO", "schema": '"int"', "data": 1}
    async with rest.schemas.lifespan():
        v2 = await rest.post(
            "/topics/t?dry_run=true", {"value_schema": '"int"', "records": [{"value": 1}]}, embedded("avro")
        )
        assert (v2.status, v2.body["value_schema_id"]) == (200, None)
        for times in (1, 2):  # alone, and in a stream
            body = json.dumps({"value": value}).encode() * times
            for report in await reports_of(rest, body, f"{V3}?dry_run=true"):
                assert told(report) == EXPECTED[0]
                assert (report["value"]["subject"], report["value"]["schema_id"]) == ("t-value", None)
        wrong = json.dumps({"value": value | {"data": "x"}}).encode()
        (report,) = await reports_of(rest, wrong, f"{V3}?dry_run=true")
        assert (report["error_code"], "expected int" in report["message"]) == (400, True)
        assert registry.subjects == {}
        assert not any(fake.logs["t"])
        (report,) = await reports_of(rest, json.dumps({"value": value}).encode())
        assert (report["error_code"], report["value"]["schema_id"]) == (200, 1)


def test_two_answers_are_none() -> None:
    for query in ("dry_run=false&dry_run=true", "dry_run=true&dry_run=false"):
        with pytest.raises(BadRequest, match="twice"):
            Request.of(Session("test"), f"POST /topics/t?{query}")
    query = Request.of(Session("test"), "POST /topics/t?dry_run=true&dry_run=true&a=1&a=2").query
    assert query == {"dry_run": "true", "a": "1"}


async def test_pushed_messages_are_judged(fake: FakeKafka) -> None:
    endpoints = Endpoints(fake)
    for name in ("t", "t/key"):
        reply = await endpoints.ask("POST", name, {"dry_run": "true"}, {"messages": ["a", "b"]})
        assert (reply.status, reply.body) == (204, b"")
    strict = Endpoints(fake, auto_create_topics_enable=False)
    reply = await strict.ask("POST", "none", {"dry_run": "true"}, {"messages": ["a", "b"]})
    assert isinstance(reply.body, bytes)
    assert (reply.status, json.loads(reply.body)["produced"]) == (503, 0)
    assert (await endpoints.ask("POST", "t", {"dry_run": "perhaps"}, {"messages": ["a"]})).status == 400
    assert not any(fake.logs["t"])
    await endpoints.ask("POST", "t", {"dry_run": "false"}, {"messages": ["a"]})
    assert any(fake.logs["t"])


async def test_false_is_no_dry_run(rest: Rest) -> None:
    answer = await rest.post("/topics/t?dry_run=false", {"records": [{"value": 1, "partition": 0}]}, JSON)
    assert answer.body["offsets"][0]["offset"] == 0


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_the_hash_is_javas(key: bytes, hashed: int) -> None:
    """The values of Kafka's own UtilsTest.testMurmur2."""
    assert murmur2(key) == hashed & 0x7FFFFFFF
