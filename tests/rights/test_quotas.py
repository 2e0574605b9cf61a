"""How quotas slow down and refuse, with a clock that the test moves (security.md §5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from kafka_gateway.door import quotas
from kafka_gateway.door.quotas import Allowance
from kafka_gateway.errors import TooManyRequests
from kafka_gateway.limits import TokenBucket
from kafka_gateway.session import Principal

PRODUCE, CONSUME = "produce.bytes.per.sec", "consume.bytes.per.sec"


class Time:
    """Time that passes when somebody sleeps, and at no other time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.longest = 0.0
        self._turn = asyncio.sleep

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.longest = max(self.longest, seconds)
        await self._turn(0)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(quotas, "TokenBucket", partial(TokenBucket, clock=made))
    monkeypatch.setattr(asyncio, "sleep", made.sleep)
    return made


def allowance(**limits: int) -> Allowance:
    return Allowance(Principal("alice"), {name.replace("_", "."): value for name, value in limits.items()})


async def at_once(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def produces(of: Allowance, size: int) -> int:
    """How long a body that comes as a whole has to wait, as its client is told; 0 if it was taken."""
    assert of.produce_bytes is not None
    if of.produce_bytes.take_now(size):
        return 0
    error = of.short_of(of.produce_bytes, size, f"quota.{PRODUCE}")
    return int(dict(error.headers)["Retry-After"])


async def test_a_body_is_handed_on_bit_by_bit_at_the_rate(time: Time) -> None:
    alice, began, passed = allowance(produce_bytes_per_sec=1000), time(), 0
    async for portion in alice.slowed(at_once(b"x" * 65_536, b"", b"y" * 4464)):
        passed += len(portion)
        assert passed <= 1000 * (1 + time() - began) + 1
    assert passed == 70_000
    assert time() - began == pytest.approx(69, abs=1)
    assert time.longest <= 0.5, "asks again now and then, whatever it waits for"


@pytest.mark.parametrize("after", [{}, {PRODUCE: 10_000_000}])
async def test_a_body_that_waits_follows_another_limit(time: Time, after: dict[str, int]) -> None:
    """What it had to wait was worked out once: 1,300 s, whatever became of the quota."""
    alice = allowance(produce_bytes_per_sec=1000)
    portions = alice.slowed(at_once(b"x" * 1_300_000))
    for _ in range(5):
        await anext(portions)
    alice.set(after)
    began = time()
    assert sum([len(each) async for each in portions]) == 1_300_000 - 5 * 500
    assert time() - began < 1


async def test_what_is_not_taken_of_a_body_costs_nothing(time: Time) -> None:
    """Its principal was told to come back in 758 s."""
    alice = allowance(produce_bytes_per_sec=1000)
    portions = alice.slowed(at_once(b"x" * 860_000))
    await anext(portions)
    await portions.aclose()  # type: ignore[attr-defined]  # the client has left
    assert produces(alice, 500) == 0
    assert produces(alice, 500) == 1


async def test_what_is_owed_is_forgotten_in_time(time: Time) -> None:
    """One body may have more bytes than a second brings, and goes; nobody waits for an hour because of it."""
    alice = allowance(produce_bytes_per_sec=1000, consume_bytes_per_sec=1000)
    assert produces(alice, 3000) == 0
    assert produces(alice, 1000) == 3, "what is owed is waited for"
    time.now += 60
    assert produces(alice, 4_000_000) == 0
    assert produces(alice, 1000) == 11
    assert produces(alice, 1000) == 11, "a refusal costs nothing"
    time.now += 11.1
    assert produces(alice, 1000) == 0
    alice.consumed(4_000_000)
    with pytest.raises(TooManyRequests) as refused:
        alice.check_consume()
    assert dict(refused.value.headers)["Retry-After"] == "10"
    time.now += 10.1
    alice.check_consume()


async def test_a_stream_pays_for_what_it_has_sent_before_it_goes_on(time: Time) -> None:
    alice = allowance(consume_bytes_per_sec=1000)
    pace, began = alice.pace(), time()

    async def paid() -> None:
        while (wait_s := pace.pay()) > 0:
            alice.check_consume()  # other reads are not refused because of it
            await asyncio.sleep(wait_s)  # time itself: which the fixture makes

    pace.owe(65_536)
    await paid()
    assert time() - began == pytest.approx(64.5, abs=0.5)
    assert time.longest <= 0.5
    pace.owe(1_000_000)
    assert pace.pay() > 0
    changes: list[dict[str, Any]] = [{CONSUME: 10_000_000}, {}]
    for limits in changes:
        began = time()
        alice.set(limits)
        await paid()
        assert time() - began < 1
        pace.owe(1_000_000)
