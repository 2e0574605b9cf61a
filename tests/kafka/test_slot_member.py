"""The member that shares out slots, without a broker: what it may be told (cluster.md §3), and how it goes on when
Kafka's answers do not come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.slot_member import KafkaSlotMember
from kafka_gateway.kafka.ports.slots import SlotGroup
from tests.keys import BUILTIN_KEYS
from tests.mock_cluster import FIND_COORDINATOR, MockCluster


class Listener:
    """Keeps why the member ended, and when it has slots."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.has_slots = asyncio.Event()

    def fenced(self, why: str) -> None:
        self.ended.append(why)

    def failed(self, why: str) -> None: ...

    def assigned(self, slots: Sequence[int]) -> None:
        if slots:
            self.has_slots.set()

    def caught_up(self, slots: Sequence[int]) -> None: ...

    def size(self, slots: Sequence[int]) -> int:
        return 0

    async def give_up(self, slots: Sequence[int]) -> None: ...


@pytest.mark.parametrize(
    ("session_ms", "operator"), [(9000, "client.max.poll.interval.ms=8000"), (3_600_000, "port=0")]
)
async def test_every_session_that_is_allowed_makes_a_member(session_ms: int, operator: str) -> None:
    """Also one above what the operator allows other consumers between two polls."""
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1", operator]))
    listener: Any = Listener()
    member = KafkaSlotMember(clients, SlotGroup("t", "g", "m", session_ms, 500, 1.0), listener)
    await member.leave(for_good=True)  # which waits for its thread
    await asyncio.sleep(0)  # and for what that has told last
    assert listener.ended == []


SESSION_MS = 2000
PATIENCE_S = 30.0
PATIENT = "client.socket.timeout.ms=60000"
"""What the operator gives other clients: twice what the test waits for."""


@contextlib.asynccontextmanager
async def a_member(bootstrap: str) -> AsyncIterator[Listener]:
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=[f"bootstrap.servers={bootstrap}", PATIENT]))
    listener: Any = Listener()
    member = KafkaSlotMember(clients, SlotGroup("slots", "g", "m", SESSION_MS, 500, 1.0), listener)
    try:
        yield listener
    finally:
        await member.leave(for_good=True)


@pytest.fixture
def kafka() -> MockCluster:
    kafka = MockCluster()
    kafka.form_groups_at_once()
    kafka.make_topic("slots", 4)
    return kafka


async def test_a_coordinator_is_asked_for_again_on_another_connection_when_the_answer_was_lost(
    kafka: MockCluster,
) -> None:
    """As behind a network that was cut: the old connection stays silent for as long again."""
    # librdkafka throws the first answer away, with the connection on which it learns what brokers there are.
    kafka.answer_next_after(FIND_COORDINATOR, 60_000, 60_000)
    async with a_member(kafka.bootstrap) as listener, asyncio.timeout(PATIENCE_S):
        await listener.has_slots.wait()
