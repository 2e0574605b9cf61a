"""Posting to sinks good and bad, and to those nobody may post to (bridges.md A3.1; reliability.md F15, H10, S12)."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.records import OutgoingRecord
from kafka_gateway.services.bridges.headers import SinkHeaderRules, http_headers
from kafka_gateway.transports.bridges.http_sink import HttpSink, Posted, tls_context
from kafka_gateway.transports.bridges.sink_address import AllowedAddresses, CheckedResolver, sink_url
from tests.bridges.raw_sink import OK, Got, RawSink
from tests.services.fake_kafka import FakeRecord
from tests.transports.test_http_listeners import make_certificate
from tests.waiting import until

LOOPBACK = AllowedAddresses(["127.0.0.0/8"])

Open = Callable[..., Awaitable[tuple[RawSink, HttpSink]]]


@pytest.fixture
async def open_sink() -> AsyncIterator[Open]:
    made: list[Any] = []

    async def open_sink(answer: Callable[[Got, int], bytes | None] = lambda got, number: OK, **more: Any) -> Any:
        server = await RawSink(answer).__aenter__()
        sink = HttpSink(sink_url(server.url, LOOPBACK), LOOPBACK, **{"timeout_s": 5, **more})
        made.extend((server, sink))
        return server, sink

    yield open_sink
    for each in reversed(made):
        await (each.aclose() if isinstance(each, HttpSink) else each.__aexit__())


async def test_a_post_has_the_body_and_nothing_of_our_own(open_sink: Open) -> None:
    server, sink = await open_sink()
    body = bytes(range(256)) * 100
    assert await sink.post(body, [("X-A", "1"), ("X-A", "2"), ("Content-Encoding", "gzip")]) == Posted(200, "ok")
    assert (await sink.post(b"", [])).status == 200
    first, second = server.got
    assert (first.method, first.target, first.body, first.all("x-a")) == ("POST", "/push", body, ["1", "2"])
    assert first.all("content-encoding") == ["gzip"]
    assert (second.body, second.all("content-length")) == (b"", ["0"])
    for got in server.got:
        assert {line[0].lower() for line in got.lines} <= {"host", "content-length", "x-a", "content-encoding"}
    assert server.connections == 1  # kept and used again


async def test_a_large_body_arrives_whole(open_sink: Open) -> None:
    server, sink = await open_sink()
    body = os.urandom(3_000_000)
    assert (await sink.post(body, [])).status == 200
    assert server.bodies == [body]
    assert server.got[0].all("content-type") == []


@pytest.mark.parametrize(
    ("status", "location"),
    [(301, "http://127.0.0.1:9/"), (302, "/push"), (307, "/elsewhere"), (308, "//evil.example/")],
)
async def test_s12_a_redirect_is_not_followed(open_sink: Open, status: int, location: str) -> None:
    answer = f"HTTP/1.1 {status} Away\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    server, sink = await open_sink(lambda got, number: answer)
    assert (await sink.post(b"x", [])).status == status
    assert len(server.got) == 1


F15: dict[str, tuple[bytes | None, int]] = {
    "500": (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 500),
    "hangs": (b"", 0),
    "hangs in the head": (b"HTTP/1.1 200", 0),
    "closes": (None, 0),
    "resets": (RawSink.CUT, 0),
    "is no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 0),
    "head too long": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 0),
    "promises more than it sends": (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nshort" + RawSink.CUT, 500),
    "promises more and hangs": (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nshort", 500),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", 0),
    "broken chunks": (b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n", 0),
    "taken, and cut off behind that": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" + RawSink.CUT, 200),
    "taken, and hangs behind that": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 200),
    "a gzip that is none": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", 200),
}


@pytest.mark.parametrize("kind", F15)
async def test_f15_a_broken_sink_is_an_answer_and_no_more(open_sink: Open, kind: str) -> None:
    answer, status = F15[kind]
    server, sink = await open_sink(lambda got, number: answer if number == 1 else OK, timeout_s=0.3)
    posted = await sink.post(b"first", [])
    assert posted.status == status, posted
    assert posted.text
    assert posted.text.isprintable()
    # And what is wrong with one answer does not reach the next.
    assert await sink.post(b"second", []) == Posted(200, "ok")
    assert server.bodies == [b"first", b"second"]


async def test_f15_a_length_too_small_does_not_answer_the_next_post(open_sink: Open) -> None:
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    no = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    server, sink = await open_sink(lambda got, number: lie if number == 1 else no)
    assert (await sink.post(b"first", [])).status == 200
    assert (await sink.post(b"second", [])).status == 500
    assert server.connections == 2


async def test_an_answer_is_not_unpacked(open_sink: Open) -> None:
    packed = gzip.compress(bytes(10_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    _, sink = await open_sink(lambda got, number: head + packed)
    assert "\ufffd" in (await sink.post(b"", [])).text  # what cannot be read, and not millions of zeros


async def test_an_endless_answer_is_given_up(open_sink: Open) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20
    server, sink = await open_sink(lambda got, number: endless)
    for _ in range(2):
        posted = await sink.post(b"", [])
        assert (posted.status, len(posted.text)) == (200, 200)
    assert server.connections == 2


async def test_a_refused_connection_is_an_answer() -> None:
    async with RawSink() as server:
        url = server.url
    sink = HttpSink(sink_url(url, LOOPBACK), LOOPBACK)
    posted = await sink.post(b"", [])
    await sink.aclose()
    assert posted.status == 0
    assert "Cannot connect" in posted.text


async def test_an_idle_connection_that_the_sink_has_closed_costs_no_attempt(open_sink: Open) -> None:
    def answer(got: Got, number: int) -> bytes | None:
        return None if number == 2 else OK  # as if it had closed just before the second came

    server, sink = await open_sink(answer)
    assert [(await sink.post(b"x", [])).status for _ in range(2)] == [200, 200]
    assert (len(server.got), server.connections) == (3, 2)


async def test_retry_after_and_the_words_of_the_sink(open_sink: Open) -> None:
    words = b"slow\r\n \x1b[1m\xff down"
    answer = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%b" % (len(words), words)
    _, sink = await open_sink(lambda got, number: answer)
    assert await sink.post(b"", []) == Posted(429, "slow ?[1m\ufffd down", "7")


async def test_the_sinks_token_beats_the_records(open_sink: Open, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    server, sink = await open_sink(token_file=str(file))
    await sink.post(b"", [("authorization", "Basic eDp5")])
    file.write_text("two\n")
    os.utime(file, ns=(1, 1))
    await sink.post(b"", [])
    assert [got.all("authorization") for got in server.got] == [["Bearer one"], ["Bearer two"]]
    file.unlink()
    posted = await sink.post(b"", [])
    assert (posted.status, "token.location" in posted.text, len(server.got)) == (0, True, 2)


async def test_h10_hostile_headers_never_leave_their_line(open_sink: Open) -> None:
    hostile = [(f"X-{n}\r\nEvil: 1", b"v") for n in range(100)] + [(f"X-{n}", b"a\r\nEvil: 1") for n in range(100)]
    hostile += [("X-Nul", b"a\0b"), ("Host", b"evil.example"), ("Content-Length", b"5"), ("X-Good", "ü".encode())]
    record = FakeRecord("t", 0, 0, OutgoingRecord(None, b"body", None, 0, hostile))
    fields, dropped = http_headers(record, SinkHeaderRules())
    server, sink = await open_sink()
    assert (await sink.post(b"body", fields)).status == 200
    (got,) = server.got
    assert dropped == 201
    assert (got.body, got.all("evil"), got.all("x-good")) == (b"body", [], ["ü"])
    assert got.all("host") == [f"127.0.0.1:{server.port}"]


async def test_h10_ten_thousand_headers_arrive(open_sink: Open) -> None:
    server, sink = await open_sink()
    server_limit = [(f"X-{n}", "v") for n in range(3000)]  # 64 KiB is what asyncio's reader takes at once
    assert (await sink.post(b"", server_limit)).status == 200
    assert len(server.got[0].lines) == 3002


async def test_a_cancelled_post_leaves_nothing_behind(open_sink: Open) -> None:
    server, sink = await open_sink(lambda got, number: b"" if number == 1 else OK)
    task = asyncio.ensure_future(sink.post(b"first", []))
    await until(lambda: len(server.got) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await sink.post(b"second", [])).status == 200


# --- S12: where nobody may post to -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
        "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fd00::1]/", "http://10.0.0.1/",
        "http://192.168.1.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://0.0.0.0/", "http://[::]/",
        "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://224.0.0.1/", "http://255.255.255.255/",
        "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "//example.com/", "example.com", "",
        "http://", "http:///path", "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/",
        "http://example.com#@127.0.0.1/", "http://example.com\\@127.0.0.1/", "http://exa mple.com/",
        "http://example.com/\r\nHost: x", "http://éxample.com/", "http://example.com:99999/", "http://example.com:x/",
        "http://127.1/", "http://0x7f000001/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/",
        "http://127.0.0.1./", "http://127.0.0.0x1:80/",
    ],
)  # fmt: skip
def test_s12_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        sink_url(url, AllowedAddresses([]))


def test_s12_urls_that_are_taken() -> None:
    for url in ("https://example.com/a?b=c%20d", "http://93.184.216.34:9009/push", "http://[2606:4700::1111]/"):
        assert str(sink_url(url, AllowedAddresses([]))) == url
    assert sink_url("http://[::1]:9/", AllowedAddresses(["::1"])).port == 9
    with pytest.raises(ValueError, match="is not a network"):
        AllowedAddresses(["10.0.0.0/33"])


@pytest.mark.parametrize(
    ("host", "leads_to"),
    [
        ("localhost", None), ("inner.example", "10.1.2.3"), ("cloud.example", "169.254.169.254"),
        ("six.example", "::1"), ("mapped.example", "::ffff:192.168.0.1"),
    ],
)  # fmt: skip
async def test_s12_names_that_lead_inside_are_refused(
    monkeypatch: pytest.MonkeyPatch, host: str, leads_to: str | None
) -> None:
    if leads_to is not None:
        _resolves(monkeypatch, {host: [leads_to]})
    async with RawSink() as server:
        sink = HttpSink(sink_url(f"http://{host}:{server.port}/", AllowedAddresses([])), AllowedAddresses([]))
        posted = await sink.post(b"secret", [])
        await sink.aclose()
        assert posted.status == 0
        assert "not public" in posted.text
        assert not server.connections


async def test_s12_only_checked_addresses_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the name leads to a permitted address first and to the inside after that, or to both at once."""
    allowed = AllowedAddresses(["127.0.0.2"])
    answers = {"rebind.example": ["127.0.0.1", "127.0.0.2"]}
    _resolves(monkeypatch, answers)
    resolver = CheckedResolver(allowed)
    assert [each["host"] for each in await resolver.resolve("rebind.example", 80)] == ["127.0.0.2"]
    answers["rebind.example"] = ["127.0.0.1"]
    with pytest.raises(OSError, match="not public"):
        await resolver.resolve("rebind.example", 80)


