"""Producer mode on the real Kafka (bridges.md A2, A4 nos. 4-12)."""

from __future__ import annotations

import asyncio
import gzip
import signal
import time
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest

from kafka_gateway.assembly.app import App
from tests.bridges.conftest import Bytehoops, Start, producer, running, stored
from tests.kafka_cluster import KafkaCluster
from tests.transports.wire import Reply, Wire, request
from tests.waiting import until


async def post(app: App, path: str = "/v1/write", body: bytes = b"x", method: str = "POST", **headers: str) -> Reply:
    async with await Wire.open(app.addresses[0]) as wire:
        return await wire.ask(method, path, body, **headers)


async def raw(app: App, *lines: str, body: bytes = b"") -> Reply:
    """A request to /v1/write with exactly these lines of header."""
    head = ["POST /v1/write HTTP/1.1", "Host: h", *lines]
    if not any(line.startswith("Transfer-Encoding") for line in lines):
        head.append(f"Content-Length: {len(body)}")
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        return await wire.reply()


@pytest.fixture
def topic(create_topic: Callable[..., str]) -> str:
    return create_topic()


async def test_both_paths_answer_alike_and_store_the_bytes(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic))
    every = bytes(range(256))
    before = time.time() * 1000
    for path in ("/v1/write", "/api/v1/write", "/v1/write?tenant=1"):
        reply = await post(app, path, every)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (
            200,
            b"success",
            "text/plain; charset=utf-8",
        )
    records = stored(kafka.bootstrap, topic)
    assert [(each.key(), each.value()) for each in records] == [(None, every)] * 3
    assert all(before - 1000 < each.timestamp()[1] < time.time() * 1000 + 1000 for each in records)


async def test_methods_paths_and_probes(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic))
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
        assert (await post(app, method=method)).status == 200, method
        reply = await post(app, method=method, body=b"")
        assert (reply.status, reply.headers["allow"]) == (405, "POST"), method
    reply = await post(app, "/v1/write/")
    assert (reply.status, reply.headers["location"]) == (307, "/v1/write")
    assert (await post(app, "/v1/write/", method="GET")).status == 301
    assert (await post(app, "/x")).status == 404
    assert (await post(app, body=b"")).status == 200
    for probe in ("/healthz", "/readyz", "/bridges", "/bridges/metrics"):
        assert (await post(app, probe, b"", "GET")).status == 200
    values = [each.value() for each in stored(kafka.bootstrap, topic)]
    assert values == [b"x"] * 6 + [b""]
    counters = (await post(app, "/bridges", b"", "GET")).json["producers"][0]
    assert (counters["stored"], counters["stored_bytes"], counters["in_flight"]) == (7, 6, 0)


async def test_listeners_for_operators(start: Start, topic: str) -> None:
    """Where there are some, what bridges have done is told there, and nowhere else."""
    app = await start(**producer(topic), **{"admin.listeners": "http://127.0.0.1:0"})
    for path in ("/bridges", "/bridges/metrics", "/readyz"):
        statuses = []
        for address in app.addresses:
            async with await Wire.open(address) as wire:
                statuses.append((await wire.ask("GET", path)).status)
        assert statuses == [404, 200], path


PACKED = gzip.compress(b"records" * 100)


BODIES = [
    ("gzip", PACKED),
    ("gzip", b"this is no gzip"),
    ("gzip", PACKED[:-5]),
    ("deflate", b"\x00\x01"),
    ("br", b"\x8b\x02\x80abc\x03"),
    ("zstd", b"\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00abc"),
    ("snappy", b"\x03\x08abc"),
    ("made-up, gzip", b"?"),
]


async def test_a_packed_body_is_stored_as_it_was_sent(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic))
    for coding, body in BODIES:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
        replies = [
            await raw(app, f"Content-Encoding: {coding}", body=body),
            await raw(app, f"Content-Encoding: {coding}", "Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n"),
            await post(app, "http://gateway.example/v1/write", body, Content_Encoding=coding),
        ]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"success")] * 3, coding
    records = stored(kafka.bootstrap, topic)
    found = [(dict(each.headers())["Content-Encoding"].decode(), each.value()) for each in records]
    assert found == [each for each in BODIES for _ in range(3)]


