"""Record streams through a real listener, down to the bytes (streams.md §2, §6)."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unauthorized
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.session import Principal
from tests.services.fake_kafka import FakeKafka
from tests.transports.listener import Listener, push
from tests.transports.listener import target as atmosphere
from tests.transports.peer import CLOSE, PING, PONG, TEXT, Peer, Refused, frame
from tests.transports.streams import HttpStream, cursor, serve
from tests.transports.test_http_listeners import make_certificate, trusting
from tests.transports.wire import Wire, request
from tests.waiting import until

SSE = {"Accept": "text/event-stream"}
R0 = (
    '{"topic":"t","partition":0,"offset":0,"timestamp":7,"key":"k","value":{"a":1},'
    '"headers":[{"name":"h","value":"eA=="}]}'
)
R1 = '{"topic":"t","partition":0,"offset":1,"timestamp":0,"key":null,"value":null}'
READY, END = f'{{"positions":{cursor(0, 0)}}}', f'{{"positions":{cursor(2, 0)}}}'


@pytest.fixture
def fake() -> FakeKafka:
    kafka = FakeKafka(t=2, u=1)
    kafka.store("t", 0, OutgoingRecord(b'"k"', b'{"a":1}', timestamp_ms=7, headers=[("h", b"x")]))
    kafka.put("t", None)
    return kafka


@pytest.fixture
async def app(fake: FakeKafka, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> AsyncIterator[App]:
    async with serve(monkeypatch, fake, **settings) as running:
        yield running


def stream(app: App, query: str = "", path: str = "/topics/t/stream", version: str = "1.1", **headers: str) -> Any:
    return HttpStream.open(app.addresses[0], f"{path}?{query}" if query else path, version, **headers)


# --- bytes ------------------------------------------------------------------------------------------------------------


async def test_server_sent_events(app: App, fake: FakeKafka) -> None:
    async with await stream(app, "format=json&offset=earliest", **SSE) as opened:
        assert opened.status == 200
        assert {name: opened.headers.get(name) for name in ("content-type", "cache-control", "x-accel-buffering")} == {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
        }
        assert opened.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in opened.headers
        assert await opened.chunk() == b"retry: 2000\n\n"
        assert await opened.chunk() == f"id: {cursor(0, 0)}\nevent: ready\ndata: {READY}\n\n".encode()
        assert await opened.chunk() == f"id: {cursor(2, 0)}\ndata: [{R0},{R1}]\n\n".encode()
        assert await opened.chunk() == f"id: {cursor(2, 0)}\nevent: end\ndata: {END}\n\n".encode()
        fake.put("t", b"3", partition=1)
        row = '{"topic":"t","partition":1,"offset":0,"timestamp":0,"key":null,"value":3}'
        assert await opened.chunk() == f"id: {cursor(2, 1)}\ndata: [{row}]\n\n".encode()


@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson", "", "text/html,*/*;q=0.8"])
async def test_lines(app: App, accept: str) -> None:
    asked = {"Accept": accept} if accept else {}
    async with await stream(app, "format=json&offset=earliest&until=end", **asked) as opened:
        assert opened.headers["content-type"] == "application/x-ndjson"
        assert await opened.chunk() == f'{{"event":"ready",{READY[1:]}\n'.encode()
        assert await opened.chunk() == f"{R0}\n{R1}\n".encode()
        assert await opened.chunk() == f'{{"event":"end",{END[1:]}\n'.encode()
        assert await opened.chunk() == b""
        assert await opened.wire.closed() == b""


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "text/event-stream, */*", "Text/Event-Stream;q=0.3, text/html"]
)
async def test_events_are_for_who_asks_for_them_by_name(app: App, accept: str) -> None:
    async with await stream(app, Accept=accept) as opened:
        assert opened.headers["content-type"] == "text/event-stream"


async def test_http_1_0_reads_until_close(app: App) -> None:
    async with await stream(app, "format=json&offset=earliest&until=end", version="1.0") as opened:
        assert "transfer-encoding" not in opened.headers
        assert opened.headers["connection"] == "close"
        body = (await opened.wire.closed()).decode()
        assert body == f'{{"event":"ready",{READY[1:]}\n{R0}\n{R1}\n{{"event":"end",{END[1:]}\n'


async def test_head_answers_the_headers(app: App, fake: FakeKafka) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        for _ in range(2):  # the connection can go on
            reply = await wire.ask("HEAD", "/topics/t/stream", Accept="text/event-stream")
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
            assert reply.headers["cache-control"] == "no-cache, no-transform"
        assert (await wire.ask("HEAD", "/topics/none/stream")).status == 404
    assert not fake.tails.open_tails


async def test_websocket_messages(app: App, fake: FakeKafka) -> None:
    async with await Peer.open(app.addresses[0], "/topics/t/stream?format=json&offset=earliest") as peer:
        assert await peer.text() == f'{{"event":"ready",{READY[1:]}'
        assert await peer.text() == f"[{R0},{R1}]"
        assert await peer.text() == f'{{"event":"end",{END[1:]}'
        await peer.send("anything", TEXT)
        await peer.send('{"ack":[]}', TEXT)
        await peer.send("hello", PING)
        found = await peer.frame()
        assert (found.opcode, found.payload) == (PONG, b"hello")
        await peer.send(b"\x03\xe8", CLOSE)
        assert (await peer.frame()).close_code == 1000
    await until(lambda: not fake.tails.open_tails)


async def test_a_websocket_closes_behind_the_last_event(app: App) -> None:
    async with await Peer.open(app.addresses[0], "/topics/t/stream?limit=1&offset=earliest&format=json") as peer:
        assert [await peer.text() for _ in range(3)][1:] == [
            f"[{R0}]",
            f'{{"event":"end","positions":{cursor(1, 0)}}}',
        ]
        assert await peer.closed() == 1000


async def test_envelopes(app: App, fake: FakeKafka) -> None:
    async with await Peer.open(app.addresses[0]) as peer:
        await peer.send('{"id":"7","path":"/topics/t/stream?format=json&offset=earliest"}')
        head = '{"code":200,"id":"7","type":"application/json","cursor":'
        assert await peer.text() == f'{head}{cursor(0, 0)},"event":"ready"}}{READY}'
        assert await peer.text() == f"{head}{cursor(2, 0)}}}[{R0},{R1}]"
        assert await peer.text() == f'{head}{cursor(2, 0)},"event":"end"}}{END}'
        await peer.send(
            '{"id":"8","path":"/topics/t/stream?format=json&until=end&offset=-1&partitions=0","detached":true}\n'
        )
        head = f'{{"id": "8", "cursor":{cursor(1)},"event":"ready", "detached": true}}\n'
        assert await peer.text() == head + f'{{"positions":{cursor(1)}}}'
        assert (await peer.text()).endswith(f"\n[{R1}]")
        assert '"event":"end"' in await peer.text()
        fake.put("t", b"1", partition=1)
        assert '"id":"7"' in await peer.text()


async def test_an_envelope_stream_larger_than_a_message_comes_in_parts(app: App, fake: FakeKafka) -> None:
    fake.put("u", *[b'"%b"' % (b"x" * 1000)] * 150)
    async with await Peer.open(app.addresses[0]) as peer:
        await peer.send('{"id":"7","path":"/topics/u/stream?format=json&offset=earliest"}')
        await peer.text()
        content, heads = "", []
        while True:
            message = await peer.text()
            assert len(message) <= 65536
            head, end = json.JSONDecoder().raw_decode(message)
            heads.append(head)
            content += message[end:]
            if "continue" not in head:
                break
        assert len(json.loads(content)) == 150
        assert [each.get("cursor") for each in heads] == [None] * (len(heads) - 1) + [
            json.loads(cursor(150, topic="u"))
        ]


async def test_the_payload_is_the_same_on_all_carriers(app: App) -> None:
    query = "offset=earliest&limit=2"
    async with await stream(app, query, **SSE) as opened:
        events = [await opened.event() for _ in range(2)][1]["data"]
    async with await Peer.open(app.addresses[0], f"/topics/t/stream?{query}") as peer:
        message = [await peer.text() for _ in range(2)][1]
    async with await Peer.open(app.addresses[0]) as peer:
        reply = [await peer.ask(f'{{"id":"1","path":"/topics/t/stream?{query}"}}'), await peer.text()][1]
    async with await stream(app, query) as opened:
        lines = [(await opened.line()).decode() for _ in range(3)][1:]
    assert events == message == reply[reply.index("}[") + 1 :] == f"[{','.join(lines)}]"


# --- what cannot be ---------------------------------------------------------------------------------------------------

BAD = {
    "format=xml": "format",
    "key_format=xml": "key_format",
    "value_format=": "value_format",
    "offset=first": "offset",
    "offset=": "offset",
    "offset=1.5": "offset",
    "offset=9223372036854775808": "offset",
    "since=yesterday": "since",
    "since=2026-01-31T12:00:00": "since",
    "since=--5": "since",
    "since=1&offset=1": "since",
    "partitions=": "partitions",
    "partitions=0,x": "partitions",
    "partitions=-1": "partitions",
    "partitions=0&group=g": "partitions",
    "until=later": "until",
    "limit=0": "limit",
    "limit=many": "limit",
    "limit=-1": "limit",
    "heartbeat=0": "heartbeat",
    "heartbeat=121": "heartbeat",
    "heartbeat=1.5": "heartbeat",
    "ack=sent": "ack",
    "ack=client&group=g": "ack",
    "ack=maybe&group=g": "ack",
    "group=": "group",
    "group=g&offset=5": "offset",
    "group=g&since=5": "since",
    "colour=red": "colour",
    "Offset=1": "Offset",
}


@pytest.mark.parametrize("query", BAD)
async def test_a_bad_parameter_is_named(app: App, fake: FakeKafka, query: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        reply = await wire.ask("GET", f"/topics/t/stream?{query}", **SSE)
    assert (reply.status, reply.json["error_code"]) == (400, 40002)
    assert reply.headers["content-type"] == "application/json"
    assert BAD[query] in reply.json["message"]
    assert not fake.tails.open_tails
    assert not fake.consumers


FORGED = [
    "x", "{}", "1", "[1]", "[{}]", "null", "[[]]",
    '[{"topic":"t","partition":0}]',
    '[{"topic":"t","partition":"0","offset":1}]',
    '[{"topic":"t","partition":-1,"offset":1}]',
    '[{"topic":"t","partition":2147483648,"offset":1}]',
    '[{"topic":"t","partition":true,"offset":1}]',
    '[{"topic":"t","partition":0,"offset":1.5}]',
    '[{"topic":"t","partition":0,"offset":9223372036854775808}]',
    '[{"topic":1,"partition":0,"offset":1}]',
    '[{"topic":"other","partition":0,"offset":1}]',
    '[{"topic":"t","partition":0,"offset":1},{"topic":"t","partition":0,"offset":2}]',
    "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("token", FORGED)
async def test_a_forged_token_is_refused(app: App, fake: FakeKafka, token: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        reply = await wire.ask("GET", "/topics/t/stream", Last_Event_ID=token, **SSE)
        assert (reply.status, reply.json["error_code"]) == (400, 40002), reply
        assert re.search("Last-Event-ID|last_event_id", reply.json["message"])
    assert not fake.tails.open_tails


async def test_what_is_refused_before_the_start_is_an_ordinary_error(app: App, fake: FakeKafka) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        for path, status, code in (
            ("/topics/none/stream", 404, 40401),
            ("/topics/t,none/stream", 404, 40401),
            ("/topics/t,,u/stream", 400, 40002),
            ("/topics/a%20b/stream", 400, 40002),
            ("/topics/t%00/stream", 400, 400),
            ("/topics/%5Et/stream", 400, 40002),
            ("/topics/__consumer_offsets/stream", 403, 40301),
            (f"/topics/{','.join(f't{n}' for n in range(101))}/stream", 400, 40002),
            ("/topics/none/stream?group=g", 404, 40401),
            ("/topics/t/stream?partitions=2", 404, 40402),
            ("/topics/t,u/stream?partitions=0", 400, 40002),
        ):
            reply = await wire.ask("GET", path, **SSE)
            assert (reply.status, reply.json["error_code"]) == (status, code), path
            if "%00" in path:  # no route at all
                continue
            with pytest.raises(Refused) as refused:
                await Peer.open(app.addresses[0], path)
            assert (refused.value.reply.status, refused.value.reply.json["error_code"]) == (status, code), path
    assert set(fake.logs) == {"t", "u"}
    assert not fake.tails.open_tails


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
async def test_foreign_pages_get_no_stream(app: App, fake: FakeKafka, accept: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        reply = await wire.ask("GET", "/topics/t/stream", Accept=accept, Origin="http://evil.example")
        assert reply.status == 403
    with pytest.raises(Refused):
        await Peer.open(app.addresses[0], "/topics/t/stream", Origin="http://evil.example")
    assert not [call for call in fake.calls if call[0] == "open_tail"]
    async with await stream(app, Accept=accept, Origin="http://gateway") as opened:
        assert opened.status == 200


# --- what is in the records (reliability.md H10) ----------------------------------------------------------------------

HOSTILE = [
    OutgoingRecord(b'"a\\nb"', b'{"x":\r\n"y"}'),
    OutgoingRecord(None, b'"\\u0000\\u2028\\r\\n\\ndata: forged\\n\\n"'),
    OutgoingRecord(b"\n\ndata: forged\n\n", b"1"),
    OutgoingRecord(None, b"\xff\xfe"),
    OutgoingRecord(None, b"2", headers=[("a\r\nb: c\n\ndata: x\n\n", b"\r\n\x00\xff"), ("n", None)]),
    OutgoingRecord(None, b"[1,\n\n2]"),
]


async def test_no_record_splits_an_event_or_a_line(app: App, fake: FakeKafka) -> None:
    for record in HOSTILE:
        fake.store("u", 0, record)
    async with await stream(app, "format=json&offset=earliest&until=end", "/topics/u/stream", **SSE) as opened:
        events = [await opened.event() for _ in range(3)]
    assert [each.get("event") for each in events] == ["ready", None, "end"]
    rows = json.loads(events[1]["data"])
    assert [row["value"] for row in rows] == [{"x": "y"}, "\0\u2028\r\n\ndata: forged\n\n", 1, None, 2, [1, 2]]
    assert [row["key"] for row in rows] == ["a\nb", None, None, None, None, None]
    assert [row.get("error", {}).get("error_code") for row in rows] == [None, None, 42208, 42208, None, None]
    assert rows[4]["headers"] == [
        {"name": "a\r\nb: c\n\ndata: x\n\n", "value": "DQoA/w=="},
        {"name": "n", "value": None},
    ]
    async with await stream(app, "format=json&offset=earliest&until=end", "/topics/u/stream") as opened:
        lines = [json.loads(await opened.line()) for _ in range(8)]
    assert lines[1:7] == rows
    async with await Peer.open(app.addresses[0], "/topics/u/stream?format=json&offset=earliest") as peer:
        assert json.loads([await peer.text() for _ in range(2)][1]) == rows


# --- clients that leave, read slowly, or not at all -------------------------------------------------------------------


@pytest.mark.parametrize("target", ["http", "socket", "envelope"])
async def test_the_tails_end_with_the_client(app: App, fake: FakeKafka, target: str) -> None:
    if target == "http":
        client: Any = await stream(app, path="/topics/t,u/stream", **SSE)
        wire = client.wire
    else:
        client = await Peer.open(app.addresses[0], "/topics/t,u/stream" if target == "socket" else "/")
        if target == "envelope":
            await client.send('{"id":"1","path":"/topics/t,u/stream"}')
            await client.text()
        wire = client.wire
    await until(lambda: len(fake.tails.open_tails) == 2)
    wire.writer.transport.abort()
    await until(lambda: not fake.tails.open_tails)
    assert len(app.gateway.heartbeats) == 0
    await until(lambda: app.host.connection_count == 0)


@pytest.mark.parametrize("settings", [{"stream_buffer_bytes": 65536}])
@pytest.mark.parametrize("target", ["http", "socket", "envelope"])
async def test_a_slow_client_is_paused_and_misses_nothing(app: App, fake: FakeKafka, target: str) -> None:
    value = b'"%b"' % (b"x" * 50_000)
    query = "/topics/u/stream?format=json"
    if target == "http":
        slow: Any = await stream(app, "format=json", "/topics/u/stream", **SSE)
    else:
        slow = await Peer.open(app.addresses[0], query if target == "socket" else "/")
        if target == "envelope":
            await slow.send(f'{{"id":"1","path":"{query}"}}')
            await slow.text()
    async with slow, await stream(app, "format=json", "/topics/u/stream", **SSE) as quick:
        await until(lambda: len(fake.tails.open_tails) == 2)
        stalled = fake.tails.open_tails[0]
        for number in range(1000):
            fake.put("u", value)
            if number % 50 == 0:
                await quick.records(1 if number == 0 else 50)
            if not stalled.is_reading:
                break
        assert not stalled.is_reading  # it costs the gateway no more than its buffer, whatever comes
        sent = len(fake.logs["u"][0])
        fake.put("u", b"1")
        assert (await quick.records(sent + 1 - (1 + number // 50 * 50)))[-1]["value"] == 1
        offsets: list[int] = []
        while len(offsets) <= sent:
            if target == "http":
                offsets += [row["offset"] for row in await slow.records(1)]
                continue
            text = await slow.text()
            if target == "envelope":
                head, end = json.JSONDecoder().raw_decode(text)
                part = text[end:]
                while head.get("continue"):
                    text = await slow.text()
                    head, end = json.JSONDecoder().raw_decode(text)
                    part += text[end:]
                if "event" in head:
                    continue
                text = part
            body = json.loads(text)
            offsets += [row["offset"] for row in body] if isinstance(body, list) else []
        assert offsets == list(range(sent + 1))


@pytest.mark.parametrize("settings", [{"stream_buffer_bytes": 65536, "stream_write_timeout_ms": 1000}])
@pytest.mark.parametrize("target", ["http", "socket"])
async def test_a_client_that_takes_nothing_is_cut_off(app: App, fake: FakeKafka, target: str) -> None:
    if target == "http":
        client: Any = await stream(app, **SSE)
    else:
        client = await Peer.open(app.addresses[0], "/topics/t/stream")
    async with client:
        client.wire.writer.transport.pause_reading()
        await until(lambda: fake.tails.open_tails)
        tail = fake.tails.open_tails[0]
        for _ in range(2000):
            if not tail.is_reading:
                break
            fake.put("t", b"x" * 50_000)
            await asyncio.sleep(0)
        await until(lambda: not fake.tails.open_tails)
        await until(lambda: app.host.connection_count == 0)


@pytest.mark.slow
async def test_signs_of_life(app: App) -> None:
    async with (
        await stream(app, "heartbeat=1", **SSE) as events,
        await stream(app, "heartbeat=1") as lines,
        await Peer.open(app.addresses[0], "/topics/t/stream?heartbeat=1") as peer,
    ):
        for _ in range(2):
            await events.event()
            await lines.line()
            await peer.frame()
        assert await events.chunk() == b":\n\n"
        assert await lines.chunk() == b"\n"
        assert (await peer.frame()).opcode == PING


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_topic_ends_its_streams(app: App, fake: FakeKafka) -> None:
    async with await stream(app, **SSE) as opened:
        await until(lambda: fake.tails.open_tails)
        fake.tails.delete("t")
        events = [await opened.event() for _ in range(3)]
        assert events[2] == {
            "event": "error",
            "data": '{"error_code":40401,"message":"Topic not found.","retriable":false}',
        }
        assert await opened.chunk() == b""
        assert await opened.wire.closed() == b""


@pytest.mark.parametrize("target", ["http", "socket", "envelope"])
async def test_a_gateway_that_stops_says_so(
    fake: FakeKafka, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], target: str
) -> None:
    async with serve(monkeypatch, fake) as app:
        if target == "http":
            client: Any = await stream(app, **SSE)
        else:
            client = await Peer.open(app.addresses[0], "/topics/t/stream" if target == "socket" else "/")
            if target == "envelope":
                await client.send('{"id":"1","path":"/topics/t/stream"}')
                await client.text()
        await until(lambda: fake.tails.open_tails)
    async with client:
        if target == "http":
            found = (await client.wire.closed()).decode()
            assert found.endswith('"retriable":true}\n\n\r\n0\r\n\r\n')
            assert 'event: error\ndata: {"error_code":50301,' in found
            return
        texts = []
        while True:
            frame = await client.frame()
            if frame.opcode == CLOSE:
                assert frame.close_code == 1001
                break
            texts.append(frame.payload.decode())
        assert '"error_code":50301,' in texts[-1]
        assert texts[-1].startswith('{"event":"error",' if target == "socket" else '{"code":503,"id":"1",')


async def test_a_resumed_stream_goes_on_where_the_token_says(app: App, fake: FakeKafka) -> None:
    token = cursor(1, 0)
    escaped = token.replace('"', "%22")
    for headers, query in (
        ({"Last_Event_ID": token}, "offset=latest&format=json"),
        ({}, f"offset=latest&format=json&last_event_id={escaped}"),
        ({"Last_Event_ID": token}, "last_event_id=[]&format=json"),  # the header is the newer one
    ):
        async with await stream(app, query, **SSE, **headers) as opened:
            assert await opened.records(1) == [json.loads(R1)]


async def test_a_stale_token_is_told_as_a_gap(app: App, fake: FakeKafka) -> None:
    async with await stream(app, Last_Event_ID=cursor(99, 0), **SSE) as opened:
        events = [await opened.event() for _ in range(2)]
        assert events[1] == {
            "id": cursor(2, 0),
            "event": "gap",
            "data": '{"topic":"t","partition":0,"from":99,"to":2}',
        }


# --- compression, proofs, broken frames -------------------------------------------------------------------------------


async def test_gzip_is_flushed_with_every_batch(app: App, fake: FakeKafka) -> None:
    async with (
        await stream(app, "format=json&offset=earliest", Accept_Encoding="gzip, deflate", **SSE) as opened,
        await stream(app, "format=json&offset=earliest", Accept_Encoding="gzip", **SSE) as other,
    ):
        for each in (opened, other):
            assert (each.headers["content-encoding"], each.headers["vary"]) == ("gzip", "Accept-Encoding")
        unpack = zlib.decompressobj(wbits=31)
        text = b""
        for _ in range(4 + 1):  # gzip's own head comes alone
            text += unpack.decompress(await opened.chunk())
        assert text.decode() == (
            f"retry: 2000\n\nid: {cursor(0, 0)}\nevent: ready\ndata: {READY}\n\n"
            f"id: {cursor(2, 0)}\ndata: [{R0},{R1}]\n\nid: {cursor(2, 0)}\nevent: end\ndata: {END}\n\n"
        )
        fake.put("t", b"1", partition=1)
        assert unpack.decompress(await opened.chunk()).endswith(b'"value":1}]\n\n')


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
async def test_a_gzip_stream_that_ends_is_whole(app: App, accept: str) -> None:
    query = "format=json&offset=earliest&until=end"
    async with await stream(app, query, Accept=accept) as opened:
        plain = b"".join([chunk async for chunk in chunks(opened)])
    async with await stream(app, query, Accept=accept, Accept_Encoding="gzip") as opened:
        packed = b"".join([chunk async for chunk in chunks(opened)])
    assert gzip.decompress(packed) == plain  # its checksum and length are right, too


async def chunks(opened: HttpStream) -> AsyncIterator[bytes]:
    while chunk := await opened.chunk():
        yield chunk


class Ticket(Authenticator):
    """A proof that is good for a moment, and then as long as ``valid`` says."""

    name = "TICKET"
    valid = True

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        if headers.get("authorization") != "Ticket 1" or not self.valid:
            raise Unauthorized("The ticket is not valid.")
        return Principal("holder", frozenset({"*"}), time.monotonic() + 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["http", "socket", "group", "group socket"])
async def test_a_proof_that_is_revoked_ends_the_stream(
    fake: FakeKafka, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    ticket = Ticket()
    monkeypatch.setattr(Plugins, "authenticator", lambda self, config: ticket)
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    async with serve(monkeypatch, fake) as app:
        path, query = "/topics/t/stream", "heartbeat=1&group=g" if "group" in target else "heartbeat=1"
        if "socket" in target:
            client: Any = await Peer.open(app.addresses[0], f"{path}?{query}", Authorization="Ticket 1")
        else:
            client = await stream(app, query, Authorization="Ticket 1", **SSE)
        async with client:
            if "group" not in target:
                await until(lambda: fake.tails.open_tails)
            await asyncio.sleep(0.4)  # time itself: it is looked at many times, and goes on
            ticket.valid = False
            if "socket" in target:
                texts = []
                while (frame := await client.frame()).opcode != CLOSE:
                    texts.append(frame.payload)
                assert b'{"event":"error","error_code":401' in texts[-1]
            else:
                found = [chunk async for chunk in chunks(client)]
                assert found[-1].startswith(b'event: error\ndata: {"error_code":401')
        await until(lambda: not fake.tails.open_tails)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x80\0\0\0\0", 1002),  # an extension
        (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in parts
        (b"\x89\xfe\x00\x7e\0\0\0\0", 1002),  # a long ping
        (b"\x82\xff" + bytes(4) + b"\xff" * 8, 1009),
        (frame(b"\x03\xe7", CLOSE), 1000),  # a code that must not travel
        (frame(b"\x0f\xa0bye", CLOSE), 4000),
        (frame(b"", CLOSE), 1000),
    ],
)
async def test_the_socket_of_a_stream_knows_its_protocol(app: App, fake: FakeKafka, sent: bytes, code: int) -> None:
    async with await Peer.open(app.addresses[0], "/topics/u/stream") as peer:
        await peer.text()
        await peer.text()
        await peer.send(b"x" * 65000, TEXT)
        for byte in frame(b"a", PING):
            await peer.wire.send(bytes([byte]))
        assert await peer.frame() == (PONG, b"a", True, 0)
        await peer.wire.send(sent)
        found = await peer.frame()
        assert (found.close_code, len(found.payload) > 2) == (code, code in (1002, 1009))
        await until(lambda: not fake.tails.open_tails)
        if sent[0] != 0x88:
            peer.write(code.to_bytes(2, "big"), CLOSE)
        await peer.wire.closed()


@pytest.mark.parametrize("sent", [frame(b"abc")[:-1], frame(b"abc", TEXT, False) + frame(b"", PING)])
async def test_what_does_not_come_to_its_end_ends_the_socket_of_a_stream(
    app: App, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.transports.websocket.stream_socket.WINDOW_S", 0.05)
    async with await Peer.open(app.addresses[0], "/topics/u/stream") as peer:
        await peer.wire.send(sent)
        while (found := await peer.frame()).opcode != CLOSE:
            pass
        assert (found.close_code, found.payload[2:]) == (1008, b"the message does not come to its end")


async def test_envelopes_on_other_carriers(app: App, fake: FakeKafka) -> None:
    """An Atmosphere client over HTTP: what it is sent waits in its send_queue."""
    async with await Listener.open(app.addresses[0], atmosphere("sse")) as listener:
        await push(
            app.addresses[0],
            atmosphere("sse", listener.id),
            '{"id":"7","path":"/topics/t/stream?format=json&offset=earliest"}',
        )
        texts = []
        while len(texts) < 3:
            if (text := await listener.event()).startswith("{"):
                texts.append(text)
        head = '{"code":200,"id":"7","type":"application/json","cursor":'
        assert texts[0] == f'{head}{cursor(0, 0)},"event":"ready"}}{READY}'
        assert texts[1] == f"{head}{cursor(2, 0)}}}[{R0},{R1}]"
    await until(lambda: not fake.tails.open_tails)


async def test_streams_through_tls(fake: FakeKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "one")
    async with serve(monkeypatch, fake, **{"listeners": "https://127.0.0.1:0", "ssl.keystore.location": pem}) as app:
        wire = await Wire.open(app.addresses[0], trusting(pem))
        await wire.send(request("GET", "/topics/t/stream?format=json&offset=earliest", **SSE))
        async with await HttpStream.on(wire) as opened:
            assert len(await opened.records(2)) == 2
            fake.put("t", *[b'"%b"' % (b"x" * 100_000)] * 30)
            assert len(await opened.records(30)) == 30
        await until(lambda: not fake.tails.open_tails)
        await until(lambda: app.host.connection_count == 0)
