"""Proxies in front: whose word counts about who the client is (security.md §6)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from kafka_gateway.config import ConfigError, load
from kafka_gateway.door.client_address import peer_of
from kafka_gateway.door.forwarded import Proxies
from kafka_gateway.door.told_seldom import ToldSeldom
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.router import Route
from tests.door.conftest import BASIC, proof
from tests.keys import BUILTIN_KEYS
from tests.transports.authority import Authority
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import V2, Wire
from tests.waiting import PATIENCE_S

TRUST = {"forwarded.trust": "127.0.0.1,10.0.0.0/8,2001:db8::/32"}


async def peers(headers: list[dict[str, str]], **settings: Any) -> list[str]:
    """The addresses that the gateway takes the clients of these requests to have, all on one connection."""
    found = []
    async with gateway(StubService(), **settings) as app, await Wire.open(app.addresses[0]) as wire:
        for each in headers:
            assert (await wire.ask("GET", "/stub/echo", **each)).status == 200
            (session,) = app.gateway.sessions
            found.append(session.peer)
    return found


CHAINS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "127.0.0.1"),
    "one": ({"X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
    "port": ({"X-Forwarded-For": "192.0.2.1:4711"}, "192.0.2.1"),
    "IPv6": ({"X-Forwarded-For": "2001:db9::1"}, "2001:db9::1"),
    "IPv6 and port": ({"X-Forwarded-For": "[2001:db9::1]:80"}, "2001:db9::1"),
    "IPv4 in IPv6": ({"X-Forwarded-For": "::ffff:192.0.2.1"}, "192.0.2.1"),
    "made up in front": ({"X-Forwarded-For": "198.51.100.9, 192.0.2.1"}, "192.0.2.1"),
    "two proxies": ({"X-Forwarded-For": "198.51.100.9, 192.0.2.1, 10.1.1.1"}, "192.0.2.1"),
    "proxies only": ({"X-Forwarded-For": "10.1.1.1, 10.1.1.2"}, "10.1.1.1"),
    "no address": ({"X-Forwarded-For": "<script>"}, "127.0.0.1"),
    "no address in front": ({"X-Forwarded-For": "foo, 10.1.1.2"}, "10.1.1.2"),
    "Forwarded": ({"Forwarded": 'for=192.0.2.1;proto=https, for="[2001:db8::9]:80"'}, "192.0.2.1"),
    "Forwarded, hidden": ({"Forwarded": "for=_hidden, for=10.1.1.1"}, "10.1.1.1"),
    "Forwarded, malformed": ({"Forwarded": 'for="192.0.2.1'}, "127.0.0.1"),
    "both": ({"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=198.51.100.9"}, "192.0.2.1"),
}


@pytest.mark.parametrize("name", CHAINS)
async def test_chains(name: str) -> None:
    headers, peer = CHAINS[name]
    assert await peers([headers], **TRUST) == [peer]
    assert await peers([headers]) == ["127.0.0.1"]  # nobody is believed unless somebody says so
    assert await peers([headers], **{"forwarded.trust": "192.0.2.0/24"}) == ["127.0.0.1"]


async def test_many_clients_on_one_connection() -> None:
    one, two = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    assert await peers([one, two, {}, one], **TRUST) == ["192.0.2.1", "192.0.2.2", "127.0.0.1", "192.0.2.1"]


async def test_guesses_count_for_the_client_that_guesses(users: Path) -> None:
    settings = {**BASIC, **TRUST, "authentication.basic.file": users, "authentication.failures.max": 3}
    async with gateway(StubService(), **settings) as app, await Wire.open(app.addresses[0]) as wire:

        async def ask(peer: str, password: str) -> int:
            headers = {"X-Forwarded-For": peer, **proof("ada", password)}
            return (await wire.ask("GET", "/stub/echo", **headers)).status

        assert [await ask("192.0.2.1", "wrong") for _ in range(5)] == [401, 401, 401, 429, 429]
        assert await ask("192.0.2.2", "ada") == 200


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example.org"}, "https://api.example.org"),
        ({"X-Forwarded-Proto": "HTTPS"}, "https://gateway"),
        ({"X-Forwarded-Proto": "javascript"}, "http://gateway"),
        ({"X-Forwarded-Host": "first.example, api.example.org:8443"}, "http://api.example.org:8443"),
        ({"Forwarded": 'for=192.0.2.1;proto=https;host="api.example.org"'}, "https://api.example.org"),
    ],
)
async def test_urls(headers: dict[str, str], base: str) -> None:
    for settings, expected in ((TRUST, base), ({}, "http://gateway")):
        async with gateway(**settings) as app, await Wire.open(app.addresses[0]) as wire:
            reply = await wire.ask("POST", "/consumers/g", b'{"name":"i"}', Content_Type=V2, **headers)
            assert reply.json["base_uri"] == f"{expected}/consumers/g/instances/i"


async def test_a_host_that_is_none() -> None:
    async with gateway(**TRUST) as app, await Wire.open(app.addresses[0]) as wire:
        assert (await wire.ask("GET", "/topics", **{"X-Forwarded-Host": "a b/c"})).status == 400


async def test_a_page_of_the_proxys_own_origin() -> None:
    async with gateway(**TRUST) as app, await Wire.open(app.addresses[0]) as wire:
        page = {"Origin": "https://api.example.org", "Content-Type": V2}
        told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example.org"}
        assert (await wire.ask("POST", "/consumers/g", b'{"name":"i"}', **page, **told)).status == 200
        assert (await wire.ask("POST", "/consumers/g", b'{"name":"j"}', **page)).status == 403


# --- PROXY protocol ---------------------------------------------------------------------------------------------------

PROXY = {
    "listeners": "IN://127.0.0.1:0",
    "listener.protocol.map": "IN:http",
    "listener.IN.proxy.protocol": True,
    **TRUST,
}
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
GET = (
    b"GET /stub/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    b"X-Forwarded-For: 198.51.100.9\r\nForwarded: for=198.51.100.9\r\n\r\n"  # the client's own word, always
)


def version_2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


V4 = bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack("!HH", 4711, 80)
V6 = bytes.fromhex("20010db9" + "0" * 23 + "7") + bytes(16) + struct.pack("!HH", 4711, 80)
V4_IN_6 = bytes.fromhex("0" * 20 + "ffff") + V4[:4] + bytes(16) + struct.pack("!HH", 4711, 80)
HEADS: dict[str, tuple[bytes, str]] = {
    "1": (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n", "192.0.2.7"),
    "1, IPv6": (b"PROXY TCP6 2001:db9::7 ::1 4711 80\r\n", "2001:db9::7"),
    "1, unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "1, unknown and more": (b"PROXY UNKNOWN ffff:f ffff:f 1 2\r\n", "127.0.0.1"),
    "1, IPv4 in IPv6": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 80\r\n", "192.0.2.7"),
    "1, a zone": (b"PROXY TCP6 fe80::1%\x1b[31m ::1 4711 80\r\n", "fe80::1"),
    "1, a trusted proxy": (b"PROXY TCP4 10.1.1.1 127.0.0.1 4711 80\r\n", "10.1.1.1"),
    "2": (version_2(1, 0x11, V4), "192.0.2.7"),
    "2, IPv4 in IPv6": (version_2(1, 0x21, V4_IN_6), "192.0.2.7"),
    "2, Unix": (version_2(1, 0x31, bytes(216)), "127.0.0.1"),
    "2, IPv6": (version_2(1, 0x21, V6), "2001:db9::7"),
    "2, more": (version_2(1, 0x11, V4 + b"\x04\x00\x03abc"), "192.0.2.7"),
    "2, local": (version_2(0, 0, b""), "127.0.0.1"),
    "2, unspecified": (version_2(1, 0, b""), "127.0.0.1"),
}


async def exchange(address: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("name", HEADS)
async def test_heads(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    head, peer = HEADS[name]
    async with gateway(StubService(), **PROXY, **{"access.log.enable": True}) as app:
        assert b" 200 " in await exchange(app.addresses[0], head + GET)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(app.addresses[0].rpartition(":")[2]))
        for byte in head + GET:  # byte by byte
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert b" 200 " in await reader.read()
        writer.close()
    assert caplog.text.count(f"{peer} - ") + caplog.text.count(f"{peer} anonymous") >= 2


WRONG = {
    "nothing of it": GET,
    "1, no address": b"PROXY TCP4 foo 127.0.0.1 1 2\r\n" + GET,
    "1, other family": b"PROXY TCP4 ::1 ::1 1 2\r\n" + GET,
    "1, no end": b"PROXY TCP4 " + b"1" * 200 + GET,
    "1, line feed only": b"PROXY UNKNOWN\n" + GET,
    "1, too few": b"PROXY TCP4 192.0.2.1\r\n" + GET,
    "2, too short": version_2(1, 0x11, V4[:8]) + GET,
    "2, too long": SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535) + bytes(65535),
    "2, version 3": SIGNATURE + struct.pack("!BBH", 0x31, 0x11, 12) + V4 + GET,
    "2, other command": version_2(5, 0x11, V4) + GET,
}


@pytest.mark.parametrize("name", WRONG)
async def test_heads_that_are_none(name: str) -> None:
    async with gateway(StubService(), **PROXY) as app:
        assert await exchange(app.addresses[0], WRONG[name]) == b""
        assert b" 200 " in await exchange(app.addresses[0], HEADS["1"][0] + GET)


async def test_nobody_else_is_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each reason is told, whatever else comes often: in the log, in the audit log, as a metric."""
    settings = {**PROXY, "request.header.timeout.ms": 200, "audit.log": tmp_path / "audit"}
    async with gateway(StubService(), **settings) as app:
        for _ in range(3):
            assert await exchange(app.addresses[0], GET) == b""
        assert await exchange(app.addresses[0], b"PROXY ") == b""
        assert await exchange(app.addresses[0], WRONG["1, no address"]) == b""
        app.host.proxies._networks.clear()
        assert await exchange(app.addresses[0], HEADS["1"][0] + GET) == b""
        assert app.gateway.counters.refused["proxy"] == 6
    reasons = ["no PROXY protocol", "it sends nothing, or not all", "a malformed line", "not one of forwarded.trust"]
    told = [each.getMessage() for each in caplog.records if "PROXY protocol" in each.getMessage()]
    assert told == [f"closed 1 connection of 127.0.0.1: {reason} (PROXY protocol)" for reason in reasons]
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(each["rule"], each.get("count", 0)) for each in lines] == [
        *((reason, 0) for reason in reasons), ("no PROXY protocol", 2),
    ]  # fmt: skip
    assert {(each["peer"], each["transport"], each["allowed"]) for each in lines} == {("127.0.0.1", "proxy", False)}


