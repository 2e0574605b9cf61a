"""H4: requests that a proxy in front may cut in another place than we do are refused, and nothing behind them runs.

The corpus is that of reliability.md §2.3 (llhttp's and the HTTP Garden's cases among them). Behind each there stands a
whole second request, a produce, which must never be served.
"""

from __future__ import annotations

import logging
import re

import pytest

from kafka_gateway.assembly.app import App
from tests.transports.conftest import Connect
from tests.transports.wire import JSON_V2, Wire, produce, request

SMUGGLED = produce("smuggled")

HEAD = f"POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON_V2}\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"

CASES: dict[str, str] = {
    "length and chunked": HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": HEAD + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length +4": HEAD + "Content-Length: +4\r\n\r\nnull",
    "length -1": HEAD + "Content-Length: -1\r\n\r\n",
    "length 4,4": HEAD + "Content-Length: 4,4\r\n\r\nnull",
    "length 0x4": HEAD + "Content-Length: 0x4\r\n\r\nnull",
    "length 1_0": HEAD + "Content-Length: 1_0\r\n\r\n" + "null      ",
    "length in other digits": HEAD + "Content-Length: \u00b2\r\n\r\n{}",
    "length of 20 digits": HEAD + "Content-Length: 18446744073709551620\r\n\r\nnull",
    "empty length": HEAD + "Content-Length: \r\n\r\n",
    "bare LF after the request line": "GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF after a field": "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare LF before the body": "GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare LF after a chunk size": CHUNKED + "2\n{}\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + "2\r\n{}\n0\r\n\r\n",
    "bare LF in a chunk extension": CHUNKED + "2;a\nb\r\n{}\r\n0\r\n\r\n",
    "bare CR in a field": "GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "xchunked": HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two encodings": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "gzip, chunked": HEAD + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": CHUNKED.replace("HTTP/1.1", "HTTP/1.0") + "2\r\n{}\r\n0\r\n\r\n",
    "chunked in 1.0, kept alive": (HEAD + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n").replace(
        "HTTP/1.1", "HTTP/1.0"
    )
    + "2\r\n{}\r\n0\r\n\r\n",
    "space before the colon": "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
    "tab before the colon": "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n",
    "folded field": "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "first field begins with a space": "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a value": "GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "NUL in a name": "GET / HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "chunk size of 17 digits": CHUNKED + "10000000000000002\r\n{}\r\n0\r\n\r\n",
    "chunk size -1": CHUNKED + "-1\r\n{}\r\n0\r\n\r\n",
    "chunk size 0x2": CHUNKED + "0x2\r\n{}\r\n0\r\n\r\n",
    "space after a chunk size": CHUNKED + "2 \r\n{}\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + "1\r\n{}\r\n0\r\n\r\n",
    "no space after the target": "GET /HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in the request line": "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown version": "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
    "websocket with a body": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Content-Length: 2\r\n\r\n{}",
    "websocket with chunks": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "target that is no path": "GET topics HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": "CONNECT internal:22 HTTP/1.1\r\nHost: internal:22\r\n\r\n",
    "CONNECT with a body": "CONNECT internal:22 HTTP/1.1\r\nHost: internal:22\r\nContent-Length: 2\r\n\r\n{}",
}

STATUS = {
    "two spaces after the method": (400, 405),
    "tab in the request line": (400, 405),
    "HTTP/2 preface": (505,),
    "unknown version": (505,),
    "HTTP/0.9": (505,),
    "no space after the target": (505,),  # a request line without a version is HTTP/0.9
}
"""What the parser takes for an unknown method is a 405, another version is a 505; both close as well."""


async def test_h4_a_disputable_request_is_refused(app: App, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    for case, data in CASES.items():
        wire = await connect()
        await wire.send(data.encode("latin-1") + SMUGGLED)
        reply = await wire.reply()
        assert reply.status in STATUS.get(case, (400,)), (case, reply)
        assert reply.json["error_code"] == reply.status, case
        assert reply.headers["content-type"] == "application/json", case
        assert reply.closes or reply.version == "HTTP/1.0", case
        assert await wire.closed() == b"", f"{case}: the request behind it was served"
    assert "Traceback" not in caplog.text
    assert [each for each in caplog.records if each.exc_info] == []
    assert app.gateway.running == 0


async def test_h4_in_single_bytes(connect: Connect) -> None:
    """Where the segments end makes no difference."""
    for case, data in CASES.items():
        wire = await connect()
        for byte in data.encode("latin-1"):
            await wire.send(bytes([byte]))
        wire.write(SMUGGLED)
        got = await wire.closed()
        (status,) = re.findall(rb"HTTP/1\.[01] (\d+) ", got)
        assert int(status) in STATUS.get(case, (400,)), case


async def test_h4_nothing_was_stored(app: App, wire: Wire) -> None:
    """The counterpart: what the cases smuggle is a request that works."""
    await wire.send(SMUGGLED)
    assert (await wire.reply()).status == 200


async def test_the_log_is_not_flooded(app: App, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(50):
        wire = await connect()
        await wire.send("GET / HTTP/1.1\r\nHost: x\r\nEvil\n: \x1b[2J\r\n\r\n")
        await wire.closed()
    assert app.host.refused == 50
    lines = [each.getMessage() for each in caplog.records if each.name == "gateway.host"]
    assert len(lines) == 1, lines
    assert "127.0.0.1" in lines[0]
    assert "\x1b" not in lines[0]


async def test_what_is_no_http_at_all(connect: Connect) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"*3\r\n$3\r\nSET\r\n",
        b"\xff" * 9000,
    ):
        wire = await connect()
        await wire.send(garbage)
        assert (await wire.closed()).startswith(b"HTTP/1.0 4")


async def test_an_unknown_method_is_405(wire: Wire) -> None:
    reply = await wire.ask("BREW", "/topics")
    assert reply.status == 405
    assert await wire.closed() == b""


@pytest.mark.parametrize("method", ["get", "TRACE", "PUT", "PROPFIND"])
async def test_a_method_that_no_route_has(connect: Connect, method: str) -> None:
    wire = await connect()
    assert (await wire.ask(method, "/topics")).status == 405


async def test_a_refusal_tells_nothing_of_the_software(connect: Connect) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", request("GET", "/"), request("GET", "/nowhere"), b"\xff\r\n\r\n"):
        wire = await connect()
        await wire.send(data)
        reply = await wire.reply()
        assert "server" not in reply.headers
        assert b"aiohttp" not in reply.body
        assert b"Python" not in reply.body
