"""Unmodified atmosphere.js clients of four generations, on every transport (atmosphere-binding.md §7, rows 33 to 39).

Version 4 speaks as 3 does, and is tried once on each. Clients up to 4.x report a close of their own as ``close`` too,
those of 5.x do not on HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.transports.envelope.tracking_ids import TrackingIds
from tests.cache import node_packages
from tests.transports.conftest import gateway
from tests.transports.npm import Driver
from tests.transports.stub_service import StubService
from tests.waiting import until

FOLDER = Path(__file__).parents[1] / "clients" / "atmosphere"
GENERATIONS = ["2", "3", "5"]
HTTP = ["sse", "streaming", "long-polling"]
TRANSPORTS = ["websocket", *HTTP]
BEATS = "org.atmosphere.interceptor.HeartbeatInterceptor."
JSON_V1 = "application/vnd.kafka.json.v1+json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.fetches(what=functools.partial(node_packages, FOLDER)),
]


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    node_packages(FOLDER)


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(settings: dict[str, Any], service: StubService) -> AsyncIterator[App]:
    values = {"transport.websocket.enable": True, "consumer.request.timeout.ms": 200, **settings}
    async with gateway(service, **values) as running:
        yield running


class Js(Driver):
    """A client that is connected."""

    generation: str

    @classmethod
    async def connect(cls, app: App, generation: str, transport: str, **options: Any) -> Js:
        """Returns when the client says that it is open."""
        js = await cls.start(FOLDER / "driver.js", generation)
        js.generation = generation
        request = {"url": app.addresses[0] + "/", "transport": transport, "enableProtocol": True, **options}
        if generation != "5":
            request.setdefault("fallbackTransport", "none")
        js.do("subscribe", request=request)
        opened = await js.until("open")
        assert "message" not in opened
        return js

    def push(self, message: Any) -> None:
        self.do("push", message=message)

    async def message(self) -> str:
        text: str = (await self.until("message"))["responseBody"]
        return text

    async def ask(self, head: dict[str, Any], content: Any = None) -> tuple[dict[str, Any], str]:
        """Head and content of the reply to this envelope."""
        self.push(json.dumps(head) + ("" if content is None else json.dumps(content, ensure_ascii=False)))
        return split(await self.message())


def split(message: str) -> tuple[dict[str, Any], str]:
    head, end = json.JSONDecoder().raw_decode(message)
    assert isinstance(head, dict), message
    return head, message[end:]


def clients_of(app: App) -> list[str]:
    return list(TrackingIds.of(app.gateway)._by_id)


def cut(app: App) -> None:
    """Ends the sockets, streams and polls without a word."""
    for server in app.host._servers.values():
        for connection in list(server.connections):
            if connection._request_in_progress and connection.transport is not None:
                connection.transport.abort()


TALKS = [(each, via, tracked) for each in GENERATIONS for via in TRANSPORTS for tracked in (False, True)]
TALKS += [("4", via, True) for via in TRANSPORTS]


@pytest.mark.parametrize(("generation", "transport", "tracked"), TALKS)
async def test_a_client_does_what_clients_do(
    app: App, generation: str, transport: str, tracked: bool, topic: str
) -> None:
    async with await Js.connect(app, generation, transport, trackMessageLength=tracked) as js:
        assert await js.ask({"id": "1", "path": "/topics"}) == (
            {"code": 200, "id": "1", "type": "application/vnd.kafka.v1+json"},
            "[]",
        )
        value = "a|b 😀 é |1|"
        records = {"records": [{"value": value, "partition": 0}]}
        head, content = await js.ask(
            {"id": "2", "method": "POST", "path": f"/topics/{topic}", "type": JSON_V1}, records
        )
        assert (head["code"], json.loads(content)["offsets"][0]["error_code"]) == (200, None)
        instance = {"id": "c", "format": "json", "auto.offset.reset": "smallest"}
        head, _ = await js.ask({"id": "3", "method": "POST", "path": "/consumers/g", "type": JSON_V1}, instance)
        assert head["code"] == 200
        path = f"/ws/consumers/g/instances/c/topics/{topic}"
        head, content = await js.ask({"id": "4", "path": path, "accept": JSON_V1})
        assert head == {"code": 200, "id": "4", "type": JSON_V1}
        if content == "[]":
            content = split(await js.message())[1]
        assert [each["value"] for each in json.loads(content)] == [value]
        js.push(
            json.dumps({"id": "5", "method": "POST", "path": f"/topics/{topic}", "type": JSON_V1}) + json.dumps(records)
        )
        pair = [split(await js.message()), split(await js.message())]
        replies = {head["id"]: content for head, content in pair}
        assert json.loads(replies["5"])["offsets"][0]["offset"] == 1
        assert [(each["value"], each["offset"]) for each in json.loads(replies["4"])] == [(value, 1)]
        assert await js.ask({"id": "6", "method": "DELETE", "path": path}) == ({"code": 204, "id": "6"}, "")
        path = "/consumers/g/instances/c"
        assert await js.ask({"id": "7", "method": "DELETE", "path": path}) == ({"code": 204, "id": "7"}, "")
        (client,) = TrackingIds.of(app.gateway)._by_id[clients_of(app)[0]].values()
        await until(lambda: getattr(client.channel, "polls", 1))  # 5.x says nothing when it closes between two polls
        js.do("close")
        await js.until("done:close")
        await until(lambda: client.session.closed is not None)
    # Some open one more stream or poll behind the close request; it ends with the process (§3.11).
    await until(lambda: not clients_of(app))
    await until(lambda: not app.gateway.sessions)
    assert (js.count("open"), js.count("reopen"), js.count("error"), js.count("messagepublished")) == (1, 0, 0, 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("generation", ["3", "5"])
async def test_a_client_whose_connection_breaks_comes_back_with_its_id(
    app: App, generation: str, transport: str
) -> None:
    options = {"reconnect": True, "reconnectInterval": 10, "maxReconnectOnClose": 10}
    async with await Js.connect(app, generation, transport, **options) as js:
        assert (await js.ask({"id": "1", "path": "/stub/nothing", "method": "DELETE"}))[0]["code"] == 204
        (id,) = clients_of(app)
        (client,) = TrackingIds.of(app.gateway)._by_id[id].values()
        await until(lambda: getattr(client.channel, "polls", 1))
        cut(app)
        await until(lambda: client.session.closed is not None)
        if transport == "websocket" or (generation == "5" and transport != "long-polling"):
            await js.until("reopen")
        await until(lambda: clients_of(app) == [id])
        # The first message after a reconnect is taken for the handshake by 5.x if there was none (§3.3).
        head, content = await js.ask({"id": "2", "method": "POST", "path": "/stub/back", "type": JSON_V1}, "a|b")
        assert (head, content) == ({"code": 200, "id": "2", "type": JSON_V1}, '"a|b"')
        messages = [event["responseBody"] for event in js.seen if event["event"] == "message"]
        assert len(messages) == 2


async def test_plain_requests_over_an_event_stream(app: App) -> None:
    """Style P, as in the console client of kafka-rest-atmosphere."""
    async with await Js.connect(app, "3", "sse") as js:
        js.push({"url": app.addresses[0] + "/topics", "method": "GET", "data": ""})
        assert await js.message() == "[]"
        value = base64.b64encode(b"Kaka").decode()
        js.push(
            {
                "url": app.addresses[0] + "/topics/test",
                "method": "POST",
                "contentType": "application/vnd.kafka.binary.v1+json",
                "data": json.dumps({"records": [{"value": value}]}),
            }
        )
        assert json.loads(await js.message())["offsets"][0]["error_code"] is None
        js.push({"url": app.addresses[0] + "/topics/nope", "method": "GET", "data": ""})
        assert json.loads(await js.message()) == {"error_code": 40401, "message": "Topic not found."}
        assert js.count("messagepublished") == 0


@pytest.mark.parametrize("settings", [{BEATS + "heartbeatFrequencyInSeconds": 1}])
@pytest.mark.parametrize("transport", HTTP)
@pytest.mark.parametrize("generation", ["3", "5"])
async def test_heartbeats_are_no_messages(app: App, generation: str, transport: str, service: StubService) -> None:
    async with await Js.connect(app, generation, transport) as js:
        js.push(json.dumps({"id": "1", "path": "/stub/gate/g"}))
        assert await service.waiting.get() == "g"
        await asyncio.sleep(2.5)  # time itself: two heartbeats; nothing tells of them, which is the point
        service.gates["g"].set()
        while "heartbeat" in (head := split(await js.message())[0]):
            assert transport == "sse"
        assert head["id"] == "1"
        assert (js.count("reconnect"), js.count("reopen"), js.count("error")) == (0, 0, 0)


@pytest.mark.parametrize("transport", HTTP)
@pytest.mark.parametrize("generation", GENERATIONS)
async def test_messages_come_in_order(app: App, generation: str, transport: str, service: StubService) -> None:
    async with await Js.connect(app, generation, transport, trackMessageLength=True) as js:
        js.push(json.dumps({"id": "s", "path": "/stub/stream/s"}))
        assert await service.waiting.get() == "s"
        texts = [json.dumps({"number": number, "text": "|😀" * number}, ensure_ascii=False) for number in range(30)]
        for text in texts:
            service.streams["s"].put(text.encode())
        assert [split(await js.message())[1] for _ in texts] == texts


@pytest.mark.parametrize("settings", [{"org.atmosphere.useWebSocket": False}])
@pytest.mark.parametrize("fallback", HTTP)
@pytest.mark.parametrize("generation", ["3", "5"])
async def test_a_client_falls_back(app: App, generation: str, fallback: str) -> None:
    async with await Js.connect(app, generation, "websocket", fallbackTransport=fallback) as js:
        assert (await js.ask({"id": "1", "path": "/stub/nothing", "method": "DELETE"}))[0] == {"code": 204, "id": "1"}
        assert js.count("transportfailure") == 1
        assert js.seen[-1]["transport"] == fallback
