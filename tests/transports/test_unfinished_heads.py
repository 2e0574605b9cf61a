"""Heads of requests, and what clients send of them before they are complete: bounded each, and all together."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.transports.conftest import Connect
from tests.transports.wire import JSON_V2, Wire, request
from tests.waiting import until

KB = 1024
HEAD_MAX = 2000
LIMIT = {"request.head.max.bytes": HEAD_MAX}


def head_of(size: int) -> bytes:
    """A head of that many bytes, in many fields."""
    field = b"X-Field: " + b"y" * max(80, size // 100) + b"\r\n"
    head = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    head += field * ((size - len(head)) // len(field) - 1)
    fill = size - len(head) - 2
    last = b"X-1: " + b"y" * (fill // 2 - 7) + b"\r\nX-2: " + b"y" * (fill - fill // 2 - 7) + b"\r\n"
    return head + last + b"\r\n"


@pytest.mark.parametrize("settings", [LIMIT])
@pytest.mark.parametrize("piece", [1, 700, 10 * KB])
async def test_a_head_has_so_many_bytes_at_most(connect: Connect, piece: int) -> None:
    """However it comes. What is too long is refused without its end, and nothing behind it is looked at."""
    for head, status in (
        (head_of(HEAD_MAX), 200),
        (head_of(HEAD_MAX + 1), 431),
        (head_of(3 * HEAD_MAX)[:-4], 431),
        (head_of(HEAD_MAX + 1) + request("GET", "/health/live"), 431),
    ):
        wire = await connect()
        for start in range(0, len(head), piece):
            await wire.send(head[start : start + piece])
        reply = await wire.reply()
        assert reply.status == status
        if status == 431:
            assert "request.head.max.bytes" in reply.json["message"]
            assert await wire.closed() == b""


@pytest.mark.parametrize("settings", [{}, {"max.request.header.size": 100}])
async def test_without_a_bound_of_its_own_it_is_eight_times_that_of_a_field(
    connect: Connect, settings: dict[str, int]
) -> None:
    most = 8 * settings.get("max.request.header.size", 8192)
    for size, status in ((most, 200), (most + 1, 431)):
        wire = await connect()
        await wire.send(head_of(size))
        assert (await wire.reply()).status == status


@pytest.mark.parametrize("settings", [LIMIT])
async def test_the_bound_is_for_heads_only(connect: Connect) -> None:
    """Long bodies, requests sent ahead, and a body in chunks that come in pieces are no heads."""
    wire = await connect()
    body = b'{"records":[]}' + b" " * (20 * HEAD_MAX)
    post = request("POST", "/topics/t", body, Content_Type=JSON_V2)
    await wire.send((post + head_of(HEAD_MAX - 100)) * 2 + request("GET", "/health/live") * 100)
    assert [(await wire.reply()).status for _ in range(104)] == [422, 200, 422, 200] + [200] * 100
    chunked = request("POST", "/topics/t", Content_Type=JSON_V2, Transfer_Encoding="chunked")
    for piece in (chunked, b"1\r\n{", *([b"\r\n1\r\n", b" "] * HEAD_MAX), b"\r\n1\r\n}\r\n0\r\n\r\n"):
        await wire.send(piece)
    assert (await wire.reply()).status == 422


@pytest.mark.parametrize("settings", [LIMIT])
async def test_what_follows_the_last_chunk_is_bounded_too(connect: Connect) -> None:
    wire = await connect()
    await wire.send(request("POST", "/topics/t", Content_Type=JSON_V2, Transfer_Encoding="chunked"))
    await wire.send(b"2\r\n{}\r\n0\r\nX-Trailer: " + b"y" * (3 * HEAD_MAX))
    reply = await wire.reply()
    assert (reply.status, reply.closes) == (400, True)
    assert "request.head.max.bytes" in reply.json["message"]


async def test_unfinished_heads_count_in_the_memory_and_free_it(app: App, connect: Connect) -> None:
    """Whether the client goes on, or leaves; then at once, without the collector."""
    memory, half = app.gateway.memory, head_of(20 * KB)
    parser, nobodys = [object()], [object()]
    for goes_on in (True, False):
        wire = await connect()
        await wire.send(half[: 10 * KB])
        await until(lambda: memory.held >= 10 * KB)
        held = memory.held
        await wire.send(half[10 * KB : -4])
        await until(lambda held=held: memory.held > held)
        (server,) = app.host._servers.values()
        (connection,) = server.connections
        ours: Any = connection._parser
        parser[:] = [ours._parser]
        del ours
        if goes_on:
            await wire.send(half[-4:])
            assert (await wire.reply()).status == 200
            assert memory.held == 0
        del connection
        gc.disable()
        try:
            wire.writer.close()
            await until(lambda: app.host.connection_count == 0)
            assert memory.held == 0
            await until(lambda: sys.getrefcount(parser[0]) == sys.getrefcount(nobodys[0]))
        finally:
            gc.enable()


@pytest.mark.parametrize("settings", [{"memory.max.bytes": 1024 * KB}])
async def test_the_oldest_unfinished_heads_make_room(app: App, connect: Connect) -> None:
    """They never use the memory up: others are served all the time, also those whose heads come in pieces."""
    half = head_of(30 * KB)[:-4]
    wires: list[Wire] = []
    for _ in range(20):
        wires.append(await connect())
        await wires[-1].send(half)
    other = await connect()
    await other.send(head_of(1 * KB)[:500])
    await other.send(head_of(1 * KB)[500:])
    assert (await other.reply()).status == 200
    assert not app.gateway.memory.used_up
    for each in wires[:-1]:
        async with asyncio.timeout(5):
            assert await each.closed() == b""
        if app.host.heads.given_up == wires.index(each) + 1:
            break
    assert 10 < app.host.heads.given_up < 20
    assert app.gateway.counters.refused["busy"] == app.host.heads.given_up
    await wires[-1].send(b"\r\n\r\n")
    assert (await wires[-1].reply()).status == 200
