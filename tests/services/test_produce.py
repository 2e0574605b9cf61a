"""Producing: kafka-rest-http.md §4, §5.3, §6.3 and the observed table; cases of conformance v2.produce."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.errors import ServiceError, TooManyRequests, UnknownTopicOrPartition
from kafka_gateway.kafka_errors import (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaError,
    KafkaRetriable,
    OutcomeUnknown,
    RecordTooLarge,
)
from kafka_gateway.records import OutgoingRecord
from tests.services.conftest import V1, Rest, embedded
from tests.services.fake_kafka import FakeKafka

BINARY, JSON, AVRO = embedded("binary"), embedded("json"), embedded("avro")


def sent(fake: FakeKafka) -> list[OutgoingRecord]:
    return [record for name, call in fake.calls if name == "send" for record in call[1]]  # type: ignore[index]


@pytest.fixture(params=["by dispatch", "at once"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs over both ways."""
    monkeypatch.setattr(Rest, "at_once", request.param == "at once")


async def test_the_reply(rest: Rest) -> None:
    answer = await rest.produce("t", {"value": 1, "partition": 1}, {"value": 2, "partition": 1})
    assert answer.status == 200
    assert answer.body == {
        "offsets": [
            {"partition": 1, "offset": 0, "error_code": None, "error": None},
            {"partition": 1, "offset": 1, "error_code": None, "error": None},
        ],
        "key_schema_id": None,
        "value_schema_id": None,
    }


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_falsy_json_values_survive(rest: Rest, fake: FakeKafka, generation: str) -> None:
    values = [0, False, "", [], {}, 0.0, None]
    await rest.produce("u", *({"key": each, "value": each} for each in values), generation=generation)
    stored = [b"0", b"false", b'""', b"[]", b"{}", b"0.0", None]
    assert [(record.key, record.value) for record in sent(fake)] == [(each, each) for each in stored]


async def test_timestamp_and_headers(rest: Rest, fake: FakeKafka) -> None:
    headers = [{"name": "a", "value": "eA=="}, {"name": "b", "value": None}, {"name": "c"}]
    await rest.produce(
        "u",
        {"value": 1, "timestamp": 1577836800123, "headers": headers},
        {"value": 1, "timestamp": "2020-01-01T00:00:00.123Z", "headers": headers},
        {"value": 1, "timestamp": None, "headers": None},
        {"value": 1, "timestamp": "1577836800123", "headers": [{"name": 5, "value": "eA"}]},
    )
    first, second, third, fourth = sent(fake)
    assert first.timestamp_ms == second.timestamp_ms == fourth.timestamp_ms == 1577836800123
    assert first.headers == second.headers == [("a", b"x"), ("b", None), ("c", None)]
    assert (third.timestamp_ms, third.headers) == (0, None)
    assert fourth.headers == [("5", b"x")]


