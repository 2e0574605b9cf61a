"""Rights on Atmosphere's transports and in tunnels: what is forbidden does nothing, and ends (security.md §8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.rights.conftest import EVERYTHING_ON, Rules
from tests.rights.test_every_transport import JSON, OTHERS, RECORDS, WRITE, stored
from tests.transports.conftest import gateway
from tests.transports.peer import Refused
from tests.transports.test_atmosphere_http import Client as Listening
from tests.transports.test_atmosphere_http import envelope
from tests.tunnel.fake_broker import Client, FakeBroker, request
from tests.waiting import PATIENCE_S

ATMOSPHERE = ["long-polling", "sse", "streaming"]


@pytest.fixture
async def client(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.addresses[0]) as session:
        yield session


@pytest.mark.parametrize("transport", ATMOSPHERE)
async def test_writing(app: App, client: aiohttp.ClientSession, rules: Rules, transport: str) -> None:
    rules.set(OTHERS)
    produce = envelope("1", "/topics/secret", "POST", RECORDS.decode(), type=JSON["Content-Type"])
    async with Listening(app.addresses[0], transport) as listening:
        reply = await listening.ask(produce)
        assert '"code":403' in reply
        assert "User:anonymous may not write to topic secret." in reply
        assert await stored(client, rules) == 0
        rules.set(WRITE)
        assert '"offset":0' in await listening.ask(produce)
        assert await stored(client, rules) == 1


@pytest.mark.parametrize("transport", ATMOSPHERE)
async def test_reading(app: App, rules: Rules, transport: str) -> None:
    rules.set(OTHERS)
    async with Listening(app.addresses[0], transport) as listening:
        for path in ("/topics/secret/stream", "/topics/secret/stream?group=g", "/topics/secret"):
            reply = await listening.ask(envelope("1", path, accept="text/event-stream" if "stream" in path else "*/*"))
            assert '"code":403' in reply
        assert '"code":403' not in await listening.ask(envelope("2", "/topics/orders"))


@pytest.mark.parametrize("transport", ATMOSPHERE)
async def test_an_open_stream_ends_when_the_rules_forbid_it(app: App, rules: Rules, transport: str) -> None:
    rules.set("allow * read topic:secret")
    async with Listening(app.addresses[0], transport) as listening:
        first = await listening.ask(envelope("1", "/topics/secret/stream?offset=earliest"))
        assert '"code":403' not in first
        rules.set(OTHERS)
        for _ in range(5):
            if "40301" in (message := await listening.message()):
                break
        assert "User:anonymous may not read topic secret." in message


class Kinds(Authenticator):
    """``Bearer KIND:NAME``, whoever it is."""

    name = "KINDS"

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        kind, _, name = headers.get("authorization", "").removeprefix("Bearer ").partition(":")
        return Principal(name or "anonymous", kind=kind or "User")

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


async def test_a_tracking_id_is_its_principal_s(rules: Rules) -> None:
    """User:ann and Service:ann have a name in common, and nothing else."""
    rules.set("allow User:ann write topic:secret")
    settings = {**EVERYTHING_ON, "authentication.method": "KINDS"}
    target = "/?X-Atmosphere-Transport={}&X-Atmosphere-Framework=3.0.0&X-Atmosphere-tracking-id="
    async with gateway(rules, Kinds(), **settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        head = {"Authorization": "Bearer User:ann"}
        async with client.get(target.format("sse") + "0", headers=head) as stream:
            id = stream.headers["X-Atmosphere-tracking-id"]
            for number, (who, stored) in enumerate({"User:bob": 0, "Service:ann": 0, "User:ann": 1}.items()):
                message = envelope(str(number), "/topics/secret", "POST", RECORDS.decode(), type=JSON["Content-Type"])
                target_of_push = target.format("polling") + id
                pushed = await client.post(target_of_push, data=message, headers={"Authorization": f"Bearer {who}"})
                assert pushed.status < 500
                if stored:
                    seen = b""
                    async with asyncio.timeout(PATIENCE_S):
                        while b'"offset":0' not in seen:  # the first one that was written
                            seen += await stream.content.readany()
                    assert b'"id":"0"' not in seen
                    assert b'"id":"1"' not in seen


async def test_a_tunnel_ends_when_the_rules_forbid_it(rules: Rules) -> None:
    async with FakeBroker() as broker:
        known = {"tunnel.static.brokers": f"7=127.0.0.1:{broker.port}", "tunnel.enable": True}
        async with gateway(rules, **known) as app:
            rules.set(OTHERS)
            with pytest.raises(Refused) as refused:
                await Client.open(app.addresses[0])
            assert refused.value.reply.status == 403
            rules.set("allow * read gateway:tunnel")
            async with await Client.open(app.addresses[0]) as client:
                await client.send(request(11, 0, 1))
                await client.message()
                rules.set(OTHERS)
                assert await client.closed() == (1008, "User:anonymous may not read gateway tunnel.")
