"""When a process holds no slots because the others and it do not reach each other (cluster.md §7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from kafka_gateway.cluster import mutual_reach
from kafka_gateway.cluster.mutual_reach import MutualReach
from kafka_gateway.cluster.ports import PeerLost, Process, Reach
from kafka_gateway.cluster.records import Claim
from kafka_gateway.cluster.table import Table
from tests.cluster.test_store import ME, Others
from tests.waiting import until

LONG_S = 600.0
REFUSED = Reach(False, None, "tcp://gw:7885: a wrong proof", 1.0, refused=True)
DEAD = Reach(False, None, "Connection refused", 1.0)
WELL, UNTRIED, OLDER = [True, ""], [None, ""], list[Any]()
NO_WAY = [False, "tcp://me:1: Connection refused"]


class Company(Others):
    """Others that answer as they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.words: dict[str, list[Any] | Reach] = {}
        self.questions: list[Mapping[str, Any]] = []
        self.looked: list[str] = []

    def look(self, process: str) -> None:
        self.looked.append(process)

    async def question(self, process: str, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        self.questions.append(parameters)
        await asyncio.sleep(0)
        word = self.words[process]
        if isinstance(word, Reach):
            self.reached[process] = word
            raise PeerLost(process, sent=False)
        return word


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutual_reach, "_AT_FIRST_S", 0.0)
    monkeypatch.setattr(mutual_reach, "_EVERY_S", 0.0)


BEGAN = 1000
"""When this process began."""


def among(*words: list[Any] | Reach, undecided_s: float = 0.0, patience_s: float = 0.0) -> tuple[MutualReach, Company]:
    """This process among others, of which each has this to say, and one that has said that it is gone."""
    company = Company()
    for number, word in enumerate(words):
        company.words[f"gw-{number}/0"] = word
        told(company, number)
    company.table.put("gone/0", Claim(1, "b", (), "", "gone"), 99, 0.0)
    return MutualReach(ME, BEGAN, company.table, company, undecided_s, patience_s), company


def told(company: Company, number: int, *unreached: str, since: int = BEGAN + 1, ago_s: float = 0.0) -> None:
    """What that one has told through Kafka."""
    claim = Claim(1, "b", ("tcp://gw:7885",), f"{number}", since=since, unreached=unreached)
    now = time.monotonic()
    company.table.put(f"gw-{number}/0", claim, number, now, now - ago_s)


async def asked(company: Company, count: int) -> None:
    """Returns when it has been asked so often, from now on."""
    last = len(company.questions) + count
    await until(lambda: len(company.questions) >= last, LONG_S)


@pytest.mark.parametrize(
    ("words", "may"),
    [
        ([], True),
        ([REFUSED], True),  # two halves, and this one is the older
        ([NO_WAY], True),
        ([REFUSED, REFUSED], False),
        ([NO_WAY, NO_WAY], False),
        ([NO_WAY, REFUSED], False),
        ([REFUSED, WELL], True),
        ([DEAD, DEAD], True),  # after a power failure only this one is back
        ([REFUSED, DEAD], True),
        ([OLDER, OLDER], True),
        ([UNTRIED, UNTRIED], None),
        ([REFUSED, REFUSED, REFUSED, WELL], False),
        ([REFUSED, REFUSED, WELL, DEAD], True),
    ],
)
async def test_no_slots_where_most_that_live_and_this_one_do_not_reach_each_other(
    words: list[list[Any] | Reach], may: bool | None
) -> None:
    reach, _ = among(*words)
    assert await reach.look() is may


async def test_of_two_that_do_not_reach_each_other_the_younger_takes_no_slots() -> None:
    for word in (REFUSED, NO_WAY):
        reach, company = among(word)
        told(company, 0, since=BEGAN - 1)
        assert await reach.look() is False
    reach, company = among(DEAD)
    told(company, 0, since=BEGAN - 1)
    assert await reach.look() is True, "it may be dead"


