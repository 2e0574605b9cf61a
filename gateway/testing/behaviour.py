"""What every transport must do: produce and read back, refuse, stream, bear slow clients, end with the gateway.

A test module takes the whole suite in, and says three things by fixtures (docs/plugins.md §10):

    from kafka_gateway.testing.behaviour import *

    @pytest.fixture
    def plugins(): return [my_plugin]

    @pytest.fixture
    def settings(): return {"transport.mine.port": 0}

    @pytest.fixture
    def connect(): return MyClient          # MyClient(app) is a kafka_gateway.testing.client.Client
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from kafka_gateway.testing.client import V2, Client, HttpClient, StreamError, v2
from kafka_gateway.testing.resources import BROKEN, HIGH, Resources

Unique = Callable[[str], str]
Connect = Callable[[App], Client]
PATIENCE_S = 30.0

FALSY = [0, False, "", {}, [], 0.0, {"a": None}]


# --- what the test module says ---------------------------------------------------------------------------------------


@pytest.fixture
def plugins() -> list[object]:
    """The plugins under test, modules or objects."""
    return []


@pytest.fixture
def settings() -> dict[str, Any]:
    """Properties of the gateway under test."""
    return {}


@pytest.fixture
def connect() -> Connect:
    """Makes a client of the transport under test."""
    return lambda app: HttpClient(app.addresses[0])


# --- what the tests get ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running(plugins: list[object], settings: dict[str, Any]) -> AsyncIterator[App]:
    """A gateway over the embedded Kafka, unless the settings name another."""
    found = Plugins(extra=[*plugins, Resources()], installed=False)
    values = {"port": 0, "access.log.enable": False, "embedded.enable": True, **settings}
    async with serve(load(found.config_keys()).with_values(values), found) as app:
        yield app


def resources_of(app: App) -> Resources:
    return next(route.service for route in app.gateway.router.routes if isinstance(route.service, Resources))


@pytest.fixture
async def app(plugins: list[object], settings: dict[str, Any]) -> AsyncIterator[App]:
    async with running(plugins, settings) as started:
        yield started


@pytest.fixture
async def client(app: App, connect: Connect) -> AsyncIterator[Client]:
    connected = connect(app)
    yield connected
    await connected.close()


@pytest.fixture
async def other(app: App) -> AsyncIterator[Client]:
    """A second client, on plain HTTP."""
    connected = HttpClient(app.addresses[0])
    yield connected
    await connected.close()


@pytest.fixture
def unique() -> Unique:
    """Names that no other test has used."""
    run = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{run}"


async def until(true: Callable[[], bool]) -> None:
    """Returns when it is."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # it looks at what gives no sign
            await asyncio.sleep(0.01)


async def produce(client: Client, topic: str, *records: dict[str, Any], fmt: str = "json") -> list[dict[str, Any]]:
    answer = await client.request("POST", f"/topics/{topic}", {"records": list(records)}, content_type=v2(fmt))
    assert answer.status == 200, answer
    rows: list[dict[str, Any]] = answer.json["offsets"]
    assert [row["error_code"] for row in rows] == [None] * len(records), answer
    return rows


async def instance(client: Client, group: str, fmt: str = "json", /, **settings: object) -> str:
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


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, 404),
        ("GET", "/topics/no-such-topic", 404, None),  # 40401 or 40403, by the generation
        ("PUT", "/topics", 405, 405),
        ("GET", "/topics/t/stream?offset=nonsense", 400, None),
        ("GET", "/topics?a=%ff", 400, 400),
    ],
)
async def test_a_refusal_is_a_reply(client: Client, method: str, path: str, status: int, code: int | None) -> None:
    answer = await client.request(method, path)
    assert answer.status == status, answer
    assert code in (None, answer.error_code)
    assert answer.message
    assert (await client.request("GET", "/topics")).status == 200, "the client goes on"


# --- streams ---------------------------------------------------------------------------------------------------------


def _rows(data: bytes) -> list[Any]:
    """The records of a payload: an array, or one a line."""
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        return found if isinstance(found, list) else [found]
    return [json.loads(line) for line in data.splitlines()]


async def _next(stream: AsyncIterator[tuple[str, bytes]]) -> tuple[str, bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(stream)


async def _next_values(stream: AsyncIterator[tuple[str, bytes]]) -> list[Any]:
    """Of the next records; what else the stream tells is passed over."""
    while (found := await _next(stream))[0] not in ("record", ""):
        pass
    return [row["value"] for row in _rows(found[1])]


async def _collect(client: Client, path: str, seen: list[bytes]) -> None:
    async with client.stream(path) as stream:
        while True:
            seen.append((await _next(stream))[1])


async def test_a_stream_of_a_topic(client: Client, other: Client, unique: Unique) -> None:
    topic = unique("t")
    await produce(other, topic, {"value": 0, "partition": 0})
    async with client.stream(f"/topics/{topic}/stream?format=json&offset=earliest") as stream:
        assert await _next_values(stream) == [0]
        await produce(other, topic, {"value": 1, "partition": 0})
        assert await _next_values(stream) == [1]


async def test_a_stream_that_breaks_tells_why_behind_its_payloads(client: Client) -> None:
    seen: list[bytes] = []
    with pytest.raises(StreamError, match=BROKEN):
        await _collect(client, "/behaviour/broken", seen)
    assert b"".join(seen) == b"first\nsecond\n"
    assert (await client.request("GET", "/topics")).status == 200


async def test_requests_are_served_while_a_stream_is_open(client: Client) -> None:
    async with client.stream("/behaviour/silent") as stream:
        assert (await _next(stream))[1] == b"first\n"
        for _ in range(3):
            assert (await client.request("GET", "/topics")).status == 200


async def test_leaving_ends_the_stream(app: App, connect: Connect) -> None:
    resources, leaver = resources_of(app), connect(app)
    async with leaver.stream("/behaviour/silent") as stream:
        assert (await _next(stream))[1] == b"first\n"
        assert resources.open_streams == 1
        await leaver.close()
    await until(lambda: resources.open_streams == 0)


async def test_a_client_that_does_not_read_holds_back_its_own_stream_only(
    app: App, client: Client, other: Client
) -> None:
    resources = resources_of(app)
    async with client.stream("/behaviour/flood") as stream:
        await _next(stream)
        (flood,) = resources.floods
        # The kernel and both ends keep some of it; behind that the source is told to wait, and costs nothing more.
        await until(lambda: flood.is_paused)
        before = -1
        async with asyncio.timeout(PATIENCE_S):
            while before != flood.sent_bytes:
                before = flood.sent_bytes
                await asyncio.sleep(0.2)
        assert flood.buffer.size_bytes <= HIGH + 2 * len(flood.LINE)
        assert flood.sent_bytes < 64 << 20
        assert (await other.request("GET", "/topics")).status == 200
        while flood.sent_bytes == before:
            await _next(stream)
    await client.close()
    await until(lambda: flood.is_closed)


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_the_gateway_stops_although_streams_are_open(
    plugins: list[object], settings: dict[str, Any], connect: Connect
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running(plugins, settings) as app:
            resources, client = resources_of(app), connect(app)
            stack.push_async_callback(client.close)
            stream = await stack.enter_async_context(client.stream("/behaviour/silent"))
            assert (await _next(stream))[1] == b"first\n"
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE_S
        assert resources.open_streams == 0
        assert not app.gateway.sessions
        with contextlib.suppress(StreamError, StopAsyncIteration, ConnectionError):
            while True:
                await _next(stream)
