"""What is open ends when its client may not have it any more, and says why, whatever it is (security.md §2, §3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.rights.conftest import EVERYTHING_ON, Rules
from tests.transports.conftest import gateway
from tests.waiting import until

V2 = "application/vnd.kafka.v2+json"
ALL = "allow * all *"
NOTHING = "allow * all topic:orders\nallow * read group:*"
CLIENT_S = 10


class Users(Authenticator):
    """``Bearer NAME`` of whoever has not been removed."""

    name = "USERS"

    def __init__(self) -> None:
        self.removed: set[str] = set()

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        user = headers.get("authorization", "").removeprefix("Bearer ")
        if not user or user in self.removed:
            raise Unauthorized()
        return Principal(user, until=0.0)  # looked at with each round

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Users:
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    return Users()


@pytest.fixture
async def app(rules: Rules, users: Users) -> AsyncIterator[App]:
    rules.set(ALL)
    settings = {**EVERYTHING_ON, "authentication.method": "USERS", "listeners": "http://127.0.0.1:0"}
    async with gateway(rules, users, **settings) as running:
        yield running


class Open:
    """Something that is open: what it told its client until now, and at its end."""

    def __init__(self, client: aiohttp.ClientSession, stack: contextlib.AsyncExitStack, group: str) -> None:
        self.client, self.stack, self.group = client, stack, group
        self.end: Callable[[], Awaitable[tuple[str, int]]]

    # --- ways to open it --------------------------------------------------------------------------------------------

    async def get(self, target: str, accept: str = "text/event-stream") -> None:
        reply = await self.stack.enter_async_context(self.client.get(target, headers={"Accept": accept}))
        assert reply.status == 200, await reply.text()

        async def end() -> tuple[str, int]:
            return (await reply.content.read()).decode(), 0

        self.end = end

    async def socket(self, target: str = "/", **message: Any) -> None:
        socket = await self.stack.enter_async_context(self.client.ws_connect(target))
        if message:
            await socket.send_str(json.dumps({"id": "1", **message}))

        async def end() -> tuple[str, int]:
            told = ""
            while (each := await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                told = each.data
                # In an envelope the socket goes on when a right is withdrawn.
                if message and '"id":"1"' in told and '"error_code":40' in told:
                    return told, 0
            return told or str(each.extra), int(each.data or 0)

        self.end = end

    async def instance(self, **body: Any) -> str:
        headers = {"Content-Type": V2}
        wanted = {"name": "i", "format": "json", "consumer.request.timeout.ms": 60000}
        made = await self.client.post(f"/consumers/{self.group}", json=wanted, headers=headers)
        assert made.status == 200, await made.text()
        path = f"/consumers/{self.group}/instances/i"
        done = await self.client.post(f"{path}/subscription", json=body, headers=headers)
        assert done.status == 204, await done.text()
        return f"{path}/records"

    async def waits(self, accept: str) -> None:
        """A read that has nothing to answer."""
        path = await self.instance(topics=["secret"])
        reading = asyncio.ensure_future(self.client.get(path, headers={"Accept": accept}))

        async def end() -> tuple[str, int]:
            return await (await reading).text(), 0

        self.end = end

    async def produces(self) -> None:
        cluster = (await (await self.client.get("/v3/clusters")).json())["data"][0]["cluster_id"]
        over = asyncio.Event()
        self.stack.callback(over.set)

        async def body() -> AsyncIterator[bytes]:
            yield b'{"value":{"type":"STRING","data":"x"}}'
            await over.wait()

        reply = await self.stack.enter_async_context(
            self.client.post(
                f"/v3/clusters/{cluster}/topics/secret/records",
                data=body(),
                headers={"Content-Type": "application/json"},
            )
        )
        assert reply.status == 200
        assert b'"error_code":200' in await reply.content.readline()

        async def end() -> tuple[str, int]:
            return (await reply.content.read()).decode(), 0

        self.end = end


async def _events(opened: Open) -> None:
    await opened.get("/topics/secret/stream?offset=earliest")


async def _lines(opened: Open) -> None:
    await opened.get("/topics/secret/stream?offset=earliest", "application/x-ndjson")


async def _group_events(opened: Open) -> None:
    await opened.get(f"/topics/secret/stream?group={opened.group}")


async def _instance_events(opened: Open) -> None:
    await opened.get(await opened.instance(topics=["secret"]))


async def _pattern_events(opened: Open) -> None:
    await opened.get(await opened.instance(topic_pattern="sec.*"))


async def _stream_socket(opened: Open) -> None:
    await opened.socket("/topics/secret/stream")


async def _group_socket(opened: Open) -> None:
    await opened.socket(f"/topics/secret/stream?group={opened.group}")


async def _in_envelope(opened: Open) -> None:
    await opened.socket(method="GET", path="/topics/secret/stream")


async def _group_in_envelope(opened: Open) -> None:
    await opened.socket(method="GET", path=f"/topics/secret/stream?group={opened.group}")


async def _push(opened: Open) -> None:
    path = await opened.instance(topics=["secret"])
    await opened.socket(method="GET", path=f"/ws{path}", accept="application/vnd.kafka.json.v2+json")


async def _pattern_push(opened: Open) -> None:
    path = await opened.instance(topic_pattern="sec.*")
    await opened.socket(method="GET", path=f"/ws{path}", accept="application/vnd.kafka.json.v2+json")


async def _waiting_read(opened: Open) -> None:
    await opened.waits("application/vnd.kafka.json.v2+json")


async def _produces(opened: Open) -> None:
    await opened.produces()


async def _socket_in(opened: Open) -> None:
    await opened.socket("/socket/in?clientId=c&topic=secret")


async def _socket_out(opened: Open) -> None:
    await opened.socket(f"/socket/out?clientId=c&groupId={opened.group}&topic=secret")


KINDS = {
    each.__name__[1:].replace("_", " "): each
    for each in (
        _events, _lines, _group_events, _instance_events, _pattern_events, _stream_socket, _group_socket, _in_envelope,
        _group_in_envelope, _push, _pattern_push, _waiting_read, _produces, _socket_in, _socket_out,
    )
}  # fmt: skip


SOCKETS = frozenset({"stream socket", "group socket", "socket in", "socket out"})
NO_ROOM = frozenset({"socket in", "socket out"})
"""Their protocol has no errors but the reason of a close frame."""


@pytest.mark.parametrize("reason", ["right", "proof"])
async def test_it_ends_and_says_why(app: App, rules: Rules, users: Users, reason: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = {}
        for kind, open_ in KINDS.items():
            client = aiohttp.ClientSession(app.addresses[0], headers={"Authorization": "Bearer ann"})
            opened[kind] = Open(await stack.enter_async_context(client), stack, f"g-{len(opened)}")
            await open_(opened[kind])
        await until(lambda: sum(len(each.streams | each.waiting) for each in app.gateway.sessions) == len(KINDS))
        if reason == "right":
            rules.set(NOTHING)
        else:
            users.removed.add("ann")
        async with asyncio.timeout(CLIENT_S):
            ends = dict(zip(opened, await asyncio.gather(*(each.end() for each in opened.values())), strict=True))
    for kind, (told, code) in ends.items():
        last = told.strip().splitlines()[-1] if told.strip() else ""
        if kind not in NO_ROOM:
            assert f'"error_code":{40301 if reason == "right" else 40101}' in last, (kind, told)
        if reason == "right":
            assert re.search(r"User:ann may not (read|write to) topic \w+\.", last), (kind, told)
        else:
            assert "The proof of identity is not valid any more." in last, (kind, told)
        if kind in SOCKETS:
            assert code == 1008, (kind, told)