async def test_those_count_that_tell_through_kafka_that_they_do_not_reach_this_process() -> None:
    """From which nothing comes at all: a network that is cut, or TLS that fails."""
    reach, company = among(DEAD, DEAD)
    for number in range(2):
        told(company, number, "me/0")
    assert await reach.look() is False
    assert "2 of 3 processes do not" in reach.trouble()
    assert "gw-0/0 tells through Kafka that it does not reach this process; from here: Connection" in reach.trouble()
    told(company, 0, "me/0", ago_s=60)
    assert await reach.look() is True, "that one may be dead by now: with the other one it is half, and this is older"
    told(company, 0, "gw-9/0")
    assert await reach.look() is True, "another one is not reached from there"
    company.words["gw-0/0"] = WELL
    told(company, 0, "me/0")
    assert await reach.look() is True, "it has answered since"


async def test_nobody_leaves_where_nobody_reaches_most_others() -> None:
    reach, company = among(DEAD, DEAD)
    told(company, 0, "gw-1/0", "me/0")
    told(company, 1, "gw-0/0", "me/0")
    assert await reach.look() is True


async def test_a_process_that_comes_waits_for_what_silent_ones_tell_through_kafka() -> None:
    reach, company = among(DEAD, DEAD, DEAD, undecided_s=LONG_S)
    joining = asyncio.ensure_future(reach.well_at_first())
    await asked(company, 9)
    assert not joining.done()
    company.words["gw-0/0"] = WELL
    await asked(company, 9)
    assert not joining.done(), "the two others may not reach it, and one be the oldest: then it has no slots"
    company.words["gw-1/0"] = WELL
    assert await joining
    reach, company = among(DEAD, WELL, WELL, undecided_s=LONG_S)
    assert await reach.well_at_first(), "enough have answered"


async def test_operators_are_told_what_is_in_the_way() -> None:
    reach, company = among(REFUSED, NO_WAY)
    assert not await reach.well_at_first()
    trouble = reach.trouble()
    assert "2 of 3 processes do not" in trouble
    assert "gw-0/0: tcp://gw:7885: a wrong proof" in trouble
    assert "gw-1/0 does not reach this process: tcp://me:1: Connection refused" in trouble
    assert "cluster.peer.advertised (unix:me/0.sock)" in trouble
    assert company.questions[0] == {"process": "me/0", "boot": "1", "addresses": ["unix:me/0.sock"]}


async def test_a_process_that_comes_back_waits_until_the_others_have_tried_its_new_address() -> None:
    """They say first what they found when it was away."""
    reach, company = among(NO_WAY, UNTRIED, undecided_s=LONG_S)
    joining = asyncio.ensure_future(reach.well_at_first())
    await asked(company, 6)
    assert not joining.done()
    company.words["gw-0/0"] = WELL
    assert await joining


async def test_those_that_cannot_say_in_time_keep_nobody_out() -> None:
    reach, _ = among(UNTRIED, UNTRIED)
    assert await reach.well_at_first()


async def test_who_holds_slots_gives_them_up_when_it_has_been_so_for_long() -> None:
    reach, company = among(REFUSED, REFUSED, patience_s=LONG_S)
    waiting = asyncio.ensure_future(reach.bad())
    await asked(company, 20)
    assert not waiting.done(), "its time is not over"
    waiting.cancel()
    reach, company = among(REFUSED, WELL)
    waiting = asyncio.ensure_future(reach.bad())
    await asked(company, 20)
    assert not waiting.done()
    company.words["gw-1/0"] = REFUSED
    await waiting


async def test_who_has_left_comes_back_after_some_good_looks_in_a_row() -> None:
    reach, company = among(REFUSED, REFUSED)
    waiting = asyncio.ensure_future(reach.well_again())
    await asked(company, 20)
    assert not waiting.done()
    company.words["gw-1/0"] = WELL
    await waiting


async def test_a_process_says_whether_it_reaches_who_asks() -> None:
    reach, company = among()
    who = {"process": "gw-9/0", "boot": "2", "addresses": ["tcp://gw-9:1"]}
    company.reached["gw-9/0"] = Reach(False, None, "Connection refused", 1.0)
    assert reach.answer(who) == [False, "Connection refused"]
    assert company.known["gw-9/0"] == ["tcp://gw-9:1"]
    assert company.looked == ["gw-9/0"]
    assert reach.answer(who | {"process": Process("test", "me/0", "").id}) == []
    assert reach.answer({"process": 1}) == []
