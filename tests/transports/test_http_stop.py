"""A graceful stop: what is at work is finished, the rest is told to go elsewhere, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.transports.conftest import gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import until

READ_MS = 30_000


class Stopping:
    """A gateway that a test can stop, and connections to it that outlive the stop."""

    def __init__(self, app: App, stack: contextlib.AsyncExitStack) -> None:
        self.app, self._stack = app, stack
        self.took = 0.0

    async def connect(self) -> Wire:
        return await Wire.open(self.app.addresses[0])

    def stop(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._stop())

    async def _stop(self) -> None:
        began = time.monotonic()
        await self._stack.aclose()
        self.took = time.monotonic() - began


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
async def running(settings: dict[str, Any]) -> AsyncIterator[Stopping]:
    async with contextlib.AsyncExitStack() as stack:
        values = {"consumer.request.timeout.ms": READ_MS, "shutdown.graceful.ms": 5000, **settings}
        app = await stack.enter_async_context(gateway(**values))
        yield Stopping(app, stack)


async def reader(running: Stopping) -> Wire:
    """A connection with a read that waits."""
    wire = await running.connect()
    await wire.ask("POST", "/consumers/stop", b'{"name":"i","format":"json"}', Content_Type=V2)
    await wire.ask("POST", "/consumers/stop/instances/i/subscription", b'{"topics":["stop"]}', Content_Type=V2)
    await wire.send(request("GET", "/consumers/stop/instances/i/records", Accept=JSON_V2))
    await until(lambda: running.app.gateway.running == 1)
    return wire


@pytest.mark.timing
async def test_idle_connections_are_closed_at_once(running: Stopping) -> None:
    silent, used = await running.connect(), await running.connect()
    assert (await used.ask("GET", "/health/live")).status == 200
    half = await running.connect()
    await half.send(b"GET / HTTP/1.1\r\nHo")
    await until(lambda: running.app.host.connection_count == 3)
    stop = running.stop()
    for wire in (silent, used, half):
        assert await wire.closed() == b""
        wire.writer.close()
    await stop
    assert running.took < 1
    with pytest.raises(ConnectionRefusedError):
        await running.connect()


@pytest.mark.timing
async def test_a_waiting_read_answers_with_what_it_has(running: Stopping) -> None:
    wire = await reader(running)
    stop = running.stop()
    reply = await wire.reply()
    assert (reply.status, reply.json) == (200, [])
    assert reply.closes
    assert await wire.closed() == b""
    wire.writer.close()
    await stop
    assert running.took < 3


@pytest.mark.parametrize("settings", [{"producer.linger.ms": 300}])
async def test_produces_at_work_are_answered(running: Stopping) -> None:
    wires = [await running.connect() for _ in range(20)]
    await wires[0].send(produce("stop"))
    assert (await wires[0].reply()).status == 200
    for wire in wires:
        await wire.send(produce("stop"))
    await until(lambda: running.app.gateway.running == len(wires))
    stop = running.stop()
    replies = [await wire.reply() for wire in wires]
    assert {each.status for each in replies} == {200}
    assert all(row["error_code"] is None for each in replies for row in each.json["offsets"])
    for wire in wires:
        await wire.closed()
        wire.writer.close()
    await stop


@pytest.mark.timing
@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_body_on_its_way_is_awaited(running: Stopping, how: str) -> None:
    wire = await running.connect()
    body = b'{"records":[{"value":1}]}'
    if how == "length":
        parts = [produce("stop", body)[:-10], body[-10:-5], body[-5:]]
    else:
        head = request("POST", "/topics/stop", Content_Type=JSON_V2, Transfer_Encoding="chunked")
        parts = [head + b"a\r\n" + body[:10], b"\r\nf\r\n" + body[10:], b"\r\n0\r\n\r\n"]
    await wire.send(parts[0])
    await until(lambda: running.app.gateway._arriving)
    stop = running.stop()
    await until(lambda: running.app.gateway.stopping)
    for part in parts[1:]:
        await asyncio.sleep(0.05)  # time itself: so that it comes as a segment of its own
        await wire.send(part)
    reply = await wire.reply()
    assert (reply.status, reply.json["offsets"][0]["error_code"]) == (200, None)
    assert reply.closes
    await wire.closed()
    wire.writer.close()
    await stop
    assert running.took < 2


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"shutdown.graceful.ms": 300}])
async def test_a_body_that_never_comes_does_not_hold_it_up(running: Stopping) -> None:
    wire = await running.connect()
    await wire.send(produce("stop")[:-5])
    await until(lambda: running.app.gateway._arriving)
    await running.stop()
    assert running.took < 1.5
    wire.writer.close()


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"shutdown.graceful.ms": 300}])
async def test_a_client_that_does_not_read_does_not_hold_it_up(running: Stopping) -> None:
    wire = await running.connect()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    wire.write(request("GET", "/topics") * 20_000)
    await until(lambda: running.app.gateway.sessions)
    await running.stop()
    assert running.took < 1.5
    wire.writer.transport.abort()
    wire.writer.close()


async def test_a_new_request_of_an_open_connection_is_refused(running: Stopping) -> None:
    """It comes behind a read that waits, so its connection is still there."""
    wire = await reader(running)
    stop = running.stop()
    await until(lambda: running.app.gateway.stopping)
    wire.write(produce("stop"))
    reply = await wire.reply()
    assert (reply.status, reply.closes) == (200, True)
    assert await wire.closed() == b"", "a reply that says close is the last one"
    wire.writer.close()
    await stop


async def test_readiness_ends_first(running: Stopping) -> None:
    app = running.app
    wire = await running.connect()
    await wire.send(produce("stop")[:-5])
    await until(lambda: app.gateway._arriving)
    other = await running.connect()
    await other.send(request("GET", "/health/ready")[:-2])
    await other.send(b"X: y\r\n\r\n")
    assert (await other.reply()).status == 200
    stop = running.stop()
    assert await other.closed() == b""
    await wire.send(produce("stop")[-5:])
    assert (await wire.reply()).status == 200
    await stop
    for each in (wire, other):
        each.writer.close()


async def test_it_can_be_cancelled_and_leaves_nothing(running: Stopping) -> None:
    before = asyncio.current_task()
    wire = await reader(running)
    await running.stop()
    wire.writer.close()
    await until(lambda: asyncio.all_tasks() == {before})
