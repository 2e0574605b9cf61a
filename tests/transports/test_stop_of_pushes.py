"""A graceful stop while a client is sent records: what it has, or acknowledges a moment later, is not sent again by
whoever goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.kafka.ports.consuming import Consumer
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.services.instances.instance import InstanceKey
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.services.streams.acks import Committer
from tests.transports.conftest import gateway
from tests.transports.peer import CLOSE, PING, PONG, TEXT, Peer
from tests.transports.test_push import create, produce, subscribe

LATE_S = 0.05


class Stopping:
    """A gateway that a test can stop while its clients are there."""

    def __init__(self, app: App, stack: contextlib.AsyncExitStack) -> None:
        self.app, self._stack = app, stack

    def stop(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._stack.aclose())

    def consumer(self) -> Consumer:
        """Of the one instance; it tells what counts as returned when it is closed, too."""
        services = {route.service for route in self.app.gateway.router.routes}
        (rest,) = [each for each in services if isinstance(each, RestServices)]
        instance = rest.registry.get(InstanceKey("v1", "g", "c"))
        assert instance is not None
        return instance.consumer


@pytest.fixture
async def running() -> AsyncIterator[Stopping]:
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(gateway(transport_websocket_enable=True))
        yield Stopping(app, stack)


@pytest.fixture
async def peer(running: Stopping) -> AsyncIterator[Peer]:
    async with await Peer.open(running.app.addresses[0]) as peer:
        yield peer


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_push_whose_pong_comes_late_is_not_sent_again(
    running: Stopping, peer: Peer, topic: str, at_once: bool
) -> None:
    await produce(peer, topic, b"0")
    await create(peer)
    await subscribe(peer, topic)
    assert (await peer.frame()).opcode == TEXT
    ping = await peer.frame()
    if at_once:  # the client has answered one, so the next push needs no task
        await peer.send(ping.payload, PONG)
        async with await Peer.open(running.app.addresses[0]) as other:
            await produce(other, topic, b"1")
        assert (await peer.frame()).opcode == TEXT
        ping = await peer.frame()
    assert ping.opcode == PING
    consumer = running.consumer()
    assert len(consumer.returned()) == at_once
    stopping = running.stop()
    await asyncio.sleep(LATE_S)  # time itself: of a client that is far away
    await peer.send(ping.payload, PONG)
    assert (await peer.frame()).close_code == 1001
    await stopping
    assert consumer.returned() == [PartitionOffset(topic, 0, int(at_once))]


async def test_a_client_that_says_nothing_does_not_hold_the_stop_up(running: Stopping, peer: Peer, topic: str) -> None:
    await produce(peer, topic, b"0")
    await create(peer)
    await subscribe(peer, topic)
    assert [(await peer.frame()).opcode for _ in range(2)] == [TEXT, PING]
    consumer = running.consumer()
    async with asyncio.timeout(3):
        await running.stop()
    assert consumer.returned() == []


async def test_an_acknowledgement_behind_the_last_word_counts(
    running: Stopping, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[tuple[TopicPartition, int]] = []
    commit = Committer.commit

    def noting(self: Committer, partition: TopicPartition, offset: int) -> None:
        committed.append((partition, offset))
        commit(self, partition, offset)

    monkeypatch.setattr(Committer, "commit", noting)
    address = running.app.addresses[0]
    target = f"/topics/{topic}/stream?format=json&group=acks&ack=client&offset=earliest"
    async with await Peer.open(address) as producer:
        await produce(producer, topic, b"0")
    async with await Peer.open(address, target) as reader:
        while not (text := await reader.text()).startswith("["):
            pass
        assert len(json.loads(text)) == 1
        stopping = running.stop()
        while "50301" not in (text := await reader.text()):
            pass
        await reader.send(json.dumps({"ack": [{"topic": topic, "partition": 0, "offset": 1}]}))
        frame = await reader.frame()
        while frame.opcode != CLOSE:
            frame = await reader.frame()
        await stopping
    assert committed == [(TopicPartition(topic, 0), 1)]
