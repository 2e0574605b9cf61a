"""The member that shares out slots, without a broker: what it may be told (cluster.md §3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.slot_member import KafkaSlotMember
from kafka_gateway.kafka.ports.slots import SlotGroup
from tests.keys import BUILTIN_KEYS


class Listener:
    """Keeps why the member ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def fenced(self, why: str) -> None:
        self.ended.append(why)

    def failed(self, why: str) -> None: ...


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
