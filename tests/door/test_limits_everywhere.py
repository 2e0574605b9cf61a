"""Allow and block lists, the rate limit and requests.max count every way in (fault 3 of issue 11)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.config import ConfigError
from kafka_gateway.limits import is_probe
from tests.door.conftest import BASIC, set_
from tests.door.test_who_asks_first import WAYS, Way, ask, raw
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService

OPEN = {**BASIC, "authentication.method": "NONE", "api.v1.enable": False}

RESOURCES = {
    "rest": "api.v2.topics.list",
    "produce": "api.v2.produce-to-topic",
    "v3": "api.v3.clusters.list",
    "stream": "streams.topics",
    "stream socket": "streams.topics",
    "socket in": "socket.in",
    "socket out": "socket.out",
    "proxy http": "proxy.cluster.info",
    "push": "push-pull.push",
    "bridge": "bridge.produce.in",
    "console": "console.page",
    "clients": "console.clients",
    "brokers": "tunnel.brokers",
    "plugin": "stub",
}
"""The resource that each way leads to. A socket or a poll is opened for whatever is asked through it: see below."""
CARRIERS = ["envelope socket", "envelope socket anywhere", "sse", "streaming", "long-polling"]


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[App]:
    async with gateway(
        StubService(), **{**OPEN, **{name.replace("__", "."): each for name, each in settings.items()}}
    ) as app:
        yield app


def test_every_way_is_in_the_table() -> None:
    assert set(RESOURCES) | set(CARRIERS) == set(WAYS)


async def status_of(app: App, way: Way) -> int:
    return (await ask(app, raw(way, way.method, {}, way.body))).status


async def test_an_allow_list_closes_all_other_ways() -> None:
    async with serving(api__endpoints__allowlist="api.v2.topics.list") as app:
        seen = {name: await status_of(app, WAYS[name]) for name in RESOURCES}
        assert seen.pop("rest") == 200
        assert set(seen.values()) <= {404, 405}, seen
        for name in ("sse", "streaming", "long-polling"):  # what they carry is closed, not they
            assert await status_of(app, WAYS[name]) == 200
        async with aiohttp.ClientSession() as client, client.ws_connect(app.addresses[0] + "/") as socket:
            for path, code in (("/topics", 200), ("/brokers", 404), ("/stub/echo", 404)):
                await socket.send_str(json.dumps({"id": "1", "path": path, "method": "GET"}))
                assert json.JSONDecoder().raw_decode(await socket.receive_str())[0]["code"] == code
        assert await status_of(app, Way("GET", "/health/live")) == 200


@pytest.mark.parametrize("name", RESOURCES)
async def test_a_block_list_closes_one_way(name: str) -> None:
    async with serving(api__endpoints__blocklist=RESOURCES[name]) as app:
        assert await status_of(app, WAYS[name]) in (404, 405)
        assert await status_of(app, WAYS["rest" if name != "rest" else "plugin"]) == 200


@pytest.mark.parametrize("name", RESOURCES)
async def test_each_way_costs_permits(name: str) -> None:
    settings = {"rate.limit.enable": True, "rate.limit.permits.per.sec": 1, "rate.limit.timeout.ms": 0}
    async with serving(**settings) as app:
        assert await status_of(app, WAYS[name]) == WAYS[name].status
        assert [await status_of(app, WAYS["plugin"]) for _ in range(2)][-1] == 429
        assert await status_of(app, WAYS[name]) == 429
        assert await status_of(app, Way("GET", "/health/live")) == 200
        assert app.gateway.counters.refused["rate"] >= 2


async def test_the_messages_of_a_socket_wait_for_the_rate_limit() -> None:
    settings = {"rate.limit.enable": True, "rate.limit.permits.per.sec": 40, "rate.limit.costs": "socket.in=0"}
    async with serving(**settings) as app, aiohttp.ClientSession() as client:
        url = app.addresses[0] + "/socket/in?clientId=c&topic=t&valType=string"
        loop = asyncio.get_running_loop()
        async with client.ws_connect(url) as socket:
            begun = loop.time()
            for number in range(60):
                await socket.send_str(json.dumps({"value": {"value": f"v{number}", "format": "string"}}))
            for _ in range(60):
                await socket.receive_json(timeout=20)
            assert loop.time() - begun >= 0.4  # 40 at once, and 20 more in half a second


@pytest.mark.parametrize("resource", ["socket.out.commit", "socket.out.*"])
async def test_commits_of_a_socket_can_be_blocked(resource: str) -> None:
    way = WAYS["socket out"]
    async with serving(api__endpoints__blocklist=resource) as app:
        assert await status_of(app, way) == way.status
        assert await status_of(app, way._replace(target=f"{way.target}&autoCommit=false")) == 404


@set_(requests__max=1)
async def test_requests_max_counts_what_is_on_its_way(settings: dict[str, object]) -> None:
    stub = StubService()
    async with gateway(stub, **{**OPEN, **settings}) as app:
        waiting = asyncio.ensure_future(ask(app, raw(Way("GET", "/stub/gate/one"), "GET", {})))
        assert await stub.waiting.get() == "one"
        for name in ("rest", "push", "bridge", "console", "socket in", "stream"):
            assert await status_of(app, WAYS[name]) == 503, name
        stub.gates["one"].set()
        assert (await waiting).status == 200
        assert await status_of(app, WAYS["rest"]) == 200


async def test_every_resource_has_a_name() -> None:
    async with serving() as app:
        routes = [*app.gateway.router.routes, *(each for one in app.host.transports for each in one.resources)]
        assert [route for route in routes if not route.name] == []
        assert {route.name for route in routes if is_probe(route)} == {"health.live", "health.ready"} | {
            "bridge.healthz", "bridge.readyz", "proxy.healthcheck"
        }  # fmt: skip


async def test_a_misspelt_entry_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"there is no resource 'push-pull\.pusch' \(did you mean push-pull\.push"):
        async with serving(api__endpoints__blocklist="push-pull.pusch"):
            raise AssertionError("has started")
