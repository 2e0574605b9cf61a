"""Streaming produce requests over HTTP/1.1: kafka-rest-http.md §7.10, on the embedded Kafka."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.transports.conftest import Connect
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S, until

HEAD = "POST /v3/clusters/c/topics/{}/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n"


def record(data: Any) -> bytes:
    return json.dumps({"value": {"type": "STRING", "data": data}}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Response:
    """A chunked response as it comes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lines: list[Any] = []
        self.over = False

    async def head(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return (await self._wire.reader.readuntil(b"\r\n\r\n")).decode()

    async def report(self) -> Any:
        """The next report; None at the end."""
        while not self._lines and not self.over:
            async with asyncio.timeout(PATIENCE_S):
                size = int(await self._wire.reader.readuntil(b"\r\n"), 16)
                content = await self._wire.reader.readexactly(size + 2)
            self.over = size == 0
            self._lines += [json.loads(line) for line in content.split(b"\r\n") if line]
        return self._lines.pop(0) if self._lines else None

    async def codes(self) -> list[int]:
        """The codes of all reports that are still to come."""
        codes = []
        while (report := await self.report()) is not None:
            codes.append(report["error_code"])
        return codes


async def opened(wire: Wire, head: str) -> Response:
    await wire.send(head)
    response = Response(wire)
    assert "200 OK" in await response.head()
    return response


async def test_reports_come_while_the_request_is_sent(wire: Wire, topic: str) -> None:
    response = await opened(wire, CHUNKED.format(topic) + "\r\n")
    for number in range(3):
        await wire.send(chunk(record(str(number))))
        report = await response.report()
        assert (report["error_code"], report["topic_name"]) == (200, topic)
    half = record("x")
    await wire.send(chunk(half[:10]))
    await wire.send(chunk(half[10:] + b"\r\n" + record(5)))
    assert (await response.report())["error_code"] == 200
    assert (await response.report())["error_code"] == 400
    await wire.send(b"0\r\n\r\n")
    assert await response.report() is None
    assert (await wire.ask("GET", "/health/live")).status == 200  # the connection goes on


async def test_a_body_that_comes_with_its_head(wire: Wire, topic: str) -> None:
    one, many = record("1"), b"".join(map(record, "123"))
    await wire.send(HEAD.format(topic) + f"Content-Length: {len(one)}\r\n\r\n{one.decode()}")
    reply = await wire.reply()
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.body.endswith(b"\r\n")
    assert reply.json["error_code"] == 200
    response = await opened(wire, HEAD.format(topic) + f"Content-Length: {len(many)}\r\n\r\n{many.decode()}")
    assert await response.codes() == [200, 200, 200]
    assert (await wire.ask("GET", "/health/live")).status == 200


async def test_requests_follow_each_other_on_a_connection(wire: Wire, topic: str) -> None:
    """From the second on with a head that is known, whether one record comes or more."""
    for count in (1, 1, 1, 3, 3, 3, 1):
        body = b"".join(map(record, ["x"] * count))
        head = HEAD.format(topic) + f"Content-Length: {len(body)}\r\n\r\n{body.decode()}"
        if count == 1:
            await wire.send(head)
            assert (await wire.reply()).json["error_code"] == 200
        else:
            response = await opened(wire, head)
            assert await response.codes() == [200] * count
    assert (await wire.ask("GET", "/health/live")).status == 200


async def test_a_length_and_pieces(wire: Wire, topic: str) -> None:
    body = b"\n".join(map(record, "12345"))
    response = await opened(wire, HEAD.format(topic) + f"Content-Length: {len(body)}\r\n\r\n")
    for at in range(0, len(body), 20):
        await wire.send(body[at : at + 20])
        await asyncio.sleep(0)
    assert await response.codes() == [200] * 5


async def test_expect_continue(wire: Wire, topic: str) -> None:
    body = record("1")
    await wire.send(HEAD.format(topic) + f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n")
    response = Response(wire)
    assert (await response.head()).startswith("HTTP/1.1 100")
    await wire.send(body)
    assert "200 OK" in await response.head()
    assert await response.codes() == [200]


@pytest.mark.parametrize("members", [1, 3])
async def test_a_packed_body(wire: Wire, topic: str, members: int) -> None:
    response = await opened(wire, CHUNKED.format(topic) + "Content-Encoding: gzip\r\n\r\n")
    for _ in range(members):
        packed = gzip.compress(b"".join(map(record, "123")))
        await wire.send(chunk(packed[:9]))
        await wire.send(chunk(packed[9:]))
    await wire.send(b"0\r\n\r\n")
    assert await response.codes() == [200, 200, 200] * members


async def test_broken_json_ends_the_connection_behind_its_report(wire: Wire, topic: str) -> None:
    response = await opened(wire, CHUNKED.format(topic) + "\r\n")
    await wire.send(chunk(record("1") + b"}"))
    assert await response.codes() == [200, 400]
    async with asyncio.timeout(PATIENCE_S):
        assert await wire.reader.read() == b""


async def test_refusals_before_the_first_report(connect: Connect, topic: str) -> None:
    for head, status in (
        (CHUNKED.format(topic).replace("application/json", "text/plain"), 415),
        (CHUNKED.format(topic).replace("application/json", "application/json;charset=x"), 400),
        (CHUNKED.format(topic).replace("Content-Type", "Accept").replace("application/json", "text/plain"), 406),
    ):
        wire = await connect()
        await wire.send(head + "\r\n" + chunk(record("1")).decode())
        reply = await wire.reply()
        assert reply.status in (status, 415)
        assert reply.closes  # the rest of the body may be anything


async def test_old_clients_get_the_reports_without_chunks(wire: Wire, topic: str) -> None:
    body = b"".join(map(record, "12"))
    head = HEAD.format(topic).replace("HTTP/1.1", "HTTP/1.0")
    await wire.send(head + f"Content-Length: {len(body)}\r\n\r\n{body.decode()}")
    async with asyncio.timeout(PATIENCE_S):
        whole = await wire.reader.read()
    reports = [json.loads(line) for line in whole.partition(b"\r\n\r\n")[2].split(b"\r\n") if line]
    assert [each["error_code"] for each in reports] == [200, 200]


async def test_a_client_that_leaves_harms_nobody(app: App, connect: Connect, topic: str) -> None:
    wire = await connect()
    response = await opened(wire, CHUNKED.format(topic) + "\r\n")
    await wire.send(chunk(b'{"partition_id":0}{"val'))
    assert (await response.report())["error_code"] == 200
    wire.writer.transport.abort()
    other = await connect()

    reply = await other.ask("GET", f"/topics/{topic}/partitions/0/offsets")
    assert (reply.status, reply.json["end_offset"]) == (200, 1)
    await until(lambda: all(not session.streams for session in app.gateway.sessions))


@pytest.mark.parametrize("settings", [{"stream.write.timeout.ms": 500, "embedded.enable": True}])
async def test_a_client_that_never_reads_is_held_up_and_given_up(app: App, topic: str) -> None:
    loop = asyncio.get_running_loop()
    host, _, port = app.addresses[0].removeprefix("http://").partition(":")
    body = chunk(b"".join(record("x") for _ in range(1000)))
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(client, (host, int(port)))
        await loop.sock_sendall(client, CHUNKED.format(topic).encode() + b"\r\n")

        async def flood() -> None:
            for _ in range(1000):
                await loop.sock_sendall(client, body)

        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectionError):
                await flood()
    await until(lambda: all(not session.streams for session in app.gateway.sessions))
    assert app.gateway.memory.slow_clients == {"http": 1}


async def test_many_records_in_order(wire: Wire, topic: str) -> None:
    response = await opened(wire, CHUNKED.format(topic) + "\r\n")

    async def send() -> None:
        for start in range(0, 20_000, 500):
            lines = b"".join(
                b'{"partition_id":0,"value":{"type":"JSON","data":%d}}\n' % number
                for number in range(start, start + 500)
            )
            await wire.send(chunk(lines))
        await wire.send(b"0\r\n\r\n")

    sending = asyncio.ensure_future(send())
    offsets = []
    while (report := await response.report()) is not None:
        offsets.append(report["offset"])
    await sending
    assert offsets == list(range(20_000))


@pytest.mark.parametrize("settings", [{"memory.max.bytes": 2 * 1024 * 1024}])
async def test_a_record_that_does_not_end_counts_and_is_given_up(app: App, wire: Wire, topic: str) -> None:
    """40 of 16 MiB each took 700 MiB, whatever memory.max.bytes was."""
    response = await opened(wire, CHUNKED.format(topic) + "\r\n")
    await wire.send(chunk(record("whole")))
    assert (await response.report())["error_code"] == 200
    memory = app.gateway.memory
    await wire.send(chunk(b'{"value":{"type":"STRING","data":"' + b"x" * 1024 * 1024))
    await until(lambda: memory.held >= 1024 * 1024)
    await wire.send(chunk(b"x" * 1024 * 1024))
    assert (await response.report())["error_code"] == 503
    await until(lambda: not memory.held and not memory.used_up)
    assert memory.given_up == 1
