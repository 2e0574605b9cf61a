"""Sockets of kafka-websocket-proxy's protocol on a Kafka that wants credentials (websocket-proxy.md §1.3.4)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from tests.credentials.conftest import Start, x_kafka_auth
from tests.secured_kafka import PLAIN_USERS, SecuredKafka

_MECHANISM = "SCRAM-SHA-256"


class Opened:
    def __init__(self, app: App, user: str = "", password: str = "") -> None:
        self._base = app.addresses[0]
        self._headers = {"X-Kafka-Auth": x_kafka_auth(user, password or PLAIN_USERS.get(user, ""))} if user else {}

    async def __aenter__(self) -> Opened:
        self._http = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.close()

    async def open(self, path: str) -> aiohttp.ClientWebSocketResponse:
        return await self._http.ws_connect(self._base + path)

    async def refusal(self, path: str) -> tuple[int, str]:
        handshake = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        async with self._http.get(self._base + path, headers=handshake) as response:
            return response.status, (await response.json())["message"]


async def _hear(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return json.loads((await socket.receive(timeout=20)).data)


@pytest.mark.parametrize("mode", ["gateway", "client-or-gateway"])
async def test_a_socket_is_its_client_s(start: Start, topics: tuple[str, str], mode: str) -> None:
    topic = topics[0]
    into, out = (
        f"/socket/in?clientId=c&topic={topic}",
        (f"/socket/out?clientId=c&groupId={topic}&topic={topic}&offsetResetStrategy=earliest"),
    )
    async with start(**{"kafka.credentials": mode}) as app:
        async with Opened(app, "alice") as alice:
            writing = await alice.open(into)
            await writing.send_json({"value": {"value": "hello", "format": "string"}})
            assert (await _hear(writing))["offset"] == 1
            reading = await alice.open(out)
            assert (await _hear(reading))["value"]["value"] == '"of alice"'
            assert (await _hear(reading))["value"]["value"] == "hello"
        async with Opened(app, "bob") as bob:
            for path in (into.replace("=c", "=d"), out.replace("=c", "=d")):
                status, text = await bob.refusal(path)
                assert (status, "TOPIC_AUTHORIZATION_FAILED" in text) == (403, True)
        for user, password in (("alice", "wrong"), ("", "")):
            async with Opened(app, user, password) as nobody:
                assert (await nobody.refusal(into))[0] == 401
                assert (await nobody.refusal(out))[0] == 401


async def test_a_refused_client_leaves_no_registration(start: Start, topics: tuple[str, str]) -> None:
    path = f"/socket/out?clientId=one&groupId={topics[0]}&topic={topics[0]}"
    async with start() as app:
        async with Opened(app, "alice", "wrong") as wrong:
            assert (await wrong.refusal(path))[0] == 401
        async with Opened(app, "alice") as right:
            await right.open(path)


async def test_a_password_that_is_changed_ends_the_socket(
    start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str]
) -> None:
    secured_kafka.add_user("alice", "first")
    secured_kafka.add_user("bob", PLAIN_USERS["bob"])
    settings = {"kafka.credentials.recheck.ms": 500, "kafka.credentials.refused.ms": 300}
    async with start(_MECHANISM, **settings) as app, Opened(app, "alice", "first") as alice, Opened(app, "bob") as bob:
        hers = await alice.open(f"/socket/in?clientId=a&topic={topics[0]}")
        his = await bob.open(f"/socket/in?clientId=b&topic={topics[1]}")
        await asyncio.to_thread(secured_kafka.add_user, "alice", "second")
        closed = await hers.receive(timeout=10)
        assert closed.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), closed
        assert hers.close_code == 1008
        assert (await alice.refusal(f"/socket/in?clientId=a&topic={topics[0]}"))[0] == 401
        await his.send_json({"value": {"value": "x", "format": "string"}})
        assert (await _hear(his))["offset"] == 1
        async with Opened(app, "alice", "second") as again:
            await again.open(f"/socket/in?clientId=a&topic={topics[0]}")
