"""An HTTP transport of a plugin passes the door like the built-in ones (fault 12 of issue 11)."""

from __future__ import annotations

import gzip
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kafka_gateway.assembly.app import App
from kafka_gateway.core import Gateway
from kafka_gateway.errors import BadRequest, TooManyRequests
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Session
from kafka_gateway.transport import HttpRequest, Transport
from tests.door.conftest import BASIC, proof
from tests.transports.conftest import gateway
from tests.transports.wire import Wire, request
from tests.waiting import until

PAGE = "https://app.example.com"


async def size_of_chunks(request: HttpRequest) -> int:
    return sum([len(each) async for each in request.content.iter_chunked(64)])


async def size_of_lines(request: HttpRequest) -> int:
    return sum([len(each) async for each in request.content])


async def size_of_all(request: HttpRequest) -> int:
    return len(await request.content.read())


async def size_of_pieces(request: HttpRequest) -> int:
    return sum([len(each) async for each, _ in request.content.iter_chunks()])


READ_ITSELF = {"chunks": size_of_chunks, "lines": size_of_lines, "all": size_of_all, "pieces": size_of_pieces}
"""Ways in which a transport reads a body without ``request.read``."""


class Custom(Transport):
    """Says what it has read. ``/custom/refused`` and ``/custom/broken`` raise, ``/custom/late`` when it has begun."""

    name = "custom"

    def __init__(self) -> None:
        self.handled: list[str] = []

    def claims(self, request: HttpRequest) -> bool:
        return request.raw_path.startswith("/custom")

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        self.handled.append(request.raw_path)
        if request.path == "/custom/refused":
            raise TooManyRequests("Not now.", 7)
        if request.path == "/custom/broken":
            raise RuntimeError("a bug")
        if request.path == "/custom/late":
            response = web.StreamResponse()
            await response.prepare(request)
            raise BadRequest("too late")
        if request.path.startswith("/custom/itself/"):
            size = await READ_ITSELF[request.path.rpartition("/")[2]](request)
            return web.Response(text=f"itself {size}")
        return web.Response(text=f"{session.principal.name} {request.raw_path} {len(await request.read())}")

    @hookimpl
    def gateway_transports(self) -> list[Transport]:
        return [self]


class Plain(Custom):
    plain = True


@pytest.fixture(params=[Custom, Plain])
def custom(request: pytest.FixtureRequest) -> Custom:
    made: Custom = request.param()
    return made


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.access")


@pytest.fixture
async def app(custom: Custom) -> AsyncIterator[App]:
    settings = {"access.control.allow.origin": PAGE, "request.max.bytes": 1000, "access.log.enable": True}
    async with gateway(custom, **settings) as running:
        yield running


@pytest.fixture
async def wire(app: App) -> AsyncIterator[Wire]:
    async with await Wire.open(app.addresses[0]) as opened:
        yield opened


async def test_a_foreign_page_cannot_post(custom: Custom, wire: Wire) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        reply = await wire.ask(method, "/custom/x", Origin="http://evil.example")
        assert reply.status == 403
        assert "access.control.allow.origin" in reply.json["message"]
    assert custom.handled == []
    reply = await wire.ask("POST", "/custom/x", b"abc", Origin=PAGE)
    assert (reply.status, reply.body) == (200, b"anonymous /custom/x 3")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "server" not in reply.headers


async def test_a_foreign_page_can_get_where_the_transport_says_so(custom: Custom, wire: Wire) -> None:
    reply = await wire.ask("GET", "/custom/x", Origin="http://evil.example")
    assert reply.status == (200 if custom.plain else 403)
    assert "access-control-allow-origin" not in reply.headers


async def test_a_preflight_is_answered_for_it(custom: Custom, wire: Wire) -> None:
    reply = await wire.ask("OPTIONS", "/custom/x", Origin=PAGE, Access_Control_Request_Method="PUT")
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, PAGE)
    assert custom.handled == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_a_limit_and_is_unpacked(wire: Wire, chunked: bool) -> None:
    body = b"x" * 1001
    if chunked:
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        reply = await wire.ask("POST", "/custom/x", data, Transfer_Encoding="chunked")
    else:
        reply = await wire.ask("POST", "/custom/x", body)
    assert (reply.status, reply.json["error_code"]) == (413, 413)


async def test_a_packed_body_is_unpacked(wire: Wire) -> None:
    reply = await wire.ask("POST", "/custom/x", gzip.compress(b"x" * 900), Content_Encoding="gzip")
    assert reply.body.endswith(b" 900")


@pytest.mark.parametrize("way", READ_ITSELF)
async def test_a_body_that_the_transport_reads_itself_has_the_same_limit(app: App, way: str) -> None:
    path = f"/custom/itself/{way}"
    body = b"x" * 99 + b"\n"
    for count, status in ((10, 200), (11, 413)):
        async with await Wire.open(app.addresses[0]) as wire:
            data = b"".join(b"%x\r\n%b\r\n" % (len(body), body) for _ in range(count)) + b"0\r\n\r\n"
            reply = await wire.ask("POST", path, data, Transfer_Encoding="chunked")
            assert reply.status == status
            assert status == 413 or reply.body == b"itself 1000"


@pytest.mark.parametrize("way", READ_ITSELF)
async def test_silence_ends_a_body_that_the_transport_reads_itself(custom: Custom, way: str) -> None:
    settings = {"request.body.timeout.ms": 300, "request.body.min.rate": 1000}
    async with gateway(custom, **settings) as running, await Wire.open(running.addresses[0]) as wire:
        await wire.send(request("POST", f"/custom/itself/{way}", b"x" * 500, Content_Length="1000"))
        reply = await wire.reply()
        assert (reply.status, reply.json["error_code"]) == (408, 408)


async def test_an_error_of_the_gateway_may_be_raised_anywhere(wire: Wire, app: App) -> None:
    reply = await wire.ask("GET", "/custom/refused", Origin=PAGE)
    assert (reply.status, reply.json) == (429, {"error_code": 429, "message": "Not now."})
    assert (reply.headers["retry-after"], reply.headers["access-control-allow-origin"]) == ("7", PAGE)
    assert (await wire.ask("GET", "/custom/broken")).status == 500
    async with await Wire.open(app.addresses[0]) as late:
        await late.send(request("GET", "/custom/late"))
        assert b"too late" not in await late.closed()


async def test_each_request_has_its_line(app: App, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    await wire.ask("POST", "/custom/x?a=b", b"abc")
    await wire.ask("GET", "/custom/refused")
    await until(lambda: len([line for line in caplog.messages if "/custom" in line]) == 2)
    first, second = (line for line in caplog.messages if "/custom" in line)
    assert '"POST /custom/x?a=b" 200 ' in first
    assert '"GET /custom/refused" 429 ' in second


async def test_a_proof_is_asked_for(custom: Custom, users: object) -> None:
    settings = {"authentication.skip.paths": "/custom/open", "authentication.basic.file": users}
    async with gateway(custom, **{**BASIC, **settings}) as app, await Wire.open(app.addresses[0]) as wire:
        assert (await wire.ask("OPTIONS", "/custom/x")).status == 401
        assert (await wire.ask("GET", "/custom/x")).status == 401
        assert (await wire.ask("GET", "/custom/open")).status == (200 if custom.plain else 401)
        assert (await wire.ask("GET", "/custom/x", **proof())).body.startswith(b"ada ")
