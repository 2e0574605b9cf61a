"""The one timer for signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kafka_gateway.heartbeats import HeartbeatTimer
from tests.waiting import until


class Member:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.beats = 0
        self.then = then

    def beat(self) -> None:
        self.beats += 1
        self.then()


class Clock:
    """Turns the wheel by hand."""

    def __init__(self, heartbeats: HeartbeatTimer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._heartbeats = heartbeats
        monkeypatch.setattr(asyncio.get_running_loop(), "call_at", lambda at, call: call)

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self._heartbeats._tick()


async def test_members_beat_once_in_their_period(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats = HeartbeatTimer()
    clock = Clock(heartbeats, monkeypatch)
    quick, slow = Member(), Member()
    heartbeats.add(quick, 1)
    clock.tick(1)
    heartbeats.add(slow, 3)
    clock.tick(6)
    assert (quick.beats, slow.beats, len(heartbeats)) == (7, 2, 2)
    heartbeats.remove(quick)
    heartbeats.remove(quick)
    clock.tick(3)
    assert (quick.beats, slow.beats, len(heartbeats)) == (7, 3, 1)


async def test_a_member_may_end_another_one_or_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats = HeartbeatTimer()
    clock = Clock(heartbeats, monkeypatch)
    members: list[Member] = []

    def leave() -> None:
        for member in members:
            heartbeats.remove(member)

    members += [Member(leave) for _ in range(3)]
    for member in members:
        heartbeats.add(member, 2)
    clock.tick(4)
    assert sum(member.beats for member in members) == 1
    assert len(heartbeats) == 0


async def test_the_timer_rests_without_members() -> None:
    heartbeats = HeartbeatTimer()
    member = Member()
    heartbeats.add(member, 1)
    assert heartbeats._timer is not None
    heartbeats.remove(member)
    await until(lambda: heartbeats._timer is None)
    assert member.beats == 0