def test_s12_a_listed_name_may_lead_anywhere_but_to_the_link() -> None:
    allowed = AllowedAddresses(["mimir.svc", "169.254.9.0/24"])
    assert allowed.permits("10.1.2.3", "mimir.svc")
    assert allowed.permits("127.0.0.1", "MIMIR.svc.")
    assert not allowed.permits("10.1.2.3", "other.svc")
    assert not allowed.permits("169.254.169.254", "mimir.svc")
    assert not allowed.permits("::ffff:169.254.169.254", "mimir.svc")
    assert allowed.permits("169.254.9.1")
    assert not allowed.permits("no address", "mimir.svc")


def _resolves(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> None:
    """Has the system's resolver answer so."""

    async def look_up(self: CheckedResolver, host: str, port: int, family: int) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in answers[host]
        ]

    monkeypatch.setattr(CheckedResolver, "_look_up", look_up)


async def test_tls_is_verified(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "sink")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = sink_url(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", LOOPBACK)
    statuses = []
    for ca in ("", str(pem)):
        sink = HttpSink(url, LOOPBACK, tls=tls_context(ca, "", ""), timeout_s=10)
        posted = await sink.post(b"", [])
        statuses.append(posted.status)
        await sink.aclose()
    server.close()
    assert statuses == [0, 200]
