"""Hundreds of consumers in one process: their threads take turns, and wake each other less often."""

from __future__ import annotations

import asyncio
import sys

from kafka_gateway.kafka.consuming.crowd import AT_ONCE, Crowd
from tests.waiting import PATIENCE_S

MANY = 4 * AT_ONCE


async def test_few_have_their_turn_at_once() -> None:
    crowd, at_work, most = Crowd(), 0, 0

    async def work() -> None:
        nonlocal at_work, most
        async with crowd.turn():
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

    await asyncio.gather(*(work() for _ in range(MANY)))
    assert most == AT_ONCE


async def test_who_waits_for_kafka_keeps_nobody_from_their_turn() -> None:
    crowd, began, all_began = Crowd(), 0, asyncio.Event()

    async def work() -> None:
        nonlocal began
        async with crowd.turn():
            began += 1
            if began == MANY:
                all_began.set()
            await all_began.wait()  # each but the last would wait for ever

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(work() for _ in range(MANY)))
        async with crowd.turn():  # and each turn was given back once
            pass
    assert began == MANY


def test_the_interpreter_is_asked_for_less_often_while_there_are_many() -> None:
    crowd, before = Crowd(), sys.getswitchinterval()
    try:
        crowd.resize(100)
        assert sys.getswitchinterval() == before
        crowd.resize(1000)
        assert 0.015 < sys.getswitchinterval() < 0.05
        assert crowd.idle_s == 1.0
        crowd.resize(100_000)
        assert sys.getswitchinterval() < 0.05
        assert crowd.idle_s < 3
    finally:
        crowd.resize(0)
    assert abs(sys.getswitchinterval() - before) < 1e-4
    assert crowd.idle_s == 0
