"""A proof that ends, ends what was opened with it, on every transport alike (fault 11 of issue 11; security.md §2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.door.conftest import BASIC, proof
from tests.door.test_who_asks_first import PREFLIGHT
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire, request
from tests.waiting import PATIENCE_S, until


class Tokens(Authenticator):
    """``Bearer NAME-anything``; what is revoked is found out when it is looked at again."""

    name = "TOKENS"
    query_parameter = "access_token"

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.trusted_s = 0.0

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token in self.revoked or not token:
            raise Unauthorized()
        return Principal(token.partition("-")[0], until=time.monotonic() + self.trusted_s)

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.access")


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Tokens:
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    return Tokens()


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(tokens: Tokens, service: StubService) -> AsyncIterator[App]:
    settings = {**BASIC, "authentication.method": "TOKENS", "access.log.enable": True}
    async with gateway(service, tokens, **settings) as running:
        yield running


@pytest.fixture
async def client(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.addresses[0]) as session:
        yield session


SOCKETS = {
    "envelope": ("/", 1008),
    "stream": ("/topics/t/stream?offset=earliest", 1008),
    "group stream": ("/topics/t/stream?group=g", 1008),
    "in": ("/socket/in?clientId=c&topic=t", 1008),
    "out": ("/socket/out?clientId=c&topic=t", 1008),
}
"""Target and close code."""
STREAMS = {
    "events": "/topics/t/stream?offset=earliest",
    "group events": "/topics/t/stream?group=g2",
    "sse": "/?X-Atmosphere-Transport=sse&X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=3.0.0",
    "streaming": "/?X-Atmosphere-Transport=streaming&X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=3.0.0",
}


def joined(target: str, token: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}access_token={token}"


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize("kind", SOCKETS)
async def test_sockets(tokens: Tokens, client: aiohttp.ClientSession, kind: str, in_query: bool) -> None:
    target, code = SOCKETS[kind]
    headers = {} if in_query else {"Authorization": "Bearer ann-1"}
    async with client.ws_connect(joined(target, "ann-1") if in_query else target, headers=headers) as socket:
        with contextlib.suppress(TimeoutError):  # looked at many times, and right each time
            while True:
                assert (await socket.receive(timeout=0.4)).type is not aiohttp.WSMsgType.CLOSE
        tokens.revoked.add("ann-1")
        told = []
        while (message := await socket.receive(timeout=PATIENCE_S)).type is not aiohttp.WSMsgType.CLOSE:
            told.append(message.data)
        assert message.data == code
        if "stream" in kind:
            assert '"error_code":40101' in told[-1]


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize("kind", STREAMS)
async def test_streams(tokens: Tokens, client: aiohttp.ClientSession, kind: str, in_query: bool) -> None:
    target = STREAMS[kind]
    headers = {"Accept": "text/event-stream"} | ({} if in_query else {"Authorization": "Bearer ann-1"})
    async with client.get(joined(target, "ann-1") if in_query else target, headers=headers) as response:
        assert response.status == 200
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.4):
                while True:
                    assert await response.content.readany()
        tokens.revoked.add("ann-1")
        async with asyncio.timeout(PATIENCE_S):
            rest = await response.content.read()
        if "events" in kind:
            assert b"event: error" in rest
            assert b'"error_code":40101' in rest


async def test_polls(tokens: Tokens, client: aiohttp.ClientSession) -> None:
    target = "/?X-Atmosphere-Transport=long-polling&X-Atmosphere-Framework=3.0.0&X-Atmosphere-tracking-id="
    async with client.get(target + "0", headers={"Authorization": "Bearer ann-1"}) as first:
        id = first.headers["X-Atmosphere-tracking-id"]
        waiting = asyncio.ensure_future(client.get(target + id, headers={"Authorization": "Bearer ann-1"}))
        await asyncio.sleep(0.2)  # time itself: nothing tells that it waits
        tokens.revoked.add("ann-1")
        async with asyncio.timeout(PATIENCE_S):
            (await waiting).release()
    async with client.get(target + id, headers={"Authorization": "Bearer ann-1"}) as later:
        assert later.status == 401


async def test_a_keep_alive_connection(tokens: Tokens, app: App) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        assert (await wire.ask("GET", "/stub/echo", Authorization="Bearer ann-1")).status == 200
        tokens.revoked.add("ann-1")
        assert (await wire.ask("GET", "/stub/echo", Authorization="Bearer ann-1")).status == 401
        assert (await wire.ask("GET", "/stub/echo", Authorization="Bearer ann-2")).status == 200


@contextlib.asynccontextmanager
async def enveloped(client: aiohttp.ClientSession, token: str) -> AsyncIterator[Any]:
    async with client.ws_connect("/", headers={"Authorization": f"Bearer {token}"}) as socket:

        async def ask(method: str, path: str, **headers: str) -> dict[str, Any]:
            head: dict[str, Any] = {"id": "1", "method": method, "path": path}
            await socket.send_str(json.dumps(head | ({"headers": headers} if headers else {})))
            answer: dict[str, Any] = json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))[0]
            return answer

        yield ask, socket


async def test_a_proof_is_renewed_in_place(tokens: Tokens, client: aiohttp.ClientSession) -> None:
    async with enveloped(client, "ann-1") as (ask, socket):
        assert (await ask("PUT", "/ws/session", Authorization="Bearer bob-1"))["code"] == 403
        tokens.revoked.add("ann-3")
        assert (await ask("PUT", "/ws/session", Authorization="Bearer ann-3"))["code"] == 401
        assert (await ask("PUT", "/ws/session", Authorization="Bearer ann-2"))["code"] == 204
        tokens.revoked.add("ann-1")  # the old one ends, and nobody minds
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.3)
        assert (await ask("GET", "/stub/echo"))["code"] == 200
        tokens.revoked.add("ann-2")
        assert (await socket.receive(timeout=PATIENCE_S)).data == 1008


async def test_the_next_push_of_an_atmosphere_client_renews_it(tokens: Tokens, client: aiohttp.ClientSession) -> None:
    tokens.trusted_s = 0.1
    target = "/?X-Atmosphere-Transport={}&X-Atmosphere-Framework=3.0.0&X-Atmosphere-tracking-id="
    async with client.get(target.format("sse") + "0", headers={"Authorization": "Bearer ann-1"}) as stream:
        push = target.format("polling") + stream.headers["X-Atmosphere-tracking-id"]
        await asyncio.sleep(0.15)  # time itself: the proof is trusted for a shorter one
        message = b'{"id":"1","path":"/stub/echo"}'
        async with client.post(push, data=message, headers={"Authorization": "Bearer ann-2"}) as pushed:
            assert pushed.status == 200
        tokens.revoked.add("ann-1")
        await asyncio.sleep(0.4)  # time itself: it is looked at many times, and goes on
        assert not stream.content.at_eof()
        tokens.revoked.add("ann-2")
        async with asyncio.timeout(PATIENCE_S):
            await stream.content.read()


async def test_an_identity_of_its_own_ends_alone(
    tokens: Tokens, client: aiohttp.ClientSession, service: StubService
) -> None:
    async with enveloped(client, "ann-1") as (ask, socket):
        head = {"id": "s", "method": "GET", "path": "/stub/stream/x", "headers": {"Authorization": "Bearer bob-1"}}
        await socket.send_str(json.dumps(head))
        await until(lambda: service.streams)
        tokens.revoked.add("bob-1")
        told = json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))[0]
        assert (told["id"], told["code"]) == ("s", 401)
        assert (await ask("GET", "/stub/echo"))["code"] == 200


async def test_a_token_in_the_query_is_seen_by_nobody(
    app: App, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("access_token", "access%5Ftoken"):
        async with client.get(f"/stub/echo?a=1&{name}=ann-c4nary&b=2") as response:
            seen = await response.json()
            assert seen["query"] == {"a": "1", "b": "2"}
    async with client.get("/stub/echo?access_token=ann-c4nary", headers={"Authorization": "Bearer bob-1"}) as response:
        assert response.status == 200  # the header counts
    async with client.get("/stub/echo?access_token=") as response:
        assert response.status == 401
    app.gateway.access.flush()
    assert "c4nary" not in caplog.text
    assert "GET /stub/echo?a=1&b=2" in caplog.text


# --- passwords -------------------------------------------------------------------------------------------------------


@pytest.mark.timing
async def test_a_removed_user_is_out_of_everything_within_five_seconds(users: Any) -> None:
    async with (
        gateway(StubService(), **{**BASIC, "authentication.basic.file": users}) as app,
        aiohttp.ClientSession(app.addresses[0], headers=proof("ada")) as client,
        client.ws_connect("/") as envelope,
        client.ws_connect("/socket/out?clientId=c&topic=t") as out,
        client.get("/topics/t/stream") as stream,
    ):
        removed = time.monotonic()
        users.write_text("\n".join(users.read_text().splitlines()[1:]))
        assert (await envelope.receive(timeout=PATIENCE_S)).data == 1008
        assert (await out.receive(timeout=PATIENCE_S)).data == 1008
        async with asyncio.timeout(PATIENCE_S):
            assert b"40101" in await stream.content.read()
        assert time.monotonic() - removed < 5.5


async def test_guessers_are_limited_and_others_are_served(users: Any) -> None:
    """Fault 10 of issue 11: wrong logins from 60 connections, and the right user had 429 each time."""
    async with gateway(StubService(), **{**BASIC, "authentication.basic.file": users}) as app:
        port = app.addresses[0].rpartition(":")[2]

        async def ask(local: str, **headers: str) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port), local_addr=(local, 0))
            async with Wire(reader, writer) as wire:
                await wire.send(request("GET", "/stub/echo", **headers))
                return (await wire.reply(timeout_s=30)).status

        assert await ask("127.0.0.2", **proof("ada")) == 200
        guesses = [asyncio.ensure_future(ask("127.0.0.2", **proof("ada", f"guess{n}"))) for n in range(60)]
        assert await ask("127.0.0.3", **proof("bob")) == 200  # from elsewhere, never seen before
        seen = await asyncio.gather(*guesses)
        assert set(seen) == {401, 429}
        assert 20 <= seen.count(401) <= 24
        assert await ask("127.0.0.2", **proof("ada")) == 200  # the guesser's neighbour, who was right before
        assert await ask("127.0.0.2", **proof("bob", "wrong")) == 429
        assert await ask("127.0.0.2") == 401  # who shows nothing does not guess


# --- the access log --------------------------------------------------------------------------------------------------

SECRET = [
    "Authorization",
    "authorization",
    "%41uthorization",
    "access_token",
    "X-Kafka-Auth",
    "password",
    "api_key",
    "pwd",
    "sig",
]


@pytest.mark.parametrize("name", SECRET)
async def test_no_secret_of_a_query_is_in_the_log(users: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Fault 13 of issue 11: ``?…&Authorization=Basic…`` was written out."""
    caplog.set_level(logging.INFO)
    settings = {**BASIC, "authentication.basic.file": users, "access.log.enable": True}
    async with gateway(StubService(), **settings) as app, await Wire.open(app.addresses[0]) as wire:
        targets = [
            f"/stub/echo?a=b&{name}=c4nary&c=d",
            f"/stub/echo?{name}=c4nary;x",
            f"/stub/echo?{name}=x;c4nary;c4nary",
            f"/stub/echo?x=y;{name}=c4nary",
            "/stub/echo?header=Basic%20c4nary",
            "/stub/echo?header=bearer+c4nary&c=d",
            "/stub/echo?Basic%20c4nary",
            "/stub/echo?url=https://user:c4nary@h/",
            "//user:c4nary@h/stub/echo",
            f"/?X-Atmosphere-Transport=sse&X-Atmosphere-tracking-id=0&{name}={quote('Basic c4nary=')}",
            f"http://user:c4nary@h/stub/echo?{name}=c4nary",
        ]
        for target in targets:
            assert (await wire.ask("GET", target)).status in (400, 401)
            assert (await wire.ask("OPTIONS", target, **{k.replace("-", "_"): v for k, v in PREFLIGHT.items()})).status
        await until(lambda: caplog.text.count("/stub/echo") >= 6)
    assert "c4nary" not in caplog.text
    assert "a=b" in caplog.text
    assert "c=d" in caplog.text
