"""Nothing happens to a request before it is known who asks, whatever its method, upgrade or transport (security.md §2).

Each way in is asked without a proof, and does nothing; with one, it passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.messages import Request
from tests.door.conftest import proof, set_
from tests.transports.wire import Reply, Wire, request

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
}
PREFLIGHT = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
JSON = {"Content-Type": "application/vnd.kafka.json.v2+json"}
RECORDS = b'{"records":[{"value":1}]}'


class Way(NamedTuple):
    """A request that does something."""

    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    status: int = 200
    """Of the reply to it with a proof."""


WAYS = {
    "rest": Way("GET", "/topics"),
    "produce": Way("POST", "/topics/t", JSON, RECORDS),
    "v3": Way("GET", "/v3/clusters"),
    "stream": Way("GET", "/topics/t/stream?offset=earliest"),
    "stream socket": Way("GET", "/topics/t/stream?offset=earliest", UPGRADE, status=101),
    "envelope socket": Way("GET", "/", UPGRADE, status=101),
    "envelope socket anywhere": Way("GET", "/stub/echo", UPGRADE, status=101),
    "sse": Way("GET", "/?X-Atmosphere-Transport=sse&X-Atmosphere-tracking-id=0"),
    "streaming": Way("GET", "/?X-Atmosphere-Transport=streaming&X-Atmosphere-tracking-id=0"),
    "long-polling": Way("GET", "/?X-Atmosphere-Transport=long-polling&X-Atmosphere-tracking-id=0&X-atmo-protocol=true"),
    "socket in": Way("GET", "/socket/in?clientId=c&topic=t", UPGRADE, status=101),
    "socket out": Way("GET", "/socket/out?clientId=c&topic=t", UPGRADE, status=101),
    "proxy http": Way("GET", "/kafka/cluster/info"),
    "push": Way("POST", "/flasfka/t/", {}, b'{"messages":["m"]}', 204),
    "bridge": Way("POST", "/write", {}, b"x"),
    "console": Way("GET", "/console"),
    "clients": Way("GET", "/console/clients"),
    "brokers": Way("GET", "/kafka/brokers"),
    "plugin": Way("GET", "/stub/echo"),
}

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "X")


def raw(way: Way, method: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    named = {name.replace("-", "_"): value for name, value in {**way.headers, **headers}.items()}
    return request(method, way.target, body, **named)


async def ask(app: App, data: bytes) -> Reply:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(data)
        return await wire.reply(head_only=True)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_no_method_word_gets_in_without_a_proof(guarded: App, way: Way) -> None:
    seen = {}
    for method in METHODS:
        for body in (b"", way.body or b"x"):
            reply = await ask(guarded, raw(way, method, {}, body))
            seen[method, body] = reply.status
    # 400 for what is no request at all: a method that HTTP does not know, an upgrade with a body.
    assert set(seen.values()) <= {400, 401, 405}
    assert all(seen[method, b""] == 401 for method in METHODS[:7]), seen
    assert not guarded.gateway.sessions


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_with_a_proof_it_passes(guarded: App, way: Way) -> None:
    assert (await ask(guarded, raw(way, way.method, proof(), way.body))).status == way.status


async def test_options_with_an_upgrade_opens_no_stream(guarded: App) -> None:
    """Fault 1 of issue 11: 101 and every record."""
    for target in ("/topics/t/stream?offset=earliest", "/topics/t/stream?offset=earliest&group=g", "/topics/t/stream"):
        way = Way("OPTIONS", target, UPGRADE)
        assert (await ask(guarded, raw(way, "OPTIONS", {}))).status == 401
        assert (await ask(guarded, raw(way, "OPTIONS", PREFLIGHT))).status == 403  # a page of a foreign origin
        assert (await ask(guarded, raw(way, "OPTIONS", proof()))).status == 405  # a handshake is a GET


async def test_options_with_a_body_stores_nothing(guarded: App, stub: object) -> None:
    """Fault 2 of issue 11: 200, and the record was there."""
    assert (await ask(guarded, raw(WAYS["bridge"], "OPTIONS", {}, b"x"))).status == 401
    # With a body it is no preflight: the request of a page of a foreign origin.
    assert (await ask(guarded, raw(WAYS["bridge"], "OPTIONS", PREFLIGHT, b"x"))).status == 403
    # What a browser asks before: answered by the door, for any path, and nothing is done.
    assert (await ask(guarded, raw(WAYS["bridge"], "OPTIONS", PREFLIGHT))).status == 200
    assert (await ask(guarded, raw(WAYS["bridge"], "POST", proof(), b"x"))).status == 200
    metrics = await ask_whole(guarded, "/bridges")
    assert [bridge["stored"] for bridge in metrics["producers"]] == [1]


async def test_a_foreign_page_stores_nothing_whatever_its_method(guarded: App) -> None:
    """A bridge stores what comes with any method: with a body none is safe."""
    for method in ("GET", "OPTIONS", "HEAD", "POST"):
        reply = await ask(guarded, raw(WAYS["bridge"], method, {**proof(), "Origin": "http://evil.example"}, b"x"))
        assert reply.status == 403, method
    metrics = await ask_whole(guarded, "/bridges")
    assert [bridge["stored"] for bridge in metrics["producers"]] == [0]


async def ask_whole(app: App, path: str) -> dict[str, list[dict[str, int]]]:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(request("GET", path, **proof()))
        found: dict[str, list[dict[str, int]]] = json.loads((await wire.reply()).body)
        return found


@set_(access__control__allow__origin="https://app.example.com")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_preflight_reaches_no_route(guarded: App, stub: object, way: Way) -> None:
    plain = Way("OPTIONS", way.target)
    reply = await ask(guarded, raw(plain, "OPTIONS", PREFLIGHT))
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == PREFLIGHT["Origin"]
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "allow" not in reply.headers
    assert not guarded.gateway.sessions


@set_(authentication__skip__paths="/stub/echo,/topics/*,/flasfka/*,/socket/*,/,/kafka/*")
async def test_an_open_path_opens_nothing_that_lasts(guarded: App) -> None:
    for name in ("rest", "plugin", "push"):
        way = WAYS[name]
        assert (await ask(guarded, raw(way, way.method, {}, way.body))).status in (way.status, 401), name
    assert (await ask(guarded, raw(WAYS["plugin"], "GET", {}))).status == 200
    for name in ("envelope socket", "envelope socket anywhere", "sse", "streaming", "long-polling", "socket in"):
        assert (await ask(guarded, raw(WAYS[name], "GET", {}))).status == 401, name
    assert not guarded.gateway.sessions


@set_(authentication__skip__paths="/stub/*")
async def test_a_session_of_an_open_path_is_served_nothing_else(guarded: App) -> None:
    """Whatever a transport makes of such a request: dispatch itself refuses it."""
    gateway = guarded.gateway
    session = gateway.proofs.open_unproven("http")
    assert (await gateway.dispatch(Request(session, "GET", "/stub/echo"))).status == 200
    for method, path in (("GET", "/topics"), ("OPTIONS", "/topics"), ("GET", "/nothing"), ("POST", "/stub/../topics")):
        assert (await gateway.dispatch(Request(session, method, path))).status in (401, 404), path
    await gateway.close_session(session)