async def test_the_partition_of_a_record_beats_that_of_the_path(rest: Rest, fake: FakeKafka) -> None:
    answer = await rest.post(
        "/topics/t/partitions/1", {"records": [{"value": "eA==", "partition": 0}, {"value": "eA=="}]}, BINARY
    )
    assert [row["partition"] for row in answer.body["offsets"]] == [0, 1]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        # the whole body
        (JSON, b"", 422, "The body must not be null"),
        (JSON, b" \r\n\t", 422, "The body must not be null"),
        (JSON, b" {", 400, "The body is not JSON"),
        (JSON, b"null", 422, "The body must not be null"),
        (JSON, {}, 422, "records must not be empty (was [])"),
        (JSON, {"records": []}, 422, "records must not be empty (was [])"),
        (JSON, {"records": None}, 422, "records must not be empty (was [])"),
        (JSON, {"records": {"value": 1}}, 400, "records must be a list, not an object."),
        (JSON, [], 400, "The body must be an object, not a list."),
        (JSON, b'"x"', 400, "The body must be an object, not a text."),
        (JSON, b"true", 400, "The body must be an object, not a boolean."),
        (JSON, b'{"records":[{"value":1}]', 400, "The body is not JSON"),
        (JSON, b'{"records":[{"value":1}]} x', 400, "The body is not JSON"),
        (JSON, b'{"records":[{"value":1}]}{}', 400, "The body is not JSON"),
        (JSON, b'{"records":[{"value":NaN}]}', 400, "The body is not JSON"),
        (JSON, rb'"\ud800"', 400, "The body is not JSON: a string holds half of a surrogate pair"),
        (JSON, b'{"records":[{"value":"\xff"}]}', 400, "The body is not valid UTF-8"),
        (JSON, {"records": [{"value": 1}], "colour": "red"}, 422, "Unrecognized field: colour"),
        (JSON, {"Records": [{"value": 1}]}, 422, "Unrecognized field: Records"),
        # records
        (JSON, {"records": [{"value": 1}, None]}, 400, "records[1] must be an object, not null."),
        (JSON, {"records": [1]}, 400, "records[0] must be an object, not a number."),
        (JSON, {"records": [[]]}, 400, "records[0] must be an object, not a list."),
        (JSON, {"records": [{}, {"Value": 1}]}, 422, "Unrecognized field: Value (in records[1])"),
        # data
        (
            BINARY,
            {"records": [{}, {"value": 1}]},
            400,
            "Bad Request: data=1 is not a base64 string. At records[1].value.",
        ),
        (BINARY, {"records": [{"value": True}]}, 400, "Bad Request: data=true is not a base64 string."),
        (BINARY, {"records": [{"key": "****"}]}, 400, 'Bad Request: data="****" is not a valid base64 string. At re'),
        (BINARY, {"records": [{"value": "_-8="}]}, 400, 'Bad Request: data="_-8=" is not a valid base64 string.'),
        (BINARY, {"records": [{"value": "e"}]}, 400, 'Bad Request: data="e" is not a valid base64 string.'),
        # partitions
        (JSON, {"records": [{"partition": -1}]}, 422, "records[0].partition must be greater than or equal to 0"),
        (JSON, {"records": [{"partition": "x"}]}, 400, 'records[0].partition must be an integer: "x" is none.'),
        (JSON, {"records": [{"partition": True}]}, 400, "records[0].partition must be an integer, not a boolean."),
        (JSON, {"records": [{"partition": {}}]}, 400, "records[0].partition must be an integer, not an object."),
        (JSON, {"records": [{"partition": 2**31}]}, 400, "records[0].partition is out of range"),
        # additions
        (JSON, {"records": [{"timestamp": -1}]}, 422, "records[0].timestamp must be greater than or equal to 0"),
        (
            JSON,
            {"records": [{"timestamp": 0}]},
            422,
            "records[0].timestamp must be later than the first millisecond of",
        ),
        (
            JSON,
            {"records": [{"timestamp": "1970-01-01T00:00:00Z"}]},
            422,
            "records[0].timestamp must be later than the",
        ),
        (JSON, {"records": [{"timestamp": "soon"}]}, 400, "records[0].timestamp must be milliseconds since 1970 or an"),
        (JSON, {"records": [{"headers": {}}]}, 400, "records[0].headers must be a list, not an object."),
        (JSON, {"records": [{"headers": [{"value": None}]}]}, 422, "records[0].headers[0].name must not be null"),
        (JSON, {"records": [{"headers": [{"name": "a", "value": "?"}]}]}, 400, "Bad Request: data="),
        (
            JSON,
            {"records": [{"headers": [{"name": "a\0b"}]}]},
            422,
            "records[0].headers[0].name holds the character NUL",
        ),
    ],
)
async def test_refused_bodies(
    rest: Rest, fake: FakeKafka, content_type: str, body: Any, status: int, message: str
) -> None:
    answer = await rest.post("/topics/t", body, content_type)
    assert (answer.status, answer.code) == (status, status)
    assert answer.message.startswith(message)
    assert fake.calls == []  # not even the good records of the request were sent


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ({"records": [{}]}, [OutgoingRecord(None, None)]),
        ({"records": [{"value": "eA"}]}, [OutgoingRecord(None, b"x")]),
        ({"records": [{"value": "eA==="}]}, [OutgoingRecord(None, b"x")]),
        ({"records": [{"value": "eB=="}]}, [OutgoingRecord(None, b"x")]),
        ({"records": [{"value": ""}]}, [OutgoingRecord(None, b"")]),
        ({"records": [{"value": None, "partition": "1"}]}, [OutgoingRecord(None, None, 1)]),
        ({"records": [{"partition": 0.7}]}, [OutgoingRecord(None, None, 0)]),
        ({"records": [{"partition": ""}]}, [OutgoingRecord(None, None, None)]),
        ({"records": [{}], "value_schema": "x", "key_schema_id": "7"}, [OutgoingRecord(None, None)]),
        (
            b'{"records":[{}],"records":[{"value":"eA=="},{"value":"eQ=="}]}',
            [OutgoingRecord(None, v) for v in (b"x", b"y")],
        ),
        (b'\xef\xbb\xbf{"records":[{"value":"eA=="}]}', [OutgoingRecord(None, b"x")]),
    ],
)
async def test_accepted_bodies(rest: Rest, fake: FakeKafka, body: Any, records: list[OutgoingRecord]) -> None:
    assert (await rest.post("/topics/t", body, BINARY)).status == 200
    assert sent(fake) == records


