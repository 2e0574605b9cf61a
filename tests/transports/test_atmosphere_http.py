"""SSE, streaming and long-polling, down to the bytes (atmosphere-binding.md §3; rows 34 to 40 of its checklist)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import GONE, SHUTDOWN, Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from kafka_gateway.transports.envelope.tracking_ids import TrackingIds
from tests.transports.conftest import gateway
from tests.transports.listener import V3, V5, Listener, handshake, push, target
from tests.transports.peer import Peer
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S, until

TRANSPORTS = ["sse", "streaming", "long-polling"]
STREAMS = ["sse", "streaming"]
ID = "6fb26239-bfec-4099-b42e-1b2339af6c2d"
OTHER_ID = "6fb26239-bfec-4099-b42e-1b2339af6c2e"
BEATS = "org.atmosphere.interceptor.HeartbeatInterceptor."
V1 = "application/vnd.kafka.v1+json"
JSON_V1 = "application/vnd.kafka.json.v1+json"
NOT_CACHED = {
    "expires": "-1",
    "cache-control": "no-store, no-cache, must-revalidate",
    "pragma": "no-cache",
}


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(settings: dict[str, Any], service: StubService) -> AsyncIterator[App]:
    async with gateway(service, **{"transport.websocket.enable": True, **settings}) as running:
        yield running


@pytest.fixture
def url(app: App) -> str:
    return app.addresses[0]


def set_(**values: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [{name.replace("__", "."): value for name, value in values.items()}])


def envelope(id: str, path: str, method: str = "GET", content: str = "", **more: Any) -> str:
    return json.dumps({"id": id, "method": method, "path": path, **more}) + content


class Client:
    """A client of any of the three, as an application sees it: messages in, messages out."""

    def __init__(self, url: str, transport: str, version: str = V3, **more: str) -> None:
        self._url, self.transport, self._version, self._more = url, transport, version, more
        self.id = "0"
        self._stream: Listener | None = None
        self._poll: asyncio.Task[Listener] | None = None

    async def __aenter__(self) -> Client:
        if self.transport == "long-polling":
            self.id = await handshake(self._url, self._version, **self._more)
            self.poll()
            await self.polled()
            return self
        self._stream = await Listener.open(self._url, target(self.transport, version=self._version, **self._more))
        self.id = self._stream.id
        assert (await self.message()).endswith(f"{self.id}|0|X|")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._poll is not None:
            (await self._poll).wire.writer.transport.abort()
        if self._stream is not None:
            self._stream.wire.writer.transport.abort()

    def poll(self) -> None:
        asked = target("long-polling", self.id, self._version, **self._more)
        self._poll = asyncio.ensure_future(Listener.open(self._url, asked))

    async def polled(self) -> Listener:
        assert self._poll is not None
        return await self._poll

    async def message(self) -> str:
        """The next message; streaming has no boundaries, but each message is a chunk when it comes alone."""
        if self.transport == "long-polling":
            poll = await self.polled()
            text = (await poll.rest()).decode()
            poll.wire.writer.transport.abort()
            self.poll()
            return text
        assert self._stream is not None
        if self.transport == "sse":
            return await self._stream.event()
        chunk = (await self._stream.chunk()).decode()
        if not chunk:
            raise EOFError
        return chunk.removeprefix(" " * 2048 + "\n")

    async def over(self) -> None:
        """Returns when the gateway has ended it."""
        if self.transport == "long-polling":
            assert await (await self.polled()).rest() == b""
        else:
            with pytest.raises(EOFError):
                await self.message()

    async def push(self, message: str | bytes, path: str = "/", method: str = "POST", **more: str) -> Any:
        asked = target("polling", self.id, self._version, path, protocol=False, **more)
        return await push(self._url, asked, message, method)

    async def ask(self, message: str) -> str:
        reply = await self.push(message)
        assert (reply.status, reply.body) == (200, b""), reply
        return await self.message()


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Client]:
    async with Client(url, request.param) as connected:
        yield connected


def clients_of(app: App) -> int:
    return len(TrackingIds.of(app.gateway)._by_id)


# --- opening (§3.3, §3.7 to §3.9) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V3, V5])
async def test_an_event_stream_begins_with_padding_and_handshake(url: str, version: str) -> None:
    async with await Listener.open(url, target("sse", version=version), Accept="text/event-stream") as stream:
        assert stream.status == 200
        id = stream.id
        expected = {"content-type": "text/event-stream;charset=utf-8", "x-atmosphere-first-request": "true"}
        assert stream.headers.items() >= {**NOT_CACHED, **expected, "transfer-encoding": "chunked"}.items()
        assert await stream.chunk() == b" " * 2000 + b"\n" + f"data:{id}|0|X|\r\n\r\n".encode()


@pytest.mark.parametrize(("version", "padding"), [(V3, b" " * 2048 + b"\n"), (V5, b"")])
async def test_a_text_stream_begins_with_the_handshake_in_one_chunk(url: str, version: str, padding: bytes) -> None:
    async with await Listener.open(url, target("streaming", version=version)) as stream:
        expected = {"content-type": "text/plain;charset=utf-8", "x-content-type-options": "nosniff"}
        assert stream.headers.items() >= {**NOT_CACHED, **expected}.items()
        assert await stream.chunk() == padding + f"{stream.id}|0|X|".encode()


async def test_the_first_poll_is_answered_with_the_handshake_alone(url: str) -> None:
    async with await Listener.open(url, target("long-polling")) as poll:
        assert poll.headers.items() >= {**NOT_CACHED, "content-length": "41"}.items()
        assert poll.headers["content-type"] == "text/plain;charset=utf-8"
        assert await poll.rest() == f"{poll.id}|0|X|".encode()


@pytest.mark.parametrize("transport", STREAMS)
async def test_without_the_protocol_there_is_no_handshake(url: str, transport: str, service: StubService) -> None:
    async with await Listener.open(url, target(transport, protocol=False)) as stream:
        assert not (await stream.chunk()).strip()
        await push(url, target("polling", stream.id), envelope("1", "/stub/nothing", "DELETE"))
        assert b'{"code":204,"id":"1"}' in await stream.chunk()


async def test_an_event_source_gets_a_stream_without_parameters(app: App, url: str) -> None:
    async with await Listener.open(url, "/", Accept="text/event-stream") as stream:
        assert stream.headers["content-type"] == "text/event-stream;charset=utf-8"
        assert not (await stream.chunk()).strip()
        assert clients_of(app) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_lengths_are_counted_from_the_handshake_on(url: str, transport: str) -> None:
    async with Client(url, transport, X_Atmosphere_TrackMessageSize="true") as client:
        content = '{"a":"|é😀"}'
        found = await client.ask(envelope("1", "/stub/back", "POST", content, type="application/json"))
        message = '{"code":200,"id":"1","type":"application/json"}' + content
        assert found == f"{len(message) + 1}|{message}"  # one of the characters counts twice


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("version", "greeted"), [(V3, False), (V5, True)])
async def test_an_unknown_id_is_adopted(url: str, transport: str, version: str, greeted: bool) -> None:
    async with await Listener.open(url, target(transport, ID, version)) as stream:
        assert stream.id == ID
        assert "x-atmosphere-first-request" not in stream.headers
        if greeted:
            assert (await stream.chunk()).strip().removeprefix(b"data:") == f"{ID}|0|X|".encode()
        if greeted and transport == "long-polling":
            return
        assert (await push(url, target("polling", ID), envelope("1", "/stub/nothing", "DELETE"))).status == 200
        while b'"id":"1"' not in (chunk := await stream.chunk()):
            assert not chunk.strip()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("id", ["1795220049949", "a%0d%0aX-B:%20c", "x" * 3000])
async def test_an_id_that_nobody_has_made_is_not_used(url: str, transport: str, id: str) -> None:
    asked = target(transport).replace("tracking-id=0", f"tracking-id={id}")
    async with await Listener.open(url, asked) as stream:
        assert stream.headers["x-atmosphere-first-request"] == "true"
        assert len(stream.id) == 36
        assert "x-b" not in stream.headers


@set_(transport__sse__enable=False)
async def test_a_transport_can_be_switched_off(url: str) -> None:
    reply = await push(url, target("sse"), method="GET")
    assert (reply.status, reply.headers["x-atmosphere-error"]) == (501, "Websocket protocol not supported")
    async with Client(url, "streaming") as client:
        assert await client.ask(envelope("1", "/stub/nothing", "DELETE")) == '{"code":204,"id":"1"}'


@pytest.mark.parametrize("transport", ["jsonp", "webtransport", "websocket"])
async def test_what_there_is_not_is_refused_so_that_clients_fall_back(url: str, transport: str) -> None:
    reply = await push(url, target(transport), method="GET")
    assert (reply.status, reply.headers["x-atmosphere-error"]) == (501, "Websocket protocol not supported")


@set_(de__elakito__kafka__atmosphere__disabled=True)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_of_it_can_be_switched_off(app: App, url: str, transport: str) -> None:
    reply = await push(url, target(transport), method="GET")
    assert (reply.status, reply.body) == (200, b"{}")
    assert clients_of(app) == 0


async def test_no_client_is_opened_while_the_gateway_stops(app: App, url: str) -> None:
    app.gateway.stopping = True
    assert (await push(url, target("sse"), method="GET")).status == 503


# --- envelopes in pushes (§3.10, style E) ---------------------------------------------------------------------------


async def test_an_envelope_is_answered_where_the_client_listens(client: Client) -> None:
    assert await client.ask('{"id":"1","method":"GET","path":"/topics"}') == f'{{"code":200,"id":"1","type":"{V1}"}}[]'
    assert await client.ask('{"id":"2","path":"/nowhere"}') == (
        f'{{"code":404,"id":"2","type":"{V1}"}}{{"error_code":404,"message":"HTTP 404 Not Found"}}'
    )
    assert await client.ask("not json") == (
        '{"error_code":400,"message":"Invalid message: expected \'{\' at position 0"}'
    )


async def test_a_push_of_version_5_names_the_transport(url: str) -> None:
    async with Client(url, "sse", V5) as client:
        reply = await push(url, target("sse", client.id, V5), envelope("1", "/stub/nothing", "DELETE"))
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers.items() >= NOT_CACHED.items()
        assert "x-atmosphere-first-request" not in reply.headers
        assert await client.message() == '{"code":204,"id":"1"}'


async def test_heartbeats_and_keepalives_are_not_answered(client: Client) -> None:
    for text in ("X", "", " ", "...ACK...", '{"heartbeat": "x", "time": 1}'):
        assert (await client.push(text)).status == 200
    assert await client.ask(envelope("1", "/stub/nothing", "DELETE")) == '{"code":204,"id":"1"}'


async def test_a_request_may_come_in_parts_and_a_reply_go_in_parts(client: Client) -> None:
    content = json.dumps("é" * 40_000).replace("\\u00e9", "é")
    half = len(content) // 2
    head = {"id": "a", "method": "POST", "path": "/stub/back", "type": "application/json", "continue": True}
    assert (await client.push(json.dumps(head) + content[:half])).status == 200
    assert await client.ask(envelope("b", "/stub/nothing", "DELETE")) == '{"code":204,"id":"b"}'
    await client.push('{"id":"a"}' + content[half:])
    first = '{"code":200,"id":"a","type":"application/json"}'
    found = ""
    while len(found) < len(first + content):
        found += await client.message()
    assert found == first + content
    await client.push(envelope("c", "/stub/text/70000"))
    parts = []
    while not parts or '"continue":true' in parts[-1]:
        text = await client.message()
        parts += text.replace('}{"code"', '}\0{"code"').split("\0") if client.transport == "streaming" else [text]
    assert len(parts) >= 2


async def test_a_payload_that_is_no_text_is_base64(client: Client) -> None:
    body = envelope("1", "/stub/back", "POST", type="application/octet-stream").encode() + b"\xff\x00"
    assert (await client.push(body)).status == 200
    assert await client.message() == '{"id": "1", "encoding": "base64", "data": "/wA="}'


async def test_the_reply_form_is_chosen_when_connecting(url: str) -> None:
    async with Client(url, "sse", X_Atmosphere_SimpleRestProtocolDetached="lf") as client:
        assert await client.ask('{"id":"1","path":"/topics"}') == '{"id": "1", "detached": true}\n[]'
    async with Client(url, "sse", X_Atmosphere_SimpleRestProtocolDetached="false") as client:
        assert await client.ask('{"id":"1","path":"/topics"}') == '{"id": "1", "data": []}'


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\r\rdata:x\r\n\r\ndata: y", "\n", " a", "data:", "id:1\nretry:1"])
async def test_no_payload_breaks_an_event(url: str, text: str) -> None:
    async with Client(url, "sse") as client:
        found = await client.ask(envelope("1", "/stub/back", "POST", text, type="text/plain"))
        expected = text.replace("\r\n", "\n").replace("\r", "\n")
        assert found == '{"code":200,"id":"1","type":"text/plain"}' + expected


@set_(transport__websocket__requests__max=2)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_further_requests_wait_while_too_many_are_at_work(
    app: App, url: str, service: StubService, transport: str
) -> None:
    async with Client(url, transport) as client:
        (found,) = TrackingIds.of(app.gateway)._by_id[client.id].values()
        for name in ("a", "b"):
            await client.push(envelope(name, f"/stub/gate/{name}"))
            assert await service.waiting.get() == name
        third = asyncio.ensure_future(client.push(envelope("c", "/stub/gate/c")))
        await until(lambda: found.conversation._vacancy is not None)
        assert not third.done()
        service.gates["a"].set()
        assert (await third).status == 200
        assert await service.waiting.get() == "c"
        service.gates["b"].set()
        service.gates["c"].set()


async def test_a_push_that_is_too_long_is_refused(url: str) -> None:
    async with Client(url, "sse") as client, await Wire.open(url) as wire:
        reply = await wire.ask("POST", target("polling", client.id), b"", Content_Length="99999999999")
        assert reply.status == 413
        assert await wire.closed() == b""


# --- plain requests in pushes (§3.7, §3.10, style P) ----------------------------------------------------------------


async def test_a_plain_request_is_answered_in_two_places(client: Client) -> None:
    reply = await client.push(b"", "/topics", "GET", accept=JSON_V1.replace(".json", ""))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, V1, b"")
    assert reply.headers.items() >= {**NOT_CACHED, "x-atmosphere-tracking-id": client.id}.items()
    assert await client.message() == "[]"
    reply = await client.push(b"", "/topics/nope", "GET")
    assert (reply.status, reply.body) == (404, b"")
    assert await client.message() == '{"error_code":40401,"message":"Topic not found."}'
    reply = await client.push(b"", "/stub/nothing", "DELETE")
    assert (reply.status, reply.body) == (204, b"")
    assert await client.ask(envelope("1", "/stub/nothing", "DELETE")) == '{"code":204,"id":"1"}'  # and nothing else


async def test_a_plain_request_has_its_headers_in_the_query(client: Client) -> None:
    await client.push(b"hello", "/stub/echo", X_Foo="bar baz", accept="application/json", a="1", _="17")
    found = json.loads(await client.message())
    assert found["query"] == {"a": "1"}
    assert found["body"] == "hello"
    assert found["headers"]["x-foo"] == "bar baz"
    assert found["headers"]["accept"] == "application/json"


async def test_a_pushed_header_cannot_break_out(client: Client) -> None:
    assert (await client.push(b"", "/stub/echo", X_Foo="a\r\nX-Bar: b")).status == 400


async def test_a_long_reply_to_a_plain_request_is_one_message(url: str) -> None:
    async with Client(url, "sse") as client:
        assert (await client.push(b"", "/stub/text/100000", "GET")).status == 200
        assert await client.message() == ("é€😀x" * 25_000)


async def test_a_plain_subscription_sends_one_message_for_each_push(client: Client, service: StubService) -> None:
    reply = await client.push(b"", "/stub/stream/s", "GET")
    assert (reply.status, reply.body) == (204, b"")
    stream = service.streams["s"]
    stream.put(b"[1]")
    assert await client.message() == "[1]"
    stream.put(b"[2]")
    assert await client.message() == "[2]"
    service.end("s")
    assert await client.message() == '{"error_code":50002,"message":"Kafka error: it ended"}'


async def test_an_unknown_id_makes_an_ordinary_request(url: str) -> None:
    for id in ("0", ID, "1795220049949"):
        reply = await push(url, target("polling", id, path="/stub/echo"), b"x")
        assert (reply.status, json.loads(reply.body)["body"]) == (200, "x")
        assert "x-atmosphere-tracking-id" not in reply.headers


async def test_pushes_reach_a_socket_too(url: str) -> None:
    async with await Peer.open(url, target("websocket")) as peer:
        id = (await peer.text()).partition("|")[0]
        assert (await push(url, target("polling", id), envelope("1", "/stub/nothing", "DELETE"))).body == b""
        assert await peer.text() == '{"code":204,"id":"1"}'
        reply = await push(url, target("polling", id, path="/topics"), method="GET")
        assert (reply.status, reply.body) == (200, b"")
        assert await peer.text() == "[]"


# --- whose id it is (S6) --------------------------------------------------------------------------------------------


class Names(Authenticator):
    """Everybody is who they say."""

    name = "NAMES"

    async def authenticate(self, headers: Any, peer: str) -> Principal:
        if "authorization" not in headers:
            raise Unauthorized()
        return Principal(headers["authorization"])

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anothers_id_is_as_unknown(service: StubService, transport: str) -> None:
    async with gateway(service, Names(), authentication_method="NAMES") as app:
        url = app.addresses[0]
        ann, ben = {"Authorization": "ann"}, {"Authorization": "ben"}
        async with await Listener.open(url, target(transport, ID), **ann) as stream:
            if transport != "long-polling":
                await stream.chunk()

            async def heard(text: bytes) -> None:
                await push(url, target("polling", ID), envelope("1", "/stub/nothing", "DELETE"), **ann)
                assert text in await stream.chunk()

            for id in (ID, OTHER_ID):
                asked = target("polling", id, path="/stub/echo")
                reply = await push(url, asked, b"x", **ben)
                assert (reply.status, json.loads(reply.body)["body"]) == (200, "x")
                assert (await push(url, target("close", id), **ben)).status == 200
                reply = await push(url, target("polling", id), envelope("1", "/topics"), **ben)
                assert (reply.status, reply.body) == (200, b"{}")  # which is what POST / answers to anybody
            asked = target("polling", ID, path="/stub/stream/s")
            assert (await push(url, asked, method="GET", **ben)).status == 426
            async with await Listener.open(url, target(transport, ID), **ben) as other:
                assert other.id == ID
                await push(url, target("polling", ID, path="/stub/text/4"), method="GET", **ben)
                while b"\xc3\xa9" not in await other.chunk():
                    pass
            assert (await push(url, target("polling", ID), b"x")).status == 401
            await heard(b'{"code":204,"id":"1"}')


@set_(authentication__skip__paths="/")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_open_path_opens_no_stream(service: StubService, transport: str, settings: dict[str, Any]) -> None:
    async with gateway(service, Names(), authentication_method="NAMES", **settings) as app:
        url = app.addresses[0]
        assert (await push(url, target(transport), method="GET")).status == 401
        assert (await push(url, "/", method="GET")).status == 200
        async with await Listener.open(url, target(transport, ID), Authorization="ann") as stream:
            assert (await push(url, target("polling", ID), "{}")).status == 401
            await push(url, target("polling", ID), envelope("1", "/stub/nothing", "DELETE"), Authorization="ann")
            while b'{"code":204,"id":"1"}' not in await stream.chunk():
                pass


class Revoking(Names):
    """Every proof has to be looked at again at once, and is no good any more after the first time."""

    def __init__(self) -> None:
        self.valid = True

    async def authenticate(self, headers: Any, peer: str) -> Principal:
        if not self.valid:
            raise Unauthorized()
        return Principal("ann", frozenset(), 0.0)


async def test_a_stream_ends_when_its_proof_does(service: StubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    revoking = Revoking()
    async with (
        gateway(service, revoking, authentication_method="NAMES") as app,
        await Listener.open(app.addresses[0], target("sse")) as stream,
    ):
        await stream.chunk()
        revoking.valid = False
        assert await stream.rest() == b""


# --- pages of other origins (S11) -----------------------------------------------------------------------------------


FOREIGN = ["null", "https://evil.com", "https://app.example.com.evil.com", "https://xn--pp-8kc.example.com", "*", "x"]


@set_(access__control__allow__origin="https://app.example.com")
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize(
    ("method", "transport"), [("GET", each) for each in [*TRANSPORTS, "close", "jsonp"]] + [("POST", "polling")]
)
async def test_a_foreign_origin_is_refused(app: App, url: str, origin: str, method: str, transport: str) -> None:
    async with await Listener.open(url, target("sse")) as stream:
        reply = await push(url, target(transport, stream.id), method=method, Origin=origin)
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers
        assert "x-atmosphere-tracking-id" not in reply.headers
        assert clients_of(app) == 1
        assert not stream.ended


@set_(access__control__allow__origin="https://app.example.com", access__control__expose__headers="X-A")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_listed_origin_may_read(url: str, transport: str) -> None:
    async with await Listener.open(url, target(transport), Origin="https://app.example.com") as stream:
        assert stream.status == 200
        assert stream.headers["access-control-allow-origin"] == "https://app.example.com"
        assert stream.headers["access-control-expose-headers"] == "X-A, X-Atmosphere-tracking-id, X-Heartbeat-Server"
        assert "access-control-allow-credentials" not in stream.headers
        reply = await push(url, target("polling", stream.id), "X", Origin="https://app.example.com")
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("origin", "status"), [("http://gateway", 200), ("https://gateway", 403)])
async def test_the_gateways_own_pages_need_no_list(url: str, transport: str, origin: str, status: int) -> None:
    async with await Listener.open(url, target(transport), Origin=origin) as stream:
        assert stream.status == status


# --- heartbeats (§3.5) ----------------------------------------------------------------------------------------------


QUICK = {BEATS + "heartbeatFrequencyInSeconds": 1}


@pytest.mark.parametrize("settings", [QUICK])
async def test_a_quiet_client_gets_heartbeats(client: Client) -> None:
    kinds = {(await client.message())[:13] for _ in range(2 if client.transport == "sse" else 1)}
    assert kinds <= {"X", '{"heartbeat":'}
    assert ('{"heartbeat":' in kinds) == (client.transport == "sse")


@pytest.mark.parametrize("settings", [QUICK])
async def test_a_client_may_have_heartbeats_switched_off(url: str) -> None:
    async with Client(url, "streaming", X_Heartbeat_Server="0") as quiet, Client(url, "streaming") as other:
        assert await other.message() == "X"
        assert await other.message() == "X"
        assert await quiet.ask(envelope("1", "/stub/nothing", "DELETE")) == '{"code":204,"id":"1"}'


@pytest.mark.parametrize("settings", [{BEATS + "clientHeartbeatFrequencyInSeconds": 20, BEATS + "paddingChar": "Y"}])
async def test_clients_can_be_asked_for_heartbeats(url: str) -> None:
    async with await Listener.open(url, target("streaming")) as stream:
        assert (await stream.chunk()).strip() == f"{stream.id}|20000|Y|".encode()
        await push(url, target("polling", stream.id), "Y")
        await push(url, target("polling", stream.id), envelope("1", "/stub/nothing", "DELETE"))
        assert await stream.chunk() == b'{"code":204,"id":"1"}'


@pytest.mark.parametrize(
    "settings", [{"org.atmosphere.websocket.maxIdleTime": 200, BEATS + "heartbeatFrequencyInSeconds": 0}]
)
@pytest.mark.parametrize("transport", STREAMS)
async def test_an_idle_stream_is_ended(app: App, url: str, transport: str) -> None:
    async with Client(url, transport) as client:
        await client.over()
        assert clients_of(app) == 0


# --- long-polling (§3.9) --------------------------------------------------------------------------------------------


async def test_the_head_of_a_poll_comes_at_once(url: str) -> None:
    id = await handshake(url)
    async with await Listener.open(url, target("long-polling", id)) as poll:  # which returns with the head
        assert poll.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in poll.headers
        await push(url, target("polling", id), envelope("1", "/stub/nothing", "DELETE"))
        assert poll.headers["x-content-type-options"] == "nosniff"  # Chromium would wait for 512 bytes of body
        assert await poll.rest() == b'{"code":204,"id":"1"}'


@pytest.mark.parametrize(("version", "spaces"), [(V3, [b" ", b""]), (V5, [b"", b""])])
async def test_a_browser_sees_a_body_begin(url: str, version: str, spaces: list[bytes]) -> None:
    """Chromium tells scripts of a head only then, and clients up to 4.x are not open before."""
    id = await handshake(url, version)
    for number, space in enumerate(spaces):
        asked = target("long-polling", id, version)
        async with await Listener.open(url, asked, User_Agent="Mozilla/5.0 (X11; Linux x86_64)") as poll:
            if space:
                assert await poll.chunk() == space
            await push(url, target("polling", id), envelope(str(number), "/stub/nothing", "DELETE"))
            assert await poll.rest() == b'{"code":204,"id":"%d"}' % number


async def test_messages_wait_between_polls_and_come_one_by_one(url: str) -> None:
    id = await handshake(url)
    for number in "123":
        await push(url, target("polling", id, path=f"/stub/text/{number}"), method="GET")
    for text in ("é", "é€", "é€😀"):
        async with await Listener.open(url, target("long-polling", id)) as poll:
            assert (await poll.rest()).decode() == text


async def test_messages_with_lengths_come_together(url: str) -> None:
    tracked = {"X_Atmosphere_TrackMessageSize": "true"}
    id = await handshake(url, **tracked)
    for number in "123":
        await push(url, target("polling", id, path=f"/stub/text/{number}"), method="GET")
    async with await Listener.open(url, target("long-polling", id, **tracked)) as poll:
        assert (await poll.rest()).decode() == "1|é2|é€4|é€😀"


async def test_a_second_poll_replaces_the_first(url: str) -> None:
    id = await handshake(url)
    async with (
        await Listener.open(url, target("long-polling", id)) as first,
        await Listener.open(url, target("long-polling", id)) as second,
    ):
        assert (first.status, await first.rest()) == (200, b"")
        await push(url, target("polling", id, path="/stub/text/1"), method="GET")
        assert (await second.rest()).decode() == "é"


async def test_a_message_for_a_poll_that_was_cut_off_waits_for_the_next(app: App, url: str) -> None:
    id = await handshake(url)
    (client,) = TrackingIds.of(app.gateway)._by_id[id].values()
    await push(url, target("polling", id), envelope("1", "/stub/gate/g"))
    poll = await Listener.open(url, target("long-polling", id))
    poll.wire.writer.transport.abort()
    await until(lambda: client.channel.aborted)  # type: ignore[attr-defined]
    await push(url, target("polling", id, path="/stub/text/1"), method="GET")
    async with await Listener.open(url, target("long-polling", id)) as again:
        assert (await again.rest()).decode() == "é"


async def test_a_message_that_could_not_be_written_comes_with_the_next_poll(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = web.StreamResponse.write

    async def fail(response: web.StreamResponse, data: bytes) -> None:
        monkeypatch.setattr(web.StreamResponse, "write", write)
        raise ConnectionResetError

    id = await handshake(url)
    await push(url, target("polling", id, path="/stub/text/1"), method="GET")
    monkeypatch.setattr(web.StreamResponse, "write", fail)
    async with await Listener.open(url, target("long-polling", id)) as lost:
        assert await lost.wire.closed() == b""
    async with await Listener.open(url, target("long-polling", id)) as again:
        assert (await again.rest()).decode() == "é"


@pytest.mark.parametrize(("version", "greeted"), [(V3, False), (V5, True)])
async def test_after_an_aborted_poll_version_5_is_greeted_again(
    app: App, url: str, service: StubService, version: str, greeted: bool
) -> None:
    id = await handshake(url, version)
    (client,) = TrackingIds.of(app.gateway)._by_id[id].values()
    await push(url, target("polling", id), envelope("1", "/stub/gate/g"))
    await service.waiting.get()
    poll = await Listener.open(url, target("long-polling", id, version))
    poll.wire.writer.transport.abort()
    await until(lambda: client.channel.aborted)  # type: ignore[attr-defined]
    if greeted:
        async with await Listener.open(url, target("long-polling", id, version)) as again:
            assert await again.rest() == f"{id}|0|X|".encode()
    async with await Listener.open(url, target("long-polling", id, version)) as last:
        service.gates["g"].set()
        assert b'{"code":200,"id":"1"' in await last.rest()


async def test_records_count_as_delivered_with_the_next_poll(url: str, service: StubService) -> None:
    id = await handshake(url)
    await push(url, target("polling", id, path="/stub/stream/s"), method="GET")
    stream = service.streams["s"]
    stream.put(b"[1]")
    stream.put(b"[2]")
    async with await Listener.open(url, target("long-polling", id)) as first:
        assert await first.rest() == b"[1]"
        assert (await push(url, "/stub/echo", method="GET")).status == 200
        assert stream.size_bytes == 3  # the second has not been asked for
    async with await Listener.open(url, target("long-polling", id)) as second:
        assert await second.rest() == b"[2]"


@set_(**{"transport__long-polling__expiry__ms": 100})
async def test_a_client_that_does_not_come_back_is_gone(app: App, url: str, service: StubService) -> None:
    id = await handshake(url)
    await push(url, target("polling", id, path="/stub/stream/s"), method="GET")
    assert await service.waiting.get() == "s"
    assert await service.waiting.get() == "s closed"
    await until(lambda: clients_of(app) == 0)
    assert not [session for session in app.gateway.sessions if session.transport == "long-polling"]


@set_(**{"transport__long-polling__expiry__ms": 100})
async def test_a_client_that_polls_stays(app: App, url: str, service: StubService) -> None:
    id = await handshake(url)
    async with await Listener.open(url, target("long-polling", id)) as poll:
        await push(url, target("polling", id), envelope("1", "/stub/gate/g"))
        await asyncio.sleep(0.3)  # time itself: nothing happens when nothing expires
        service.gates["g"].set()
        assert b'"id":"1"' in await poll.rest()


@pytest.mark.parametrize(
    "settings",
    [{"transport.long-polling.queue.max.messages": 3}, {"transport.long-polling.queue.max.bytes": 5}],
    ids=["messages", "bytes"],
)
async def test_what_waits_between_polls_is_bounded(app: App, url: str) -> None:
    id = await handshake(url)
    for _ in range(3):
        assert (await push(url, target("polling", id, path="/stub/text/1"), method="GET")).body == b""
    assert clients_of(app) == 1
    await push(url, target("polling", id, path="/stub/text/1"), method="GET")
    assert clients_of(app) == 0
    await until(lambda: not [each for each in app.gateway.sessions if each.transport == "long-polling"])


@set_(**{"transport__long-polling__queue__max__messages": 3})
async def test_the_parts_of_one_reply_wait_together(app: App, url: str) -> None:
    id = await handshake(url)
    await push(url, target("polling", id), envelope("1", "/stub/text/400000"))
    parts = []
    while not parts or '"continue":true' in parts[-1]:
        async with await Listener.open(url, target("long-polling", id)) as poll:
            parts.append((await poll.rest()).decode())
    assert len(parts) > 4


@set_(connections__max=5)
async def test_clients_that_poll_are_counted(app: App, url: str) -> None:
    ids = [await handshake(url) for _ in range(5)]
    assert (await push(url, target("long-polling"), method="GET")).status == 503
    await push(url, target("close", ids[0]))
    assert await handshake(url)


# --- the end (§3.11, §3.12) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_close_request_ends_all_that_is_the_clients(
    app: App, client: Client, service: StubService, method: str
) -> None:
    await client.push(b"", "/stub/stream/s", "GET")
    await client.push(envelope("1", "/stub/gate/g"))
    assert {await service.waiting.get(), await service.waiting.get()} == {"s", "g"}
    asked = target("close", client.id, protocol=False)
    reply = await push(app.addresses[0], asked, method=method)
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "0", b"")
    await client.over()
    assert await service.waiting.get() == "s closed"
    await until(lambda: service.cancelled == ["g"])
    assert clients_of(app) == 0
    assert (await push(app.addresses[0], asked, method=method)).status == 200


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_client_that_leaves_ends_its_subscriptions(
    app: App, url: str, service: StubService, transport: str
) -> None:
    async with Client(url, transport) as client:
        await client.push(b"", "/stub/stream/s", "GET")
        assert await service.waiting.get() == "s"
    assert await service.waiting.get() == "s closed"
    assert clients_of(app) == 0
    await until(lambda: not [each for each in app.gateway.sessions if each.transport == transport])


async def test_a_poll_behind_the_close_request_revives_nothing(app: App, url: str, service: StubService) -> None:
    id = await handshake(url)
    await push(url, target("polling", id, path="/stub/stream/s"), method="GET")
    await push(url, target("close", id))
    async with await Listener.open(url, target("long-polling", id)):
        service.streams["s"].put(b"[1]")
        assert clients_of(app) == 1
    await until(lambda: clients_of(app) == 0)


@pytest.mark.parametrize("transport", STREAMS)
async def test_the_newest_connection_of_an_id_replaces_the_older(app: App, url: str, transport: str) -> None:
    async with Client(url, transport) as client, await Listener.open(url, target(transport, client.id)) as newer:
        await client.over()
        assert newer.id == client.id
        assert clients_of(app) == 1
        await push(url, target("polling", client.id), envelope("1", "/stub/nothing", "DELETE"))
        while b'"code":204' not in await newer.chunk():
            pass


async def test_an_id_may_move_to_another_transport(app: App, url: str) -> None:
    async with await Peer.open(url, target("websocket")) as peer:
        id = (await peer.text()).partition("|")[0]
        async with await Listener.open(url, target("sse", id)) as stream:
            assert await peer.closed() == 1000
            async with await Listener.open(url, target("long-polling", id)) as poll:
                while not stream.ended:
                    await stream.chunk()
                await push(url, target("polling", id), envelope("1", "/stub/nothing", "DELETE"))
                assert await poll.rest() == b'{"code":204,"id":"1"}'
    assert clients_of(app) == 1  # it may poll again


async def test_a_gateway_that_stops_ends_clients_behind_their_replies(app: App, client: Client) -> None:
    (found,) = TrackingIds.of(app.gateway)._by_id[client.id].values()
    found.conversation.send(b"last")
    await app.gateway.close_session(found.session, SHUTDOWN)
    if client.transport != "long-polling":
        assert await client.message() == "last"
        await client.over()
    else:
        assert await (await client.polled()).rest() == b"last"


# --- slow clients (L4) ----------------------------------------------------------------------------------------------


@set_(org__atmosphere__websocket__writeTimeout=1000)
@pytest.mark.parametrize("transport", STREAMS)
async def test_a_client_that_does_not_read_takes_little_memory_and_is_cut_off(
    app: App, url: str, service: StubService, transport: str
) -> None:
    async with Client(url, transport) as client, Client(url, transport) as other:
        (found,) = TrackingIds.of(app.gateway)._by_id[client.id].values()
        send_queue = found.channel.send_queue  # type: ignore[attr-defined]
        await client.push(b"", "/stub/stream/s", "GET")
        assert await service.waiting.get() == "s"
        stream = service.streams["s"]
        for _ in range(10_000):
            if stream.size_bytes > 1 << 18:  # nobody takes more
                break
            stream.put(b"x" * 65536)
            await asyncio.wait_for(other.ask(envelope("1", "/stub/nothing", "DELETE")), PATIENCE_S)
            assert send_queue.size_bytes <= 65536
        else:
            pytest.fail("there is no end to what a client takes that does not read")
        assert await service.waiting.get() == "s closed"
        assert found.channel.ended is GONE  # type: ignore[attr-defined]
        await until(lambda: app.host.connection_count == 1)
        assert app.gateway.memory.slow_clients == {transport: 1}
        assert await other.ask(envelope("1", "/stub/nothing", "DELETE")) == '{"code":204,"id":"1"}'


@set_(org__atmosphere__websocket__writeTimeout=500)
@pytest.mark.parametrize("transport", STREAMS)
async def test_a_client_that_asks_and_does_not_read_is_cut_off(app: App, url: str, transport: str) -> None:
    async with Client(url, transport) as client:
        (found,) = TrackingIds.of(app.gateway)._by_id[client.id].values()
        asking = [asyncio.ensure_future(client.push(b"", "/stub/text/1000000", "GET")) for _ in range(20)]
        await until(lambda: found.channel.ended is GONE)  # type: ignore[attr-defined]
        assert {reply.status for reply in await asyncio.gather(*asking)} == {200}
