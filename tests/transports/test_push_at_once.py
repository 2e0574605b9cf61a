"""Pushes that are sent without a task, and their proof: a ping behind them, and its pong (outgoing_frames.py)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.errors import GONE
from tests.transports.conftest import gateway
from tests.transports.peer import CLOSE, PING, PONG, TEXT, Frame, Peer
from tests.transports.stub_service import Pushing, StubService
from tests.waiting import until

HEAD = b'{"code":200,"id":"%b","type":"application/json"}'


@pytest.fixture
def service() -> StubService:
    return StubService()


@pytest.fixture
async def app(settings: dict[str, Any], service: StubService) -> AsyncIterator[App]:
    async with gateway(service, transport_websocket_enable=True, **settings) as running:
        yield running


@pytest.fixture
async def peer(app: App) -> AsyncIterator[Peer]:
    async with await Peer.open(app.addresses[0]) as opened:
        yield opened


async def subscribe(peer: Peer, service: StubService, id: str = "a") -> Pushing:
    await peer.send(json.dumps({"id": id, "path": f"/stub/pushing/{id}"}))
    assert await service.waiting.get() == id
    stream = cast(Pushing, service.streams[id])
    await asyncio.sleep(0)
    return stream


async def first(peer: Peer, stream: Pushing, number: int = 1) -> None:
    """A payload that comes by iteration, and its pong: then it is known that the client answers pings."""
    stream.put(b"first")
    assert (await peer.frame()).payload.endswith(b"first")
    assert await peer.frame() == Frame(PING, b"%d" % number)
    await peer.send(b"%d" % number, PONG)
    await until(lambda: _ready(stream))


async def _ready(stream: Pushing) -> bool:
    return stream._waiting is not None


async def test_a_push_is_delivered_when_its_pong_has_come(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    assert not stream.push(b"too early"), "whether the client answers pings is not known"
    await first(peer, stream)
    assert stream.push(b"[1]")
    assert await peer.frame() == Frame(TEXT, HEAD % b"a" + b"[1]")
    assert await peer.frame() == Frame(PING, b"2")
    assert stream.delivered == []
    await peer.send(b"1", PONG)  # of another one
    assert (await peer.ask('{"id":"x","path":"/stub/text/1"}')).startswith('{"code":200,"id":"x"')
    assert stream.delivered == []
    await peer.send(b"2", PONG)
    await until(lambda: _are(stream, b"[1]"))


async def _are(stream: Pushing, *delivered: bytes) -> bool:
    return stream.delivered == list(delivered)


async def test_what_leaves_together_has_one_ping(peer: Peer, service: StubService) -> None:
    one, two = await subscribe(peer, service, "a"), await subscribe(peer, service, "b")
    await first(peer, one)
    assert one.push(b"1")
    assert two.push(b"2")
    assert one.push(b"3")
    found = [await peer.frame() for _ in range(4)]
    texts = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert found == [*(Frame(TEXT, HEAD % id + data) for id, data in texts), Frame(PING, b"2")]
    await peer.send(b"2", PONG)
    await until(lambda: _are(one, b"1", b"3"))
    assert two.delivered == [b"2"]


async def test_a_delivery_may_bring_the_next(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    pushed: list[bool] = []
    assert stream.push(b"1", lambda: pushed.append(stream.push(b"2")))
    for data, number in ((b"1", b"2"), (b"2", b"3")):
        assert await peer.frame() == Frame(TEXT, HEAD % b"a" + data)
        assert await peer.frame() == Frame(PING, number)
        await peer.send(number, PONG)
    await until(lambda: _are(stream, b"1", b"2"))


@pytest.mark.parametrize(
    ("data", "message"),
    [("ä".encode(), HEAD % b"a" + "ä".encode()), (b"", b'{"code":200,"id":"a"}')],
)
async def test_other_payloads(peer: Peer, service: StubService, data: bytes, message: bytes) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    assert stream.push(data)
    assert await peer.frame() == Frame(TEXT, message)
    assert await peer.frame() == Frame(PING, b"2")


async def test_a_long_one_comes_in_parts(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    assert stream.push(b"x" * 200_000)
    size, last = 0, b""
    while (found := await peer.frame()).opcode == TEXT:
        last, _, content = found.payload.partition(b"}")
        size += len(content)
    assert size == 200_000
    assert b"continue" not in last
    assert found.opcode == PING
    await peer.send(found.payload, PONG)
    await until(lambda: _are(stream, b"x" * 200_000))


@pytest.mark.parametrize("settings", [{"transport_websocket_ping_interval_ms": 0}])
async def test_nothing_is_sent_so_where_there_are_no_pings(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    stream.put(b"first")
    assert (await peer.frame()).opcode == TEXT
    assert not stream.push(b"1")


@pytest.mark.parametrize("settings", [{"org.atmosphere.websocket.writeTimeout": 200}])
async def test_a_client_that_answers_no_pings_any_more_is_cut_off(app: App, peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    assert stream.push(b"1")
    assert (await peer.frame()).opcode == TEXT
    assert (await peer.frame()).opcode == PING
    with pytest.raises(ConnectionError):
        await peer.frame()
    await until(lambda: _nobody(app))
    assert stream.delivered == []
    assert app.gateway.memory.slow_clients["websocket"] == 1


async def _nobody(app: App) -> bool:
    return not app.gateway.sessions


@pytest.mark.parametrize("settings", [{"org.atmosphere.websocket.writeTimeout": 200}])
async def test_one_that_answers_in_time_is_not(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    for number in range(2, 8):
        assert stream.push(b"%d" % number)
        assert (await peer.frame()).opcode == TEXT
        assert await peer.frame() == Frame(PING, b"%d" % number)
        await asyncio.sleep(0.1)  # time itself: half of the write timeout
        await peer.send(b"%d" % number, PONG)
    await until(lambda: _are(stream, *(b"%d" % number for number in range(2, 8))))


async def test_nothing_is_sent_behind_the_end(app: App, peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    peer.kill()
    await until(lambda: _nobody(app))
    assert not stream.push(b"1")


async def test_a_close_frame_is_the_last(peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    assert stream.push(b"1")
    await peer.send(b"\x03\xe8", CLOSE)
    assert [(await peer.frame()).opcode for _ in range(3)] == [TEXT, PING, CLOSE]
    assert not stream.push(b"2")
    with pytest.raises(ConnectionError):
        await peer.frame()
    assert stream.delivered == []


async def test_no_ping_follows_the_close_frame(app: App, peer: Peer, service: StubService) -> None:
    stream = await subscribe(peer, service)
    await first(peer, stream)
    (session,) = app.gateway.sessions
    assert session.on_close is not None
    session.on_close(GONE)
    assert stream.push(b"1")  # in the same turn, so that its ping would be sent with the close frame
    assert [(await peer.frame()).opcode for _ in range(2)] == [TEXT, CLOSE]
    await peer.send(b"\x03\xe8", CLOSE)
    with pytest.raises(ConnectionError):
        await peer.frame()