async def test_a_body_without_content_type_is_binary(rest: Rest, fake: FakeKafka) -> None:
    assert (await rest.post("/topics/t", {"records": [{"value": "eA=="}]})).status == 200
    assert sent(fake)[0].value == b"x"


async def test_a_negative_partition_in_the_path(rest: Rest) -> None:
    assert (await rest.post("/topics/t/partitions/-1", {"records": [{}]}, BINARY)).code == 422


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (KafkaRetriable("again"), 50003, 200),
        (OutcomeUnknown(), 50003, 200),
        (UnknownTopicOrPartition(), 50003, 200),
        (KafkaError("never"), 50002, 200),
        (RecordTooLarge("too large"), 50002, 200),
        (KafkaAuthorization("Not authorized to access topics: [t]"), 40301, 403),
        (KafkaAuthentication("who?"), 40101, 401),
    ],
)
async def test_failed_records(rest: Rest, fake: FakeKafka, error: ServiceError, code: int, status: int) -> None:
    fake.fail("delivery", error)
    answer = await rest.produce("u", {"value": 1}, {"value": 2})
    assert answer.status == status
    assert answer.body["offsets"] == [
        {"partition": None, "offset": None, "error_code": code, "error": error.message},
        {"partition": 0, "offset": 0, "error_code": None, "error": None},
    ]
    fake.fail("delivery", error)
    answer = await rest.produce("u", {"value": 1}, {"value": 2}, generation="v1")
    assert answer.status == 200  # v1 knows 50002 and 50003 only
    assert answer.body["offsets"][0]["error_code"] == (50003 if code == 50003 else 50002)


