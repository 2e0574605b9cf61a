"""What a client may not exceed: sizes, times, connections. Slow and silent clients (H7), with deadlines made short."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from kafka_gateway.assembly.app import App
from kafka_gateway.door import connection as connections
from tests.loop_watch import LoopWatch
from tests.transports.conftest import Connect, gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import until

KB = 1024

# --- sizes -----------------------------------------------------------------------------------------------------------


def record_of(size: int) -> bytes:
    """A body of that many bytes."""
    empty = b'{"records":[{"value":""}]}'
    return empty[:-4] + b"x" * (size - len(empty)) + empty[-4:]


@pytest.mark.parametrize("settings", [{"request.max.bytes": 10 * KB}])
async def test_a_body_that_is_too_large(connect: Connect, topic: str) -> None:
    for size, status in ((10 * KB, 200), (10 * KB + 1, 413), (10**15, 413)):
        wire = await connect()
        body = record_of(min(size, 20 * KB))
        await wire.send(produce(topic, body, Content_Length=str(size)))
        reply = await wire.reply()
        assert (reply.status, reply.json.get("error_code", 200)) == (status, status)
        assert reply.closes == (status == 413 and size > len(body))
        if status == 413:
            assert "request.max.bytes" in reply.json["message"]


@pytest.mark.parametrize("settings", [{"request.max.bytes": 10 * KB}])
async def test_a_chunked_body_that_is_too_large(wire: Wire, topic: str) -> None:
    """It is refused when it becomes too large, not when it has been received."""
    await wire.send(request("POST", f"/topics/{topic}", Content_Type=JSON_V2, Transfer_Encoding="chunked"))
    refused = asyncio.ensure_future(wire.reply())
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not refused.done():
            await wire.send(b"400\r\n" + b"x" * KB + b"\r\n")
            sent += KB
            await asyncio.sleep(0)
    assert (await refused).status == 413
    assert sent < 2000 * KB


async def test_long_heads(connect: Connect) -> None:
    """The default of max.request.header.size is 8192, for the line and for each field; there may be 128 fields."""
    fits: list[tuple[str, dict[str, str]]] = [
        ("/topics?x=" + "y" * 8000, {}),
        ("/topics", {"X": "y" * 8000}),
        ("/topics", {f"X-{number}": "y" for number in range(120)}),
    ]
    for target, headers in fits:
        assert (await (await connect()).ask("GET", target, **headers)).status == 200
    too_long: list[tuple[str, dict[str, str]]] = [
        ("/topics?x=" + "y" * 8200, {}),
        ("/topics", {"X": "y" * 8200}),
        ("/topics", {"X" * 8200: "y"}),
        ("/topics", {f"X-{number}": "y" for number in range(130)}),
    ]
    for target, headers in too_long:
        reply = await (await connect()).ask("GET", target, **headers)
        assert (reply.status, reply.json["error_code"]) == (431, 431)
        assert "max.request.header.size" in reply.json["message"]


@pytest.mark.parametrize("settings", [{"max.request.header.size": 100}])
async def test_a_head_without_end_is_cut_off(wire: Wire) -> None:
    await wire.send(b"GET /" + b"a" * 60)
    await wire.send(b"a" * 60)
    assert (await wire.reply()).status == 431


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])  # the program's loop is uvloop, whose classes are its own
def test_too_many_connections(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def too_many() -> None:
        async with gateway(**{"connections.max": 3}) as app, contextlib.AsyncExitStack() as stack:

            async def connect() -> Wire:
                return await stack.enter_async_context(await Wire.open(app.addresses[0]))

            wires = [await connect() for _ in range(3)]
            for wire in wires:
                assert (await wire.ask("GET", "/health/live")).status == 200
            refused = await (await connect()).reply()
            assert (refused.status, refused.json["error_code"], refused.headers["retry-after"]) == (503, 503, "1")
            assert refused.closes
            wires[0].writer.close()
            await until(lambda: app.host.connection_count == 2)
            assert (await (await connect()).ask("GET", "/health/live")).status == 200

    run(too_many())


# --- deadlines -------------------------------------------------------------------------------------------------------

SOON = 150
"""Milliseconds."""


async def closed_after(wire: Wire) -> tuple[float, bytes]:
    began = time.monotonic()
    rest = await wire.closed()
    return time.monotonic() - began, rest


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"request.header.timeout.ms": SOON}])
@pytest.mark.parametrize("head", [b"", b"G", b"GET /topics HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come(connect: Connect, head: bytes) -> None:
    wire = await connect()
    await wire.send(head)
    took, _ = await closed_after(wire)
    assert took + 0.02 >= SOON / 1000 * 0.9
    assert took < 2


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"request.header.timeout.ms": SOON}])
async def test_a_head_in_drops(connect: Connect) -> None:
    """It is the whole head that must come in time."""
    wire = await connect()

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            for number in range(1000):
                await wire.send(f"X-{number}: y\r\n".encode() if number else b"GET / HTTP/1.1\r\nHost: x\r\n")
                await asyncio.sleep(0.01)  # time itself: a drop at a time

    dripping = asyncio.ensure_future(drip())
    took, _ = await closed_after(wire)
    dripping.cancel()
    assert took < 2


@pytest.mark.parametrize("settings", [{"request.header.timeout.ms": SOON}])
async def test_the_deadline_is_for_the_first_head_only(wire: Wire) -> None:
    for _ in range(3):
        assert (await wire.ask("GET", "/health/live")).status == 200
        await asyncio.sleep(SOON / 1000)  # time itself: later than the deadline of a first head


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"idle.timeout.ms": SOON}])
@pytest.mark.parametrize("then", [b"", b"GET /topics HTTP/1.1\r\nHo"])
async def test_an_idle_connection(connect: Connect, then: bytes) -> None:
    wire = await connect()
    for _ in range(3):
        assert (await wire.ask("GET", "/health/live")).status == 200
        await asyncio.sleep(SOON / 1000 / 3)  # time itself: it is not idle for long
    await wire.send(then)
    took, rest = await closed_after(wire)
    assert rest == b""
    assert took < 2


@pytest.mark.parametrize("settings", [{"idle.timeout.ms": SOON, "consumer.request.timeout.ms": 10_000}])
async def test_a_waiting_read_is_not_idle(connect: Connect) -> None:
    wire = await connect()
    await wire.ask("POST", "/consumers/idle", b'{"name":"i","format":"json"}', Content_Type=V2)
    wire = await connect()
    await wire.ask("POST", "/consumers/idle/instances/i/subscription", b'{"topics":["idle"]}', Content_Type=V2)
    reply = await wire.ask("GET", f"/consumers/idle/instances/i/records?timeout={4 * SOON}", Accept=JSON_V2)
    assert (reply.status, reply.json) == (200, [])


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"request.body.timeout.ms": SOON, "request.body.min.rate": 1000}])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_does_not_come(connect: Connect, chunked: bool) -> None:
    wire = await connect()
    length = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": "1000"}
    await wire.send(request("POST", "/topics/t", Content_Type=JSON_V2, **length))
    await wire.send(b"5\r\n{" if chunked else b"{")
    began = time.monotonic()
    reply = await wire.reply()
    assert time.monotonic() - began < 2
    assert (reply.status, reply.json["error_code"]) == (408, 408)
    assert reply.closes


@pytest.mark.parametrize("settings", [{"request.body.timeout.ms": SOON, "request.body.min.rate": 1000}])
async def test_a_slow_body_that_keeps_its_rate(wire: Wire, topic: str) -> None:
    """1000 bytes that come within 0.5 s: later than the timeout, faster than the least rate."""
    data = produce(topic, record_of(1000))
    for start in range(0, len(data), 100):
        await wire.send(data[start : start + 100])
        await asyncio.sleep(0.04)  # time itself: a slow body
    assert (await wire.reply()).status == 200


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"request.body.timeout.ms": SOON, "request.body.min.rate": 1000}])
async def test_what_came_fast_is_no_credit_for_silence(connect: Connect) -> None:
    """All but the last byte at once would be 60 s of the least rate."""
    wire = await connect()
    await wire.send(request("POST", "/topics/t", Content_Type=JSON_V2, Content_Length="60001") + b" " * 60_000)
    began = time.monotonic()
    reply = await wire.reply()
    assert SOON / 1000 - 0.05 < time.monotonic() - began < 2
    assert (reply.status, reply.json["error_code"]) == (408, 408)
    assert reply.closes


@pytest.mark.parametrize("settings", [{"memory.max.bytes": 1024 * KB}])
async def test_bodies_share_the_memory(app: App, connect: Connect, topic: str) -> None:
    """Used up: new work is refused, reading stops, and who holds the most is given up. Probes are always answered."""
    greedy, modest, new = [await connect() for _ in range(3)]
    for wire, size in ((modest, 400), (greedy, 700)):
        await wire.send(request("POST", "/topics/t", Content_Type=JSON_V2, Content_Length=str(size * KB + 100)))
        wire.write(b" " * (size * KB))
    await until(lambda: app.gateway.memory.used_up)
    for method, target in (("GET", "/topics"), ("POST", "/topics/t")):
        reply = await new.ask(method, target, b'{"records":[]}' if method == "POST" else b"", Content_Type=JSON_V2)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "memory.max.bytes" in reply.json["message"]
    assert (await new.ask("GET", "/health/live")).status == 200
    refused = await greedy.reply()
    assert (refused.status, refused.closes) == (503, True)
    await until(lambda: not app.gateway.memory.used_up)
    await new.send(produce(topic))
    assert (await new.reply()).status == 200
    rest = b'{"records":[{"value":1}]}'
    await modest.send(b" " * (100 - len(rest)) + rest)
    assert (await modest.reply()).status == 200
    assert app.gateway.memory.held == 0


@pytest.mark.parametrize("settings", [{"request.timeout.ms": SOON, "consumer.request.timeout.ms": 10_000}])
async def test_a_request_that_takes_too_long(wire: Wire) -> None:
    await wire.ask("POST", "/consumers/late", b'{"name":"i","format":"json"}', Content_Type=V2)
    await wire.ask("POST", "/consumers/late/instances/i/subscription", b'{"topics":["late"]}', Content_Type=V2)
    reply = await wire.ask("GET", "/consumers/late/instances/i/records?timeout=10000", Accept=JSON_V2)
    assert reply.status == 408
    assert (await wire.ask("GET", "/health/live")).status == 200


# --- H7 --------------------------------------------------------------------------------------------------------------


class Probe:
    """Another client, whose latency tells how much it is bothered."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.latencies: list[float] = []
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            began = time.perf_counter()
            assert (await self._wire.ask("GET", "/health/live")).status == 200
            self.latencies.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)  # time itself: so often is enough

    async def stop(self) -> float:
        """The median latency."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return sorted(self.latencies)[len(self.latencies) // 2]


MANY = 300


async def deaf(app: App) -> Wire:
    """A connection whose client reads nothing, with buffers of the system so small that the gateway notices."""
    for server in app.host._sockets:
        for listening in server.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * KB)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KB)  # before the connection offers a window
    client.connect(app.host._sockets[0].sockets[0].getsockname())
    wire = Wire(*await asyncio.open_connection(sock=client))
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return wire


@pytest.mark.timing
@pytest.mark.parametrize(
    "settings",
    [{"request.header.timeout.ms": 1000, "request.body.timeout.ms": 1000, "consumer.request.timeout.ms": 1}],
)
async def test_h7_slow_and_silent_clients_are_freed(
    app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """Silent, half a head, half a body, and never reading the reply: 300 of each, while another client goes on."""
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 1.0)
    wire = await connect()
    await wire.send(produce(topic, b'{"records":[{"value":"' + b"x" * 200_000 + b'","partition":0}]}'))
    assert (await wire.reply()).status == 200
    read = request(
        "GET", f"/topics/{topic}/partitions/0/messages?offset=0", Accept="application/vnd.kafka.json.v1+json"
    )
    probe = Probe(await connect())
    await until(lambda: len(probe.latencies) >= 20)
    calm = sorted(probe.latencies)[len(probe.latencies) // 2]
    before = app.host.connection_count
    wires = []
    for data in (
        b"",
        b"GET /topics HTTP/1.1\r\nHost: x\r\n",
        request("POST", "/topics/t", Content_Length="1000", Content_Type=JSON_V2) + b"{",
    ):
        for _ in range(MANY):
            wires.append(await connect())
            await wires[-1].send(data)
    for _ in range(50):
        wires.append(await deaf(app))
        wires[-1].write(read * 3)
    began = time.monotonic()
    await until(lambda: app.host.connection_count == before)
    assert time.monotonic() - began < 5
    for each in wires:
        each.writer.close()
        each.writer.transport.abort()
    median = await probe.stop()
    assert median < calm + 0.02
    assert app.gateway.running == 0


@pytest.mark.parametrize("settings", [{"idle.timeout.ms": 300}])
async def test_a_closed_connection_does_not_wait_for_its_reader(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies below the mark at which writing pauses: nothing waits for them but the closing itself."""
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 0.3)
    wire = await deaf(app)
    (server,) = app.host._servers.values()
    await until(lambda: server.connections)
    (connection,) = server.connections
    wire.write(request("GET", "/topics") * 250)  # 50 kB of replies: too much for the system, less than the mark
    await until(lambda: connection.transport is not None and connection.transport.get_write_buffer_size())
    assert not connection.writing_paused
    await until(lambda: app.host.connection_count == 0)
    assert app.gateway.memory.slow_clients == {"http": 1}
    wire.writer.close()
    wire.writer.transport.abort()


