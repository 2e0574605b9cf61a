"""Who guesses is sent away by address (security.md §2)."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.door.guesses import Guesses, network_of
from kafka_gateway.errors import Forbidden, TooManyRequests, Unauthorized


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def right() -> str:
    return "somebody"


async def wrong() -> str:
    raise Unauthorized()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(3, clock)


async def guess(guesses: Guesses, peer: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Unauthorized):
            await guesses.judge(peer, wrong())


async def test_an_address_has_so_many_guesses_a_minute(guesses: Guesses, clock: Clock) -> None:
    await guess(guesses, "10.0.0.1", 3)
    clock.now += 20
    with pytest.raises(TooManyRequests) as refused:
        await guesses.judge("10.0.0.1", right())
    assert refused.value.headers == (("Retry-After", "40"),)
    assert await guesses.judge("10.0.0.2", right()) == "somebody"
    clock.now += 40
    assert await guesses.judge("10.0.0.1", right()) == "somebody"


async def test_a_right_proof_forgives_nothing(guesses: Guesses) -> None:
    await guess(guesses, "10.0.0.1", 2)
    assert await guesses.judge("10.0.0.1", right()) == "somebody"
    await guess(guesses, "10.0.0.1", 1)
    with pytest.raises(TooManyRequests):
        await guesses.judge("10.0.0.1", right())


async def test_only_a_wrong_proof_counts(guesses: Guesses) -> None:
    async def forbidden() -> str:
        raise Forbidden()

    for _ in range(5):
        with pytest.raises(Forbidden):
            await guesses.judge("10.0.0.1", forbidden())
    assert await guesses.judge("10.0.0.1", right()) == "somebody"


async def test_those_of_an_address_wait_for_each_other_and_not_for_others(guesses: Guesses) -> None:
    gate, going = asyncio.Event(), 0

    async def slow() -> str:
        nonlocal going
        going += 1
        await gate.wait()
        raise Unauthorized()

    many = [asyncio.ensure_future(guesses.judge("10.0.0.1", slow())) for _ in range(60)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert going == 3  # as many as there are chances
    assert await guesses.judge("10.0.0.2", right()) == "somebody"
    many[4].cancel()  # one that waits
    many[0].cancel()  # one that is judged
    gate.set()
    ends = await asyncio.gather(*many, return_exceptions=True)
    assert {type(each) for each in ends} == {Unauthorized, TooManyRequests, asyncio.CancelledError}
    # One that is judged takes a chance; all who come when the last is lost are sent away.
    assert sum(isinstance(each, Unauthorized) for each in ends) == 3
    with pytest.raises(TooManyRequests):
        await guesses.judge("10.0.0.1", right())


async def test_without_a_limit_nobody_waits() -> None:
    guesses = Guesses(0)
    await guess(guesses, "10.0.0.1", 100)
    assert await guesses.judge("10.0.0.1", right()) == "somebody"


async def test_it_remembers_so_many_addresses_and_no_more(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.door.guesses._ADDRESSES_MAX", 10)
    for number in range(100):
        await guess(guesses, f"10.0.0.{number}", 1)
    assert len(guesses._addresses) <= 10


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_networks(peer: str, network: str) -> None:
    assert network_of(peer) == network
