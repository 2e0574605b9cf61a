"""Producing with v3: kafka-rest-http.md §7.10 to §7.12, observed §7.10, §7.11."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest

from kafka_gateway.arriving import ArrivingBody
from kafka_gateway.errors import BadRequest, TooManyRequests
from kafka_gateway.kafka_errors import KafkaAuthorization, KafkaRetriable, RecordTooLarge, UnknownTopicTimeout
from kafka_gateway.messages import Request
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.services.v3.produce_stream import IN_FLIGHT_RECORDS
from kafka_gateway.stream import ReplyInParts
from tests.services.conftest import Rest, Start
from tests.services.fake_kafka import FakeKafka

PATH = "/v3/clusters/any/topics/t/records"
JSON = "application/json"


def text(data: Any, **more: Any) -> dict[str, Any]:
    return {"value": {"type": "STRING", "data": data}} | more


async def reports_of(rest: Rest, body: Any, path: str = PATH, content_type: str | None = JSON) -> list[dict[str, Any]]:
    """The reports on a body: bytes, or pieces of it as they come."""
    headers = {"content-type": content_type} if content_type else {}
    path, _, query = path.partition("?")
    parameters = dict(parse_qsl(query))
    reply = await rest.gateway.dispatch(Request(rest.session, "POST", path, parameters, headers=headers, body=body))
    assert reply.status == 200
    content = reply.body if isinstance(reply.body, bytes) else b"".join([part.data async for part in reply.body])
    assert not content or content.endswith(b"\r\n")
    return [json.loads(line) for line in content.split(b"\r\n") if line]


async def produced(rest: Rest, *records: Any) -> list[dict[str, Any]]:
    return await reports_of(rest, b"".join(json.dumps(each).encode() for each in records))


def sent(fake: FakeKafka) -> list[OutgoingRecord]:
    return [stored.sent for log in fake.logs["t"] for stored in log]


class Pieces:
    """A body that comes as the test says: an asynchronous iterator."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self.taken = 0

    def put(self, *parts: bytes | BaseException | None) -> None:
        for part in parts:
            self._queue.put_nowait(part)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._queue.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, BaseException):
            raise part
        self.taken += 1
        return part


async def open_stream(rest: Rest, pieces: Pieces) -> Any:
    request = Request(rest.session, "POST", PATH, headers={"content-type": JSON}, body=pieces)
    reply = await rest.gateway.dispatch(request)
    assert not isinstance(reply.body, bytes)
    return reply.body


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# --- one record ------------------------------------------------------------------------------------------------------


async def test_a_record(rest: Rest, fake: FakeKafka) -> None:
    record = {
        "partition_id": 1,
        "headers": [{"name": "h", "value": "dg=="}, {"name": "h", "value": None}, {"name": "e"}],
        "key": {"type": "BINARY", "data": "a2V5"},
        "value": {"type": "JSON", "data": {"a": [1, 2.50]}},
        "timestamp": "2021-02-05T19:14:42Z",
    }
    (report,) = await produced(rest, record)
    assert report == {
        "error_code": 200,
        "cluster_id": "any",
        "topic_name": "t",
        "partition_id": 1,
        "offset": 0,
        "timestamp": "2021-02-05T19:14:42Z",
        "key": {"type": "BINARY", "size": 3},
        "value": {"type": "JSON", "size": len('{"a":[1,2.5]}')},
    }
    headers = [("h", b"v"), ("h", None), ("e", None)]
    assert sent(fake) == [OutgoingRecord(b"key", b'{"a":[1,2.5]}', 1, 1612552482000, headers)]


