"""Requests and streams that wait for a schema: their order, and what befalls the others (kafka-rest-http.md §4.5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kafka_gateway.codecs.json_patterns import SlowPattern
from kafka_gateway.kafka.ports.topics import ConfigEntry
from kafka_gateway.registry import finder
from tests.registry.fake_registry import FakeRegistry, never, server_error, serving
from tests.services.conftest import Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.services.test_streams import Client
from tests.services.test_v3_produce import reports_of
from tests.waiting import settled, until

AVRO, JSON = embedded("avro"), embedded("json")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as found:
        yield found


@pytest.fixture
async def avro(start: Start, registry: FakeRegistry) -> AsyncIterator[Rest]:
    rest = start(schema_registry_url=(registry.url,))
    async with rest.schemas.lifespan():
        yield rest


async def test_requests_of_one_connection_keep_their_order(avro: Rest, registry: FakeRegistry) -> None:
    release = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await release.wait()
        registry.misbehave = None
        return await registry.answer(request)

    registry.misbehave = slow
    body = {"value_schema": '"int"', "records": [{"value": 1, "partition": 0}]}
    first = asyncio.create_task(avro.post("/topics/t", body, AVRO))
    await until(lambda: registry.asked)
    second = asyncio.create_task(avro.produce("t", {"value": 2, "partition": 0}))
    other = avro.as_principal("somebody else")
    assert (await other.produce("t", {"value": 3, "partition": 0})).body["offsets"][0]["offset"] == 0
    assert not second.done()
    third = asyncio.create_task(avro.produce("t", {"value": 4, "partition": 0}))
    given_up = asyncio.create_task(avro.produce("t", {"value": 5, "partition": 0}))
    last = asyncio.create_task(avro.produce("t", {"value": 6, "partition": 0}))
    await settled()
    given_up.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await given_up
    await settled()
    assert not last.done()  # it does not pass those before because one of them has gone
    release.set()
    answers = [await each for each in (first, second, third, last)]
    assert [answer.body["offsets"][0]["offset"] for answer in answers] == [1, 2, 3, 4]
    # Once the schema is known nobody waits for anything.
    registry.misbehave = slow
    assert (await avro.post("/topics/t", body, AVRO)).body["value_schema_id"] == 1


async def test_a_long_batch_is_encoded_and_keeps_its_order(avro: Rest) -> None:
    body: dict[str, Any] = {"value_schema": '"string"', "records": [{"value": "x" * 1000, "partition": 0}] * 200}
    long = asyncio.create_task(avro.post("/topics/t", body, AVRO))
    await asyncio.sleep(0)
    short = asyncio.create_task(avro.produce("t", {"value": 1, "partition": 0}))
    assert [row["offset"] for row in (await long).body["offsets"]] == list(range(200))
    assert (await short).body["offsets"][0]["offset"] == 200


async def test_no_schema_is_registered_for_a_topic_that_cannot_be(avro: Rest, registry: FakeRegistry) -> None:
    body = {"value_schema": '"int"', "records": [{"value": 1}]}
    record = json.dumps({"value": {"type": "AVRO", "schema": '"int"', "data": 1}}).encode()
    for topic, said in (("a%2Fb", "Invalid topics"), ("__consumer_offsets", "internal")):
        for generation in ("v2", "v1"):
            answer = await avro.post(f"/topics/{topic}", body, embedded("avro", generation))
            assert said in answer.body["offsets"][0]["error"]
        for times in (1, 2):
            reports = await reports_of(avro, record * times, f"/v3/clusters/-/topics/{topic}/records")
            assert [said in report["message"] for report in reports] == [True] * times
    assert registry.subjects == {}


ENUM = 'syntax = "proto3"; enum E { A = 0; }'
"""A schema without a message: nothing can be written with it."""


@pytest.mark.parametrize(
    ("format", "topic", "record", "schemas", "said"),
    [
        ("avro", "t", {"value": "x"}, {"value": '"int"'}, "value: expected int"),
        ("avro", "t", {"key": 1, "value": "x"}, {"key": '"int"', "value": '"int"'}, "value: expected int"),
        ("avro", "t", {"key": "x", "value": 1}, {"key": '"int"', "value": '"int"'}, "key: expected int"),
        ("avro", "t", {"key": 1, "value": 1}, {"key": '"int"', "value": '"nothing"'}, "Invalid schema"),
        ("jsonschema", "t", {"value": 1}, {"value": '{"type": "string"}'}, "value"),
        ("protobuf", "t", {"value": {}}, {"value": ENUM}, "no message"),
        ("avro", "none", {"value": 1}, {"value": '"int"'}, ""),
        ("avro", "t", {"value": 1, "partition": 2}, {"value": '"int"'}, "no partition 2"),
        ("avro", "t", {"value": "x" * 1000}, {"value": '"string"'}, "at most 900"),
        # The registry takes the first of the two, and would not take the second.
        ("avro", "t", {"key": 1, "value": 1}, {"key": '"int"', "value": '"long"'}, "incompatible"),
    ],
)
async def test_a_refused_request_leaves_no_schema_behind(
    start: Start, registry: FakeRegistry, fake: FakeKafka, format: str, topic: str, record: Any, schemas: Any, said: str
) -> None:
    async def judge(request: web.Request) -> web.StreamResponse:
        if "compatibility" in request.path and "value" in request.path and said == "incompatible":
            return web.json_response({"is_compatible": False})
        return await registry.answer_well(request)

    registry.misbehave = judge
    fake.configs["t"] = [ConfigEntry("max.message.bytes", "900", True)]
    rest = start(schema_registry_url=(registry.url,), auto_create_topics_enable=False)
    given = {f"{part}_schema": text for part, text in schemas.items()}
    body = {**given, "records": [record]}
    data = {
        part: {"type": format.upper(), "schema": schemas[part], "data": record[part]}
        for part in record
        if part in schemas
    }
    v3 = {"partition_id": record.get("partition"), **data}
    async with rest.schemas.lifespan():
        for generation in ("v1", "v2") if format == "avro" and "partition" not in record else ("v2",):
            answer = await rest.post(f"/topics/{topic}", body, embedded(format, generation))
            assert said in json.dumps(answer.body)
            assert answer.status >= 400 or answer.body["offsets"][0]["error_code"], answer.body
        for times in (1, 2):
            path = f"/v3/clusters/-/topics/{topic}/records"
            for report in await reports_of(rest, json.dumps(v3).encode() * times, path):
                assert (report["error_code"] >= 400, said in report["message"]) == (True, True), report
        entries = {"entries": [{"id": "1", **v3}]}
        answer = await rest.post(f"/v3/clusters/-/topics/{topic}/records:batch", entries, "application/json")
        assert len(answer.body["failures"]) == 1, answer.body
    assert registry.subjects == {}
    assert not any(log for logs in fake.logs.values() for log in logs)


async def test_two_new_schemas_of_one_request_are_registered(
    avro: Rest, registry: FakeRegistry, fake: FakeKafka
) -> None:
    body = {"key_schema": '"int"', "value_schema": '"long"', "records": [{"key": 1, "value": 2, "partition": 0}]}
    answer = await avro.post("/topics/t", body, AVRO)
    assert (answer.body["key_schema_id"], answer.body["value_schema_id"]) == (1, 2)
    key = {"type": "AVRO", "schema": '"string"', "data": "x"}
    record = json.dumps({"partition_id": 0, "key": key, "value": {**key, "schema": '"bytes"'}}).encode()
    (report,) = await reports_of(avro, record, "/v3/clusters/-/topics/t/records")
    assert (report["key"]["schema_id"], report["value"]["schema_id"], report["value"]["schema_version"]) == (3, 4, 2)
    assert [(each.key(), each.value()) for each in fake.logs["t"][0]] == [
        (framed(1, b"\2"), framed(2, b"\4")),
        (framed(3, b"\2x"), framed(4, b"x")),
    ]


async def test_what_may_take_long_is_judged_on_a_thread(
    avro: Rest, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    judged = SlowPattern.refusal

    def refusal(self: SlowPattern, text: str) -> str:
        threads.append(threading.current_thread())
        return judged(self, text)

    monkeypatch.setattr(SlowPattern, "refusal", refusal)
    schema = json.dumps({"pattern": r"^(?=.*\d)[\w-.]+$"})
    v3 = "/v3/clusters/-/topics/t/records"
    for _ in range(2):  # unknown, and known
        for datum, right in (("a-1", True), ("a", False)):
            body = {"value_schema": schema, "records": [{"value": datum}]}
            answer = await avro.post("/topics/t", body, embedded("jsonschema"))
            assert (answer.status, "does not match" in str(answer.body)) == ((200, False) if right else (400, True))
            value = {"type": "JSONSCHEMA", "schema": schema, "data": datum}
            answer = await avro.post(v3, {"value": value}, "application/json")
            assert answer.body["error_code"] == (200 if right else 400), answer.body
    assert len(threads) >= 8
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (
            {"value_schema": '"int"', "records": [{"value": 1}, {"value": "x"}]},
            400,
            400,
            "records[1].value: expected int",
        ),
        ({"value_schema": '"int"', "records": [{"key": 1}]}, 422, 42201, "key schema"),
        ({"value_schema": '"int"', "records": [{}]}, 400, 400, "records[0].value: expected int, not null"),
        ({"records": [{"value": 1}]}, 422, 42202, "value schema"),
        ({"value_schema": "nothing", "records": [{"value": 1}]}, 422, 42205, "Invalid schema"),
        ({"value_schema_id": 77, "records": [{"value": 1}]}, 422, 42207, "schemaId = 77"),
        ({"value_schema_id": 1, "value_schema": '"int"', "records": [{"value": 1}]}, 400, 400, "Only one of"),
    ],
)
async def test_refusals(avro: Rest, body: Any, status: int, code: int, said: str) -> None:
    answer = await avro.post("/topics/t", body, AVRO)
    assert (answer.status, answer.code) == (status, code)
    assert said in answer.message
    assert (await avro.produce("t", {"value": 1, "partition": 0})).body["offsets"][0]["offset"] == 0  # nothing was sent


@pytest.mark.parametrize(
    ("schema", "datum"),
    [
        ({"schema": '{"type":"record","name":"R","fields":[{"name":"n","type":"int"}]}'}, {"n": "x" * 400}),
        ({"schema": '{"type":"record",\n"name":"R"}'}, {}),
        ({"schema": '{"type":"enum","name":"E","symbols":[1]}'}, "x"),
        ({"schema_id": 77}, 1),
    ],
)
async def test_v3_tells_the_reasons_that_v2_tells(avro: Rest, schema: Any, datum: Any) -> None:
    given = {f"value_{name}": value for name, value in schema.items()}
    told = (await avro.post("/topics/t", {**given, "records": [{"value": datum}]}, AVRO)).message
    value = {**({"type": "AVRO"} if "schema" in schema else {}), **schema, "data": datum}
    v3 = await avro.post("/v3/clusters/-/topics/t/records", {"value": value}, "application/json")
    assert v3.code in (400, 422)
    assert " ".join(told.replace("records[0].", "").split()) in " ".join(v3.message.split())
    assert "\n" not in v3.message


async def test_null_where_the_schema_allows_it(avro: Rest) -> None:
    body = {"value_schema": json.dumps(["null", "int"]), "records": [{"value": None}, {"value": {"int": 1}}]}
    assert (await avro.post("/topics/t", body, AVRO)).status == 200


# --- streams that meet a schema which nobody has asked for yet ------------------------------------------------------


def framed(id: int, payload: bytes) -> bytes:
    return b"\0" + id.to_bytes(4, "big") + payload


@pytest.mark.parametrize("limit", ["", "&limit=3"])
async def test_a_stream_waits_and_keeps_its_order(
    avro: Rest, registry: FakeRegistry, fake: FakeKafka, limit: str
) -> None:
    registry.add("t-value", '"int"')
    fake.put("t", framed(1, b"\2"))
    client = await Client(avro).open(f"/topics/t/stream?format=auto&offset=earliest&until=end{limit}")
    await client.named("ready")
    fake.put("t", b"2")
    fake.put("t", framed(1, b"\6"))
    values: list[Any] = []
    while (event := await client.event()).name == "record":
        values += [json.loads(line)["value"] for line in event.data.splitlines()]
    assert event.name == "end"
    assert values in ([1], [1, 2], [1, 2, 3])  # what was there at its end, and in this order
    assert len([path for _, path, _ in registry.asked if path.endswith("/schemas/ids/1")]) == 1


async def test_a_stream_that_is_left_while_it_waits(avro: Rest, registry: FakeRegistry, fake: FakeKafka) -> None:
    registry.misbehave = never
    fake.put("t", framed(1, b"\2"))
    client = await Client(avro).open("/topics/t/stream?format=avro&offset=earliest")
    await client.named("ready")
    await until(lambda: registry.asked)
    await client.leave()
    assert fake.tails.open_tails == []


async def test_a_stream_goes_on_behind_a_schema_that_nobody_has(
    avro: Rest, registry: FakeRegistry, fake: FakeKafka
) -> None:
    fake.put("t", framed(9, b"\2"))
    fake.put("t", b"2")
    client = await Client(avro).open("/topics/t/stream?format=auto&offset=earliest&until=end")
    await client.named("ready")
    values: list[Any] = []
    while (event := await client.event()).name == "record":
        values += [json.loads(line)["value"] for line in event.data.splitlines()]
    assert values == ["AAAAAAkC", 2]


# --- where a schema is registered, which changes after it was read ---------------------------------------------------


@pytest.mark.parametrize("known", ["read", "written"])
async def test_rows_name_the_subject_of_their_own_topic_however_late_it_comes(
    avro: Rest, registry: FakeRegistry, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    async def schemas_of(topic: str) -> list[Any]:
        client = await Client(avro).open(f"/topics/{topic}/stream?format=auto&offset=earliest&until=end")
        await client.named("ready")
        found: list[Any] = []
        while (event := await client.event()).name == "record":
            found += [json.loads(line)["value_schema"] for line in event.data.splitlines()]
        return found

    for topic in ("first", "u", "v", "w", "x"):
        fake.add_topic(topic)
    registry.add("first-value", '"string"')
    fake.put("first", framed(1, b"\2x"))
    assert await schemas_of("first") == [{"id": 1, "subject": "first-value", "version": 1}]
    # The topic has had records of the schema before the gateway registers it there, or has not.
    fake.put("t", framed(1, b"\2x"))
    before = await schemas_of("t") if known == "read" else [{"id": 1}]
    assert before == [{"id": 1}]
    body = {"value_schema": '"string"', "records": [{"value": "y", "partition": 0}]}
    assert (await avro.post("/topics/t", body, AVRO)).status == 200
    assert await schemas_of("t") == [{"id": 1, "subject": "t-value", "version": 1}] * 2
    # Somebody else registers it.
    for _ in range(50):
        fake.put("u", framed(1, b"\2x"))
    asked = len(registry.asked)
    assert await schemas_of("u") == [{"id": 1}] * 50
    assert len(registry.asked) == asked + 1
    registry.add("u-value", '"string"', id=1)
    assert await schemas_of("u") == [{"id": 1}] * 50  # that was asked just now
    assert len(registry.asked) == asked + 1
    monkeypatch.setattr(finder, "PLACES_FRESH_S", 0.0)
    fake.put("x", framed(1, b"\2x"))
    assert await schemas_of("x") == [{"id": 1}]
    registry.add("x-value", '"string"', id=1)

    async def registered() -> bool:
        return await schemas_of("x") == [{"id": 1, "subject": "x-value", "version": 1}]

    await until(registered)
    registry.add("v-value", '"string"', id=1)
    fake.put("v", framed(1, b"\2x"))
    assert await schemas_of("v") == [{"id": 1, "subject": "v-value", "version": 1}]
    # Without a registry the rows come as they are known.
    registry.misbehave = server_error
    fake.put("w", framed(1, b"\2x"))
    assert await schemas_of("w") == [{"id": 1}]
