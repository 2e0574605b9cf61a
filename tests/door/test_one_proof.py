"""A request proves once who asks: of two proofs a proxy in front may have judged the other one (RFC 9110 §5.3)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.errors import BadRequest
from kafka_gateway.messages import lower_names
from tests.door.conftest import BASIC, proof
from tests.door.test_proofs_end import Tokens
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S

ADA, BOB = (proof(name)["Authorization"] for name in ("ada", "bob"))
KAFKA = base64.b64encode(b"a:b").decode()
ATMOSPHERE = "/?X-Atmosphere-Transport={}&X-Atmosphere-tracking-id=0&X-Atmosphere-Framework=3.0.0"
TARGETS = [
    "/stub/echo", "/topics/t/stream", "/health/live", "/console/", "/kafka/brokers", "/socket/in?topic=t&clientId=c",
    "/flasfka/t/",
    *map(ATMOSPHERE.format, ("sse", "streaming", "long-polling", "websocket")),
]  # fmt: skip
TWO = [
    f"Authorization: {ADA}\r\nAuthorization: {BOB}\r\n",
    f"authorization: {ADA}\r\nAUTHORIZATION: {ADA}\r\n",
    f"Authorization: {ADA}\r\nX-Kafka-Auth: {KAFKA}\r\nX-Kafka-Auth: {KAFKA}\r\n",
]
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n"
)


@pytest.fixture
async def app(users: Path) -> AsyncIterator[App]:
    async with gateway(StubService(), **{**BASIC, "authentication.basic.file": users}) as running:
        yield running


async def answers(app: App, head: str, times: int = 3) -> set[int]:
    """The statuses of a request that is sent again and again: at first it goes the long way, then the short one."""
    async with await Wire.open(app.addresses[0]) as wire:
        found = set()
        for _ in range(times):
            await wire.send(f"{head}\r\n")
            found.add((await wire.reply()).status)
    return found


@pytest.mark.parametrize("upgrade", ["", UPGRADE])
@pytest.mark.parametrize("fields", TWO)
async def test_two_proofs_of_http(app: App, fields: str, upgrade: str) -> None:
    for target in TARGETS:
        assert await answers(app, f"GET {target} HTTP/1.1\r\nHost: x\r\n{upgrade}{fields}", 1 if upgrade else 3) == {
            400
        }
    # Nobody looks at a body before.
    assert await answers(app, f"POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{fields}") == {400}
    assert await answers(app, f"GET /stub/echo HTTP/1.1\r\nHost: x\r\nAuthorization: {ADA}\r\n") == {200}


async def test_two_tokens_in_the_query() -> None:
    async with gateway(StubService(), Tokens(), **{**BASIC, "authentication.method": "TOKENS"}) as app:
        head = "GET /stub/echo?{} HTTP/1.1\r\nHost: x\r\n"
        for target, fields, status in (
            ("access_token=ann", "", 200),
            ("access_token=ann&access_token=bob", "", 400),
            ("access_token=ann&access%5Ftoken=ann", "", 400),
            ("access_token=ann", f"Authorization: {ADA}\r\nAuthorization: {BOB}\r\n", 400),
        ):
            assert await answers(app, head.format(target) + fields) == {status}, (target, fields)


async def test_a_token_in_the_query_that_nobody_reads(app: App) -> None:
    """It counts as none, and no resource takes it for a parameter of its own."""
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        async with client.get("/stub/echo?access_token=ann&a=1", headers=proof()) as response:
            assert (await response.json())["query"] == {"a": "1"}
        async with client.get("/stub/echo?access_token=ann") as response:
            assert response.status == 401


@pytest.mark.parametrize("headers", [
    f'{{"Authorization":"{ADA}","authorization":"{BOB}"}}',
    f'{{"Authorization":"{ADA}","Authorization":"{BOB}"}}',
    f'{{"Authorization":"{ADA}","Authoriz\\u0061tion":"{BOB}"}}',
    f'{{"Authorization":["{ADA}","{BOB}"]}}',
])  # fmt: skip
async def test_two_proofs_of_an_envelope(app: App, headers: str) -> None:
    async with (
        aiohttp.ClientSession(app.addresses[0], headers=proof()) as client,
        client.ws_connect("/") as socket,
    ):
        await socket.send_str(f'{{"id":"1","path":"/stub/echo","headers":{headers}}}')
        reply: Any = json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))[0]
        assert reply["code"] == 400
        one = json.dumps({"id": "2", "path": "/stub/echo", "headers": {"Authorization": [BOB]}})
        await socket.send_str(one + '{"Authorization":1}')
        assert json.JSONDecoder().raw_decode(await socket.receive_str(timeout=PATIENCE_S))[0]["code"] == 200


def test_two_spellings_of_a_plugins_client() -> None:
    with pytest.raises(BadRequest):
        lower_names({"Authorization": ADA, "authorization": BOB})
