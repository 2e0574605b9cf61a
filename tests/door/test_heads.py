"""Request lines, Host, transfer codings, empty bodies of handshakes, and clients that close their sending side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from kafka_gateway.assembly.app import App
from tests.door.conftest import BASIC
from tests.door.test_who_asks_first import JSON, RECORDS, WAYS, Way, raw
from tests.transports.conftest import gateway
from tests.transports.peer import CLOSE, Peer, frame
from tests.transports.stub_service import StubService
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import PATIENCE_S, until

LISTENER = str(BASIC["listeners"])


@pytest.fixture
def settings() -> dict[str, object]:
    return {}


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(service: StubService, settings: dict[str, object]) -> AsyncIterator[App]:
    async with gateway(service, **{**BASIC, "authentication.method": "NONE", **settings}) as running:
        yield running


async def answer(app: App, data: bytes | str) -> bytes:
    """All that comes back until the gateway closes the connection."""
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(data)
        return await wire.closed()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /stub/echo HTTP/2.0", 505),
        ("GET /stub/echo HTTP/0.9", 505),
        ("GET /stub/echo HTTP/3.0", 505),
        ("GET /stub/echo HTTP/1.2", 505),
        ("GET /stub/echo HTTP/1", 400),
        ("GET /stub/echo HTTPS/1.1", 400),
        ("GET /stub/echo", 505),
        ("PRI * HTTP/2.0", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM", 505),
    ],
)
async def test_request_lines_of_other_protocols(app: App, service: StubService, line: str, status: int) -> None:
    reply = await answer(app, f"{line}\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1."), reply
    assert int(reply.split()[1]) == status
    assert service.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example/x?y=",
        "evil.example#",
        "user@evil.example",
        "evil example",
        "a,b",
        "x:port",
        "x:123456",
        "x:65536",
        "x:99999",
        "..",
        ".",
        "a..b",
        ".x",
        "[::1",
        "[x]",
        "x\\y",
        '"',
        "<script>",
        "x%2Fy",
    ],
)
async def test_a_host_that_is_none(app: App, service: StubService, host: str) -> None:
    reply = await answer(app, f"GET /stub/echo HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert b" 400 " in reply.split(b"\r\n")[0]
    assert service.requests == []


@pytest.mark.parametrize(
    "host",
    ["x", "X.example", "x:8082", "x:65535", "x:", "127.0.0.1", "[::1]", "[::1]:8082", "a_b", "xn--e1a.example.", ""],
)
async def test_a_host(app: App, host: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        reply = await wire.ask("GET", "/stub/echo", Host=host)
        assert reply.json["base_url"] == (f"http://{host}" if host else app.addresses[0])


@pytest.mark.parametrize("hosts", [(), ("x", "x"), ("x", "y")])
async def test_one_host(app: App, hosts: tuple[str, ...]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    assert b" 400 " in (await answer(app, f"GET /stub/echo HTTP/1.1\r\n{lines}\r\n")).split(b"\r\n")[0]


async def test_http_1_0_needs_no_host(app: App) -> None:
    assert b" 200 " in (await answer(app, "GET /stub/echo HTTP/1.0\r\n\r\n")).split(b"\r\n")[0]


async def test_no_host_gets_into_a_url(app: App) -> None:
    body = b'{"format":"json"}'
    for host in ("evil.example/x?y=", "evil.example"):
        async with await Wire.open(app.addresses[0]) as wire:
            await wire.send(request("POST", "/consumers/g", body, Host=host, Content_Type=V2))
            reply = await wire.reply()
            assert reply.status == 400 or reply.json["base_uri"].startswith("http://evil.example/consumers/g/")


@pytest.mark.parametrize("codings", ["gzip", "trailers", "gzip;q=0.5, trailers"])
async def test_codings_that_a_client_would_take_change_nothing(app: App, codings: str) -> None:
    """RFC 9110 §10.1.4: they are for the reply, which may have none."""
    async with await Wire.open(app.addresses[0]) as wire:
        reply = await wire.ask("GET", "/stub/echo", TE=codings, Connection="TE")
        assert (reply.status, reply.headers.get("transfer-encoding")) == (200, None)


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip,chunked", "chunked, chunked", "identity", "x"])
async def test_transfer_codings(app: App, service: StubService, coding: str) -> None:
    data = request("POST", "/stub/echo", b"1\r\nx\r\n0\r\n\r\n", Transfer_Encoding=coding)
    first = (await answer(app, data + request("GET", "/stub/echo"))).split(b"\r\n")[0]
    # RFC 9112 §6.1 and §6.3: one that is not known is 501, and where chunked is not the last nobody knows the end.
    assert b" 501 " in first if coding.startswith("gzip,") else b" 400 " in first
    assert service.requests == []  # and nothing behind it was taken for a request


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.status == 101])
@pytest.mark.parametrize("length", ["0", "00"])
async def test_a_length_of_0_is_no_body(app: App, name: str, length: str) -> None:
    """Java's own java.net.http.WebSocket sends it."""
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(raw(WAYS[name], "GET", {"Content-Length": length}))
        assert (await wire.reply(head_only=True)).status == 101


