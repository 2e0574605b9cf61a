"""Consumer mode on the real Kafka (bridges.md A3, A4 nos. 13-26; reliability.md F15)."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.bridges.conftest import (
    Start,
    bytehoops,
    committed,
    consumer,
    fill,
    producer,
    running,
    stored,
    until_committed,
)
from tests.bridges.raw_sink import OK, Got, RawSink
from tests.kafka_cluster import KafkaCluster
from tests.transports.wire import Wire
from tests.unreadable_headers import produce_with_a_name_that_is_no_utf8
from tests.waiting import until

NO = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def topic(create_topic: Callable[..., str]) -> str:
    return create_topic()


@pytest.fixture
def group(unique: Callable[..., str]) -> str:
    return unique("group")


def values(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def status(app: App) -> dict[str, Any]:
    """What ``/bridges`` says of the bridge to the sink."""
    async with await Wire.open(app.addresses[0]) as wire:
        found: dict[str, Any] = (await wire.ask("GET", "/bridges")).json["consumers"][0]
        return found


async def test_round_trip_through_both_modes(start: Start, kafka: KafkaCluster, topic: str, group: str) -> None:
    async with RawSink() as sink:
        app = await start(**producer(topic), **consumer(topic, group, sink.url))
        bodies = [os.urandom(size) for size in (0, 1, 300_000, 999_000)]
        async with await Wire.open(app.addresses[0]) as wire:
            for body in bodies:
                reply = await wire.ask(
                    "POST", "/api/v1/write", body, Content_Type="application/x-protobuf", Content_Encoding="snappy",
                    X_Prometheus_Remote_Write_Version="0.1.0", X_Scope_OrgID="tenant",
                    Date="Tue, 15 Nov 1994 08:12:31 GMT", User_Agent="Prometheus/2.42 (a, b)",
                )  # fmt: skip
                assert reply.status == 200
        await until(lambda: len(sink.got) == len(bodies))
        assert [hashlib.sha256(body).digest() for body in sink.bodies] == [hashlib.sha256(b).digest() for b in bodies]
        for got, body in zip(sink.got, bodies, strict=True):
            assert (got.method, got.target) == ("POST", "/push")
            assert dict(got.lines) == {  # type: ignore[arg-type]
                "Host": f"127.0.0.1:{sink.port}", "Content-Length": str(len(body)),
                "Content-Type": "application/x-protobuf", "Content-Encoding": "snappy",
                "X-Prometheus-Remote-Write-Version": "0.1.0", "X-Scope-Orgid": "tenant",
                "Date": "Tue, 15 Nov 1994 08:12:31 GMT", "User-Agent": "Prometheus/2.42 (a, b)",
            }  # fmt: skip
        await until_committed(kafka.bootstrap, topic, group, len(bodies))
        found = await status(app)
        assert (found["state"], found["delivered"], found["lag"]) == ("running", 4, {f"{topic}-0": 0})
        async with await Wire.open(app.addresses[0]) as wire:
            text = (await wire.ask("GET", "/bridges/metrics")).body.decode()
        assert 'bridge_consumer_posts_total{bridge="out",status="2xx"} 4.0\n' in text
        assert f'bridge_consumer_lag_records{{bridge="out",partition="{topic}-0"}} 0.0\n' in text


async def test_tombstones_bare_records_and_hostile_ones(
    start: Start, kafka: KafkaCluster, topic: str, group: str
) -> None:
    hostile = [("X A", b"1"), ("X-B", b"a\r\nEvil: 1"), ("X-C", b"a\0"), ("Content-Length", b"99"), ("X-D", b"d")]
    many = [(f"X-{number}", b"v" * 20) for number in range(1500)]
    fill(
        kafka.bootstrap, topic,
        (b"k", None, None),
        (None, b"bare", None),
        (None, b"evil", hostile),
        (None, b"many", many),
        (None, b"last", None),
    )  # fmt: skip
    async with RawSink() as sink:
        app = await start(**consumer(topic, group, sink.url, metadata_headers=True))
        await until(lambda: len(sink.got) == 5)
        tomb, bare, evil, full, _ = sink.got
        assert (tomb.body, tomb.all("content-length"), tomb.all("x-kafka-key")) == (b"", ["0"], ["aw=="])
        assert {line[0] for line in bare.lines} == {
            "Host", "Content-Length", "User-Agent", "X-Kafka-Topic", "X-Kafka-Partition", "X-Kafka-Offset",
            "X-Kafka-Timestamp",
        }  # fmt: skip
        assert (evil.body, evil.all("x-d"), evil.all("x-b"), evil.all("evil")) == (b"evil", ["d"], [], [])
        assert len(full.lines) > 1500
        assert (await status(app))["dropped_headers"] == 3


async def test_h10_a_header_that_the_binding_cannot_read(
    start: Start, kafka: KafkaCluster, topic: str, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    many = [(None, b"before", [("X-A", b"1")])] * 30  # so many that Python specialises the call
    fill(kafka.bootstrap, topic, *many)
    await asyncio.to_thread(produce_with_a_name_that_is_no_utf8, kafka.bootstrap, topic)
    fill(kafka.bootstrap, topic, (None, b"after", [("X-A", b"2")]))
    async with RawSink() as sink:
        await start(**consumer(topic, group, sink.url))
        await until_committed(kafka.bootstrap, topic, group, 32)
        assert [(got.body, got.all("x-a")) for got in sink.got[29:]] == [
            (b"before", ["1"]), (b"evil", []), (b"after", ["2"]),
        ]  # fmt: skip
    assert "the headers cannot be read" in caplog.text


async def test_f15_attempts_grow_apart_and_the_offset_waits(
    start: Start, kafka: KafkaCluster, topic: str, group: str
) -> None:
    fill(kafka.bootstrap, topic, *values(3))
    bad = itertools.chain([NO, NO, b"HTTP/1.1 200", None, RawSink.CUT,
                           b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nx" + RawSink.CUT])  # fmt: skip
    async with RawSink(lambda got, number: next(bad, OK) if got.body == b"1" else OK) as sink:
        settings = {"retry.factor": 2, "retry.max.ms": 400, "sink.timeout.ms": 300}
        await start(**consumer(topic, group, sink.url, **settings))
        await until(lambda: sink.bodies.count(b"1") >= 4)
        assert committed(kafka.bootstrap, topic, group) in (None, 1)
        await until_committed(kafka.bootstrap, topic, group, 3)
        attempts = [got.at for got in sink.got if got.body == b"1"]
        pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
        # A busy machine may take longer, but never less: 50 ms, then twice as long each time, up to 400.
        assert all(pause > least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4, 0.4), strict=False)), pauses
        assert [body for body, _ in itertools.groupby(sink.bodies)] == values(3)  # in order, whatever happens


async def test_retry_after_is_heeded(start: Start, kafka: KafkaCluster, topic: str, group: str) -> None:
    fill(kafka.bootstrap, topic, b"a")
    slow = b"HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    async with RawSink(lambda got, number: slow if number == 1 else OK) as sink:
        await start(**consumer(topic, group, sink.url, **{"retry.max.ms": 5000}))
        await until(lambda: len(sink.got) == 2)
        assert sink.got[1].at - sink.got[0].at >= 1


@pytest.mark.parametrize("answer", [400, 302])
async def test_a_refused_record_blocks_or_becomes_a_dead_letter(
    start: Start, kafka: KafkaCluster, create_topic: Callable[..., str], group: str, answer: int
) -> None:
    topic, dead = create_topic(), create_topic()
    headers = [("X-B", b"2"), ("x a", b"\xff"), ("X-B", None)]
    fill(kafka.bootstrap, topic, b"good", (b"key", b"bad\x00\xff", headers), b"after")
    no = f"HTTP/1.1 {answer} No\r\nLocation: /other\r\nContent-Length: 12\r\n\r\nout of order".encode()
    async with RawSink(lambda got, number: no if got.body.startswith(b"bad") else OK) as sink:
        async with running(kafka.bootstrap, **consumer(topic, group, sink.url)):
            await until(lambda: len(sink.got) >= 4)  # good, and bad again and again
            await until_committed(kafka.bootstrap, topic, group, 1)
        assert set(sink.bodies[1:]) == {b"bad\x00\xff"}
        assert {got.target for got in sink.got} == {"/push"}
        async with running(kafka.bootstrap, **consumer(topic, group, sink.url, dlq_topic=dead)):
            await until_committed(kafka.bootstrap, topic, group, 3)
        assert sink.bodies[-1] == b"after"
    (letter,) = stored(kafka.bootstrap, dead)
    assert (letter.key(), letter.value(), letter.headers()[:3]) == (b"key", b"bad\x00\xff", headers)
    story = dict(letter.headers()[3:])
    assert story["gw.dlq.status"] == str(answer).encode()
    assert (story["gw.dlq.topic"], story["gw.dlq.offset"], story["gw.dlq.attempts"]) == (topic.encode(), b"1", b"1")
    assert story["gw.dlq.error"] == b"out of order"


async def test_where_a_new_group_begins(
    start: Start, kafka: KafkaCluster, topic: str, unique: Callable[..., str]
) -> None:
    fill(kafka.bootstrap, topic, *values(5))
    async with RawSink() as first, RawSink() as last, RawSink() as none:
        await start(**consumer(topic, unique("earliest"), first.url))
        latest = await start(**consumer(topic, unique("latest"), last.url, offset_reset="latest"))
        strict = await start(**consumer(topic, unique("error"), none.url, offset_reset="error"))
        await until(lambda: first.bodies == values(5))

        async def fails() -> bool:
            return "Local: No offset stored" in (await status(strict))["trouble"]

        def comes() -> bool:
            """It is there when it has got what comes now."""
            fill(kafka.bootstrap, topic, b"new")
            return bool(last.got)

        async def has_all() -> bool:
            """What it has read is posted: the last that came may be under way."""
            return bool((await status(latest))["consumed"] == len(last.got))

        await until(fails)
        await until(comes)
        await until(has_all)
        assert set(last.bodies) == {b"new"}
        assert none.got == []


async def test_order_per_key_while_another_key_is_tried_again(
    start: Start, kafka: KafkaCluster, topic: str, group: str
) -> None:
    fill(
        kafka.bootstrap,
        topic,
        *((b"k%d" % (number % 4), b"k%d:%d" % (number % 4, number), None) for number in range(80)),
    )
    well = False

    def answer(got: Got, number: int) -> bytes:
        return OK if well or not got.body.startswith(b"k0:") else NO

    async with RawSink(answer) as sink:
        await start(**consumer(topic, group, sink.url, ordering="key", max_concurrency=3))
        await until(lambda: len({body for body in sink.bodies if not body.startswith(b"k0:")}) == 60)
        await asyncio.sleep(0.2)  # time itself: nothing is committed
        assert committed(kafka.bootstrap, topic, group) is None  # k0:0 is the first record of all
        well = True
        await until_committed(kafka.bootstrap, topic, group, 80)
        for key in range(4):
            mine = [int(body.split(b":")[1]) for body in sink.bodies if body.startswith(b"k%d:" % key)]
            assert mine == sorted(mine)
            assert len(set(mine)) == 20


async def test_a_sink_that_is_down_holds_everything_and_loses_nothing(
    start: Start, kafka: KafkaCluster, create_topic: Callable[..., str], group: str
) -> None:
    topic = create_topic(partitions=2)
    async with RawSink() as sink:
        port = sink.port
    settings = {"max.buffered.records": 100, "max.attempts": 2}
    app = await start(**consumer(topic, group, f"http://127.0.0.1:{port}/push", **settings))
    for partition in (0, 1):
        fill(kafka.bootstrap, topic, *(b"%d:%d" % (partition, n) for n in range(300)), partition=partition)

    async def in_trouble() -> Any:
        found = await status(app)
        return found if "Cannot connect" in found["trouble"] else None

    found = await until(in_trouble)
    assert found["delivered"] == 0
    assert found["at_work"] <= 100 + 200  # what one hand-over brings more than may be
    assert "Cannot connect" in found["trouble"]
    async with RawSink(port=port) as sink:
        for partition in (0, 1):
            await until_committed_in(kafka.bootstrap, topic, group, partition, 300)
        for partition in (b"0:", b"1:"):
            mine = [int(body[2:]) for body in sink.bodies if body.startswith(partition)]
            assert mine == list(range(300))


async def until_committed_in(bootstrap: str, topic: str, group: str, partition: int, offset: int) -> None:
    async def has_it() -> bool:
        return await asyncio.to_thread(committed, bootstrap, topic, group, partition) == offset

    await until(has_it)


@pytest.mark.slow
async def test_a_long_retry_keeps_the_membership(start: Start, kafka: KafkaCluster, topic: str, group: str) -> None:
    fill(kafka.bootstrap, topic, *values(3))
    well = False
    async with RawSink(lambda got, number: OK if well else NO) as sink:
        app = await start(
            **consumer(topic, group, sink.url),
            **{"consumer.max.poll.interval.ms": 6000, "consumer.session.timeout.ms": 6000},
        )  # fmt: skip
        await asyncio.sleep(7)  # time itself: longer than Kafka waits for a member
        assert set(sink.bodies) == {b"0"}
        well = True
        await until_committed(kafka.bootstrap, topic, group, 3)
        assert (await status(app))["consumed"] == 3  # it was never asked for them again


async def test_a_second_member_takes_over_where_the_first_is_done(
    start: Start, kafka: KafkaCluster, create_topic: Callable[..., str], group: str
) -> None:
    topic = create_topic(partitions=2)
    for partition in (0, 1):
        fill(kafka.bootstrap, topic, *(b"%d:%d" % (partition, n) for n in range(3)), partition=partition)

    def answer(got: Got, number: int) -> bytes:
        return NO if got.body.endswith(b":1") else OK

    async with RawSink(answer) as one, RawSink() as two:
        await start(**consumer(topic, group, one.url))
        await until(lambda: {b"0:1", b"1:1"} <= set(one.bodies))  # both partitions are under retry
        await start(**consumer(topic, group, two.url))
        await until(lambda: len(two.got) >= 2)
        moved = two.bodies[0][:2]
        assert two.bodies == [moved + b"1", moved + b"2"]
        before = len(one.got)
        await until(lambda: len(one.got) >= before + 3)
        assert {body[:2] for body in one.bodies[before:]} == {b"0:", b"1:"} - {moved}


async def test_members_that_come_and_go_in_order_double_nothing(
    start: Start, kafka: KafkaCluster, create_topic: Callable[..., str], group: str
) -> None:
    topic = create_topic(partitions=4)
    for partition in range(4):
        fill(kafka.bootstrap, topic, *(b"%d:%d" % (partition, n) for n in range(600)), partition=partition)
    async with RawSink() as sink:
        settings = consumer(topic, group, sink.url, commit_interval_ms=60_000)
        # Kafka stores the last offsets of the one that leaves when all have joined again, on a slow machine too.
        settings["shutdown.graceful.ms"] = 60_000
        async with running(kafka.bootstrap, **settings):
            await until(lambda: len(sink.got) > 100, 60)
            await start(**settings)
            await until(lambda: len(sink.got) > 800, 60)
        await until(lambda: len(set(sink.bodies)) == 2400, 60)
        assert len(sink.got) == 2400
        for partition in range(4):
            mine = [int(body[2:]) for body in sink.bodies if body.startswith(b"%d:" % partition)]
            assert mine == list(range(600))


@pytest.mark.slow
async def test_sigkill_repeats_what_was_not_stored_and_no_more(
    kafka: KafkaCluster, topic: str, group: str, tmp_path: Path
) -> None:
    fill(kafka.bootstrap, topic, *values(20))
    file = tmp_path / "bridge.properties"
    file.write_text("consumer.session.timeout.ms=6000\nbridge.consumer.bytehoops.commit.interval.ms=50\n")
    async with RawSink(lambda got, number: b"" if number == 11 else OK) as sink:
        words = ("consumer", "--config", str(file), "-b", kafka.bootstrap, "-t", topic, "-g", group, "-s", sink.url)
        async with bytehoops(*words) as process:
            await until(lambda: len(sink.got) == 11)  # the eleventh is on its way
            await until_committed(kafka.bootstrap, topic, group, 10)
            process.process.kill()
            process.process.wait()
        async with bytehoops(*words) as process:
            await until(lambda: len(sink.got) == 21, 30)  # the dead member's partition waits for its session to end
            assert sink.bodies == values(11) + values(20)[10:]
            process.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.process.wait, 10) == 0
    assert committed(kafka.bootstrap, topic, group) == 20


async def test_sigterm_in_a_pause_ends_soon_and_moves_nothing(kafka: KafkaCluster, topic: str, group: str) -> None:
    fill(kafka.bootstrap, topic, *values(2))
    async with RawSink(lambda got, number: OK if got.body == b"0" else NO) as sink:
        words = ("consumer", "-b", kafka.bootstrap, "-t", topic, "-g", group, "-s", sink.url, "--retry-initial", "120")
        async with bytehoops(*words) as process:
            await until(lambda: len(sink.got) == 2)
            process.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.process.wait, 5) == 0
    assert committed(kafka.bootstrap, topic, group) == 1


async def test_a_second_signal_ends_at_once(kafka: KafkaCluster, topic: str, group: str) -> None:
    fill(kafka.bootstrap, topic, b"0")
    async with RawSink(lambda got, number: b"") as sink:
        words = ("consumer", "-b", kafka.bootstrap, "-t", topic, "-g", group, "-s", sink.url)
        async with bytehoops(*words) as process:
            await until(lambda: len(sink.got) == 1)
            process.process.send_signal(signal.SIGTERM)
            await until(lambda: any("stopping" in line for line in process.output))
            process.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.process.wait, 2) == 130
    assert committed(kafka.bootstrap, topic, group) is None


async def test_the_end_waits_for_the_post_on_its_way_and_stores_its_offset(
    kafka: KafkaCluster, topic: str, group: str
) -> None:
    fill(kafka.bootstrap, topic, *values(3))
    gate = asyncio.Event()
    async with RawSink(lambda got, number: gate) as sink:
        app = running(kafka.bootstrap, **consumer(topic, group, sink.url, commit_interval_ms=60_000))
        await app.__aenter__()
        await until(lambda: len(sink.got) == 1)
        ending = asyncio.ensure_future(app.__aexit__(None, None, None))
        await asyncio.sleep(0.2)  # time itself: it goes on waiting
        assert not ending.done()
        gate.set()
        await ending
        assert sink.bodies == [b"0"]
    assert committed(kafka.bootstrap, topic, group) == 1


async def test_two_bridges_have_groups_and_sinks_of_their_own(
    start: Start, kafka: KafkaCluster, topic: str, unique: Callable[..., str]
) -> None:
    fill(kafka.bootstrap, topic, *values(5))
    async with RawSink() as one, RawSink(lambda got, number: NO) as broken:
        settings = consumer(topic, unique("one"), one.url)
        settings |= {
            name.replace(".out.", ".second."): value
            for name, value in consumer(topic, unique("two"), broken.url).items()
        }
        await start(**settings)
        await until(lambda: one.bodies == values(5) and len(broken.got) > 2)
        assert set(broken.bodies) == {b"0"}