async def test_nulls(rest: Rest, fake: FakeKafka) -> None:
    reports = await produced(
        rest, {}, {"key": None, "value": None}, {"value": {"type": "BINARY", "data": None}}, text(None)
    )
    assert [report.get("value") for report in reports] == [
        None,
        None,
        {"type": "BINARY", "size": -1},
        {"type": "STRING", "size": -1},
    ]
    assert all(each.key is each.value is None for each in sent(fake))


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        ("2021-02-05T19:14:42.120Z", "2021-02-05T19:14:42.120Z"),
        ("2021-02-05T21:14:42+02:00", "2021-02-05T19:14:42Z"),
        (1612552482, "2021-02-05T19:14:42Z"),
        ("1612552482.5", "2021-02-05T19:14:42.500Z"),
    ],
)
async def test_timestamps(rest: Rest, timestamp: Any, shown: str) -> None:
    assert (await produced(rest, text("x", timestamp=timestamp)))[0]["timestamp"] == shown


@pytest.mark.parametrize(
    "record",
    [
        {"colour": 1},
        {"value": {"type": "STRING", "data": "x", "colour": 1}},
        {"partition_id": "x"},
        {"value": "x"},
        {"value": []},
        {"value": {"type": "STRING"}},
        {"value": {}},
        text(5),
        {"value": {"type": "BINARY", "data": "****"}},
        {"value": {"type": "BINARY", "data": 5}},
        {"value": {"type": "binary", "data": "eA=="}},
        {"value": {"type": 5, "data": "eA=="}},
        {"value": {"type": "", "data": "eA=="}},
        {"headers": [None]},
        {"headers": [{"value": "dg=="}]},
        {"headers": [{"name": "a", "value": "*"}]},
        text("x", timestamp="yesterday"),
        text("x", timestamp=True),
        text("x", timestamp=-1),
        text("x", timestamp=0),
        text("x", timestamp="1970-01-01T00:00:00Z"),
        text("x", timestamp=1e300),
        [text("x")],
        5,
        "x",
        None,
    ],
)
async def test_a_bad_record_is_a_report_and_the_others_are_stored(rest: Rest, fake: FakeKafka, record: Any) -> None:
    assert (await produced(rest, record))[0]["error_code"] == 400
    codes = [report["error_code"] for report in await produced(rest, text("1"), record, text("2"))]
    assert codes == [200, 400, 200]
    assert [each.value for log in fake.logs["t"] for each in [stored.sent for stored in log]] in (
        [b"1", b"2"],
        [b"2", b"1"],
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"type": "AVRO", "data": 1}, "'schema_version=latest' cannot be used with 'serializer'."),
        ({"type": "AVRO", "data": 1, "schema_id": 1}, "'schema_id=1' cannot be used with 'serializer'."),
        ({"type": "AVRO", "data": 1, "schema_version": 2}, "'schema_version=2' cannot be used with 'serializer'."),
        (
            {"type": "AVRO", "data": 1, "schema_id": 1, "schema": "x"},
            "Only one of 'schema_id', 'schema_version' or 'schema' can be used.",
        ),
        (
            {"type": "AVRO", "data": 1, "schema": "x", "subject": "s", "subject_name_strategy": "TOPIC_NAME"},
            "Only one of 'subject_name_strategy' or 'subject' can be used.",
        ),
        ({"type": "BINARY", "data": "", "schema_id": 1}, "'type=BINARY' cannot be used with 'schema_id'."),
        ({"type": "JSON", "data": "", "schema_version": 1}, "'type=JSON' cannot be used with 'schema_version'."),
        ({"type": "STRING", "data": "", "subject": "s"}, "'type=STRING' cannot be used with 'subject'."),
        (
            {"type": "STRING", "data": "", "subject_name_strategy": "TOPIC_NAME"},
            "'type=STRING' cannot be used with 'subject_strategy'.",
        ),
        ({"schema": "x", "data": 1}, "Unsupported argument: : null"),
        (
            {"subject_name_strategy": "RECORD_NAME", "data": 1},
            "Bad Request: Cannot use schema_subject_strategy=RECORD_NAME without schema_id or schema.",
        ),
        ({"subject_name_strategy": "topic_name", "data": 1}, "must be one of TOPIC_NAME"),
    ],
)
async def test_rules_of_schemas(rest: Rest, data: Any, reason: str) -> None:
    (report,) = await produced(rest, {"value": data})
    assert report["error_code"] == 400
    assert reason in report["message"]


