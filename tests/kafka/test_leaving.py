"""A member that holds slots leaves while its group shares out anew, before a real Kafka (cluster.md §7)."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.slot_member import KafkaSlotMember
from kafka_gateway.kafka.ports.slots import SlotGroup
from tests.kafka_cluster import KafkaCluster
from tests.keys import BUILTIN_KEYS
from tests.processes import OutputProcess
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SESSION_MS = 60_000
"""A member that was closed and has not left keeps its slots for so long."""
PATIENCE_S = 30.0
OTHER = """
import sys, confluent_kafka
other = confluent_kafka.Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "partition.assignment.strategy": "cooperative-sticky",
    "heartbeat.interval.ms": 500, "log_level": 0,
})
other.subscribe([sys.argv[3]], on_assign=lambda *_: print("assigned", flush=True))
while True:
    other.poll(0.1)
"""


class Other(OutputProcess):
    """A member of a program of its own, which has partitions when the block is entered."""

    def __init__(self, *arguments: str) -> None:
        super().__init__([sys.executable, "-c", OTHER, *arguments], {})

    def started(self) -> None:
        self.wait_for("assigned", PATIENCE_S)


class Listener:
    """Tells when there are slots."""

    def __init__(self) -> None:
        self.has_slots = asyncio.Event()

    def assigned(self, slots: Sequence[int]) -> None:
        if slots:
            self.has_slots.set()

    def fenced(self, why: str) -> None: ...
    def failed(self, why: str) -> None: ...
    def lost(self, slots: Sequence[int]) -> None: ...
    def records(self, records: Sequence[Any]) -> None: ...
    def caught_up(self, slots: Sequence[int]) -> None: ...
    def size(self, slots: Sequence[int]) -> int:
        return 0

    async def give_up(self, slots: Sequence[int]) -> None: ...


async def test_it_leaves_when_that_is_over(kafka: KafkaCluster) -> None:
    """Here it takes as long as another member does not answer: one that stands still, and goes on a second later."""
    topic, group = kafka.create_topic(partitions=4), f"group-{uuid.uuid4().hex[:8]}"
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=[f"bootstrap.servers={kafka.bootstrap}"]))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def member(name: str) -> tuple[KafkaSlotMember, Listener]:
        listener: Any = Listener()
        return KafkaSlotMember(clients, SlotGroup(topic, group, name, SESSION_MS, 500, 1.0), listener), listener

    def state() -> tuple[str, set[str | None]]:
        """Of the group, and its members by their ``group.instance.id``."""
        found = admin.describe_consumer_groups([group])[group].result(PATIENCE_S)
        return found.state.name, {each.group_instance_id for each in found.members}

    async def until(shown: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, shown, PATIENCE_S)

    with Other(kafka.bootstrap, group, topic) as other:
        leaving, listener = member("leaving")
        async with asyncio.timeout(PATIENCE_S):
            await listener.has_slots.wait()
        await until(lambda: state()[0] == "STABLE")
        other.process.send_signal(signal.SIGSTOP)
        joining, _ = member("joining")
        try:
            await until(lambda: state()[0] == "PREPARING_REBALANCING")
            await asyncio.sleep(1.0)  # time itself: two heartbeats, with which it hears of that
            left = asyncio.ensure_future(leaving.leave(for_good=True))
            await asyncio.sleep(1.0)  # time itself: it cannot leave yet
            other.process.send_signal(signal.SIGCONT)
            await left
            await until(lambda: "leaving" not in state()[1])
        finally:
            other.process.send_signal(signal.SIGCONT)
            await joining.leave(for_good=True)