def test_what_is_told_seldom() -> None:
    now = [0.0]
    seldom = ToldSeldom(lambda: now[0])
    assert [seldom.count("a"), seldom.count("a"), seldom.count("b"), seldom.count("a")] == [1, 0, 1, 0]
    now[0] = 10.0
    assert [seldom.count("a"), seldom.count("b")] == [3, 1]
    assert sum(seldom.count(number) for number in range(10_000)) == 63  # 62 kinds, and all the others once
    now[0] = 20.0
    assert [seldom.count("a"), seldom.count("x")] == [1, 1]


def test_the_address_of_a_connection() -> None:
    """As the others: on a listener of both versions IPv4 comes in IPv6, and a zone is of this machine only."""
    found = [peer_of(each) for each in (("::ffff:192.0.2.7", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2), ("192.0.2.7", 1), "")]
    assert found == ["192.0.2.7", "fe80::1", "192.0.2.7", "unix"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])  # the program's loop is uvloop
@pytest.mark.parametrize("said", ["nothing", "a half", "all, and TLS does not begin"])
def test_who_does_not_begin_keeps_nobody_out(
    run: Callable[[Coroutine[Any, Any, None]], None], said: str, tmp_path: Path
) -> None:
    """Those that have been silent for the longest go, when connections.max are there; whoever has begun stays."""
    authority, room = Authority(tmp_path), 4
    settings = {
        **PROXY,
        "listener.protocol.map": "IN:https",
        "ssl.keystore.location": authority.server().write(tmp_path / "server.pem"),
        "connections.max": room,
    }
    data = {"nothing": b"", "a half": b"PROXY TCP4 1", "all, and TLS does not begin": HEADS["2"][0]}[said]

    async def begin() -> None:
        async with gateway(StubService(), **settings) as app, contextlib.AsyncExitStack() as stack:
            port = int(app.addresses[0].rpartition(":")[2])

            async def connect(data: bytes) -> Wire:
                wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
                stack.callback(wire.writer.transport.abort)
                await wire.send(data)
                return wire

            async def ask(wire: Wire) -> int:
                await wire.writer.start_tls(authority.context(), server_hostname="localhost")
                return (await wire.ask("GET", "/stub/echo")).status

            first = await connect(HEADS["2"][0])
            assert await ask(first) == 200
            silent = [await connect(data) for _ in range(2 * room)]
            last = await connect(HEADS["2"][0])
            assert await ask(last) == 200
            for each in silent[:room]:
                assert await each.closed() == b""
            assert len(app.host.beginnings) + app.host.connection_count <= room
            assert app.gateway.counters.refused["connections"] >= room
            assert (await first.ask("GET", "/stub/echo")).status == 200

    run(begin())


