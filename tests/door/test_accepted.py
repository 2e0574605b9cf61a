"""Connections that somebody is to take over: closed if nobody does, and left alone if somebody did."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from kafka_gateway.door.listening import Accepted


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Accepted(ours)


def is_open(accepted: Accepted) -> bool:
    return accepted.connection.fileno() >= 0


async def meet(accepted: Accepted, takes: bool) -> None:
    if takes:
        accepted.take()
    await asyncio.sleep(0)


@pytest.mark.parametrize(("takes", "steps"), [(False, 2), (False, 1), (True, 2), (True, 1)])
async def test_what_was_not_taken_is_closed(accepted: Accepted, takes: bool, steps: int) -> None:
    task = asyncio.ensure_future(meet(accepted, takes))
    accepted.follow(task)
    await asyncio.sleep(0)
    assert is_open(accepted)
    if steps == 1:
        task.cancel()
    await asyncio.wait([task])
    assert is_open(accepted) is takes


async def test_a_task_that_is_cancelled_before_its_first_step_closes_it(accepted: Accepted) -> None:
    task = asyncio.ensure_future(meet(accepted, takes=True))
    accepted.follow(task)
    task.cancel()
    await asyncio.wait([task])
    assert not is_open(accepted)