@pytest.mark.parametrize("more", [{"Content-Length": "1"}, {"Transfer-Encoding": "chunked"}])
@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.status == 101])
async def test_a_handshake_with_a_body_is_none(app: App, name: str, more: dict[str, str]) -> None:
    assert b" 400 " in (await answer(app, raw(WAYS[name], "GET", more))).split(b"\r\n")[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("name", ["envelope socket", "stream socket", "socket in", "socket out"])
async def test_a_handshake_is_a_get(app: App, name: str, method: str) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(raw(WAYS[name], method, {}))
        assert (await wire.reply(head_only=True)).status in (400, 405)


# --- clients that close their sending side ---------------------------------------------------------------------------


async def half_closed(app: App, data: bytes) -> bytes:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(data)
        wire.writer.write_eof()
        return await wire.closed()


async def test_who_closes_its_sending_side_is_answered(app: App, topic: str) -> None:
    """``nc -N`` and ``socat`` do so: nothing came back, though the record was stored (issue 12, 3)."""
    reply = await half_closed(app, produce(topic))
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n"), reply
    assert b'"offset":0' in reply
    for way in ("rest", "plugin", "push", "bridge", "console"):
        data = raw(WAYS[way], WAYS[way].method, {}, WAYS[way].body)
        assert b" %d " % WAYS[way].status in (await half_closed(app, data)).split(b"\r\n")[0], way


async def test_all_of_a_pipeline_is_answered(app: App, topic: str) -> None:
    assert (await half_closed(app, produce(topic) * 3)).count(b"HTTP/1.1 200 OK\r\n") == 3


IN_ONE = b'{"records":[{"value":1,"partition":0}]}'
ENVELOPE = f'{{"id":"%d","method":"POST","path":"/topics/%s","type":"{JSON_V2}"}}{{"records":[{{"value":1}}]}}'
QUESTION = '{"id":"%d","path":"/topics/%s"}'
PROXY = '{"messageId":"%d","value":{"value":"%s","format":"string"}}'


GOODBYE = frame(b"\x03\xe8", CLOSE)
IN = "/socket/in?clientId=c&topic=t"


@pytest.mark.parametrize(
    ("path", "message", "end"),
    [
        ("/", ENVELOPE, GOODBYE),
        ("/", ENVELOPE, b""),
        ("/", QUESTION, b""),  # who says goodbye does not wait for it
        (IN, PROXY, GOODBYE),
        (IN, PROXY, b""),
    ],
)
async def test_what_came_before_the_end_of_a_socket_is_answered(app: App, path: str, message: str, end: bytes) -> None:
    """Fault: it was stored, and its client, who closed in the same moment, was not told."""
    async with await Peer.open(app.addresses[0], path) as peer:
        await peer.wire.send(b"".join(frame((message % (number, "t")).encode()) for number in range(3)) + end)
        if not end:
            peer.wire.writer.write_eof()
        answers = await peer.wire.closed()
    assert [
        answers.count(b'"id":"%d"' % number) + answers.count(b'"messageId":"%d"' % number) for number in range(3)
    ] == [1, 1, 1], answers
    assert answers.endswith(b"\x88\x02\x03\xe8") == bool(end)
    await until(lambda: app.host.connection_count == 0)


async def test_an_answer_that_takes_its_time(app: App, service: StubService) -> None:
    way = Way("POST", "/stub/back", {}, b"x")
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(raw(Way("GET", "/stub/gate/one"), "GET", {}) + raw(way, "POST", {}, b"x"))
        wire.writer.write_eof()
        assert await service.waiting.get() == "one"
        await asyncio.sleep(0.05)  # time itself: nothing tells that the end of its sending side has been seen
        service.gates["one"].set()
        assert (await wire.closed()).count(b"HTTP/1.1 200 OK\r\n") == 2
    assert service.cancelled == []
    await until(lambda: app.host.connection_count == 0)


@pytest.mark.parametrize("early", [True, False], ids=["with it", "behind its head"])
@pytest.mark.parametrize("query", ["until=end", "limit=2", "until=end&group=g", "limit=2&group=g"])
async def test_a_stream_that_ends_by_itself_is_given_to_who_has_closed_its_sending_side(
    app: App, topic: str, query: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: 400, or nothing more came; 408 where opening it took longer than a read may wait for records. With a limit
    the second record comes when the client has long been silent."""
    monkeypatch.setattr("kafka_gateway.door.connection.HALF_CLOSED_WAIT_S", 0)
    async with await Wire.open(app.addresses[0]) as wire, await Wire.open(app.addresses[0]) as other:
        for _ in range(2 if "until" in query else 1):
            assert (await other.ask("POST", f"/topics/{topic}", IN_ONE, Content_Type=JSON_V2)).status == 200
        await wire.send(request("GET", f"/topics/{topic}/stream?format=json&offset=earliest&{query}"))
        if early:
            wire.writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            await wire.reader.readuntil(b'"event":"ready"')
        if not early:
            wire.writer.write_eof()
        if "limit" in query:
            await asyncio.sleep(0.2)  # time itself: a read that waits for records is given none of it
            assert (await other.ask("POST", f"/topics/{topic}", IN_ONE, Content_Type=JSON_V2)).status == 200
        rest = await wire.closed()
    assert rest.count(b'"offset":1,"timestamp"') == 1, rest
    assert b'"event":"end"' in rest
    assert rest.endswith(b"0\r\n\r\n")
    await until(lambda: app.host.connection_count == 0)


@pytest.mark.parametrize("query", ["limit=2", "limit=2&group=g"])
async def test_a_stream_that_ends_by_itself_goes_on_to_a_socket_that_sends_nothing_more(
    app: App, topic: str, query: str
) -> None:
    async with await Wire.open(app.addresses[0]) as other:
        assert (await other.ask("POST", f"/topics/{topic}", IN_ONE, Content_Type=JSON_V2)).status == 200
        path = f"/topics/{topic}/stream?format=json&offset=earliest&{query}"
        async with await Peer.open(app.addresses[0], path) as peer, asyncio.timeout(PATIENCE_S):
            await peer.wire.reader.readuntil(b'"offset":0,"timestamp"')
            peer.wire.writer.write_eof()
            await asyncio.sleep(0.05)  # time itself: nothing tells that its end has been seen
            assert (await other.ask("POST", f"/topics/{topic}", IN_ONE, Content_Type=JSON_V2)).status == 200
            rest = await peer.wire.closed()
    assert rest.count(b'"offset":1,"timestamp"') == 1, rest
    assert b'"event":"end"' in rest
    assert b"\x03\xe8" in rest[-40:], "closed with 1000"
    await until(lambda: app.host.connection_count == 0)


@pytest.mark.parametrize("name", ["envelope socket", "stream", "stream socket", "sse", "long-polling", "socket out"])
async def test_what_lasts_ends_with_its_client(app: App, name: str) -> None:
    """A client that is gone looks the same: what waits for records must not wait for nobody."""
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(raw(WAYS[name], "GET", {}))
        async with asyncio.timeout(PATIENCE_S):
            await wire.reader.readuntil(b"\r\n\r\n")
        wire.writer.write_eof()
        await until(lambda: app.host.connection_count == 0)


@pytest.mark.parametrize("name", ["envelope socket", "stream", "stream socket", "sse", "long-polling", "socket out"])
async def test_what_would_last_is_refused_to_a_client_that_has_closed_its_sending_side(
    app: App, service: StubService, name: str
) -> None:
    """Fault: it was closed without a word. Behind another request, so the end is seen before this one is served."""
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(raw(Way("GET", "/stub/gate/one"), "GET", {}) + raw(WAYS[name], "GET", {}))
        wire.writer.write_eof()
        assert await service.waiting.get() == "one"
        connection = next(iter(app.host.server_of(LISTENER).connections))
        await until(lambda: connection.half_closed)  # type: ignore[attr-defined]  # HttpConnection
        service.gates["one"].set()
        assert (await wire.reply()).status == 200
        refused = await wire.reply()
        assert refused.status == 400
        assert "nc without -N" in refused.json["message"]
    await until(lambda: app.host.connection_count == 0)
    assert not app.gateway.sessions


@pytest.mark.parametrize(("target", "status"), [("/kafka", 426), ("/kafka/brokers/1", 426), ("/kafka/brokers", 200)])
async def test_a_tunnel_answers_what_is_no_handshake(app: App, target: str, status: int) -> None:
    assert b" %d " % status in (await half_closed(app, request("GET", target))).split(b"\r\n")[0]


async def test_a_push_of_atmosphere_is_answered(app: App) -> None:
    way = Way("POST", "/topics/t?X-Atmosphere-Transport=polling&X-Atmosphere-tracking-id=1", JSON, RECORDS)
    assert b" 200 " in (await half_closed(app, raw(way, "POST", {}, RECORDS))).split(b"\r\n")[0]


async def subscribed(wire: Wire, topic: str) -> str:
    """The path of a new instance that reads the topic from its beginning."""
    path = f"/consumers/g-{topic}"
    made = await wire.ask("POST", path, b'{"format":"json","auto.offset.reset":"earliest"}', Content_Type=V2)
    path = f"{path}/instances/{made.json['instance_id']}"
    body = json.dumps({"topics": [topic]}).encode()
    assert (await wire.ask("POST", f"{path}/subscription", body, Content_Type=V2)).status == 204
    return path


@pytest.mark.parametrize("settings", [{"consumer.request.timeout.ms": 60000}])
async def test_a_read_that_waits_is_answered(app: App, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client closes its sending side while its read waits, and still gets the record that comes."""
    monkeypatch.setattr("kafka_gateway.door.connection.HALF_CLOSED_WAIT_S", 60)
    async with await Wire.open(app.addresses[0]) as wire, await Wire.open(app.addresses[0]) as other:
        path = await subscribed(wire, topic)
        await wire.send(request("GET", f"{path}/records?timeout=30000", Accept=JSON_V2))
        await until(lambda: app.gateway.running == 1)
        wire.writer.write_eof()
        await asyncio.sleep(0.05)  # time itself: nothing tells that its end has been seen
        await other.send(produce(topic))
        assert (await other.reply()).status == 200
        assert (await wire.closed()).endswith(b'"offset":0}]')


async def test_a_read_that_waits_ends_with_its_time(app: App, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.door.connection.HALF_CLOSED_WAIT_S", 60)
    async with await Wire.open(app.addresses[0]) as wire:
        path = await subscribed(wire, topic)
        await wire.send(request("GET", f"{path}/records?timeout=300", Accept=JSON_V2))
        wire.writer.write_eof()
        assert (await wire.closed()).endswith(b"\r\n\r\n[]")


@pytest.mark.parametrize("settings", [{"consumer.request.timeout.ms": 60000}])
async def test_no_read_waits_for_long_for_a_client_that_may_be_gone(
    app: App, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.door.connection.HALF_CLOSED_WAIT_S", 0.2)
    async with await Wire.open(app.addresses[0]) as wire:
        path = await subscribed(wire, topic)
        await wire.send(request("GET", f"{path}/records?timeout=60000", Accept=JSON_V2))
        await until(lambda: app.gateway.running == 1)
        wire.writer.write_eof()
        assert (await wire.reply()).status == 408
        await until(lambda: app.gateway.running == 0)


@pytest.mark.parametrize("settings", [{"consumer.request.timeout.ms": 60000}])  # the topic is made while they wait
async def test_a_client_that_is_gone_gets_no_record(app: App, topic: str) -> None:
    """Its system resets the connection, and the record goes to the next read."""
    async with await Wire.open(app.addresses[0]) as wire, await Wire.open(app.addresses[0]) as other:
        path = await subscribed(wire, topic)
        await wire.send(request("GET", f"{path}/records?timeout=30000", Accept=JSON_V2))
        await until(lambda: app.gateway.running == 1)
        wire.writer.close()
        await wire.writer.wait_closed()
        await other.send(produce(topic))
        assert (await other.reply()).status == 200
        read = await other.ask("GET", f"{path}/records?timeout=10000", Accept=JSON_V2)
        assert [each["offset"] for each in read.json] == [0]
        await until(lambda: app.host.connection_count == 1)


async def test_half_a_request_is_none(app: App, service: StubService) -> None:
    for data in (b"POST /stub/back HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", b"GET /stub/echo HTT", b""):
        await half_closed(app, data)
    await until(lambda: app.host.connection_count == 0)
    assert service.requests == []
