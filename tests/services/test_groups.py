"""Bridges and ``/socket/out`` while their group changes: pauses, revocations, commits (on FakeKafka)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple, cast

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.messages import Call
from kafka_gateway.records import ConsumedRecord, RecordBatch
from kafka_gateway.services.bridges.consume import ConsumerBridge, ConsumerBridgeSettings
from kafka_gateway.services.bridges.delivery import DeliverySettings
from kafka_gateway.services.bridges.service import silence
from kafka_gateway.services.websocket_proxy.consume import ConsumeSockets, Follower
from kafka_gateway.services.websocket_proxy.ports import FollowerRequest, MessageId
from kafka_gateway.services.websocket_proxy.sessions import ProxySettings
from tests.open_sessions import OpenSessions
from tests.services.fake_kafka import FakeKafka
from tests.waiting import PATIENCE_S

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Posted(NamedTuple):
    """The sink has taken it."""

    status: int = 204
    text: str = ""
    retry_after: str | None = None


class Sink:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.bodies: list[bytes] = []

    async def post(self, body: bytes, headers: Sequence[tuple[str, str]]) -> Posted:
        await self.open.wait()
        self.bodies.append(body)
        return Posted()

    async def aclose(self) -> None:
        return None


async def bridge_of(kafka: FakeKafka, sink: Sink) -> ConsumerBridge:
    delivery = DeliverySettings("out", max_records=4, revoke_timeout_s=0.05)
    bridge = ConsumerBridge(ConsumerBridgeSettings(delivery, ("t",), "g", commit_interval_s=60), kafka, sink)  # type: ignore[arg-type]
    await bridge.start()
    return bridge


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_bridge_whose_sink_hangs_while_another_member_comes_and_goes() -> None:
    kafka, sink = FakeKafka(t=2), Sink()
    for partition in (0, 1):
        kafka.put("t", *(b"%d-%d" % (partition, number) for number in range(5)), partition=partition)
    bridge = await bridge_of(kafka, sink)
    (reader,) = kafka.group_readers
    await reader.rebalance(T0, T1)
    reader.pump()
    assert reader.paused == {T0, T1}, "both have their share"
    await reader.rebalance(T0)
    await reader.rebalance(T0, T1)
    assert reader.paused == {T0}, "what comes back flows"
    sink.open.set()
    async with asyncio.timeout(PATIENCE_S):
        while len(set(sink.bodies)) < 10:
            await settled()
            reader.pump()
    await bridge.close(1)
    assert kafka.committed == {("g", "t", 0): (5, ""), ("g", "t", 1): (5, "")}


async def test_what_was_posted_before_a_revocation_is_committed_and_no_more() -> None:
    kafka, sink = FakeKafka(t=2), Sink()
    kafka.put("t", b"a", b"b")
    sink.open.set()
    bridge = await bridge_of(kafka, sink)
    (reader,) = kafka.group_readers
    await reader.rebalance(T0, T1)
    reader.pump()
    await settled()
    sink.open.clear()
    kafka.put("t", b"c")
    reader.pump()
    await settled()
    await reader.rebalance(T1)
    assert kafka.committed == {("g", "t", 0): (2, "")}
    kafka.put("t", b"d", partition=1)
    reader.lose(T1)
    await bridge.close(0.1)
    assert kafka.committed == {("g", "t", 0): (2, "")}


async def test_a_bridge_names_its_silent_partitions() -> None:
    kafka, sink = FakeKafka(t=2), Sink()
    bridge = await bridge_of(kafka, sink)
    (reader,) = kafka.group_readers
    assert silence([bridge]) == ""
    reader.silence = {T1: "NOT_COORDINATOR: …"}
    assert silence([bridge]) == "Bridge out does not read t-1: NOT_COORDINATOR: …."
    await bridge.close(0.1)
    assert silence([bridge]) == ""


class Listener:
    def __init__(self) -> None:
        self.found: list[ConsumedRecord] = []

    def records(self, batch: RecordBatch) -> None:
        self.found += batch.records

    def failed(self, error: ServiceError) -> None:
        raise error


async def follower_of(kafka: FakeKafka, size: int) -> tuple[Follower, Listener]:
    sockets = ConsumeSockets(kafka, ProxySettings(max_stack_size=size), OpenSessions())  # type: ignore[arg-type]
    wanted = FollowerRequest("c", "g", "t", lambda records: b"", auto_commit=False)
    response = await sockets.open(cast(Call, SimpleNamespace(body=wanted, require=lambda *_: None, session=None)))
    listener = Listener()
    follower = response.value
    assert isinstance(follower, Follower)
    follower.start(listener)
    return follower, listener


def place(record: ConsumedRecord) -> MessageId:
    return MessageId(record.topic() or "", record.partition() or 0, record.offset() or 0, record.timestamp()[1])


async def test_a_socket_waits_for_commits_and_goes_on_behind_half_of_them() -> None:
    kafka = FakeKafka(t=1)
    kafka.put("t", *(b"x" for _ in range(10)))
    follower, listener = await follower_of(kafka, 4)
    assert len(listener.found) == 4
    follower.commit(place(listener.found[0]))
    assert len(listener.found) == 4
    follower.commit(place(listener.found[1]))
    assert len(listener.found) == 6 + 2
    follower.resume()
    assert len(listener.found) == 8, "the client is ready for more, its commits are not"
    kafka.members[0].rebalance(T0)
    assert [each.offset() for each in listener.found[8:]] == [2, 3, 4, 5], "from what was committed"
    follower.end(1000)
