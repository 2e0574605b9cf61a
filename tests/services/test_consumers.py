"""v2 consumer instances: kafka-rest-http.md §6.4 to §6.9 and the observed table; conformance v2.consumer and after."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import pytest

from kafka_gateway.errors import PartlyCommitted
from kafka_gateway.kafka.ports.consuming import ConsumerSettings, ReadLimits
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization, KafkaRefused
from kafka_gateway.messages import Request
from kafka_gateway.records import OutgoingRecord
from tests.services.conftest import V1, V2, Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled

T0 = {"topic": "t", "partition": 0}
T1 = {"topic": "t", "partition": 1}


def settings_of(fake: FakeKafka) -> ConsumerSettings:
    return fake.consumers[-1].settings


def last_limits(fake: FakeKafka) -> ReadLimits:
    limits = [argument for name, argument in fake.calls if name == "read"][-1]
    assert isinstance(limits, ReadLimits)
    return limits


# --- creation (§6.4) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"name": "c"}, "c"),
        ({"id": "i"}, "i"),
        ({"id": "i", "name": "n"}, "i"),
        ({"name": "n", "id": "i"}, "i"),
        ({"name": 7}, "7"),
        ({"name": "a/b"}, "a/b"),
        ({"name": "\u00e9"}, "\u00e9"),
        ({"name": "c", "format": "JSON"}, "c"),
        ({"name": "c", "format": None, "auto.commit.enable": None}, "c"),
        ({"name": "c", "format": "avro"}, "c"),
        ({"name": "c", "format": "jsonschema"}, "c"),
        ({"name": "c", "auto.offset.reset": "none"}, "c"),
        ({"name": "c", "auto.commit.enable": "true"}, "c"),
        ({"name": "c", "fetch.min.bytes": -1}, "c"),
        ({"name": "c", "fetch.min.bytes": 10_000_000}, "c"),
        ({"name": "c", "fetch.min.bytes": 1.5}, "c"),
        ({"name": "c", "consumer.request.timeout.ms": 0}, "c"),
        ({"name": "c", "consumer.request.timeout.ms": "500"}, "c"),
        ({"name": "c", "isolation.level": "read_committed"}, "c"),
        ({"name": "c", "session.timeout.ms": 6000}, "c"),
    ],
)
async def test_create(rest: Rest, body: Any, name: str) -> None:
    answer = await rest.post("/consumers/g", body, V2)
    assert answer.status == 200
    uri = f"http://gateway.example:8082/consumers/g/instances/{name}"
    assert answer.body == {"instance_id": name, "base_uri": uri}


@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
async def test_create_generates_a_name(start: Start, body: bytes) -> None:
    answer = await start().post("/consumers/g", body, V2)
    assert answer.body["instance_id"].startswith("rest-consumer-")
    assert len(answer.body["instance_id"]) == len("rest-consumer-") + 36
    answer = await start(id="west").post("/consumers/g", body)
    assert answer.body["instance_id"].startswith("rest-consumer-west-")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, 400),
        ({"name": ""}, 422, 422),
        ({"name": {"a": 1}}, 400, 400),
        ({"name": "a\nb"}, 422, 422),
        ({"name": "a\0b"}, 422, 422),
        ({"name": "n" * 256}, 422, 422),
        ({"name": "c", "format": "xml"}, 422, 422),
        ({"name": "c", "format": ""}, 422, 422),
        ({"name": "c", "format": 1}, 422, 422),
        ({"name": "c", "format": "string"}, 422, 422),
        ({"name": "c", "auto.offset.reset": "smallest"}, 422, 42204),
        ({"name": "c", "auto.offset.reset": "EARLIEST"}, 422, 42204),
        ({"name": "c", "auto.offset.reset": ""}, 422, 42204),
        ({"name": "c", "auto.commit.enable": "maybe"}, 422, 42204),
        ({"name": "c", "isolation.level": "x"}, 422, 42204),
        ({"name": "c", "fetch.min.bytes": 10_000_001}, 422, 40001),
        ({"name": "c", "fetch.min.bytes": -2}, 422, 40001),
        ({"name": "c", "fetch.min.bytes": "x"}, 400, 400),
        ({"name": "c", "session.timeout.ms": 5999}, 422, 40001),
        ({"name": "c", "session.timeout.ms": -1}, 422, 40001),
        ({"name": "c", "session.timeout.ms": 300_001}, 422, 40001),
        ({"name": "c", "consumer.request.timeout.ms": "x"}, 400, 400),
        ({"name": "c", "consumer.request.timeout.ms": -1}, 422, 40001),
        ({"name": "c", "colour": "red"}, 422, 422),
    ],
)
async def test_create_refuses(rest: Rest, fake: FakeKafka, body: Any, status: int, code: int) -> None:
    answer = await rest.post("/consumers/g", body, V2)
    assert (answer.status, answer.code) == (status, code)
    assert fake.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "plugin.library.paths",
        "bootstrap.servers",
        "ssl.engine.location",
        "max.poll.records",
        "group.instance.id",
        "debug",
    ],
)
async def test_no_kafka_property_passes_through(rest: Rest, fake: FakeKafka, name: str) -> None:
    """reliability.md A1"""
    answer = await rest.post("/consumers/g", {"name": "c", name: "x"}, V2)
    assert (answer.status, answer.message) == (422, f"Unrecognized field: {name}")
    assert fake.calls == []


async def test_settings_for_kafka(rest: Rest, fake: FakeKafka) -> None:
    await rest.post("/consumers/g", {"name": "c d"}, V2)
    assert settings_of(fake) == ConsumerSettings("g", "rest-consumer-c_d", "", None, "", kind="instance")
    chosen = {"auto.offset.reset": "none", "auto.commit.enable": False, "isolation.level": "read_committed"}
    await rest.post("/consumers/g", chosen, V2)
    settings = settings_of(fake)
    assert (settings.auto_offset_reset, settings.auto_commit, settings.isolation_level) == (
        "none",
        False,
        "read_committed",
    )


@pytest.mark.parametrize(("group", "status"), [("g%20x", 200), ("g%2Fx", 200), ("g" * 255, 200), ("g" * 256, 422)])
async def test_groups(rest: Rest, group: str, status: int) -> None:
    answer = await rest.post(f"/consumers/{group}", {"name": "c"}, V2)
    assert answer.status == status
    if status == 200:
        assert (await rest.delete(f"/consumers/{group}/instances/c")).status == 204


async def test_a_name_is_unique_in_its_group(rest: Rest) -> None:
    await rest.instance("g", "c")
    answer = await rest.post("/consumers/g", {"name": "c"}, V2)
    assert (answer.status, answer.code) == (409, 40902)
    await rest.instance("other", "c")


async def test_delete(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    answer = await rest.delete(instance)
    assert (answer.status, answer.body) == (204, None)
    assert fake.consumers[0].closed
    assert (await rest.delete(instance)).code == 40403
    await rest.instance()  # the name is free again


REQUESTS = [
    ("GET", "subscription", b""),
    ("POST", "subscription", {"topics": ["a"]}),
    ("DELETE", "subscription", b""),
    ("GET", "assignments", b""),
    ("POST", "assignments", {"partitions": []}),
    ("POST", "positions", {}),
    ("POST", "positions/beginning", {"partitions": []}),
    ("POST", "positions/end", {"partitions": []}),
    ("POST", "offsets", b""),
    ("POST", "offsets", {"offsets": []}),
    ("GET", "offsets", {"partitions": []}),
    ("GET", "records", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_an_instance_that_is_not_there(rest: Rest, method: str, path: str, body: Any) -> None:
    await rest.instance("g", "v1")  # another one
    answer = await rest.send(method, f"/consumers/g/instances/c/{path}", body)
    assert (answer.status, answer.code) == (404, 40403)
    assert answer.message == "Consumer instance not found."


# --- subscriptions (§6.5) --------------------------------------------------------------------------------------------


async def subscribe(rest: Rest, instance: str, body: Any) -> tuple[int, Any]:
    answer = await rest.post(f"{instance}/subscription", body, V2)
    return answer.status, answer.body and answer.code


async def topics(rest: Rest, instance: str) -> list[str]:
    return list((await rest.get(f"{instance}/subscription")).body["topics"])


async def test_subscribe_and_unsubscribe(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    assert await topics(rest, instance) == []
    assert await subscribe(rest, instance, {"topics": ["t", "never", "t"]}) == (204, None)
    assert await topics(rest, instance) == ["t", "never"]
    assert fake.consumers[0].subscribed == ("t", "never")
    assert await subscribe(rest, instance, {"topics": ["u"]}) == (204, None)
    assert await topics(rest, instance) == ["u"]
    assert (await rest.delete(f"{instance}/subscription")).status == 204
    assert await topics(rest, instance) == []
    assert (await rest.delete(f"{instance}/subscription")).status == 204


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 204),
        ({"topics": None}, 204),
        ({"topics": None, "topic_pattern": None}, 204),
        ({"topics": [5]}, 204),
        ({"topics": [], "topic_pattern": "("}, 204),
        (b"", 422),
        (b"null", 422),
        ({"topics": "t"}, 400),
        ({"topics": [None]}, 422),
        ({"topics": [""]}, 422),
        ({"topics": [" "]}, 422),
        ({"topics": ["t"], "x": 1}, 422),
        ({"topic_pattern": ""}, 422),
        ({"topic_pattern": "("}, 422),
        ({"topic_pattern": 5}, 204),
        ({"topic_pattern": {}}, 400),
        ([], 400),
    ],
)
async def test_subscription_bodies(rest: Rest, body: Any, status: int) -> None:
    instance = await rest.instance()
    assert (await subscribe(rest, instance, body))[0] == status
    assert await topics(rest, instance) == (["5"] if body == {"topics": [5]} else [])
    if body in (b"", b"null"):  # refused before the instance is looked for
        assert (await subscribe(rest, "/consumers/g/instances/none", body))[0] == 422


async def test_no_topics_means_unsubscribe(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    await subscribe(rest, instance, {"topics": ["t"]})
    assert await subscribe(rest, instance, {"topics": []}) == (204, None)
    assert await topics(rest, instance) == []
    assert fake.consumers[0].subscribed == ()
    assert (await rest.read(instance)).code == 500


@pytest.mark.parametrize("name", ["a b", "^.*", "t\0x", "..", "a" * 250, "t\u0435st"])
async def test_an_illegal_topic_is_refused_by_the_read_and_never_reaches_kafka(
    rest: Rest, fake: FakeKafka, name: str
) -> None:
    """reliability.md S3"""
    instance = await rest.instance()
    assert await subscribe(rest, instance, {"topics": [name]}) == (204, None)
    assert await topics(rest, instance) == [name]
    answer = await rest.read(instance)
    assert (answer.status, answer.code) == (400, 40002)
    assert answer.message.startswith("Invalid topics: [")
    assert [call for call, _ in fake.calls] == ["consumer"]


async def test_internal_topics_are_closed(start: Start, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    rest = start()
    instance = await rest.instance()
    assert await subscribe(rest, instance, {"topics": ["t", "__consumer_offsets"]}) == (403, 40301)
    answer = await rest.post(f"{instance}/assignments", {"partitions": [{"topic": "__x", "partition": 0}]}, V2)
    assert (answer.status, answer.code) == (403, 40301)
    opened = start(topics_internal_allow="true")
    instance = await opened.instance()
    assert await subscribe(opened, instance, {"topics": ["__consumer_offsets"]}) == (204, None)


# --- assignments (§6.5) ----------------------------------------------------------------------------------------------


async def assign(rest: Rest, instance: str, *partitions: Any) -> tuple[int, Any]:
    answer = await rest.post(f"{instance}/assignments", {"partitions": list(partitions)}, V2)
    return answer.status, answer.body and answer.code


async def assigned(rest: Rest, instance: str) -> Any:
    return (await rest.get(f"{instance}/assignments")).body["partitions"]


async def test_assign_replaces(rest: Rest) -> None:
    instance = await rest.instance()
    assert await assigned(rest, instance) == []
    assert await assign(rest, instance, T0, T1) == (204, None)
    assert await assigned(rest, instance) == [T0, T1]
    assert await assign(rest, instance, {"topic": "t", "partition": "1"}) == (204, None)
    assert await assigned(rest, instance) == [T1]
    assert await assign(rest, instance) == (204, None)
    assert await assigned(rest, instance) == []
    assert (await rest.read(instance)).code == 500


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"null", 422),
        ({}, 422),
        ({"partitions": None}, 422),
        ({"partitions": [None]}, 422),
        ({"partitions": [{"topic": "", "partition": 0}]}, 422),
        ({"partitions": [{"partition": 0}]}, 422),
        ({"partitions": [{"topic": "t"}]}, 422),
        ({"partitions": [{"topic": "t", "partition": 0, "x": 1}]}, 422),
        ({"partitions": [{"topic": "t", "partition": "x"}]}, 400),
        ({"partitions": {}}, 400),
        ({"offsets": []}, 422),
        ([], 400),
    ],
)
@pytest.mark.parametrize("path", ["assignments", "positions/beginning", "positions/end"])
async def test_bodies_with_partitions(rest: Rest, path: str, body: Any, status: int) -> None:
    instance = await rest.instance()
    answer = await rest.post(f"{instance}/{path}", body, V2)
    assert (answer.status, answer.code) == (status, status)
    assert await assigned(rest, instance) == []


@pytest.mark.parametrize(
    "partition", [{"topic": "t", "partition": -1}, {"topic": "none", "partition": 0}, {"topic": "t", "partition": 9}]
)
async def test_partitions_that_are_not_there_have_no_records(rest: Rest, partition: Any) -> None:
    instance = await rest.instance()
    assert await assign(rest, instance, partition) == (204, None)
    assert await assigned(rest, instance) == [partition]
    assert (await rest.read(instance, "?timeout=10")).body == []


async def test_an_illegal_topic_in_an_assignment(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    illegal = {"topic": "a b", "partition": 0}
    assert await assign(rest, instance, T0, illegal) == (204, None)
    assert await assigned(rest, instance) == [T0, illegal]
    assert (await rest.read(instance)).code == 40002
    assert list(fake.consumers[0].assigned) == [("t", 0)]


async def test_subscription_pattern_and_assignment_exclude_each_other(rest: Rest) -> None:
    message = "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive"
    ways: dict[str, tuple[str, Any]] = {
        "topics": ("subscription", {"topics": ["t"]}),
        "pattern": ("subscription", {"topic_pattern": "t"}),
        "partitions": ("assignments", {"partitions": [T0]}),
    }
    for first, (path, body) in ways.items():
        for second, (other_path, other_body) in ways.items():
            instance = await rest.instance("g", first + second)
            assert (await rest.post(f"{instance}/{path}", body, V2)).status == 204
            answer = await rest.post(f"{instance}/{other_path}", other_body, V2)
            if first == second:
                assert answer.status == 204
            else:
                assert (answer.status, answer.code, answer.message) == (409, 40903, message)
                await rest.delete(f"{instance}/subscription")
                assert (await rest.post(f"{instance}/{other_path}", other_body, V2)).status == 204


async def test_the_assignment_of_a_subscribed_instance_is_that_of_its_group(rest: Rest) -> None:
    instance = await rest.instance()
    await subscribe(rest, instance, {"topics": ["t"]})
    assert await assigned(rest, instance) == []
    await rest.read(instance, "?timeout=1")
    assert await assigned(rest, instance) == [T0, T1]


# --- positions (§6.6) ------------------------------------------------------------------------------------------------


async def test_seek(rest: Rest, fake: FakeKafka) -> None:
    for number in range(4):
        fake.store("t", 0, OutgoingRecord(None, b"%d" % number, None, 1577836800000 + number * 1000))
    instance = await rest.instance()
    await assign(rest, instance, T0)

    async def values_after(path: str, body: Any) -> list[Any]:
        assert (await rest.post(f"{instance}/{path}", body, V2)).status == 204
        return [row["value"] for row in (await rest.read(instance, "?timeout=1")).body]

    assert await values_after("positions", {"offsets": [{**T0, "offset": 2, "metadata": "x"}]}) == [2, 3]
    assert await values_after("positions", {"offsets": [{"topic": "t"}]}) == [0, 1, 2, 3]  # what is left out is 0
    assert await values_after("positions", {}) == []
    assert await values_after("positions/beginning", {"partitions": [T0]}) == [0, 1, 2, 3]
    assert await values_after("positions/beginning", {"partitions": []}) == [0, 1, 2, 3]
    assert await values_after("positions/end", {"partitions": [T0]}) == []
    for timestamp, values in (
        ("2020-01-01T00:00:02Z", [2, 3]),
        ("2020-01-01T02:00:02.000+02:00", [2, 3]),
        (1577836803, [3]),
        (1577836802.5, [3]),
        (1577836800000, []),  # seconds: long after the end
        ("2030-01-01T00:00:00Z", []),
    ):
        assert await values_after("positions", {"timestamps": [{**T0, "timestamp": timestamp}]}) == values


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        ({"offsets": [None]}, 400),
        ({"offsets": [{"partition": 0}]}, 400),
        ({"offsets": [{**T0, "offset": -1}]}, 422),
        ({"offsets": [{**T0, "offset": "x"}]}, 400),
        ({"offsets": [{**T0, "timestamp": 1}]}, 422),
        ({"timestamps": [{**T0, "timestamp": "2020-01-01"}]}, 400),
        ({"timestamps": [{**T0, "timestamp": "yesterday"}]}, 400),
        ({"timestamps": [{**T0, "timestamp": ""}]}, 400),
        ({"timestamps": [{**T0, "timestamp": None}]}, 400),
        ({"timestamps": [T0]}, 400),
        ({"partitions": []}, 422),
    ],
)
async def test_bodies_of_positions(rest: Rest, body: Any, status: int) -> None:
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.post(f"{instance}/positions", body, V2)
    assert (answer.status, answer.code) == (status, status)


async def test_partitions_that_are_not_assigned(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    await subscribe(rest, instance, {"topics": ["t"]})
    for path, body in (
        ("positions", {"offsets": [{**T0, "offset": 1}]}),
        ("positions", {"timestamps": [{**T0, "timestamp": "2020-01-01T00:00:00Z"}]}),
        ("positions/beginning", {"partitions": [T0]}),
        ("positions/end", {"partitions": [T0]}),
    ):
        answer = await rest.post(f"{instance}/{path}", body, V2)
        assert (answer.status, answer.code) == (409, 40903)
        assert answer.message == "Illegal state: No current assignment for partition t-0"
    for illegal in ({"topic": "a b", "partition": 0}, {"topic": "t", "partition": -1}):
        answer = await rest.post(f"{instance}/positions/end", {"partitions": [illegal]}, V2)
        assert (answer.status, answer.code) == (409, 40903)
    other = await rest.instance("g", "idle")
    assert (await rest.post(f"{other}/positions/beginning", {"partitions": []}, V2)).status == 204


# --- offsets (§6.7) --------------------------------------------------------------------------------------------------


async def committed(rest: Rest, instance: str, *partitions: Any) -> Any:
    return (await rest.get(f"{instance}/offsets", {"partitions": list(partitions)})).body["offsets"]


async def test_commit_with_a_body_names_the_last_record(rest: Rest) -> None:
    instance = await rest.instance()
    answer = await rest.post(f"{instance}/offsets", {"offsets": [{**T0, "offset": 1}]}, V2)
    assert (answer.status, answer.body) == (200, [])
    assert await committed(rest, instance, T0, T1) == [{**T0, "offset": 2, "metadata": ""}]
    twice = [{**T0, "offset": 4, "metadata": "a"}, {**T0, "offset": "2", "metadata": "note"}]
    await rest.post(f"{instance}/offsets", {"offsets": twice}, V2)
    note = {**T0, "offset": 3, "metadata": "note"}
    assert await committed(rest, instance, T0, T0) == [note, note]


async def test_commit_without_a_body_takes_what_was_returned(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0", b"1", b"2")
    instance = await rest.instance()
    await subscribe(rest, instance, {"topics": ["t"]})
    for body in (b"", b"null"):
        assert (await rest.post(f"{instance}/offsets", body, V2)).body == []
    assert await committed(rest, instance, T0) == []
    await rest.read(instance, "?max_bytes=3")
    assert (await rest.post(f"{instance}/offsets", b"", V2)).body == []
    assert await committed(rest, instance, T0) == [{**T0, "offset": 2, "metadata": ""}]


@pytest.mark.parametrize("written", [True, False, None])
async def test_commit_without_a_body_is_of_what_the_client_knows_to_have(
    rest: Rest, fake: FakeKafka, written: bool | None
) -> None:
    """It may come by another connection, or process, and be there before it is known whether the reply has left."""
    instance = await rest.instance()
    await assign(rest, instance, T0)
    fake.put("t", b"1", b"2")
    headers = {"accept": embedded("json")}
    reply = await rest.gateway.dispatch(Request(rest.session, "GET", f"{instance}/records", {}, headers, settles=True))
    committing = asyncio.create_task(rest.post(f"{instance}/offsets", b"", V2))
    await settled()
    assert not committing.done()
    assert reply.settle is not None
    reply.settle(written)
    answer = await committing
    if written is None:  # the client may have the records, and the instance gives them again
        assert (answer.status, answer.code) == (500, 50002)
        assert fake.committed == {}
        assert len((await rest.read(instance)).body) == 2
        answer = await rest.post(f"{instance}/offsets", b"", V2)
    assert answer.status == 200
    assert await committed(rest, instance, T0) == ([] if written is False else [{**T0, "offset": 2, "metadata": ""}])


@pytest.mark.parametrize("value", ["true", "false", "x", "", "TRUE"])
async def test_commit_async(rest: Rest, fake: FakeKafka, value: str) -> None:
    instance = await rest.instance()
    answer = await rest.post(f"{instance}/offsets?async={value}", {"offsets": [{**T0, "offset": 1}]}, V2)
    assert (answer.status, answer.body) == (200, [])
    await asyncio.sleep(0)
    assert fake.committed["g", "t", 0] == (2, "")


async def test_a_failed_asynchronous_commit_is_logged(
    rest: Rest, fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await rest.instance()
    fake.fail("commit", KafkaRefused("no"))
    assert (await rest.post(f"{instance}/offsets?async=true", b"", V2)).status == 200
    await asyncio.sleep(0)
    assert "failed: no" in caplog.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"offsets": []}, 200),
        ({}, 422),
        ({"offsets": None}, 422),
        ({"offsets": [None]}, 422),
        ({"offsets": [{}]}, 422),
        ({"offsets": [T0]}, 422),
        ({"offsets": [{"partition": 0, "offset": 0}]}, 422),
        ({"offsets": [{"topic": "t", "offset": 0}]}, 422),
        ({"offsets": [{**T0, "offset": -1}]}, 422),
        ({"offsets": [{"topic": "t", "partition": -1, "offset": 1}]}, 422),
        ({"offsets": [{**T0, "offset": 2**63 - 1}]}, 422),  # one more is stored
        ({"offsets": [{**T0, "offset": 1, "x": 1}]}, 422),
        ({"offsets": [{**T0, "offset": 1, "partition": "a"}]}, 400),
        ({"offsets": {}}, 400),
        ([], 400),
        ({"x": 1}, 422),
        (b"{", 400),
    ],
)
async def test_bodies_of_commits(rest: Rest, fake: FakeKafka, body: Any, status: int) -> None:
    instance = await rest.instance()
    assert (await rest.post(f"{instance}/offsets", body, V2)).status == status
    assert fake.committed == {}


async def test_commits_of_topics_that_are_not_there(rest: Rest) -> None:
    instance = await rest.instance()
    answer = await rest.post(f"{instance}/offsets", {"offsets": [{"topic": "none", "partition": 0, "offset": 1}]}, V2)
    assert (answer.status, answer.code) == (404, 40403)
    answer = await rest.post(f"{instance}/offsets", {"offsets": [{"topic": "a b", "partition": 0, "offset": 1}]}, V2)
    assert (answer.status, answer.code) == (400, 40002)


async def test_committed_offsets(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    for body in (b"", b"null"):
        for path in (instance, "/consumers/g/instances/none"):
            answer = await rest.get(f"{path}/offsets", body)
            assert (answer.status, answer.code) == (404, 40402)
    assert (await rest.get(f"{instance}/offsets", {})).code == 422
    strange = [{"topic": "none", "partition": 0}, {"topic": "t", "partition": -1}, {"topic": "a b", "partition": 0}]
    assert await committed(rest, instance, *strange) == []
    assert fake.calls[-1] == ("committed", [("none", 0)])


# --- reading (§6.8) --------------------------------------------------------------------------------------------------


async def test_read(rest: Rest, fake: FakeKafka) -> None:
    fake.store("t", 0, OutgoingRecord(b'"k"', b"0"))
    fake.store("t", 0, OutgoingRecord(None, None))
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.read(instance)
    assert (answer.status, answer.media_type) == (200, embedded("json"))
    assert answer.body == [
        {"topic": "t", "key": "k", "value": 0, "partition": 0, "offset": 0},
        {"topic": "t", "key": None, "value": None, "partition": 0, "offset": 1},
    ]


@pytest.mark.parametrize(
    ("include", "more"),
    [
        ("headers,timestamp", ("timestamp", "headers")),
        (" timestamp ,", ("timestamp",)),
        ("headers", ("headers",)),
        ("", ()),
    ],
)
async def test_a_read_with_headers_and_timestamps(
    rest: Rest, fake: FakeKafka, include: str, more: tuple[str, ...]
) -> None:
    fake.store("t", 0, OutgoingRecord(None, b"0", None, 17, [("a", b"\xff"), ("a", None)]))
    fake.store("t", 0, OutgoingRecord(None, b"1", None, 18))
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.get(f"{instance}/records?include={quote(include)}", accept=embedded("json"))
    wide = [
        {"timestamp": 17, "headers": [{"name": "a", "value": "/w=="}, {"name": "a", "value": None}]},
        {"timestamp": 18, "headers": []},
    ]
    assert answer.body == [
        {"topic": "t", "key": None, "value": offset, "partition": 0, "offset": offset}
        | {name: members[name] for name in more}
        for offset, members in enumerate(wide)
    ]


@pytest.mark.parametrize(
    ("accept", "more"),
    [
        ('{}; include="headers,timestamp"', {"headers", "timestamp"}),
        ("{};INCLUDE=timestamp", {"timestamp"}),
        ("*/*;include=headers;q=0.5, {};q=0.9", set()),
        ("application/*;q=0.1;include=timestamp, {};q=0.5;include=headers", {"headers"}),
        ("{};include=headers, application/*;q=0.5;include=timestamp", {"headers"}),
        ("text/html;include=headers, {}", set()),
    ],
)
async def test_the_accepted_type_says_what_rows_have(rest: Rest, fake: FakeKafka, accept: str, more: set[str]) -> None:
    fake.put("t", b"0")
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.get(f"{instance}/records", accept=accept.format(embedded("json")))
    assert (answer.status, answer.media_type) == (200, embedded("json"))
    assert set(answer.body[0]) - {"topic", "key", "value", "partition", "offset"} == more


async def test_the_query_says_it_first(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0")
    instance = await rest.instance()
    await assign(rest, instance, T0)
    accept = f"{embedded('json')};include=headers"
    answer = await rest.get(f"{instance}/records?include=", accept=accept)
    assert "headers" not in answer.body[0]
    fake.put("t", b"0")
    answer = await rest.get(f"{instance}/records?include=timestamp", accept=accept)
    assert ("headers" in answer.body[0], "timestamp" in answer.body[0]) == (False, True)


async def test_a_read_that_wants_what_there_is_not(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0")
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.get(f"{instance}/records?include=headers,x", accept=embedded("json"))
    assert (answer.status, answer.body["message"]) == (
        400,
        "include takes headers and timestamp, with commas between; not 'x'.",
    )
    by_type = await rest.get(f"{instance}/records", accept=f"{embedded('json')};include=x")
    assert (by_type.status, by_type.body["message"]) == (answer.status, answer.body["message"])


async def test_binary_is_the_default_format(rest: Rest, fake: FakeKafka) -> None:
    fake.put("u", b"x", b"")
    instance = await rest.instance(format="binary")
    await subscribe(rest, instance, {"topics": ["u"]})
    for accept, media_type in ((None, embedded("binary")), ("*/*", embedded("binary")), (V2, V2)):
        answer = await rest.get(f"{instance}/records", accept=accept)
        assert (answer.media_type, [row["value"] for row in answer.body]) == (media_type, ["eA==", ""])
        await rest.post(f"{instance}/positions/beginning", {"partitions": []}, V2)


@pytest.mark.parametrize(
    ("format", "accept", "status"),
    [
        ("json", embedded("binary"), 406),
        ("json", embedded("avro"), 406),
        ("json", V2, 406),
        ("json", None, 406),
        ("json", "*/*", 406),
        ("binary", embedded("json"), 406),
        ("jsonschema", embedded("json"), 406),
        ("avro", embedded("protobuf"), 200),
        ("protobuf", embedded("avro"), 200),
        ("jsonschema", embedded("jsonschema"), 200),
    ],
)
async def test_the_format_must_be_that_of_the_instance(
    rest: Rest, format: str, accept: str | None, status: int
) -> None:
    instance = await rest.instance(format=format)
    if status == 200:
        await assign(rest, instance, T0)
    answer = await rest.get(f"{instance}/records?timeout=1", accept=accept)  # before it is asked what it reads
    assert answer.status == status
    if status == 406:
        assert answer.code == 40601


async def test_a_read_without_subscription(rest: Rest) -> None:
    instance = await rest.instance()
    answer = await rest.read(instance)
    assert (answer.status, answer.code) == (500, 500)
    assert "not subscribed" in answer.message
    await subscribe(rest, instance, {"topics": ["t"]})
    assert (await rest.read(instance, "?timeout=1")).body == []
    await rest.delete(f"{instance}/subscription")
    assert (await rest.read(instance)).code == 500


async def test_limits(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=90, consumer_request_max_bytes=1000)
    instance = await rest.instance()
    await assign(rest, instance, T0)
    for query, timeout_s, max_bytes, group_s in (
        ("", 0.09, 1000, 10),
        ("?timeout=&max_bytes=", 0.09, 1000, 10),
        ("?timeout=20&max_bytes=10", 0.02, 10, 0.02),
        ("?timeout=60000&max_bytes=9223372036854775807", 0.09, 1000, 10),
        ("?timeout=-5&max_bytes=-7", 0.09, 1000, 10),
        ("?timeout=0&max_bytes=0", 0.0, 1000, 0),
        ("?timeout=10&timeout=x", 0.01, 1000, 0.01),
    ):
        assert (await rest.read(instance, query)).status == 200
        assert last_limits(fake) == ReadLimits(max_bytes, timeout_s, -1, inclusive=False, group_s=group_s)
    for settings, limits in (
        ({"consumer_request_timeout_ms": 50, "fetch_min_bytes": 7}, ReadLimits(1000, 0.05, 7)),
        ({"requestWaitMs": 120, "responseMinBytes": "0"}, ReadLimits(1000, 0.12, 0)),
    ):
        instance = await rest.instance("g2", str(limits.timeout_s), **settings)
        await assign(rest, instance, T0)
        await rest.read(instance)
        assert last_limits(fake) == limits


@pytest.mark.parametrize(
    "query", ["timeout=x", "max_bytes=x", "timeout=1.5", "timeout=" + "9" * 20, "max_bytes=" + str(2**63)]
)
async def test_bad_limits(rest: Rest, query: str) -> None:
    instance = await rest.instance()
    await assign(rest, instance, T0)
    answer = await rest.read(instance, "?" + query)
    assert (answer.status, answer.code) == (404, 404)


async def test_max_bytes_loses_nothing_and_never_gets_stuck(rest: Rest, fake: FakeKafka) -> None:
    values = [b"1" * 40, b"2" * 40, b"3" * 500, b"4" * 40]
    fake.put("t", *values)
    instance = await rest.instance(format="binary")
    await assign(rest, instance, T0)
    sizes = []
    for _ in range(3):
        answer = await rest.read(instance, "?max_bytes=100", "binary")
        sizes.append(len(answer.body))
    assert sizes == [2, 1, 1]  # the one that is larger than max_bytes comes alone


@pytest.mark.timing
async def test_timeout_0_polls(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    await assign(rest, instance, T0)
    began = time.monotonic()
    assert (await rest.read(instance, "?timeout=0")).body == []
    assert time.monotonic() - began < 0.1
    fake.put("t", b"1")
    assert len((await rest.read(instance, "?timeout=0")).body) == 1


async def test_a_waiting_read_answers_as_soon_as_there_is_something(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instance = await rest.instance()
    await assign(rest, instance, T0)
    reading = asyncio.create_task(rest.read(instance))
    await settled()
    fake.put("t", b"false")
    assert [row["value"] for row in (await asyncio.wait_for(reading, 10)).body] == [False]


async def test_an_undecodable_record_stays_at_the_head(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"1", b"{oops", b"2")
    instance = await rest.instance()
    await assign(rest, instance, T0)
    for _ in range(2):
        answer = await rest.read(instance)
        assert (answer.status, answer.code) == (408, 40801)
        assert "t-0-1" in answer.message
    await rest.post(f"{instance}/positions", {"offsets": [{**T0, "offset": 2}]}, V2)
    assert [row["value"] for row in (await rest.read(instance)).body] == [2]


async def test_failures_while_reading(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    await assign(rest, instance, T0)
    fake.fail("read", KafkaAuthorization("Not authorized to access topics: [t]"))
    answer = await rest.read(instance)
    assert (answer.status, answer.code) == (403, 40301)


async def test_a_read_during_a_delete_answers_what_it_has(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instance = await rest.instance()
    await subscribe(rest, instance, {"topics": ["t"]})
    reading = asyncio.create_task(rest.read(instance))
    await settled()
    assert (await rest.delete(instance)).status == 204
    answer = await asyncio.wait_for(reading, 10)
    assert (answer.status, answer.body) == (200, [])


async def test_many_reads_wait_and_shutting_down_ends_them(start: Start) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instances = [await rest.instance("g", f"c{number}") for number in range(200)]
    for instance in instances:
        await assign(rest, instance, T0)
    reads = [asyncio.create_task(rest.read(instance)) for instance in instances]
    await settled()
    assert not any(read.done() for read in reads)
    rest.services.drain()
    answers = await asyncio.wait_for(asyncio.gather(*reads), 10)
    assert {(answer.status, str(answer.body)) for answer in answers} == {(200, "[]")}


async def test_a_client_that_leaves_loses_nothing(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instance = await rest.instance()
    await assign(rest, instance, T0)
    reading = asyncio.create_task(rest.read(instance))
    await settled()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    fake.put("t", b"1")
    assert [row["value"] for row in (await rest.read(instance)).body] == [1]


async def test_two_reads_share_the_records(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=300)
    instance = await rest.instance()
    await assign(rest, instance, T0)
    reads = [asyncio.create_task(rest.read(instance)) for _ in range(2)]
    for number in range(10):
        fake.put("t", b"%d" % number)
        await settled()
    values = [row["value"] for read in reads for row in (await read).body]
    while more := (await rest.read(instance, "?timeout=0")).body:
        values += [row["value"] for row in more]
    assert sorted(values) == list(range(10))


# --- generations -----------------------------------------------------------------------------------------------------


async def test_generations_do_not_see_each_others_instances(rest: Rest) -> None:
    await rest.instance("g", "two")
    assert (await rest.post("/consumers/g", {"name": "one"}, V1)).status == 200
    assert (await rest.delete("/consumers/g/instances/one", V2)).code == 40403
    assert (await rest.delete("/consumers/g/instances/two", V1)).code == 40403
    assert (await rest.post("/consumers/g", {"name": "two"}, V1)).status == 200  # another instance


async def test_a_bare_delete_goes_to_the_generation_that_has_the_instance(rest: Rest) -> None:
    await rest.instance("g", "two")
    await rest.post("/consumers/g", {"name": "one"}, V1)
    for name in ("one", "two"):
        assert (await rest.delete(f"/consumers/g/instances/{name}")).status == 204
        assert (await rest.delete(f"/consumers/g/instances/{name}")).code == 40403


async def test_kafka_refuses_a_consumer(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("consumer", BrokerNotAvailable("no broker"))
    answer = await rest.post("/consumers/g", {"name": "c"}, V2)
    assert (answer.status, answer.code) == (503, 50302)
    await rest.instance("g", "c")  # the name is free


def test_offsets_are_exact() -> None:
    assert PartitionOffset("t", 0, 2**53 + 1).offset == 2**53 + 1


async def test_a_commit_without_a_topic_that_is_gone(start: Start, fake: FakeKafka) -> None:
    """The rest is stored, and the client is told in a header: 40403 is for instances."""
    rest = start(errors_help=True)
    instance = await rest.instance()
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    lost = PartlyCommitted([("gone", 0), ("t", 99)])
    fake.fail("commit", lost, lost, lost)
    answer = await rest.post(f"{instance}/offsets")
    assert (answer.status, answer.body) == (200, [])
    assert "partition 0 of gone, partition 99 of t" in answer.headers["Warning"]
    named = {"offsets": [{"topic": "t", "partition": 99, "offset": 1}]}
    answer = await rest.post(f"{instance}/offsets", named, V2)
    assert (answer.status, answer.code) == (500, 50003)
    assert "partition 99 of t" in answer.body["message"]
    assert answer.body["message"].endswith("No offset was stored; repeating it does not help.")
    assert answer.body["help"] == PartlyCommitted.help  # no "Send it again"
    named["offsets"].append({"topic": "t", "partition": 0, "offset": 1})
    answer = await rest.post(f"{instance}/offsets", named, V2)
    assert answer.body["message"].endswith("The offsets of the others were stored; repeating it does not help.")
