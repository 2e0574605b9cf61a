"""Producing and reading back, through every transport and on every Kafka."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.clients import V2, Client, v2

Unique = Callable[[str], str]

FALSY = [0, False, "", {}, [], 0.0, {"a": None}]


async def produce(client: Client, topic: str, *records: dict[str, Any], fmt: str = "json") -> list[dict[str, Any]]:
    answer = await client.request("POST", f"/topics/{topic}", {"records": list(records)}, content_type=v2(fmt))
    assert answer.status == 200, answer
    rows: list[dict[str, Any]] = answer.json["offsets"]
    assert [row["error_code"] for row in rows] == [None] * len(records), answer
    return rows


async def instance(client: Client, group: str, fmt: str = "json", **settings: Any) -> str:
    """Creates an instance that starts at the beginning; its path."""
    body = {"format": fmt, "auto.offset.reset": "earliest", **settings}
    answer = await client.request("POST", f"/consumers/{group}", body, content_type=V2)
    assert answer.status == 200, answer
    return f"/consumers/{group}/instances/{answer.json['instance_id']}"


async def subscribe(client: Client, path: str, *topics: str) -> None:
    answer = await client.request("POST", f"{path}/subscription", {"topics": list(topics)}, content_type=V2)
    assert answer.status == 204, answer


async def read(client: Client, path: str, count: int, fmt: str = "json", query: str = "timeout=1000") -> list[Any]:
    """At least ``count`` records, in as many reads as it takes."""
    records: list[Any] = []
    while len(records) < count:
        answer = await client.request("GET", f"{path}/records?{query}", accept=v2(fmt))
        assert answer.status == 200, answer
        records += answer.json
    return records


async def test_what_is_produced_is_read(client: Client, unique: Unique) -> None:
    topic = unique("t")
    encoded = base64.b64encode(b"\x00\xff value").decode()
    rows = await produce(client, topic, {"key": "a2V5", "value": encoded}, {"value": None}, fmt="binary")
    path = await instance(client, unique("g"), "binary")
    await subscribe(client, path, topic)
    records = await read(client, path, 2, "binary")
    assert sorted(records[0]) == ["key", "offset", "partition", "topic", "value"]
    assert {(r["topic"], r["key"], r["value"]) for r in records} == {(topic, "a2V5", encoded), (topic, None, None)}
    assert {(r["partition"], r["offset"]) for r in records} == {(r["partition"], r["offset"]) for r in rows}


async def test_falsy_values_survive(client: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(client, topic, *({"key": value, "value": value, "partition": 0} for value in [*FALSY, None]))
    path = await instance(client, unique("g"))
    await subscribe(client, path, topic)
    records = await read(client, path, len(FALSY) + 1)
    assert [record["value"] for record in records] == [*FALSY, None]
    assert [record["key"] for record in records] == [*FALSY, None]


async def test_one_bad_record_is_named_and_nothing_is_sent(client: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(client, topic, {"value": "MQ==", "partition": 0}, fmt="binary")
    body = {"records": [{"value": "MQ==", "partition": 0}, {"value": "MQ==", "partition": 0}, {"value": "*"}]}
    answer = await client.request("POST", f"/topics/{topic}", body, content_type=v2("binary"))
    assert (answer.status, answer.error_code) == (400, 400)
    assert "records[2].value" in answer.message
    offsets = await client.request("GET", f"/topics/{topic}/partitions/0/offsets", accept=V2)
    assert offsets.json == {"beginning_offset": 0, "end_offset": 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 422),
        (b"null", 422),
        (b'{"records":[]}', 422),
        (b'{"records":3}', 400),
        (b'{"records":[3]}', 400),
        (b'{"records":[{"value":1}],"more":1}', 422),
        (b'{"records":[{"valu":1}]}', 422),
        (b'{"records":[{"value":1,"partition":-1}]}', 422),
        (b'{"records":[{"value":1,"partition":true}]}', 400),
        (b'{"records":[{"value":"\xff"}]}', 400),
        (b'{"records":[{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", 400),
    ],
)
async def test_a_bad_body_is_refused_and_the_next_request_works(
    client: Client, unique: Unique, body: bytes, status: int
) -> None:
    topic = unique("t")
    answer = await client.request("POST", f"/topics/{topic}", body, content_type=v2("json"))
    assert (answer.status, answer.error_code) == (status, status), answer
    await produce(client, topic, {"value": 1})


async def test_headers_and_timestamp_are_taken(client: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(
        client,
        topic,
        {"value": 1, "timestamp": 1700000000000, "headers": [{"name": "h", "value": "eA=="}, {"name": "n"}]},
    )


async def test_max_bytes_cuts_and_loses_nothing(client: Client, unique: Unique) -> None:
    topic = unique("t")
    values = [f"{number:03d}" + "x" * (number * 7 % 60) for number in range(60)]
    await produce(client, topic, *({"value": value, "partition": 0} for value in values))
    path = await instance(client, unique("g"))
    await subscribe(client, path, topic)
    records: list[Any] = []
    for turn in range(10_000):
        records += await read(client, path, 0 if turn % 2 else 1, query=f"timeout=1000&max_bytes={20 + turn * 13 % 90}")
        if len(records) >= len(values):
            break
    assert [record["value"] for record in records] == values


async def test_a_record_larger_than_max_bytes_is_delivered_alone(client: Client, unique: Unique) -> None:
    topic = unique("t")
    values = ["x" * 500, "y" * 500, "z"]
    await produce(client, topic, *({"value": value, "partition": 0} for value in values))
    path = await instance(client, unique("g"))
    await subscribe(client, path, topic)
    for value in values:
        assert [record["value"] for record in await read(client, path, 1, query="timeout=1000&max_bytes=100")] == [
            value
        ]


@pytest.mark.timing
async def test_a_waiting_read_answers_when_a_record_arrives(client: Client, other: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(other, topic, {"value": 0, "partition": 0})
    path = await instance(client, unique("g"), **{"consumer.request.timeout.ms": 30000})
    await subscribe(client, path, topic)
    assert [record["value"] for record in await read(client, path, 1, query="")] == [0]
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(read(client, path, 1, query=""))
    await asyncio.sleep(0)
    began = loop.time()
    await produce(other, topic, {"value": 1, "partition": 0})
    assert [record["value"] for record in await waiting] == [1]
    assert loop.time() - began < 10


async def test_timeout_0_polls_and_gets_there(client: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(client, topic, {"value": 1})
    path = await instance(client, unique("g"))
    await subscribe(client, path, topic)
    assert [record["value"] for record in await read(client, path, 1, query="timeout=0")] == [1]


async def test_a_read_of_another_format_is_refused(client: Client, unique: Unique) -> None:
    path = await instance(client, unique("g"), "json")
    answer = await client.request("GET", f"{path}/records", accept=v2("binary"))
    assert (answer.status, answer.error_code) == (406, 40601)


async def test_what_is_not_json_stays_at_the_head_until_it_is_passed(client: Client, unique: Unique) -> None:
    topic = unique("t")
    bad = base64.b64encode(b"{not json").decode()
    await produce(client, topic, {"value": bad, "partition": 0}, {"value": "MQ==", "partition": 0}, fmt="binary")
    path = await instance(client, unique("g"))
    partition = {"topic": topic, "partition": 0}
    assert (
        await client.request("POST", f"{path}/assignments", {"partitions": [partition]}, content_type=V2)
    ).status == 204
    for _ in range(2):
        answer = await client.request("GET", f"{path}/records", accept=v2("json"))
        while answer.status == 200 and answer.json == []:
            answer = await client.request("GET", f"{path}/records", accept=v2("json"))
        assert (answer.status, answer.error_code) == (408, 40801)
    seek = {"offsets": [{**partition, "offset": 1}]}
    assert (await client.request("POST", f"{path}/positions", seek, content_type=V2)).status == 204
    assert [record["value"] for record in await read(client, path, 1)] == [1]