async def test_a_scrape_that_nobody_reads(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client asks on and on: it is not answered beyond what waits for it, and it is cut off, counted."""
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 0.5)
    wire, other = await deaf(app), await Wire.open(app.addresses[0])
    wire.write(request("GET", "/metrics") * 2000)  # more than 10 MB of replies
    await until(lambda: app.gateway.memory.slow_clients["http"] == 1)
    reply = await other.ask("GET", "/metrics")
    assert b'kafka_gateway_slow_clients_closed_total{carrier="http"} 1.0' in reply.body
    scrapes = re.search(rb'kafka_gateway_requests_total\{code="200",.*route="/metrics",.*\} ([0-9.]+)', reply.body)
    assert scrapes is not None
    assert float(scrapes[1]) < 200
    assert app.host.connection_count == 1
    for each in (wire, other):
        each.writer.close()
        each.writer.transport.abort()


# --- the loop --------------------------------------------------------------------------------------------------------


async def test_a_body_in_very_small_chunks(connect: Connect, loop_watch: LoopWatch, topic: str) -> None:
    """reliability.md §2.3: 900,000 chunks of one byte. The loop goes on with others in between."""
    wire = await connect()
    body = record_of(100_000)
    data = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    probe = Probe(await connect())
    await until(lambda: probe.latencies)
    before = len(probe.latencies)
    await wire.send(request("POST", f"/topics/{topic}", Content_Type=JSON_V2, Transfer_Encoding="chunked") + data)
    assert (await wire.reply()).status == 200
    between = len(probe.latencies) - before
    await probe.stop()
    assert between, "the other client was served meanwhile; that no step is long is seen by the watch"
