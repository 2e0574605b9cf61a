"""H8: hostile JSON. S3, S4: hostile names. Both are refused before Kafka, and cost the event loop next to nothing."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.errors import BadRequest
from kafka_gateway.services.common.json_members import PARTS_MAX
from kafka_gateway.services.rest import produce_bodies as producing
from kafka_gateway.services.rest.routes import RestServices
from tests.loop_watch import LoopWatch, slowness
from tests.transports.conftest import Connect
from tests.transports.wire import JSON_V2, V2, Wire, produce, request

MIB = 1024 * 1024
BINARY_V2 = "application/vnd.kafka.binary.v2+json"


def record(value: bytes) -> bytes:
    return b'{"records":[{"value":' + value + b"}]}"


def filled(before: bytes, part: bytes, after: bytes, size: int = 5 * MIB) -> bytes:
    return before + part * (size // len(part)) + after


OPENED = filled(b'{"records":[{"value":', b"[", b"", 2 * MIB)
BODIES: dict[str, tuple[bytes, set[int]]] = {
    "a value a million deep": (record(b"[" * 10**6 + b"]" * 10**6), {400}),
    "a million brackets": (b"[" * 10**6, {400}),
    "a million objects deep": (b'{"a":' * 10**6, {400, 413}),
    "a value that never ends": (OPENED, {400}),
    "5 MiB of []": (filled(b'{"records":[', b"[],", b"[]]}"), {400}),
    "5 MiB of {}": (filled(b'{"records":[', b"{},", b"{}]}"), {413}),
    "5 MiB of null": (filled(b'{"records":[', b"null,", b"null]}"), {400}),
    "5 MiB of [] in a value": (filled(b'{"records":[{"value":[', b"[],", b"[]]}]}"), {200, 400}),
    "5 MiB of records": (filled(b'{"records":[', b'{"value":1},', b'{"value":1}]}'), {413}),
    "5 MiB of headers": (filled(b'{"records":[{"value":1,"headers":[', b'{"name":"a"},', b'{"name":"a"}]}]}'), {413}),
    "5 MiB of members": (b"{" + b",".join(b'"%x":0' % n for n in range(600_000)) + b"}", {400, 413}),
    "5 MiB of one member": (filled(b"{", b'"records":[],', b'"records":[]}'), {400, 413}),
    "5 MiB of spaces": (filled(b"", b" ", b"{}"), {422}),
    "5 MiB of digits": (record(b"9" * 5 * MIB), {200, 400}),
    "a million digits for a partition": (b'{"records":[{"partition":%b}]}' % (b"9" * 10**6), {400}),
    "a million digits after e": (b'{"records":[{"partition":1e%b}]}' % (b"9" * 10**6), {400}),
    "a thousand records, the last one wrong": (
        filled(b'{"records":[', b'{"value":1},', b'{"value":1,"x":1}]}', 12_000), {422}),
    "many records, the last one wrong": (
        filled(b'{"records":[', b'{"value":1},', b'{"value":1,"x":1}]}', 1_000_000), {400}),
    "4301 digits": (b'{"records":[{"partition":%b}]}' % (b"9" * 4301), {400}),
    "4300 digits": (b'{"records":[{"partition":%b}]}' % (b"9" * 4300), {400}),
    "NaN": (record(b"NaN"), {400}),
    "Infinity": (record(b"-Infinity"), {400}),
    "1e999": (record(b"1e999"), {200, 400}),
    "a lone surrogate": (record(b'"\\ud800"'), {200, 400}),
    "a lone surrogate as bytes": (record(b'"\xed\xa0\x80"'), {400}),
    "overlong UTF-8": (record(b'"\xc0\xaf"'), {400}),
    "UTF-16": (record(b"1").decode().encode("utf-16"), {400}),
    "NUL": (b"\0" + record(b"1"), {400}),
    "a control character in a text": (record(b'"\x01"'), {400}),
    "two documents": (record(b"1") * 2, {400}),
    "a comma too many": (b'{"records":[{"value":1},]}', {400}),
    "a comment": (b"/* */" + record(b"1"), {400}),
    "single quotes": (b"{'records':[]}", {400}),
}  # fmt: skip
ACCEPTED = {
    "a BOM": b"\xef\xbb\xbf" + record(b"1"),
    "a name twice": b'{"records":[{"value":1}],"records":[{"value":2}]}',
}
LISTS = {
    "subscription": filled(b'{"topics":[', b'"t",', b'"t"]}', MIB),
    "assignments": filled(b'{"partitions":[', b'{"topic":"t","partition":0},', b'{"topic":"t","partition":0}]}', MIB),
    "positions": filled(b'{"offsets":[', b'{"topic":"t","partition":0},', b'{"topic":"t","partition":0}]}', MIB),
    "positions/end": filled(b'{"partitions":[', b'{"topic":"t","partition":0},', b'{"topic":"t","partition":0}]}', MIB),
    "offsets": filled(b'{"offsets":[', b'{"topic":"t","partition":0},', b'{"topic":"t","partition":0}]}', MIB),
}


@pytest.fixture
def quick(loop_watch: LoopWatch, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """CPU seconds that each reading of a body took, on the event loop."""
    took: list[float] = []

    def time_it(name: str) -> None:
        original = getattr(producing.RecordsReader, name)

        def timed(reader: producing.RecordsReader, *arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return original(reader, *arguments)
            except RecursionError:
                pytest.fail("RecursionError")
            finally:
                took.append(time.thread_time() - began)

        monkeypatch.setattr(producing.RecordsReader, name, timed)

    time_it("__call__")
    time_it("_read_exactly")  # of a long body in a turn of its own
    return took


@pytest.mark.timing
@pytest.mark.parametrize("content_type", [JSON_V2, BINARY_V2], ids=["json", "binary"])
async def test_h8_hostile_bodies(connect: Connect, quick: list[float], topic: str, content_type: str) -> None:
    """The bound is 50 ms; what a single call of the decoder takes for 5 MiB is below it."""
    for name, (body, statuses) in BODIES.items():
        wire = await connect()
        quick.clear()
        head = request("POST", f"/topics/{topic}", Content_Type=content_type, Content_Length=str(len(body)))
        wire.write(head)
        for start in range(0, len(body), 256 * 1024):  # so that the test itself does not hold the loop
            await wire.send(body[start : start + 256 * 1024])
        reply = await wire.reply(timeout_s=20)
        allowed = statuses if content_type == JSON_V2 else {400, 413, 422}
        assert reply.status in allowed, (name, reply)
        assert len(reply.body) < 1000, name
        assert max(quick) < 0.05 * slowness(), (name, quick)
        assert (await wire.ask("GET", "/health/live")).status == 200


async def test_h8_what_is_odd_but_right(wire: Wire, topic: str) -> None:
    for name, body in ACCEPTED.items():
        await wire.send(produce(topic, body))
        reply = await wire.reply()
        assert (reply.status, len(reply.json["offsets"])) == (200, 1), name


async def test_a_long_body_that_is_read_twice_is_taken_in_its_order(wire: Wire, topic: str) -> None:
    digits = b"QUJD" * 100_000
    for value in (digits + b"QQ", b"QQ=="):  # the padding is missing, which only the second reading lets pass
        body = record(b'"%b","partition":0' % value)
        await wire.send(request("POST", f"/topics/{topic}", body, Content_Type=BINARY_V2))
    assert [(await wire.reply()).json["offsets"][0]["offset"] for _ in range(2)] == [0, 1]
    reply = await wire.ask("POST", f"/topics/{topic}", record(b'"%b"' % (digits + b"*")), Content_Type=BINARY_V2)
    assert reply.status == 400


async def test_h8_long_lists_of_consumers(wire: Wire) -> None:
    await wire.ask("POST", "/consumers/h8", b'{"name":"i"}', Content_Type=V2)
    for path, body in LISTS.items():
        reply = await wire.ask("POST", f"/consumers/h8/instances/i/{path}", body, Content_Type=V2)
        assert (reply.status, reply.json["error_code"]) == (413, 413), path
        assert str(PARTS_MAX) in reply.json["message"]


def test_h8_depth_is_no_recursion_error() -> None:
    from kafka_gateway import jsonio

    for text in (b"[" * 10**6, b'{"a":' * 10**6, b"[" * 5000 + b"]" * 5000):
        with pytest.raises(BadRequest):
            jsonio.decode(text, jsonio.Decoder(Any))
        with pytest.raises(ValueError, match="nested"):
            jsonio.decode_value(text)
    for text in (b"[" * 1000 + b"]" * 1000, b'{"a":' * 1000 + b"1" + b"}" * 1000):
        assert jsonio.decode(text, jsonio.Decoder(Any)) == jsonio.decode_value(text)


# --- S3, S4 ----------------------------------------------------------------------------------------------------------

BAD_TOPICS = [
    "^.*", "^__consumer_offsets", "a\0b", ".", "..", "x" * 250, "a b", "a\nb", "a\rb", "a\tb", "a/b", "a\\b", "a,b",
    "a:b", "a*", "a?", "tоpic", "topiс", "ａ", "a\u200bb", "a\u202eb", "é", "e\u0301", "a%b", "a;b", "$a", "a'b", 'a"b',
    "<a>", "\u0660", "a\x7fb", "\U0001f600", " a", "a ",
]  # fmt: skip
"""None of them may reach Kafka: librdkafka takes ^… for a pattern, and cuts at NUL (reliability.md §2.2)."""
BAD_MEMBERS = ["a\0b", "a\nb", "a\rb", "\x1b[2J", "a\u202eb", "x" * 256, "\u200b", "a\x7fb", "\ud7ff\ue000"]
"""Groups and instances: what cannot be printed, and what is too long."""


class Watched:
    """Which names got as far as Kafka."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        (services,) = {each.service for each in app.gateway.router.routes if isinstance(each.service, RestServices)}
        kafka = app.kafka
        for port, name in (
            (kafka.producer, "send"),
            (kafka.producer, "send_each"),
            (kafka.producer, "ready"),
            (kafka.admin, "topic"),
            (kafka.admin, "topics"),
            (kafka.reader, "fetch"),
            (kafka, "consumer"),
        ):
            self._watch(port, name, monkeypatch)
        self.services = services

    def _watch(self, port: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(port, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            self.seen.append(f"{name}{arguments!r}")
            return original(*arguments, **named)

        monkeypatch.setattr(port, name, watched)


@pytest.fixture
def watched(app: App, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(app, monkeypatch)


async def test_s3_names_of_topics(connect: Connect, watched: Watched) -> None:
    wire = await connect()
    await wire.ask("POST", "/consumers/s3", b'{"name":"i","format":"json"}', Content_Type=V2)
    watched.seen.clear()
    instance = "/consumers/s3/instances/i"
    read = "application/vnd.kafka.json.v1+json"
    for name in BAD_TOPICS:
        path = quote(name, safe="")
        entry = json.dumps({"topic": name, "partition": 0, "offset": 0}).encode()
        partition = json.dumps({"topic": name, "partition": 0}).encode()
        asked = [
            request("GET", f"/topics/{path}"),
            request("GET", f"/topics/{path}", Accept="application/vnd.kafka.v1+json"),
            request("GET", f"/topics/{path}/partitions"),
            request("GET", f"/topics/{path}/partitions/0"),
            request("GET", f"/topics/{path}/partitions/0/offsets"),
            request("GET", f"/topics/{path}/partitions/0/messages?offset=0", Accept=read),
            produce(path),
            request("POST", f"/topics/{path}/partitions/0", record(b"1"), Content_Type=JSON_V2),
            request("POST", f"/topics/{path}", record(b"1"), Content_Type=read, Accept="application/vnd.kafka.v1+json"),
            request("POST", f"{instance}/positions", b'{"offsets":[' + entry + b"]}", Content_Type=V2),
            request("POST", f"{instance}/offsets", b'{"offsets":[' + entry + b"]}", Content_Type=V2),
            request("POST", f"{instance}/positions/end", b'{"partitions":[' + partition + b"]}", Content_Type=V2),
        ]
        for data in asked:
            await wire.send(data)
            reply = await wire.reply()
            refused = reply.status >= 400 or all(row["error_code"] for row in reply.json["offsets"])
            assert refused, (name, data[:80], reply)
            assert reply.status < 500, (name, data[:80], reply)
            if reply.closes:
                wire = await connect()
    assert watched.seen == []


async def test_s3_names_in_subscriptions(connect: Connect, watched: Watched) -> None:
    """Upstream takes them and fails at the read; whichever it is, Kafka must not get them."""
    wire = await connect()
    for number, name in enumerate(BAD_TOPICS):
        await wire.ask("POST", "/consumers/s3", b'{"name":"i%d","format":"json"}' % number, Content_Type=V2)
        (consumer,) = [each.consumer for each in watched.services.registry._instances.values() if each]
        watched.seen.clear()
        for method in ("subscribe", "assign", "seek", "commit"):
            watched._watch(consumer, method, pytest.MonkeyPatch())
        path = f"/consumers/s3/instances/i{number}"
        body = json.dumps({"topics": [name]}).encode()
        reply = await wire.ask("POST", f"{path}/subscription", body, Content_Type=V2)
        read = await wire.ask("GET", f"{path}/records?timeout=10", Accept=JSON_V2)
        assert reply.status >= 400 or read.status >= 400 or read.json == [], (name, reply, read)
        assert [each for each in watched.seen if "subscribe" in each and "[]" not in each] == [], name
        assert (await wire.ask("DELETE", path)).status == 204


async def test_s3_names_of_groups_and_instances(connect: Connect, watched: Watched) -> None:
    for name in BAD_MEMBERS:
        path = quote(name, safe="")
        wire = await connect()
        for data in (
            request("POST", f"/consumers/{path}", b"{}", Content_Type=V2),
            request("POST", f"/consumers/{path}", b"{}", Content_Type="application/vnd.kafka.v1+json"),
            request("POST", "/consumers/s3", json.dumps({"name": name}).encode(), Content_Type=V2),
            request("POST", "/consumers/s3", json.dumps({"id": name}).encode(), Content_Type=V2),
        ):
            await wire.send(data)
            reply = await wire.reply()
            assert reply.status in (400, 422), (name, data, reply)
            assert all(char.isprintable() for char in reply.json["message"]), (name, reply)
            if reply.closes:
                wire = await connect()
        for tail in ("", "/records", "/subscription", "/assignments", "/topics/t"):
            for method in ("GET", "DELETE"):
                reply = await (await connect()).ask(method, f"/consumers/{path}/instances/{path}{tail}", Accept=JSON_V2)
                assert reply.status in (400, 404, 405, 406), (name, tail, reply)
    assert [each for each in watched.seen if each.startswith("consumer")] == []


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state", "__anything"])
async def test_s3_internal_topics(connect: Connect, watched: Watched, topic: str) -> None:
    wire = await connect()
    await wire.send(produce(topic))
    assert (await wire.reply()).json["offsets"][0]["error_code"]
    read = f"/topics/{topic}/partitions/0/messages?offset=0"
    assert (await wire.ask("GET", read, Accept="application/vnd.kafka.json.v1+json")).status >= 400
    assert [each for each in watched.seen if each.startswith(("send", "fetch"))] == []


ENCODINGS = {
    "plain": ("name.x", True),
    "lower case": ("%6eame%2ex", True),
    "upper case": ("%6Eame%2Ex", True),
    "all of it": ("%6e%61%6d%65%2e%78", True),
    "a slash behind it": ("name.x/", True),
    "twice": ("%256eame.x", False),
    "a parameter": ("name.x;a=b", False),
    "a dot segment": ("./name.x", False),
    "two slashes": ("/name.x", False),
    "up and down": ("a/../name.x", False),
    "encoded slash": ("name.x%2f", False),
    "encoded NUL": ("name.x%00", False),
    "overlong": ("%c1%ae.x", False),
    "full width": ("%EF%BD%8Eame.x", False),
}


async def test_s4_a_name_has_one_meaning(connect: Connect, topic: str) -> None:
    """However it is written it is either the one topic, for every operation, or none at all."""
    name = f"name.{topic}"
    wire = await connect()
    await wire.send(produce(name))
    assert (await wire.reply()).status == 200
    for case, (written, same) in ENCODINGS.items():
        path = written.replace(".x", "." + topic).replace("%2ex", "%2e" + topic).replace("%2Ex", "%2E" + topic)
        path = path.replace("%78", quote(topic))
        meanings = []
        for data in (
            request("GET", f"/topics/{path}"),
            produce(path),
            request("GET", f"/topics/{path}", Accept="application/vnd.kafka.v1+json"),
        ):
            wire = await connect()
            await wire.send(data)
            reply = await wire.reply()
            if reply.status == 200 and "offsets" in reply.json:
                meanings.append(reply.json["offsets"][0]["error_code"] is None)
            else:
                meanings.append(reply.status == 200 and reply.json["name"] == name)
        assert meanings == [same] * 3, case