async def test_headers_as_record_headers(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic), **{"bridge.producer.in.key.header": "x-key"})
    reply = await raw(
        app, "x-foo-BAR: 1", "X-A: 1", "x-a: 2", "Connection: X-Hop", "X-Hop: 1", "TE: trailers", "X-Key: k\xe9y",
        "Authorization: Basic eDp5", "Cookie: a=1", "Cookie: b=2", "Accept: text/a", "Accept: text/b",
        "Content-Type: application/x-protobuf", "X-Obs: \xff", body=b"v",
    )  # fmt: skip
    assert reply.status == 200
    (record,) = stored(kafka.bootstrap, topic)
    assert record.key() == b"k\xe9y"
    assert record.headers() == [
        ("X-Foo-Bar", b"1"), ("X-A", b"1,2"), ("X-Key", b"k\xe9y"), ("Authorization", b"Basic eDp5"),
        ("Cookie", b"a=1; b=2"), ("Accept", b"text/a,text/b"), ("Content-Type", b"application/x-protobuf"),
        ("X-Obs", b"\xff"),
    ]  # fmt: skip


async def test_rules_for_headers(start: Start, kafka: KafkaCluster, topic: str) -> None:
    rules = {"multi.value": "repeat", "header.allow": "x-*, content-*", "header.deny": "*-secret"}
    app = await start(**producer(topic, **rules))
    assert (await raw(app, "X-A: 1", "X-A: 2", "X-Secret: 3", "Accept: */*", body=b"v")).status == 200
    (record,) = stored(kafka.bootstrap, topic)
    assert record.headers() == [("X-A", b"1"), ("X-A", b"2")]


async def test_the_gateways_own_credentials_stay_with_it(
    start: Start, kafka: KafkaCluster, topic: str, tmp_path: Any
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"me:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}:writer\n")
    app = await start(
        **producer(topic),
        authentication_method="BASIC", authentication_realm="r", authentication_roles="writer",
        authentication_basic_file=str(passwords),
    )  # fmt: skip
    assert (await raw(app, body=b"v")).status == 401
    assert (await raw(app, "Authorization: Basic bWU6d3Jvbmc=", body=b"v")).status == 401
    assert (await raw(app, "Authorization: Basic bWU6c2VjcmV0", "X-A: 1", body=b"v")).status == 200
    (record,) = stored(kafka.bootstrap, topic)
    assert record.headers() == [("X-A", b"1")]


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_body_over_the_limit_leaves_no_record(start: Start, kafka: KafkaCluster, topic: str, how: str) -> None:
    app = await start(**producer(topic, **{"max.body.bytes": 1000}))

    async def send(size: int) -> int:
        if how == "length":
            return (await raw(app, body=b"x" * size)).status
        return (
            await raw(app, "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
        ).status

    assert [await send(1001), await send(1000)] == [413, 200]
    assert [len(each.value()) for each in stored(kafka.bootstrap, topic)] == [1000]


async def test_an_endless_body_is_refused_while_it_comes(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic, **{"max.body.bytes": 100_000}))
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(request("POST", "/v1/write", Transfer_Encoding="chunked"))
        replying = asyncio.ensure_future(wire.reply())
        chunk, sent = b"2000\r\n" + b"x" * 0x2000 + b"\r\n", 0
        while not replying.done():
            await wire.send(chunk)
            await asyncio.sleep(0.001)  # time itself: it never ends, and leaves time to refuse it
            sent += len(chunk)
        assert sent < 10_000_000
        assert (await replying).status == 413
    assert stored(kafka.bootstrap, topic) == []