async def test_a_schema_without_a_registry(rest: Rest) -> None:
    for data in ({"data": 1}, {"schema_id": 1, "data": 1}, {"type": "AVRO", "schema": '"int"', "data": 1}):
        (report,) = await produced(rest, {"value": data})
        assert report["error_code"] == 422
        assert report["message"].startswith("Error: 42206 : Payload error. Schema Registry must be configured")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecordTooLarge(), 413),
        (UnknownTopicTimeout(), 40401),
        (KafkaAuthorization(), 40301),
        (KafkaRetriable(), 50003),
    ],
)
async def test_what_kafka_says_of_a_record(rest: Rest, fake: FakeKafka, error: Any, code: int) -> None:
    fake.fail("delivery", error)
    assert [each["error_code"] for each in await produced(rest, text("1"))] == [code]
    fake.fail("delivery", error)
    assert [each["error_code"] for each in await produced(rest, text("1"), text("2"))] == [code, 200]


async def test_topics_that_cannot_be_produced_to(rest: Rest, start: Start, fake: FakeKafka) -> None:
    for name, code in (("a%20b", 40002), ("__consumer_offsets", 40301)):
        path = f"/v3/clusters/any/topics/{name}/records"
        body = json.dumps(text("1")).encode()
        assert [each["error_code"] for each in await reports_of(rest, body, path)] == [code]
        assert [each["error_code"] for each in await reports_of(rest, body * 2, path)] == [code, code]
    fake.auto_create = False
    (report,) = await reports_of(rest, body, "/v3/clusters/any/topics/none/records")
    assert report["error_code"] == 40401
    assert (await produced(rest, text("1", partition_id=-1)))[0]["error_code"] == 40402


async def test_bodies_and_types(rest: Rest) -> None:
    assert await reports_of(rest, b"") == []
    assert (await rest.send("POST", PATH, b"")).code == 42206
    assert (await rest.send("POST", PATH, text("x"), None, "text/plain")).status == 415
    assert (await rest.send("POST", PATH, text("x"))).status == 415
    assert (await rest.send("POST", PATH, text("x"), None, JSON + ";charset=us-ascii")).code == 400
    assert (await rest.send("GET", PATH)).status == 405


async def test_latin_1(rest: Rest, fake: FakeKafka) -> None:
    body = '{"value":{"type":"STRING","data":"é"}}'.encode("latin-1")
    await reports_of(rest, body, content_type=JSON + '; charset="iso-8859-1"')
    assert [each.value for each in sent(fake)] == ["é".encode()]
    assert (await reports_of(rest, body))[0]["error_code"] == 400


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_a_hundred_records_in_order(rest: Rest, fake: FakeKafka) -> None:
    for between in ("", "\n", "\r\n\t "):
        body = between.join(json.dumps(text(str(number), partition_id=0)) for number in range(100))
        reports = await reports_of(rest, body.encode())
        offsets = [each["offset"] for each in reports]
        assert offsets == list(range(offsets[0], offsets[0] + 100))
    assert [each.value for each in sent(fake)] == [b"%d" % number for number in range(100)] * 3


async def test_a_reply_in_parts_knows_its_end(rest: Rest) -> None:
    body = json.dumps(text("1")).encode() * 3
    request = Request(rest.session, "POST", PATH, headers={"content-type": JSON}, body=body)
    reply = await rest.gateway.dispatch(request)
    assert isinstance(reply.body, ReplyInParts)
    assert not reply.body.is_over
    content = b"".join([part.data async for part in reply.body])
    assert content.count(b'"error_code":200') == 3
    assert reply.body.is_over


