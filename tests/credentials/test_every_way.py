"""Every way in asks Kafka as the client: what alice may, bob may not, and nobody's records reach the other."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from confluent_kafka.admin import AdminClient

from kafka_gateway.assembly.app import App
from tests.behaviour.clients import v2
from tests.credentials.conftest import Start, basic
from tests.secured_kafka import GATEWAY, PLAIN_USERS, SecuredKafka
from tests.tunnel.local_process import LocalProcess

EVERYTHING: dict[str, Any] = {
    "kafka.credentials": "client",
    "authentication.method": "KAFKA",
    "transport.websocket.enable": True,
    "push.pull.enable": True,
    "push.pull.prefix": "/flasfka",
    "tunnel.enable": True,
    "tunnel.upstream.auth": "inject",
}
JSON = {"Content-Type": v2("json")}
RECORDS = '{"records":[{"value":"mark"}]}'
Http = aiohttp.ClientSession


@pytest.fixture
async def app(start: Start) -> AsyncIterator[App]:
    async with start(**EVERYTHING) as running:
        yield running


def client_of(app: App, user: str) -> Http:
    return aiohttp.ClientSession(app.addresses[0], headers={"Authorization": basic(user, PLAIN_USERS[user])})


async def _envelope(socket: aiohttp.ClientWebSocketResponse, head: dict[str, Any], body: str = "") -> str:
    await socket.send_str(json.dumps(head) + body)
    return await socket.receive_str(timeout=20)


# --- writing: whether it was stored, and what was answered ------------------------------------------------------------


async def by_http(http: Http, topic: str) -> str:
    async with http.post(f"/topics/{topic}", data=RECORDS, headers=JSON) as reply:
        return await reply.text()


async def by_envelope(http: Http, topic: str) -> str:
    async with http.ws_connect("/") as socket:
        head = {"id": "1", "method": "POST", "path": f"/topics/{topic}", "type": v2("json")}
        return await _envelope(socket, head, RECORDS)


async def by_v3(http: Http, topic: str) -> str:
    async with http.get("/v3/clusters") as reply:
        cluster = (await reply.json())["data"][0]["cluster_id"]
    record = json.dumps({"value": {"type": "JSON", "data": "mark"}})
    headers = {"Content-Type": "application/json"}
    async with http.post(f"/v3/clusters/{cluster}/topics/{topic}/records", data=record * 3, headers=headers) as reply:
        return await reply.text()


async def by_push(http: Http, topic: str) -> str:
    async with http.post(f"/flasfka/{topic}/", json={"messages": ["mark"]}) as reply:
        return f"{reply.status} {await reply.text()}"


WRITES = {"http": by_http, "envelope": by_envelope, "v3": by_v3, "push": by_push}


@pytest.mark.parametrize("way", WRITES)
async def test_writing(app: App, secured_kafka: SecuredKafka, topics: tuple[str, str], way: str) -> None:
    async with client_of(app, "alice") as alice, client_of(app, "bob") as bob:
        refused = await WRITES[way](bob, topics[0])
        assert "TOPIC_AUTHORIZATION_FAILED" in refused, refused
        assert '"offset":1' not in refused
        told = await WRITES[way](alice, topics[0])
        assert "AUTHORIZATION" not in told
        # Alice's is the first behind the one that was there.
        lines = await by_stream(alice, topics[0])
        assert [json.loads(line)["offset"] for line in lines.splitlines() if '"value"' in line][:2] == [0, 1]


# --- reading: what came ----------------------------------------------------------------------------------------------


async def by_stream(http: Http, topic: str) -> str:
    path = f"/topics/{topic}/stream?offset=earliest&until=end&format=json"
    async with http.get(path, headers={"Accept": "application/x-ndjson"}) as reply:
        return await reply.text()


async def by_socket(http: Http, topic: str) -> str:
    try:
        socket = await http.ws_connect(f"/topics/{topic}/stream?offset=earliest&format=json")
    except aiohttp.WSServerHandshakeError as error:
        return str(error.status)
    return await _texts(socket)


async def by_envelope_stream(http: Http, topic: str) -> str:
    async with http.ws_connect("/") as socket:
        head = {"id": "1", "method": "GET", "path": f"/topics/{topic}/stream?offset=earliest&format=json"}
        await socket.send_str(json.dumps(head))
        return await _texts(socket)


async def by_group(http: Http, topic: str) -> str:
    path = f"/topics/{topic}/stream?offset=earliest&format=json&group={topic}"
    async with http.get(path, headers={"Accept": "application/x-ndjson"}) as reply:
        text = ""
        async with asyncio.timeout(20):
            while "of alice" not in text and "AUTHORIZATION" not in text and not reply.content.at_eof():
                text += (await reply.content.readany()).decode()
        return text


async def by_pull(http: Http, topic: str) -> str:
    async with http.get(f"/flasfka/{topic}/{topic}/") as reply:
        return f"{reply.status} {await reply.text()}"


async def _texts(socket: aiohttp.ClientWebSocketResponse) -> str:
    texts = ""
    async with asyncio.timeout(20):
        while "of alice" not in texts and "AUTHORIZATION" not in texts:
            message = await socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            texts += message.data if isinstance(message.data, str) else message.data.decode()
    await socket.close()
    return texts


READS: dict[str, Callable[[Http, str], Awaitable[str]]] = {
    "stream": by_stream, "socket": by_socket, "envelope": by_envelope_stream, "group": by_group, "pull": by_pull,
}  # fmt: skip


@pytest.mark.parametrize("way", READS)
async def test_reading(app: App, topics: tuple[str, str], way: str) -> None:
    async with client_of(app, "alice") as alice, client_of(app, "bob") as bob:
        # Alice reads first, so that what is shared between readers lies ready.
        assert "of alice" in await READS[way](alice, topics[0])
        refused = await READS[way](bob, topics[0])
        assert "of alice" not in refused
        assert "403" in refused or "40301" in refused, refused
        assert "of bob" in await by_stream(bob, topics[1])


async def test_the_tunnel_logs_in_as_its_client(app: App, topics: tuple[str, str]) -> None:
    def listed(header: str) -> set[str]:
        with LocalProcess(app.addresses[0], header, nodes=1) as local:
            client = AdminClient({"bootstrap.servers": local.bootstrap})
            return set(client.list_topics(timeout=10).topics)

    for user, seen in (("alice", topics[0]), ("bob", topics[1])):
        header = f"-header=Authorization: {basic(user, PLAIN_USERS[user])}"
        assert await asyncio.to_thread(listed, header) & set(topics) == {seen}


API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)
"""Kafka's question which versions the broker speaks, of a client without a name."""


