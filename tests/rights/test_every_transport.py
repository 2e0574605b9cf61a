"""What is allowed passes, what is not does nothing, on every transport; there is no way round (security.md §8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from kafka_gateway.assembly.app import App
from tests.rights.conftest import EVERYTHING_ON, Rules
from tests.transports.conftest import gateway
from tests.transports.wire import Reply, Wire, request
from tests.waiting import PATIENCE_S, until

JSON = {"Content-Type": "application/vnd.kafka.json.v2+json"}
RECORDS = b'{"records":[{"value":"mark"}]}'
WRITE, READ = "allow * write topic:secret", "allow * read topic:secret\nallow * read group:*"
OTHERS = "allow * all topic:orders\nallow * read group:*\nallow * all cluster"
"""Rules that allow much, and nothing of the topic ``secret``."""


@pytest.fixture
async def client(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.addresses[0]) as session:
        yield session


async def stored(client: aiohttp.ClientSession, rules: Rules) -> int:
    """How many records the topic has."""
    rules.set("allow * all *")
    url = "/topics/secret/stream?offset=earliest&until=end"
    async with client.get(url, headers={"Accept": "application/x-ndjson"}) as reply:
        assert reply.status == 200
        lines = [json.loads(line) for line in (await reply.text()).splitlines() if line.strip()]
    return sum("value" in line for line in lines)


# --- writing ---------------------------------------------------------------------------------------------------------


async def by_http(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    async with client.post(f"/topics/{topic}", data=RECORDS, headers=JSON) as reply:
        return reply.status


async def by_partition(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    async with client.post(f"/topics/{topic}/partitions/0", data=RECORDS, headers=JSON) as reply:
        return reply.status


async def by_envelope(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    async with client.ws_connect("/") as socket:
        head = {"id": "1", "method": "POST", "path": f"/topics/{topic}", "type": JSON["Content-Type"]}
        await socket.send_str(json.dumps(head) + RECORDS.decode())
        reply, _ = json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))
        return int(reply.get("status", reply.get("code", 0)))


async def by_push(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    async with client.post(f"/flasfka/{topic}/", json={"messages": ["mark"]}) as reply:
        return reply.status


async def by_v3(client: aiohttp.ClientSession, topic: str = "secret", count: int = 1) -> int:
    """``count``: several records are a stream of them."""
    record = json.dumps({"value": {"type": "STRING", "data": "mark"}})
    path = f"/v3/clusters/any/topics/{topic}/records"
    async with client.post(path, data=record * count, headers={"Content-Type": "application/json"}) as reply:
        if reply.status != 200:
            return reply.status
        codes = {json.loads(line)["error_code"] for line in (await reply.text()).splitlines()}
        return int({40301: 403}.get(code := codes.pop(), code))


async def by_v3_stream(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    return await by_v3(client, topic, 2)


async def by_v3_batch(client: aiohttp.ClientSession, topic: str = "secret") -> int:
    batch = {"entries": [{"id": "a", "value": {"type": "STRING", "data": "mark"}}]}
    async with client.post(f"/v3/clusters/any/topics/{topic}/records:batch", json=batch) as reply:
        return 200 if reply.status == 207 and (await reply.json())["successes"] else reply.status


async def by_socket_in(client: aiohttp.ClientSession) -> int:
    try:
        socket = await client.ws_connect("/socket/in?clientId=c&topic=secret")
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    await socket.send_str('{"value":{"value":"mark","format":"string"}}')
    await socket.receive(timeout=PATIENCE_S)
    await socket.close()
    return 200


WAYS_TO_WRITE: dict[str, Callable[..., Awaitable[int]]] = {
    "http": by_http,
    "partition": by_partition,
    "envelope": by_envelope,
    "push": by_push,
    "v3": by_v3,
    "v3 stream": by_v3_stream,
    "v3 batch": by_v3_batch,
    "socket in": by_socket_in,
}


@pytest.mark.parametrize("way", WAYS_TO_WRITE)
async def test_who_may_not_write_stores_nothing(client: aiohttp.ClientSession, rules: Rules, way: str) -> None:
    rules.set(OTHERS)
    assert await WAYS_TO_WRITE[way](client) == 403
    assert await stored(client, rules) == 0
    rules.set(WRITE + "\nallow * read topic:secret")
    assert await WAYS_TO_WRITE[way](client) in (200, 204)
    assert await stored(client, rules) == (2 if way == "v3 stream" else 1)


@pytest.mark.parametrize("settings", [{"bridge.producer.in.topic": "secret"}])
async def test_a_bridge_takes_what_comes_where_nobody_is_asked(client: aiohttp.ClientSession, rules: Rules) -> None:
    """Webhooks prove nothing: without authentication a bridge is as open as its operator made it."""
    rules.set(OTHERS)
    async with client.post("/write", data=b"x") as reply:
        assert reply.status == 200
    assert await stored(client, rules) == 1


async def test_who_may_write_and_not_create_makes_no_topic(rules: Rules, tmp_path: Path) -> None:
    """As in Kafka: a topic that is produced to and missing is made for who may ``create`` it, or in the cluster."""
    log = tmp_path / "audit.jsonl"
    settings = {**EVERYTHING_ON, "audit.log": str(log), "bridge.producer.in.topic": "from-bridge"}
    # A socket is refused with 400 for any topic that is missing.
    ways = {name: way for name, way in WAYS_TO_WRITE.items() if way is not by_socket_in}
    async with gateway(rules, **settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        for number, (name, way) in enumerate(ways.items()):
            topic = f"made-by-{number}"
            rules.set(f"allow * write topic:*\ndeny * create topic:{topic}")
            assert await way(client, topic) == 403, name
            refused = await refusals(log, number + 1)
            assert (refused[-1]["operation"], refused[-1]["resource"]) == ("create", f"topic:{topic}"), name
            async with client.get("/topics") as reply:
                assert topic not in await reply.json(), name
            create = "cluster" if number % 2 else f"topic:{topic}"
            rules.set(f"allow * write topic:made-by-*\nallow * create {create}")
            assert await way(client, topic) in (200, 204), name
            rules.set("allow * write topic:made-by-*")
            assert await way(client, topic) in (200, 204), name
        async with client.post("/topics/dry?dry_run=true", data=RECORDS, headers=JSON) as reply:
            assert reply.status == 403
        rules.set("allow * write topic:dry")
        async with client.post("/topics/dry?dry_run=true", data=RECORDS, headers=JSON) as reply:
            assert "User:anonymous may not create topic dry." in await reply.text()
        async with client.post("/write", data=b"x") as reply:  # of whom nothing is asked
            assert reply.status == 200
        rules.set("allow * create topic:asked-for")
        async with client.post("/v3/clusters/another/topics", json={"topic_name": "asked-for"}) as reply:
            assert reply.status == 404
    told = [json.loads(line) for line in (await asyncio.to_thread(log.read_text)).splitlines()]
    assert [each["rule"] for each in told if each["operation"] == "create" and each["allowed"]] == [
        "line 1: allow * create topic:asked-for"
    ]


async def refusals(log: Path, count: int) -> list[Any]:
    """The lines of an audit log that tell of refusals; there must be so many."""
    found: list[Any] = []

    def complete() -> bool:
        text = log.read_text() if log.exists() else ""
        found[:] = [each for each in map(json.loads, text.splitlines()) if not each["allowed"]]
        return len(found) >= count

    await until(complete)
    assert len(found) == count
    return found


# --- reading ---------------------------------------------------------------------------------------------------------

TO_READ = {
    "stream": "/topics/secret/stream?offset=earliest",
    "several": "/topics/orders,secret/stream?offset=earliest",
    "with a group": "/topics/secret/stream?group=g",
    "messages": "/topics/secret/partitions/0/messages",
    "pull": "/flasfka/secret/g/",
}


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson", "*/*"])
@pytest.mark.parametrize("way", TO_READ)
async def test_who_may_not_read_gets_nothing(
    client: aiohttp.ClientSession, rules: Rules, way: str, accept: str
) -> None:
    if way in ("messages", "pull") and accept != "*/*":
        accept = "*/*"
    rules.set(WRITE)
    await by_http(client)
    rules.set(OTHERS)
    async with client.get(TO_READ[way], headers={"Accept": accept}) as reply:
        text = await reply.text()
        assert reply.status == 403
        assert "User:anonymous may not read topic secret." in text
        assert "mark" not in text


@pytest.mark.parametrize(
    "target", ["/topics/secret/stream", "/topics/orders,secret/stream", "/socket/out?clientId=c&topic=secret"]
)
async def test_who_may_not_read_gets_no_socket(client: aiohttp.ClientSession, rules: Rules, target: str) -> None:
    rules.set(OTHERS)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(target)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "path", ["/console", "/console/", "/console/clients", "/console/console.js", "/kafka", "/kafka/brokers"]
)
async def test_parts_of_the_gateway_are_closed(client: aiohttp.ClientSession, rules: Rules, path: str) -> None:
    rules.set(OTHERS)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if path == "/kafka" else {}
    async with client.get(path, allow_redirects=False, headers=headers) as reply:
        assert reply.status == 403
        assert "may not read gateway" in await reply.text()
    rules.set("allow * read gateway:console\nallow * read gateway:tunnel")
    async with client.get(path, allow_redirects=False) as reply:
        assert reply.status != 403


# --- what is open when the rules change ------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("group", ["", "&group=g"])
async def test_a_stream_ends_when_the_rules_forbid_it(
    client: aiohttp.ClientSession, rules: Rules, accept: str, group: str
) -> None:
    rules.set(f"{READ}\n{WRITE}")
    await by_http(client)
    async with client.get(
        f"/topics/secret/stream?offset=earliest&format=json{group}", headers={"Accept": accept}
    ) as reply:
        assert reply.status == 200
        seen = b""
        async with asyncio.timeout(PATIENCE_S):
            while b"mark" not in seen:
                seen += await reply.content.readany()
            rules.set(OTHERS)
            rest = await reply.content.read()
        assert b"40301" in rest
        assert b"User:anonymous may not read topic secret." in rest


async def test_a_stream_on_a_socket_ends_when_the_rules_forbid_it(client: aiohttp.ClientSession, rules: Rules) -> None:
    rules.set(READ)
    async with client.ws_connect("/topics/secret/stream") as socket:
        await socket.receive(timeout=PATIENCE_S)
        rules.set(OTHERS)
        texts = []
        async with asyncio.timeout(PATIENCE_S):
            while (message := await socket.receive()).type is WSMsgType.TEXT:
                texts.append(message.data)
        assert "40301" in texts[-1]


async def test_a_stream_in_an_envelope_ends_and_the_others_go_on(
    app: App, client: aiohttp.ClientSession, rules: Rules
) -> None:
    rules.set(f"{READ}\n{OTHERS}")
    async with client.ws_connect("/") as socket:
        for id, topic in (("1", "secret"), ("2", "orders")):
            await socket.send_str(json.dumps({"id": id, "method": "GET", "path": f"/topics/{topic}/stream"}))
        rules.set(f"{READ}\n{OTHERS}")
        await until(lambda: sum(len(each.streams) for each in app.gateway.sessions) == 2)
        rules.set(OTHERS)
        async with asyncio.timeout(PATIENCE_S):
            while "40301" not in (text := await socket.receive_str()):
                pass
        assert json.JSONDecoder().raw_decode(text)[0]["id"] == "1"
        await socket.send_str(json.dumps({"id": "3", "method": "GET", "path": "/topics"}))
        async with asyncio.timeout(PATIENCE_S):
            while json.JSONDecoder().raw_decode(text := await socket.receive_str())[0].get("id") != "3":
                pass
        assert "orders" in text


@pytest.mark.parametrize(("target", "need"), [
    ("/socket/in?clientId=c&topic=secret", "write topic secret"),
    ("/socket/out?clientId=c&topic=secret", "read topic secret"),
])  # fmt: skip
async def test_a_proxy_socket_ends_with_1008(
    client: aiohttp.ClientSession, rules: Rules, target: str, need: str
) -> None:
    rules.set(f"{READ}\n{WRITE}")
    async with client.ws_connect(target) as socket:
        rules.set(OTHERS)
        message = await socket.receive(timeout=PATIENCE_S)
        assert message.type is WSMsgType.CLOSE
        assert message.data == 1008
        assert message.extra == f"User:anonymous may not {need.replace('write topic', 'write to topic')}."


# --- no way round ----------------------------------------------------------------------------------------------------

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
}
SPELLINGS = (
    "/topics/secret", "/topics/secret/", "/topics/%73ecret", "/topics/%73%65%63%72%65%74", "//topics/secret",
    "/topics//secret", "/./topics/secret", "/topics/x/../secret", "/topics/secret?topic=orders", "/topics/secret%20",
    "/%74opics/secret", "/topics/secret#orders", "/TOPICS/secret", "/topics/secret;a=b",
)  # fmt: skip


async def ask(app: App, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(request(method, target, body, **named))
        return await wire.reply(head_only=True)


async def test_no_method_word_and_no_spelling_stores_or_reads(
    app: App, client: aiohttp.ClientSession, rules: Rules
) -> None:
    rules.set(OTHERS)
    base = app.addresses[0].removeprefix("http:")
    for target in (*SPELLINGS, f"http:{base}/topics/secret", "/topics/secret/stream", "/topics/secret/partitions/0"):
        for method in METHODS:
            for more in ({}, UPGRADE, {"X-HTTP-Method-Override": "POST", "Connection": "Upgrade", "Upgrade": "any/1"}):
                reply = await ask(app, method, target, RECORDS, **JSON, **more)
                allowed = reply.status >= 400 or method in ("OPTIONS",)
                assert allowed, (method, target, more, reply.status)
    for target in ("/topics/secret", "/topics/%73ecret", f"http:{base}/topics/secret"):
        async with await Wire.open(app.addresses[0]) as wire:
            await wire.send(request("POST", target, RECORDS, "1.0", Content_Type=JSON["Content-Type"]))
            assert (await wire.reply()).status == 403, target
    assert await stored(client, rules) == 0


async def test_an_override_of_the_method_is_ignored(app: App, client: aiohttp.ClientSession, rules: Rules) -> None:
    rules.set("allow * describe topic:secret")
    reply = await ask(app, "GET", "/topics/secret", b"", **{"X-HTTP-Method-Override": "DELETE"})
    assert reply.status == 200
    assert await stored(client, rules) == 0


async def test_a_refusal_harms_no_other_request_of_the_connection(app: App, rules: Rules) -> None:
    rules.set(OTHERS)
    asked = [("POST", "/topics/secret"), ("POST", "/topics/orders"), ("POST", "/topics/secret")]
    async with await Wire.open(app.addresses[0]) as wire:
        for method, target in asked:
            await wire.send(request(method, target, RECORDS, Content_Type=JSON["Content-Type"]))
        assert [(await wire.reply()).status for _ in asked] == [403, 200, 403]


async def test_an_envelope_cannot_name_another_area(client: aiohttp.ClientSession, rules: Rules) -> None:
    rules.set("allow * all topic:*")
    async with client.ws_connect("/") as socket:
        for path in ("/admin/client/config", "/metrics", "/socket/in?topic=secret&clientId=c"):
            await socket.send_str(
                json.dumps({"id": "1", "method": "GET", "path": path, "area": "websocket-proxy-admin"})
            )
            reply: Any = json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))[0]
            assert int(reply.get("status", reply.get("code", 0))) in (400, 403, 404, 426), (path, reply)
