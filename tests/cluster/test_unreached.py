"""What a process tells the others through Kafka of those that it does not reach, and what all make of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from kafka_gateway import jsonio
from kafka_gateway.cluster.mutual_reach import MutualReach
from kafka_gateway.cluster.ports import PeerLost, Process, Reach
from kafka_gateway.cluster.processes import Processes
from kafka_gateway.cluster.records import Claim, read_claim
from kafka_gateway.cluster.unreached import LIVES_S, Unreached
from tests.cluster.test_store import ME, Others

LONG_S = 600.0


def away(for_s: float) -> Reach:
    return Reach(False, None, "no answer", for_s)


WELL = Reach(True, 0.0, "")


class Log:
    """The process topic, as one that writes there sees it."""

    def __init__(self) -> None:
        self.written: list[Claim] = []

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        self.written += [read_claim(value or b"") for _, value in records]


class Setup:
    """This process, and others of which it is said whether they are reached."""

    def __init__(self) -> None:
        self.others = Others()
        self.looked: list[str] = []
        self.others.look = self.looked.append  # type: ignore[attr-defined]
        self.processes = Processes(ME, self.others, list, lambda _: None)  # type: ignore[arg-type]
        self.unreached = Unreached(ME, self.others, self.processes)  # type: ignore[arg-type]
        self.processes.caught_up()
        self.log: Any = Log()

    def tells(self, process: str, state: str = "serving") -> None:
        claim = Claim(1, "b", (), "", state)  # type: ignore[arg-type]
        self.processes.record(process.encode(), jsonio.encode(claim), 0)

    async def told(self, now: float) -> list[tuple[str, ...]]:
        """What is told at that time."""
        before = len(self.log.written)
        keeping = asyncio.ensure_future(self.processes.keep(self.log))
        try:
            self.processes.tell()
            await self.processes.told()
            before = len(self.log.written)
            self.unreached.look(now)
            await asyncio.sleep(0)
            if not self.processes._settled.is_set():
                await self.processes.told()
        finally:
            keeping.cancel()
        return [each.unreached for each in self.log.written[before:]]


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_those_out_of_reach_are_told_once_and_when_they_are_back(setup: Setup) -> None:
    """One that was killed tells nothing any more, and nobody goes on about it."""
    setup.tells("gw-1/0")
    now = time.monotonic() + LONG_S  # long after it was heard
    setup.others.reached["gw-1/0"] = away(1.0)
    assert await setup.told(now) == [], "it may be a moment only"
    setup.others.reached["gw-1/0"] = away(4.0)
    assert await setup.told(now) == [("gw-1/0",)]
    assert await setup.told(now + LONG_S) == []
    setup.others.reached["gw-1/0"] = WELL
    assert await setup.told(now + LONG_S) == [()]
    assert await setup.told(now + 2 * LONG_S) == []


async def test_one_that_lives_is_told_of_at_once_and_again_and_again(setup: Setup) -> None:
    setup.tells("gw-1/0")
    setup.others.reached["gw-1/0"] = away(0.0)
    now = time.monotonic()
    assert await setup.told(now) == [("gw-1/0",)]
    assert await setup.told(now + 1) == []
    assert await setup.told(now + 4) == [("gw-1/0",)], "by which it knows that this process lives"
    assert await setup.told(now + 5) == []
    setup.others.reached["gw-1/0"] = away(5.0)
    assert await setup.told(now + LIVES_S + 8) == [], "it has told nothing for so long"


async def test_one_that_comes_is_looked_at(setup: Setup) -> None:
    """It waits for what the others tell of it."""
    setup.others.reached["gw-1/0"] = Reach(None, None, "")
    setup.tells("gw-1/0")
    assert await setup.told(time.monotonic()) == []
    assert setup.looked == ["gw-1/0"]
    setup.tells("gw-1/0", "gone")
    setup.others.reached["gw-1/0"] = away(LONG_S)
    assert await setup.told(time.monotonic()) == []


async def test_what_was_there_at_the_start_is_no_sign_of_life() -> None:
    setup = Setup()
    setup.processes.read.clear()
    setup.tells("gw-1/0")
    setup.processes.caught_up()
    setup.others.reached["gw-1/0"] = away(0.0)
    assert await setup.told(time.monotonic()) == []


class World:
    """Processes that all hear Kafka, and of which some do not reach each other."""

    def __init__(self, count: int, cuts: Collection[tuple[int, int]], dead: Collection[int] = ()) -> None:
        self.cuts = {frozenset((f"gw-{one}/0", f"gw-{other}/0")) for one, other in cuts}
        self.dead = {f"gw-{one}/0" for one in dead}
        self.all = [Member(self, number) for number in range(count)]
        for each in self.all:
            each.processes.caught_up()

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.cuts or bool({one, other} & self.dead)

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        for each, (key, value) in itertools.product(self.all, records):
            each.processes.record(key, value, 0)

    async def who_may(self) -> list[int]:
        """Which may hold slots, when all have told and heard everything."""
        live = [each for each in self.all if each.process.id not in self.dead]
        log: Any = self
        for each in self.all:
            each.processes.tell()
        tasks = [asyncio.ensure_future(each.processes.keep(log)) for each in live]
        try:
            for _ in range(2):
                for each in live:
                    each.unreached.look(time.monotonic())
                    await each.processes.told()
            return [each.number for each in live if await each.reach_of_all.look()]
        finally:
            for task in tasks:
                task.cancel()


class Member(Others):
    """One of them, and its `Peers`."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__()
        self.number = number
        self.process = Process("test", f"gw-{number}/0", "b")
        self._world = world
        own: Any = self
        self.processes = Processes(self.process, own, list, lambda _: None)
        self.processes.since = number + 1
        self.unreached = Unreached(self.process, own, self.processes)
        self.reach_of_all = MutualReach(self.process, number + 1, self.processes.table, own, 0.0, 0.0)

    def look(self, process: str) -> None: ...
    def reach(self, process: str) -> Reach | None:
        return away(LONG_S) if self._world.is_cut(self.process.id, process) else WELL

    async def question(self, process: str, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        await asyncio.sleep(0)
        if self._world.is_cut(self.process.id, process):
            raise PeerLost(process, sent=False)
        (asked,) = [each for each in self._world.all if each.process.id == process]
        return list(asked.reach_of_all.answer(parameters))


@pytest.mark.parametrize(
    ("count", "cuts", "dead", "may"),
    [
        (3, [], [], [0, 1, 2]),
        (3, [(0, 1), (0, 2)], [], [1, 2]),  # cut off in both directions
        (3, [(0, 1), (0, 2), (1, 2)], [], [0, 1, 2]),
        (2, [(0, 1)], [], [0]),  # the older one
        (2, [(0, 1)], [0], [1]),
        (3, [], [1, 2], [0]),  # a power failure
        (4, [(0, 2), (0, 3), (1, 2), (1, 3)], [], [0, 1]),
        (4, [(0, 2), (0, 3), (1, 2), (1, 3)], [1], [2, 3]),
    ],
)
async def test_all_come_to_the_same(count: int, cuts: list[tuple[int, int]], dead: list[int], may: list[int]) -> None:
    assert await World(count, cuts, dead).who_may() == may