async def test_behind_it_comes_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = {
        **PROXY,
        "listener.protocol.map": "IN:https",
        "ssl.keystore.location": authority.server().write(tmp_path / "server.pem"),
    }
    async with gateway(StubService(), **settings) as app:
        port = int(app.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADS["2"][0])
        await writer.start_tls(authority.context(), server_hostname="localhost")
        writer.write(b"GET /stub/echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in (await reader.readuntil(b"\r\n\r\n"))
        assert [each.peer for each in app.gateway.sessions] == ["192.0.2.7"]
        writer.close()


@pytest.mark.parametrize(
    "settings", [{"forwarded.trust": "foo"}, {"forwarded.trust": "10.0.0.1/8"}, {**PROXY, "forwarded.trust": ""}]
)
async def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"forwarded\.trust"):
        async with gateway(**settings):
            pass


def test_a_unix_socket_is_trusted_by_its_name() -> None:
    proxies = Proxies(load(BUILTIN_KEYS, overrides=["forwarded.trust=unix"]))
    assert proxies.trusts("unix")
    assert not proxies.trusts("127.0.0.1")
    assert not Proxies(load(BUILTIN_KEYS, overrides=["forwarded.trust=::1"])).trusts("unix")


# --- operators' listeners ---------------------------------------------------------------------------------------------


