"""How long the slots of a process may take to be handed over: the more instances there are, the longer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from kafka_gateway.kafka.consuming.slot_member import give_up_in_time


class Listener:
    """Hands its instances over."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self.handed: list[int] = []

    def size(self, slots: Collection[int]) -> int:
        return self._instances

    async def give_up(self, slots: Collection[int]) -> None:
        await asyncio.sleep(0.2)  # time itself: of a hand-over longer than its timeout of 10 ms
        self.handed += slots


async def test_a_thousand_instances_have_more_time_than_none() -> None:
    few, many = Listener(0), Listener(1000)
    listeners: list[Any] = [few, many]
    with pytest.raises(TimeoutError):
        await give_up_in_time(listeners[0], [1, 2], 0.01)
    assert not few.handed
    await give_up_in_time(listeners[1], [1, 2], 0.01)
    assert many.handed == [1, 2]