async def test_authentication_outranks_authorization(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("delivery", KafkaAuthentication(), KafkaAuthorization())
    assert (await rest.produce("u", {"value": 1}, {"value": 2})).status == 401


async def test_a_failure_that_is_not_kafkas_fails_the_request(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("delivery", ServiceError("?"))
    answer = await rest.produce("u", {"value": 1})
    assert (answer.status, answer.code) == (500, 500)
    assert answer.message == "Unexpected non-Kafka exception returned by Kafka"


async def test_records_reach_kafka_in_the_order_of_dispatch(rest: Rest, fake: FakeKafka) -> None:
    """Nothing is awaited between reading a body and sending its records (style.md §6)."""
    bodies = [{"value": "eA", "partition": str(n % 2)} if n % 3 else {"value": "eA=="} for n in range(60)]
    paths = ["/topics/t", "/topics/t/partitions/1"]
    requests = [
        asyncio.create_task(rest.post(paths[n % 2], {"records": [{**body, "timestamp": n + 1}]}, BINARY))
        for n, body in enumerate(bodies)
    ]
    await asyncio.sleep(0)  # one turn of the loop: every request has begun, and every one has sent
    assert [record.timestamp_ms for record in sent(fake)] == list(range(1, 61))
    assert {answer.status for answer in await asyncio.gather(*requests)} == {200}


async def test_a_full_queue_refuses_the_request(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("send", TooManyRequests("full"))
    answer = await rest.produce("u", {"value": 1})
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")


@pytest.mark.parametrize("topic", ["a" * 250, "a%20b", "..", "%5E.*"])
async def test_illegal_topics_fail_each_record_and_never_reach_kafka(rest: Rest, fake: FakeKafka, topic: str) -> None:
    for generation in ("v1", "v2"):
        answer = await rest.produce(topic, {"value": 1}, {"value": 2}, generation=generation)
        assert answer.status == 200
        assert [row["error_code"] for row in answer.body["offsets"]] == [50002, 50002]
    assert fake.calls == []


async def test_internal_topics(start: Any, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    closed = start()
    answer = await closed.produce("__consumer_offsets", {"value": 1})
    assert (answer.status, answer.body["offsets"][0]["error_code"]) == (403, 40301)
    assert (await closed.produce("__consumer_offsets", {"value": 1}, generation="v1")).body["offsets"][0][
        "error_code"
    ] == 50002
    opened = start(topics_internal_allow="true")
    assert (await opened.produce("__consumer_offsets", {"value": 1})).status == 200


async def test_an_unknown_topic(rest: Rest, fake: FakeKafka) -> None:
    assert (await rest.produce("made", {"value": 1})).status == 200
    fake.auto_create = False
    answer = await rest.produce("other", {"value": 1})
    assert (answer.status, answer.code) == (404, 40403)
    answer = await rest.produce("other", {"value": 1}, generation="v1")
    assert (answer.status, answer.code) == (404, 40401)
    assert "other" not in fake.logs


async def test_v1_checks_the_partition_of_the_path_first(rest: Rest, fake: FakeKafka) -> None:
    body = {"records": [{"value": "eA=="}]}
    v1 = embedded("binary", "v1")
    assert (await rest.post("/topics/t/partitions/2", body, v1)).code == 40402
    assert (await rest.post("/topics/t/partitions/1", body, v1)).status == 200
    assert (await rest.post("/topics/t/partitions/1", body, v1)).status == 200
    assert [name for name, _ in fake.calls] == ["topic", "topic", "send", "send"]  # the second time it is known
    assert (await rest.post("/topics/made/partitions/0", body, v1)).status == 200


@pytest.mark.parametrize(
    ("path", "content_type", "body", "code", "message"),
    [
        ("/topics/t", "binary", {"records": [{"value": "aGVsbG8=="}]}, 422, "Record value contains invalid base64 enc"),
        ("/topics/t", "binary", {"records": [{"key": "?"}]}, 422, "Record key contains invalid base64 encoding"),
        ("/topics/t", "binary", {"records": [{"key": 1}]}, 422, "Record key contains invalid base64 encoding"),
        ("/topics/t", "binary", {"records": [{"key": {}}]}, 400, "records[0].key must be a text, not an object."),
        ("/topics/t", "json", {}, 422, "records must not be empty"),
        ("/topics/t", "json", {"records": [{"partition": -1}]}, 422, "records[0].partition must be greater"),
        ("/topics/t/partitions/0", "json", {"records": [{"partition": 0}]}, 422, "Unrecognized field: partition"),
    ],
)
async def test_refused_bodies_of_v1(
    rest: Rest, path: str, content_type: str, body: Any, code: int, message: str
) -> None:
    answer = await rest.post(path, body, embedded(content_type, "v1"))
    assert (answer.status, answer.code) == (code, code)
    assert answer.message.startswith(message)


async def test_v1_binary_ignores_white_space(rest: Rest, fake: FakeKafka) -> None:
    assert (await rest.post("/topics/t", {"records": [{"value": "e\nA =="}]}, V1)).status == 200
    assert sent(fake)[0].value == b"x"


@pytest.mark.parametrize(
    ("generation", "body", "code"),
    [
        ("v2", {"records": [{"value": 1}]}, 42202),
        ("v2", {"records": [{"key": 1, "value": 1}]}, 42201),
        ("v2", {"records": [{"key": 1, "value": 1}], "value_schema": '"int"'}, 42206),
        ("v2", {"records": [{"value": 1}], "value_schema": '"int"'}, 42206),
        ("v2", {"records": [{"value": 1}], "value_schema_id": 1}, 42206),
        ("v1", {"records": [{"value": 1}]}, 42202),
        ("v1", {"records": [{"key": 1, "value": 1}], "value_schema": '"int"'}, 42201),
        ("v1", {"records": [{"value": 1}], "value_schema_id": 1}, 42206),
    ],
)
async def test_formats_with_schema(rest: Rest, generation: str, body: Any, code: int) -> None:
    answer = await rest.post("/topics/t", body, embedded("avro", generation))
    assert (answer.status, answer.code) == (422, code)


async def test_formats_with_schema_take_nulls(rest: Rest, fake: FakeKafka) -> None:
    assert (await rest.post("/topics/t", {"records": [{"value": None}, {}]}, AVRO)).status == 200
    assert sent(fake) == [OutgoingRecord(None, None)] * 2


async def test_long_data_is_cut_in_messages(rest: Rest) -> None:
    answer = await rest.post("/topics/t", {"records": [{"value": "?" * 100_000}]}, BINARY)
    assert len(answer.message) < 400
    assert answer.message.endswith("At records[0].value.")


@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("path", ["/topics/t", "/topics/t/partitions/0"])
async def test_the_number_of_records_is_limited(start: Any, fake: FakeKafka, generation: str, path: str) -> None:
    rest = start(produce_records_max=3)
    content_type = embedded("json", generation)
    answer = await rest.post(path, {"records": [{"value": 1}] * 4}, content_type)
    assert (answer.status, answer.code) == (413, 413)
    assert "4 records" in answer.message
    assert "produce.records.max" in answer.message
    assert not any(fake.logs["t"])
    assert (await rest.post(path, {"records": [{"value": 1}] * 3}, content_type)).status == 200
