"""Listeners that offer transports of their own, and routes in areas that only such a transport can reach."""

from __future__ import annotations

import aiohttp
import pytest

from kafka_gateway.config import ConfigError
from kafka_gateway.errors import MethodNotAllowed, NotFound
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route, RouteClash, Router
from tests.kafka_cluster import free_ports
from tests.transports.conftest import gateway


async def answer(call: Call) -> Response:
    return Response(b"")


def route(path: str, area: str = "", method: str = "GET") -> Route:
    return Route(method, path, answer, area=area)


def test_areas_share_no_routes() -> None:
    router = Router([route("/a"), route("/a", "one"), route("/b", "one", "PUT"), route("/c/{id}", "two")])
    assert router.match("GET", "/a").routes[""].area == ""
    assert router.match("GET", "/a", "one").routes[""].area == "one"
    assert router.match("GET", "/c/x%2Fy", "two").params == {"id": "x/y"}
    for path, area in (("/b", ""), ("/c/x", ""), ("/c/x", "one"), ("/a", "two"), ("/a", "three")):
        with pytest.raises(NotFound):
            router.match("GET", path, area)
    with pytest.raises(MethodNotAllowed) as error:
        router.match("GET", "/b", "one")
    assert error.value.allow == ("OPTIONS", "PUT")
    with pytest.raises(RouteClash):
        Router([route("/a", "one"), route("/a", "one")])


async def test_a_listener_offers_what_it_names_and_nothing_else() -> None:
    admin, rest = free_ports(2)
    settings = {
        "listeners": f"http://127.0.0.1:{rest},ADMIN://127.0.0.1:{admin}",
        "listener.protocol.map": "ADMIN:http",
        "listener.name.admin.transports": "websocket-proxy-admin",
    }
    async with gateway(**settings), aiohttp.ClientSession() as client:

        async def status(port: int, path: str) -> int:
            async with client.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status

        for path, by_rest, by_admin in (
            ("/health/live", 200, 404),
            ("/topics", 200, 404),
            ("/healthcheck", 200, 404),
            ("/socket/in", 400, 404),
            ("/admin/client/config", 404, 200),
            ("/metrics", 200, 200),  # the gateway's own, and the proxy's
        ):
            assert (await status(rest, path), await status(admin, path)) == (by_rest, by_admin), path


async def test_a_transport_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match=r"cannot offer 'websocket-proxi'; there are .*websocket-proxy"):
        async with gateway(**{"transports": "http,websocket-proxi"}):
            pass
