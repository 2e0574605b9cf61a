"""Push subscriptions through a socket, down to the frames (atmosphere-binding.md §2, §7 nos. 27 to 31)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.transports.websocket import pongs
from tests.transports.conftest import gateway
from tests.transports.peer import PING, PONG, TEXT, Frame, Peer

JSON = "application/vnd.kafka.json.v1+json"
SUBSCRIBE = {"id": "s", "path": "/ws/consumers/g/instances/c/topics/{}?max_bytes=1", "accept": JSON}


@pytest.fixture
async def app(settings: dict[str, Any]) -> AsyncIterator[App]:
    async with gateway(transport_websocket_enable=True, consumer_request_timeout_ms=5000, **settings) as running:
        yield running


@pytest.fixture
async def peer(app: App) -> AsyncIterator[Peer]:
    async with await Peer.open(app.addresses[0]) as opened:
        yield opened


async def produce(peer: Peer, topic: str, *values: bytes) -> None:
    records = [{"value": base64.b64encode(value).decode(), "partition": 0} for value in values]
    head = {"id": "p", "method": "POST", "path": f"/topics/{topic}", "type": "application/vnd.kafka.binary.v1+json"}
    reply = await peer.ask(json.dumps(head) + json.dumps({"records": records}))
    assert reply.startswith('{"code":200,'), reply


async def create(peer: Peer) -> None:
    head = {"id": "i", "method": "POST", "path": "/consumers/g", "type": JSON}
    body = {"name": "c", "format": "json", "auto.offset.reset": "smallest"}
    reply = await peer.ask(json.dumps(head) + json.dumps(body))
    assert reply.startswith('{"code":200,'), reply


async def subscribe(peer: Peer, topic: str) -> None:
    await peer.send(json.dumps(SUBSCRIBE).replace("{}", topic))


def push(value: int, offset: int) -> Frame:
    head = '{"code":200,"id":"s","type":"application/vnd.kafka.json.v1+json"}'
    return Frame(TEXT, f'{head}[{{"key":null,"value":{value},"partition":0,"offset":{offset}}}]'.encode())


async def test_a_record_counts_as_delivered_when_the_client_has_read_it(app: App, peer: Peer, topic: str) -> None:
    await produce(peer, topic, b"0", b"1", b"2")
    await create(peer)
    await subscribe(peer, topic)
    assert await peer.frame() == push(0, 0)
    assert await peer.frame() == Frame(PING, b"1")
    await peer.send(b"1", PONG)
    assert await peer.frame() == push(1, 1)
    assert await peer.frame() == Frame(PING, b"2")
    with pytest.raises(TimeoutError):  # nothing more before the pong: at most this batch is repeated
        await peer.frame(0.3)
    async with await Peer.open(app.addresses[0]) as other:
        await other.ask('{"id":"x","path":"/topics"}')
        peer.kill()
        await subscribe(other, topic)
        assert await other.frame() == push(1, 1)
        assert (await other.frame()).opcode == PING
        await other.send(b"1", PONG)
        assert await other.frame() == push(2, 2)


async def test_a_client_that_answers_no_pings_is_served(
    app: App, peer: Peer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pongs, "_FIRST_S", 0.05)
    await produce(peer, topic, *(b"%d" % number for number in range(5)))
    await create(peer)
    await subscribe(peer, topic)
    found = [await peer.frame() for _ in range(10)]
    assert found[::2] == [push(number, number) for number in range(5)]
    assert {each.opcode for each in found[1::2]} == {PING}
    await produce(peer, topic, b"5")  # which answers pings, from here on


@pytest.mark.parametrize("settings", [{"transport_websocket_ping_interval_ms": 0}])
async def test_where_pings_are_off_there_are_none(app: App, peer: Peer, topic: str) -> None:
    await produce(peer, topic, b"0", b"1")
    await create(peer)
    await subscribe(peer, topic)
    assert [await peer.frame(), await peer.frame()] == [push(0, 0), push(1, 1)]


async def test_a_record_that_cannot_be_shown_comes_as_an_error(app: App, peer: Peer, topic: str) -> None:
    await produce(peer, topic, b"{", b"1")
    await create(peer)
    await subscribe(peer, topic)
    error = await peer.text()
    assert error.startswith('{"code":500,"id":"s","type":"application/vnd.kafka.json.v1+json"}{"error_code":50002,')
    assert (await peer.text()).encode() == push(1, 1).payload


async def test_unsubscribing_and_errors(app: App, peer: Peer, topic: str) -> None:
    await produce(peer, topic, b"0")
    await create(peer)
    await subscribe(peer, topic)
    assert (await peer.text()).encode() == push(0, 0).payload
    path = SUBSCRIBE["path"].replace("{}", topic).partition("?")[0]
    for _ in range(2):
        assert await peer.ask(f'{{"id":"d","method":"DELETE","path":"{path}"}}') == '{"code":204,"id":"d"}'
    await produce(peer, topic, b"1")
    other = f'{{"id":"e","path":"/ws/consumers/g/instances/none/topics/t","accept":"{JSON}"}}'
    assert await peer.ask(other) == (
        '{"code":404,"id":"e","type":"application/vnd.kafka.json.v1+json"}'
        '{"error_code":40403,"message":"Consumer instance not found."}'
    )