async def test_an_upload_that_breaks_off_leaves_no_record(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic))
    for head, body in (
        (request("POST", "/v1/write", Transfer_Encoding="chunked"), b"5\r\nhello\r\n"),
        (request("POST", "/v1/write", Content_Length="100"), b"hello"),
    ):
        async with await Wire.open(app.addresses[0]) as wire:
            await wire.send(head + body)
            await until(lambda: app.gateway._arriving)
        await until(lambda: not app.gateway._arriving)
    reply = await raw(app, "Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n0\r\n\r\n")
    assert reply.status == 400
    assert (await post(app, body=b"after")).status == 200
    assert [each.value() for each in stored(kafka.bootstrap, topic)] == [b"after"]


async def test_a_body_that_comes_too_slowly_may_be_sent_again(start: Start, topic: str) -> None:
    app = await start(**producer(topic), request_body_timeout_ms=100)
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(request("POST", "/v1/write", Content_Length="100") + b"x")
        reply = await wire.reply()
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


async def test_too_many_at_once_and_a_full_queue_are_told(start: Start, kafka: KafkaCluster, topic: str) -> None:
    app = await start(**producer(topic, **{"max.inflight": 1}), producer_linger_ms=300)
    first, second = await asyncio.gather(post(app, body=b"1"), post(app, body=b"2"))
    assert sorted([first.status, second.status]) == [200, 503]
    refused = first if first.status == 503 else second
    assert (refused.headers["retry-after"], b"success" in refused.body) == ("1", False)
    app = await start(**producer(topic), producer_linger_ms=300, producer_queue_records=1)
    statuses = [reply.status for reply in await asyncio.gather(*(post(app) for _ in range(3)))]
    assert sorted(statuses) == [200, 503, 503]


async def test_the_rate_limit_counts_posts(start: Start, topic: str) -> None:
    limits = {"rate.limit.enable": True, "rate.limit.permits.per.sec": 1, "rate.limit.timeout.ms": 0}
    app = await start(**producer(topic), **limits)
    replies = [await post(app) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 429, 429]
    assert "retry-after" in replies[1].headers


async def test_what_the_broker_will_never_take_is_413(start: Start, create_topic: Callable[..., str]) -> None:
    small = create_topic(config={"max.message.bytes": "2000"})
    app = await start(**producer(small))
    assert [(await post(app, body=b"x" * size)).status for size in (5000, 500)] == [413, 200]
    assert (await post(app, body=b"x" * 900, X_Large="y" * 3000)).status == 413  # headers count


@pytest.mark.slow
async def test_a_broker_that_is_down_and_one_that_is_back(own_kafka: KafkaCluster) -> None:
    topic = own_kafka.create_topic()
    async with running(own_kafka.bootstrap, **producer(topic), produce_timeout_ms=2000) as app:
        assert (await post(app)).status == 200
        own_kafka.pause(1)
        reply = await post(app)
        assert reply.status in (503, 504)
        assert b"success" not in reply.body
        assert (await post(app, "/readyz", b"", "GET")).status == 503
        own_kafka.resume(1)
        async with asyncio.timeout(20):
            while (await post(app, body=b"back")).status != 200:
                pass
    assert [each.value() for each in stored(own_kafka.bootstrap, topic)][-1] == b"back"


async def test_an_unknown_topic_is_for_later(start: Start) -> None:
    app = await start(**producer("no-such-topic-at-all"), auto_create_topics_enable=False)
    reply = await post(app)
    assert (reply.status, "retry-after" in reply.headers) == (503, True)


def test_sigterm_finishes_what_is_on_its_way(kafka: KafkaCluster, topic: str) -> None:
    with Bytehoops("-b", kafka.bootstrap, "-t", topic, "producer", "-l", "127.0.0.1:0") as process:

        async def converse() -> None:
            async with await Wire.open(process.url) as wire:
                body = b"the end"
                await wire.send(request("POST", "/v1/write", Content_Length=str(len(body))) + body[:3])
                await asyncio.sleep(0.2)  # time itself: nothing tells that the head has been read
                process.process.send_signal(signal.SIGTERM)
                await until(lambda: any("stopping" in line for line in process.output))
                await wire.send(body[3:])
                assert (await wire.reply()).body == b"success"

        asyncio.run(converse())
        assert process.process.wait(10) == 0
    assert [each.value() for each in stored(kafka.bootstrap, topic)] == [b"the end"]