async def test_pieces_end_anywhere(rest: Rest, fake: FakeKafka) -> None:
    body = b"\n".join(json.dumps(text("ü" * number, partition_id=0)).encode() for number in range(40))
    for size in (1, 7, 100, 1000):
        pieces = Pieces()
        pieces.put(*(body[at : at + size] for at in range(0, len(body), size)), None)
        reports = await reports_of(rest, pieces)
        assert [each["error_code"] for each in reports] == [200] * 40
    assert [len((each.value or b"").decode()) for each in sent(fake)] == list(range(40)) * 4


async def test_a_report_comes_as_soon_as_its_record_is_confirmed(rest: Rest, fake: FakeKafka) -> None:
    fake.holds = True
    pieces = Pieces()
    stream = await open_stream(rest, pieces)
    pieces.put(json.dumps(text("1")).encode() + json.dumps(text("2")).encode())
    await settled()
    first = asyncio.ensure_future(anext(stream))
    await settled()
    assert not first.done()
    fake.unconfirmed[0](1)
    assert len((await first).data.splitlines()) == 1
    pieces.put(b'{"colour":1}', json.dumps(text("3")).encode())
    await settled()
    second = asyncio.ensure_future(anext(stream))
    await settled()
    assert not second.done()  # in the order of the request, though the third is known to be wrong
    fake.unconfirmed[1](1)
    await settled()
    assert not second.done()
    fake.unconfirmed[0](1)
    codes = [json.loads(line)["error_code"] for line in (await second).data.splitlines()]
    assert codes == [200, 400, 200]
    pieces.put(None)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_reading_waits_for_kafka_and_for_the_client(rest: Rest, fake: FakeKafka) -> None:
    fake.holds = True
    pieces = Pieces()
    stream = await open_stream(rest, pieces)
    line = json.dumps(text("x")).encode() + b"\n"
    pieces.put(*([line * 1000] * 40))
    for _ in range(60):
        await settled()
    assert pieces.taken * 1000 < IN_FLIGHT_RECORDS + 3000
    fake.holds = False
    for confirm in list(fake.unconfirmed):
        confirm(1000)
    for _ in range(60):
        await settled()
    assert pieces.taken * 1000 < IN_FLIGHT_RECORDS + 3000  # nobody has read a report
    pieces.put(None)
    count = 0
    async for part in stream:
        count += part.data.count(b"\r\n")
    assert count == 40_000


@pytest.mark.parametrize(
    "end",
    [
        b'{"value":',
        b'{"a" 1}',
        b",",
        b"}",
        b'{"value":{"type":"STRING","data":"\xff"}}',
        b'{"value":{"type":"JSON","data":%b%b}}' % (b"[" * 5000, b"]" * 5000),
    ],
)
async def test_broken_json_is_the_last_report(rest: Rest, fake: FakeKafka, end: bytes) -> None:
    after = b"" if end == b'{"value":' else json.dumps(text("2")).encode()
    reports = await reports_of(rest, json.dumps(text("1")).encode() + b"\n" + end + after)
    assert [each["error_code"] for each in reports] == [200, 400]
    assert "Error processing" in reports[1]["message"]
    assert [each.value for each in sent(fake)] == [b"1"]


async def test_a_record_that_is_too_long_is_the_last(start: Start, fake: FakeKafka) -> None:
    rest = start(api_v3_produce_request_size_limit_max_bytes=200)
    fine, long = json.dumps(text("1")).encode(), json.dumps(text("x" * 300)).encode()
    reports = await reports_of(rest, fine + long + fine)
    assert [each["error_code"] for each in reports] == [200, 400]
    assert reports[1]["message"].endswith("Produce request size is larger than allowed threshold")
    assert (await reports_of(rest, long))[0]["error_code"] == 400
    assert [each.value for each in sent(fake)] == [b"1"]


async def test_a_broken_body_is_reported_and_a_client_that_left_is_not(rest: Rest, fake: FakeKafka) -> None:
    pieces = Pieces()
    pieces.put(json.dumps(text("1")).encode(), BadRequest("The body is broken"))
    assert [each["error_code"] for each in await reports_of(rest, pieces)] == [200, 400]
    pieces = Pieces()
    pieces.put(json.dumps(text("2")).encode(), ConnectionResetError())
    assert [each["error_code"] for each in await reports_of(rest, pieces)] == [200]
    assert {each.value for each in sent(fake)} == {b"1", b"2"}