async def status(address: str, path: str) -> int:
    async with await Wire.open(address) as wire:
        return (await wire.ask("GET", path)).status


async def test_listeners_for_operators() -> None:
    """What is theirs answers there and nowhere else, and nothing else answers there."""
    settings = {"admin.listeners": "http://127.0.0.1:0", "transport.websocket.enable": True}
    async with gateway(AdminService(), **settings) as app:
        public, admin = app.addresses
        paths = ("/health/live", "/admin/stub", "/told/stub", "/stub/echo", "/topics")
        assert [await status(public, path) for path in paths] == [404, 404, 404, 200, 200]
        assert [await status(admin, path) for path in paths] == [200, 200, 200, 404, 404]
        async with await Wire.open(public) as wire:  # nor by another way
            assert (await wire.ask("GET", "//admin/stub")).status == 400
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{public}/") as socket:
            await socket.send_str(json.dumps({"id": "1", "method": "GET", "path": "/admin/stub"}))
            assert '"code":404' in (await socket.receive(timeout=PATIENCE_S)).data
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await client.ws_connect(f"{admin}/")


async def test_without_them_operators_come_from_this_machine() -> None:
    async with gateway(AdminService()) as app:
        assert [await status(app.addresses[0], path) for path in ("/health/live", "/admin/stub")] == [200, 200]
    open_to_all = {"listeners": "http://0.0.0.0:0", "listeners.insecure": True}
    async with gateway(AdminService(), **open_to_all) as app:
        address = app.addresses[0].replace("0.0.0.0", "127.0.0.1")
        paths = ("/health/live", "/told/stub", "/admin/stub")
        assert [await status(address, path) for path in paths] == [200, 200, 404]


async def test_operators_listeners_are_judged_like_others() -> None:
    for wrong in ("http://0.0.0.0:9", "foo", "https://127.0.0.1:9"):
        with pytest.raises(ConfigError, match=r"admin\.listeners|needs a certificate|reached from other"):
            async with gateway(**{"admin.listeners": wrong}):
                pass


class AdminService(StubService):
    """The stub, and a route for operators."""

    @hookimpl
    def gateway_routes(self) -> list[Route]:
        found = super().gateway_routes()
        echo = next(each for each in found if each.template == "/stub/echo" and each.method == "GET")
        return [
            *found,
            dataclasses.replace(echo, template="/admin/stub", extras={**echo.extras, "admin": True}),
            dataclasses.replace(echo, template="/told/stub", extras={**echo.extras, "operators": True}),
        ]
