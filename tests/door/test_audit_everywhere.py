"""Whoever is refused stands in the audit log, whichever way it came (security.md §7), and cannot fill it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kafka_gateway.auth import Authenticator
from kafka_gateway.authenticators import basic
from kafka_gateway.door import audit as module
from kafka_gateway.door.audit import Audit
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.door.conftest import BASIC, proof
from tests.door.test_who_asks_first import JSON, WAYS, ask, raw
from tests.rights.conftest import Rules
from tests.transports.conftest import gateway
from tests.transports.test_atmosphere_http import Client as Listening
from tests.transports.test_atmosphere_http import envelope
from tests.transports.wire import Wire, request
from tests.tunnel.fake_broker import Client as Tunnelled
from tests.tunnel.fake_broker import FakeBroker
from tests.waiting import PATIENCE_S, until

FORBIDDEN = {
    "produce": ("http", "write", "topic:t"),
    "v3": ("http", "describe", "cluster"),
    "stream": ("http", "read", "topic:t"),
    "stream socket": ("websocket", "read", "topic:t"),
    "socket in": ("websocket-proxy", "write", "topic:t"),
    "socket out": ("websocket-proxy", "read", "topic:t"),
    "proxy http": ("websocket-proxy-http", "describe", "cluster"),
    "push": ("push-pull", "write", "topic:t"),
    "bridge": ("http", "write", "topic:bridged"),
    "console": ("console", "read", "gateway:console"),
    "clients": ("console", "read", "gateway:console"),
    "brokers": ("tunnel", "read", "gateway:tunnel"),
}
"""Way → its transport, and the need that is refused, as the log has them."""
LASTING = ("stream", "stream socket", "envelope socket", "envelope socket anywhere", "socket in", "socket out")
OPENED = [
    ("socket", "long-polling", "GET /"),
    ("socket", "sse", "GET /"),
    ("socket", "streaming", "GET /"),
    ("socket", "tunnel", "GET /kafka/brokers/7"),
    ("socket", "websocket", "GET /"),
    ("socket", "websocket", "GET /"),
    ("socket", "websocket", "GET /stub/echo"),
    ("stream", "http", "GET /topics/t/stream"),
    ("stream", "websocket", "GET /topics/t/stream"),
    ("stream", "websocket", "GET /topics/t/stream"),
    ("stream", "websocket-proxy", "GET /socket/in"),
    ("stream", "websocket-proxy", "GET /socket/out"),
]
EVERYTHING = "allow * all *\ndeny User:ada alter group:g\n"
V2 = "application/vnd.kafka.v2+json"
PRODUCE = envelope("1", "/topics/t", "POST", '{"records":[{"value":1}]}', type=JSON["Content-Type"])


class Log:
    """An audit log as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def told(self, operation: str) -> list[tuple[str, str, str]]:
        """Resource, transport and request of what was opened, or closed, in the order of their names."""
        found = [each for each in self.lines() if each["operation"] == operation]
        return sorted((each["resource"], each["transport"], each["request"]) for each in found)

    async def refused(self, count: int) -> list[tuple[str, str, str, str]]:
        """Principal, operation, resource and request of so many refusals, all since the last."""
        found: list[Any] = []

        def grown() -> bool:
            found[:] = [each for each in self.lines()[self._seen :] if not each["allowed"]]
            return len(found) >= count

        await until(grown)
        self._seen = len(self.lines())
        return [(each["principal"], each["operation"], each["resource"], each["request"]) for each in found]

    async def refusal(self) -> tuple[str, str, str]:
        """Transport, operation and resource of the one refusal since the last; there must be one."""
        found: list[Any] = []

        def grown() -> bool:
            lines = self.path.read_text().splitlines()
            found[:] = [each for each in map(json.loads, lines[self._seen :]) if not each["allowed"]]
            return bool(found)

        await until(grown)
        self._seen = len(self.path.read_text().splitlines())
        (line,) = found
        assert (line["principal"], line["peer"]) == ("User:anonymous", "127.0.0.1")
        return line["transport"], line["operation"], line["resource"]