async def asked_through(tunnel: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether the broker answers through this tunnel; False if it is closed with 1008."""
    await tunnel.send_bytes(API_VERSIONS)
    message = await tunnel.receive(timeout=20)
    if message.type is WSMsgType.BINARY:
        return struct.unpack_from(">i", message.data, 4) == (7,)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1008), message
    return False


async def test_a_kafka_user_that_is_removed_keeps_nothing_open(
    start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str], unique: Callable[..., str]
) -> None:
    """A tunnel with its login injected, a kept consumer of push and pull, a bridge; another's tunnel goes on, and so
    does the user itself with another password."""
    user, topic = unique("leaves"), topics[0]
    secured_kafka.add_user(user, "first")
    secured_kafka.add_user("bob", PLAIN_USERS["bob"])
    secured_kafka.allow(user, "read,write", f"topic:{topic}")
    secured_kafka.allow(user, "read", f"group:{topic}")
    secured_kafka.allow(GATEWAY[0], "write", f"topic:{topic}")  # whose user bridges are
    settings = {
        **EVERYTHING, "authentication.failures.max": 0, "kafka.credentials.recheck.ms": 500,
        "kafka.credentials.refused.ms": 300, "bridge.producer.in.path": "/write", "bridge.producer.in.topic": topic,
    }  # fmt: skip

    async def bridged(http: Http) -> int:
        async with http.post("/write", data=b"bridged") as reply:
            return reply.status

    async with (
        start("SCRAM-SHA-256", **settings) as app,
        aiohttp.ClientSession(app.addresses[0], headers={"Authorization": basic(user, "first")}) as hers,
        aiohttp.ClientSession(app.addresses[0], headers={"Authorization": basic(user, "second")}) as again,
        client_of(app, "bob") as his,
    ):
        tunnel, other = await hers.ws_connect("/kafka"), await his.ws_connect("/kafka")
        assert await asked_through(tunnel)
        assert await asked_through(other)
        assert "of alice" in await by_pull(hers, topic)
        assert await bridged(hers) in (200, 201, 202, 204)
        await asyncio.to_thread(secured_kafka.remove_user, user, "first")
        ended = await tunnel.receive(timeout=20)
        assert (ended.type, ended.data) == (WSMsgType.CLOSE, 1008), ended
        for way in (by_pull, by_push):
            assert (await way(hers, topic)).startswith("401")
        assert await bridged(hers) == 401
        assert await asked_through(other)
        await asyncio.to_thread(secured_kafka.add_user, user, "second")
        assert (await by_push(again, topic)).startswith("204")
        assert "mark" in await by_pull(again, topic)
        assert await asked_through(await again.ws_connect("/kafka"))
