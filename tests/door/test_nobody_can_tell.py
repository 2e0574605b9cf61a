"""Clients that stay while nobody can tell whether their proof still counts (websocket-proxy.md §1.3.5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp import WSMsgType

from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unavailable
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from tests.transports.conftest import gateway
from tests.waiting import PATIENCE_S


class Away(Authenticator):
    """A provider that answers once, and is away from then on; a plugin."""

    name = "AWAY"
    unsure_again_s = 0.1

    def __init__(self, unsure_max: int) -> None:
        self.unsure_max = unsure_max
        self.asked = 0
        self.enough = asyncio.Event()

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        self.asked += 1
        if self.asked > 1:
            if self.asked == 4:
                self.enough.set()
            raise Unavailable
        return Principal("alice", until=time.monotonic() + 0.1)

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@pytest.mark.parametrize("most", [-1, 2])
async def test_a_socket_ends_when_nobody_could_tell_too_often(most: int) -> None:
    away = Away(most)
    async with (
        gateway(away, authentication_method="AWAY", embedded_topics="t") as app,
        aiohttp.ClientSession(app.addresses[0], headers={"Authorization": "Bearer x"}) as http,
        http.ws_connect("/socket/in?clientId=c&topic=t") as socket,
    ):
        if most < 0:
            async with asyncio.timeout(PATIENCE_S):
                await away.enough.wait()
            await socket.send_str('{"value":{"value":"x","format":"string"}}')
            assert (await socket.receive(timeout=PATIENCE_S)).type is WSMsgType.TEXT
        else:
            message = await socket.receive(timeout=PATIENCE_S)
            while message.type in (WSMsgType.PING, WSMsgType.PONG):
                message = await socket.receive(timeout=PATIENCE_S)
            assert message.type is WSMsgType.CLOSE
            assert away.asked == 3