async def test_whoever_may_not_is_told_of(users: Path, tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    settings = {
        **BASIC, "authentication.method": "BASIC,NONE", "authentication.basic.file": users, "audit.log": log.path,
    }  # fmt: skip
    async with gateway(Rules(), **settings) as app:
        for name, refused in FORBIDDEN.items():
            way = WAYS[name]
            assert (await ask(app, raw(way, way.method, {}, way.body))).status == 403, name
            assert await log.refusal() == refused, name
        async with aiohttp.ClientSession() as client, client.ws_connect(app.addresses[0] + "/") as socket:
            await socket.send_str(PRODUCE)
            assert '"code":403' in await socket.receive_str(timeout=PATIENCE_S)
        assert await log.refusal() == ("websocket", "write", "topic:t")
        for transport in ("sse", "streaming", "long-polling"):
            async with Listening(app.addresses[0], transport) as listening:
                assert '"code":403' in await listening.ask(PRODUCE)
            assert await log.refusal() == (transport, "write", "topic:t")


async def test_whoever_shows_nothing_has_one_line_and_a_count(users: Path, tmp_path: Path) -> None:
    """Whoever shows a wrong proof has a line each time, until ``authentication.failures.max``."""
    path = tmp_path / "audit.jsonl"
    settings = {
        **BASIC, "authentication.basic.file": users, "audit.log": path, "authentication.failures.max": 3,
    }  # fmt: skip
    async with gateway(Rules(), **settings) as app:
        for way in WAYS.values():
            for headers in ({}, {"Authorization": "Other x"}, {}):
                assert (await ask(app, raw(way, way.method, headers, way.body))).status == 401
        statuses = [(await ask(app, raw(WAYS["rest"], "GET", proof("ada", str(each))))).status for each in range(6)]
    assert statuses == [401] * 3 + [429] * 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(each["principal"], each["peer"], each["operation"], each["allowed"]) for each in lines} == {
        ("-", "127.0.0.1", "authenticate", False)
    }
    told: dict[str, list[tuple[str, int]]] = {}
    for each in lines:
        told.setdefault(each["rule"], []).append((each["transport"], each.get("count", 0)))
    assert told.pop("HTTP 401 Unauthorized") == [("http", 0)] * 3
    nothing, sent_away = (
        told.pop("no proof that counts was shown"),
        told.pop("Too many wrong proofs of identity from this address (authentication.failures.max)."),
    )
    assert sent_away == [("http", 0), ("http", 2)]
    assert not told
    assert {each["request"] for each in lines} >= {"GET /topics", "GET /socket/in", "GET /", "POST /flasfka/t/"}
    assert all(each["request"] for each in lines)
    firsts = [transport for transport, count in nothing if not count]
    assert sorted(firsts) == sorted(transport for transport, count in nothing if count)
    assert len(firsts) == len(set(firsts)) >= 8
    assert len(firsts) + sum(count for _, count in nothing) == 3 * len(WAYS)


async def test_a_proof_that_ends_is_told_of(users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic, "_TRUST_S", 0.0)
    monkeypatch.setattr(basic, "_FILE_CHECK_S", 0.0)
    path = tmp_path / "audit.jsonl"
    settings = {**BASIC, "authentication.basic.file": users, "audit.log": path}
    line_of_bob = (await asyncio.to_thread(users.read_text)).splitlines()[1]
    async with gateway(**settings) as app, await Wire.open(app.addresses[0]) as wire:
        for status in (200, 401):
            await wire.send(request("GET", "/topics", **proof()))
            assert (await wire.reply()).status == status
            await asyncio.to_thread(users.write_text, line_of_bob)
    refused = [each for each in map(json.loads, path.read_text().splitlines()) if not each["allowed"]]
    assert [(each["operation"], each["transport"], each["request"]) for each in refused] == [
        ("authenticate", "http", "GET /topics")
    ]