async def test_a_record_that_does_not_go_on(start: Start) -> None:
    rest = start(request_body_timeout_ms=50)
    pieces = Pieces()
    pieces.put(json.dumps(text("1")).encode(), b'{"value":')
    assert [each["error_code"] for each in await reports_of(rest, pieces)] == [200, 408]


async def test_the_time_in_which_the_gateway_does_not_read_is_not_the_clients(start: Start) -> None:
    """A body that a quota slows down was answered 408 after request.body.timeout.ms, for the client's silence."""
    rest = start(request_body_timeout_ms=50)
    pieces, reads = Pieces(), asyncio.Event()
    record = json.dumps(text("1")).encode()
    pieces.put(record[:10], record[10:], record[:10])

    async def held_back(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            await reads.wait()
            yield piece
            reads.clear()
            asyncio.get_running_loop().call_later(0.2, reads.set)

    reads.set()
    body = ArrivingBody.of(pieces).through(held_back)
    assert [each["error_code"] for each in await reports_of(rest, body)] == [200, 408]
    assert pieces.taken == 3


async def test_an_old_stream_ends(start: Start, fake: FakeKafka) -> None:
    rest = start(streaming_connection_max_duration_ms=50, streaming_connection_max_duration_grace_period_ms=60_000)
    pieces = Pieces()
    stream = await open_stream(rest, pieces)
    pieces.put(json.dumps(text("1")).encode())
    assert b'"error_code":200' in (await anext(stream)).data
    await asyncio.sleep(0.1)  # time itself: the stream becomes old
    pieces.put(json.dumps(text("2")).encode(), None)
    assert b'"error_code":408' in b"".join([part.data async for part in stream])
    assert [each.value for each in sent(fake)] == [b"1"]
    rest = start(streaming_connection_max_duration_ms=1, streaming_connection_max_duration_grace_period_ms=1)
    assert await reports_of(rest, Pieces()) == []


async def test_a_gateway_that_stops_ends_streams_behind_their_reports(rest: Rest, fake: FakeKafka) -> None:
    fake.holds = True
    pieces = Pieces()
    stream = await open_stream(rest, pieces)
    pieces.put(json.dumps(text("1")).encode())
    await settled()
    rest.v3_produce.drain()
    pieces.put(json.dumps(text("2")).encode())
    await settled()
    fake.unconfirmed[0](1)
    assert len([part async for part in stream]) == 1
    assert [each.value for each in sent(fake)] == [b"1"]


async def test_what_was_read_is_sent_though_the_client_is_gone(rest: Rest, fake: FakeKafka) -> None:
    fake.holds = True
    pieces = Pieces()
    stream = await open_stream(rest, pieces)
    pieces.put(json.dumps(text("1")).encode())
    await settled()
    await stream.aclose()
    await stream.aclose()
    assert len(fake.unconfirmed) == 1


async def test_a_full_queue_holds_the_stream_up(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("follow", TooManyRequests(), TooManyRequests())
    assert [each["error_code"] for each in await produced(rest, text("1"), text("2"))] == [200, 200]


# --- rate limits -----------------------------------------------------------------------------------------------------


async def test_rate_limits(start: Start, fake: FakeKafka) -> None:
    limits = {"api_v3_produce_rate_limit_enabled": True, "api_v3_produce_rate_limit_max_requests_per_sec": 2}
    reports = await produced(start(**limits), *([text("1")] * 4))
    assert [each["error_code"] for each in reports] == [200, 200, 429, 429]
    assert reports[3]["message"].startswith("Request rate limit exceeded")
    size = len(json.dumps(text("1")))
    limits = {
        "api_v3_produce_rate_limit_enabled": True,
        "api_v3_produce_rate_limit_max_bytes_global_per_sec": size + size // 2,
    }
    rest = start(**limits)
    assert [each["error_code"] for each in await produced(rest, text("1"))] == [200]
    assert [each["error_code"] for each in await produced(rest, text("1"))] == [429]
    batch = await rest.send("POST", PATH + ":batch", {"entries": [{"id": "a", **text("1")}]}, None, JSON)
    assert batch.body["failures"][0]["error_code"] == 429


# --- batches ---------------------------------------------------------------------------------------------------------


async def batch_of(rest: Rest, *entries: Any) -> Any:
    return await rest.send("POST", PATH + ":batch", {"entries": list(entries)}, None, JSON)


async def test_a_batch(rest: Rest, fake: FakeKafka) -> None:
    answer = await batch_of(
        rest,
        {"id": "1", **text("a", partition_id=0, timestamp="2021-02-05T19:14:42Z")},
        {"id": "b_-", "value": {"type": "BINARY", "data": "****"}},
        {"id": "3", "partition_id": -1},
        {"id": "4", "key": {"type": "STRING", "data": "k"}, "partition_id": 1},
    )
    assert answer.status == 207
    first, second = answer.body["successes"]
    assert first == {
        "id": "1",
        "cluster_id": "any",
        "topic_name": "t",
        "partition_id": 0,
        "offset": 0,
        "timestamp": "2021-02-05T19:14:42Z",
        "value": {"type": "STRING", "size": 1},
    }
    assert (second["id"], second["key"]) == ("4", {"type": "STRING", "size": 1})
    assert [(each["id"], each["error_code"]) for each in answer.body["failures"]] == [("b_-", 400), ("3", 40402)]
    assert len(sent(fake)) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, 42208),
        (b"null", 422, 42208),
        (b"{}", 422, 42208),
        (b'{"entries":null}', 422, 42208),
        (b'{"entries":[]}', 422, 42208),
        (b'{"entries":[{"id":1}]}', 422, 42208),
        (b'{"entries":[{"id":"a.b"}]}', 422, 42208),
        (b'{"entries":[{"id":""}]}', 422, 42208),
        (b'{"entries":[{"id":"%b"}]}' % (b"a" * 81), 422, 42208),
        (b'{"entries":[{"id":"a"},{"id":"a"}]}', 422, 42208),
        (b'{"entries":[{}]}', 400, 400),
        (b'{"entries":[null]}', 400, 400),
        (b'{"entries":["x"]}', 400, 400),
        (b'{"entries":[{"id":"a","x":1}]}', 422, 422),
        (b'{"entries":[{"id":"a","partition_id":"x"}]}', 400, 400),
        (b'{"entries":[{"id":"a","value":{"type":"BINARY","schema_id":1,"data":""}}]}', 400, 400),
        (b'{"entries":[{"id":"a","timestamp":"x"}]}', 400, 400),
        (b'{"x":1}', 422, 422),
        (b'{"entries":[', 400, 400),
        (b'{"entries":[{"id":"a"}]}{}', 400, 400),
        (b'"x"', 400, 400),
    ],
)
async def test_a_batch_that_is_malformed_sends_nothing(
    rest: Rest, fake: FakeKafka, body: bytes, status: int, code: int
) -> None:
    answer = await rest.send("POST", PATH + ":batch", body, None, JSON)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert sent(fake) == []


async def test_too_many_entries(start: Start, fake: FakeKafka) -> None:
    entries = [{"id": str(number), **text("x")} for number in range(3)]
    assert (await batch_of(start(api_v3_produce_batch_maximum_entries=2), *entries)).code == 42208
    assert sent(fake) == []
    assert len((await batch_of(start(), *entries)).body["successes"]) == 3


async def test_a_batch_that_kafka_does_not_take(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("send", TooManyRequests())
    answer = await batch_of(rest, {"id": "a", **text("1")}, {"id": "b", **text("2")})
    assert answer.status == 207
    assert [(each["id"], each["error_code"]) for each in answer.body["failures"]] == [("a", 429), ("b", 429)]