async def test_a_proof_that_does_not_renew_is_told_of(users: Path, tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    settings = {**BASIC, "authentication.basic.file": users, "audit.log": log.path}
    async with gateway(**settings) as app, aiohttp.ClientSession(headers=proof("ada")) as client:
        socket = await client.ws_connect(app.addresses[0] + "/")
        for shown, status in ((proof("ada", "wrong"), 401), (proof("bob"), 403)):
            await socket.send_str(envelope("1", "/ws/session", "PUT", headers=shown))
            assert f'"code":{status}' in await socket.receive_str(timeout=PATIENCE_S)
            assert await log.refused(1) == [("-", "authenticate", "gateway", "PUT /ws/session")]


class Failing(Authenticator):
    """A plugin that does not stand what clients send: "boom" in one part of its work, as the header says."""

    name = "FAILING"
    proof = ("x-proof",)

    def _fail(self, where: str, shown: Mapping[str, str]) -> None:
        if shown.get("x-proof") == where:
            raise TypeError(f"boom in {where}")

    def reads(self, shown: Mapping[str, str]) -> bool:
        self._fail("reads", shown)
        return super().reads(shown)

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        self._fail("recall", headers)
        return None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        self._fail("authenticate", headers)
        return None if headers.get("x-proof") == "answer" else Principal("ada")  # type: ignore[return-value]

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


async def test_who_makes_an_authenticator_fail_is_refused_and_told_of(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    settings = {
        **BASIC, "authentication.method": "FAILING", "audit.log": log.path, "authentication.failures.max": 10,
    }  # fmt: skip
    where = ("reads", "recall", "authenticate", "answer")
    async with gateway(Failing(), **settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        socket = await client.ws_connect("/", headers={"X-Proof": "good"})
        for each in where:
            assert (await client.get("/topics", headers={"X-Proof": each})).status == 500
            for method, path in (("GET", "/topics"), ("PUT", "/ws/session")):
                await socket.send_str(envelope("1", path, method, headers={"X-Proof": each}))
                assert '"code":500' in await socket.receive_str(timeout=PATIENCE_S)
            requests = [request for *_, request in await log.refused(3)]
            assert requests == ["GET /topics", "GET /topics", "PUT /ws/session"], each
        await socket.send_str(envelope("1", "/topics", "GET"))
        assert '"code":200' in await socket.receive_str(timeout=PATIENCE_S)
        # What was judged were wrong proofs: 2 · 3 of them. Those that cannot even be recalled are never judged.
        statuses = [(await client.get("/topics", headers={"X-Proof": "answer"})).status for _ in range(5)]
        assert statuses == [500] * 4 + [429]


async def test_other_principals_instances_and_quotas_are_told_of(users: Path, tmp_path: Path) -> None:
    """An instance of somebody else is hidden from the client, not from the log; quotas have one line a minute."""
    log, rules = Log(tmp_path / "audit.jsonl"), Rules()
    rules.set(f"{EVERYTHING}quota User:ada consumer.instances=1")
    settings = {**BASIC, "authentication.basic.file": users, "audit.log": log.path}
    async with gateway(rules, **settings) as app:
        url = app.addresses[0]

        async def statuses(name: str, *asked: tuple[str, str, Any]) -> list[int]:
            found = []
            async with aiohttp.ClientSession(url, headers={**proof(name), "Content-Type": V2}) as client:
                for method, path, body in asked:
                    found.append((await client.request(method, path, json=body)).status)
            return found

        assert await statuses("bob", ("POST", "/consumers/g", {"name": "i"})) == [200]
        taken = [("DELETE", "/consumers/g/instances/i", None)]
        assert await statuses("ada", *taken) == [404]
        assert await log.refused(1) == [("User:ada", "alter", "group:g", "DELETE /consumers/g/instances/i")]
        assert await statuses("ada", ("GET", "/topics/_gateway.x", None)) == [403]
        assert await log.refused(1) == [("User:ada", "describe", "topic:_gateway.x", "GET /topics/_gateway.x")]
        made = [("POST", "/consumers/h", {"name": str(each)}) for each in range(2)]
        assert await statuses("ada", *made) == [200, 429]
        assert await log.refused(1) == [("User:ada", "use", "quota:consumer.instances", "POST /consumers/h")]
        rules.set(f"{EVERYTHING}quota User:ada requests.per.sec=1")
        asked = await statuses("ada", *[("GET", "/topics", None)] * 12)
        assert await log.refused(1) == [("User:ada", "use", "quota:requests.per.sec", "GET /topics")]
        rules.set(f"{EVERYTHING}quota User:ada connections=2")
        connected = []
        async with await Wire.open(url) as one, await Wire.open(url) as two, await Wire.open(url) as third:
            for wire in (one, two, third, third, third):
                await wire.send(request("GET", "/v3", **proof()))
                connected.append((await wire.reply()).status)
        assert connected[2:] == [429] * 3
        assert await log.refused(1) == [("User:ada", "use", "quota:connections", "GET /v3")]
    counts = {each["resource"]: each["count"] for each in log.lines() if "count" in each and not each["allowed"]}
    assert counts.pop("quota:connections") == connected.count(429) - 1
    assert counts.pop("quota:requests.per.sec", 0) == asked.count(429) - 1
    assert not counts


async def test_whatever_stays_open_has_a_line_at_both_ends(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    async with FakeBroker() as broker, contextlib.AsyncExitStack() as at_its_end:
        brokers = {"tunnel.static.brokers": f"7=127.0.0.1:{broker.port}"}
        settings = {**BASIC, **brokers, "authentication.method": "NONE", "audit.log": log.path}
        app = await at_its_end.enter_async_context(gateway(**settings))
        url = app.addresses[0]
        async with contextlib.AsyncExitStack() as clients:
            for name in LASTING:
                wire = await clients.enter_async_context(await Wire.open(url))
                await wire.send(raw(WAYS[name], "GET", {}))
                assert (await wire.reply(head_only=True)).status == WAYS[name].status
            for name in ("sse", "streaming", "long-polling"):
                await clients.enter_async_context(Listening(url, name))
            await clients.enter_async_context(await Tunnelled.open(url))
            socket = await (await clients.enter_async_context(aiohttp.ClientSession())).ws_connect(url + "/")
            await socket.send_str(envelope("1", "/topics/t/stream?offset=earliest", accept="text/event-stream"))
            assert '"code":200' in await socket.receive_str(timeout=PATIENCE_S)
            await until(lambda: len(log.told("open")) >= len(OPENED))
            assert log.told("open") == OPENED
    assert log.told("close") == OPENED


async def test_nobody_waits_for_the_end_of_the_gateway(tmp_path: Path) -> None:
    """A socket that its client has closed is told as closed while its connection may stay."""
    log = Log(tmp_path / "audit.jsonl")
    settings = {**BASIC, "authentication.method": "NONE", "audit.log": log.path}
    async with gateway(**settings) as app, aiohttp.ClientSession() as client:
        await (await client.ws_connect(app.addresses[0] + "/")).close()
        await until(lambda: log.told("close") == [("socket", "websocket", "GET /")])


def test_no_number_of_addresses_fills_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRANGERS_MAX", 5)
    path = tmp_path / "audit.jsonl"
    audit = Audit(str(path))
    audit.refused_proof("10.0.0.0", "http", "a line\u2028\u2029\x85 stays one", True)
    for number in range(100):
        audit.refused_proof(f"10.0.0.{number}", "http", "nothing", False)
        audit.refused_proof(f"2001:db8::{number:x}", "http", "nothing", False)  # all of one network

    async def write() -> None:
        async with audit.writing():
            pass

    asyncio.run(write())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines.pop(0)["rule"] == "a line\u2028\u2029\x85 stays one"
    assert [(each["peer"], each.get("count", 0)) for each in lines] == [
        *(("10.0.0.0", 0), ("2001:db8::0", 0), ("10.0.0.1", 0), ("10.0.0.2", 0), ("10.0.0.3", 0), ("-", 0)),
        *(("2001:db8::0", 99), ("-", 95)),
    ]
