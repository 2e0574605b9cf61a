"""Slots that are nobody's after their topic was deleted while they were shared out (cluster.md §4.1)."""

from __future__ import annotations

import pytest

from kafka_gateway.cluster.left_over import LeftOver
from kafka_gateway.cluster.ports import Reach
from kafka_gateway.config import load
from tests.cluster.test_store import COUNT, ME, Setup
from tests.keys import BUILTIN_KEYS

SESSION_S = 6.0


@pytest.fixture
async def setup() -> Setup:
    return Setup(load(BUILTIN_KEYS, overrides=[]))


def watched(setup: Setup) -> LeftOver:
    return LeftOver(ME, setup.store, setup.processes.table, setup.others, SESSION_S)  # type: ignore[arg-type]


async def test_slots_that_are_nobodys_for_some_time_are_shared_out_again(setup: Setup) -> None:
    left_over = watched(setup)
    setup.serve(*range(COUNT - 2))
    assert not left_over.is_due(0.0)
    assert not left_over.is_due(50.0), "a node may be about to take them: its topic was not deleted"
    left_over.topic_made_again(100.0)
    assert not left_over.is_due(101.0)
    assert not left_over.is_due(104.0)
    assert left_over.is_due(105.5)
    assert not left_over.is_due(106.5), "it has just joined again"
    assert left_over.is_due(111.0), "that was of no use"
    setup.claim("other/0", COUNT - 2, COUNT - 1)
    assert not left_over.is_due(112.0)
    assert not left_over.is_due(120.0)
    setup.claim("other/0", COUNT - 2)
    assert not left_over.is_due(170.0), "long after the topic was made again"


async def test_one_of_all_has_them_shared_out(setup: Setup) -> None:
    left_over = watched(setup)
    setup.serve(0)
    setup.claim("a/0", 1)
    left_over.topic_made_again(0.0)
    assert not left_over.is_due(1.0)
    assert not left_over.is_due(10.0), "that is for the first one"
    setup.others.reached["a/0"] = Reach(False, None, "Connection refused", SESSION_S + 5)
    assert left_over.is_due(11.0), "which is dead"


async def test_what_a_dead_process_had_is_kafkas_to_give_until_its_session_is_over(setup: Setup) -> None:
    left_over = watched(setup)
    setup.serve(*range(COUNT - 1))
    setup.claim("other/0", COUNT - 1)
    setup.others.reached["other/0"] = Reach(False, None, "Connection refused", SESSION_S)
    left_over.topic_made_again(0.0)
    assert not left_over.is_due(1.0)
    assert not left_over.is_due(10.0)
    setup.others.reached["other/0"] = Reach(False, None, "Connection refused", SESSION_S + 5)
    assert not left_over.is_due(11.0)
    assert left_over.is_due(16.0)


async def test_slots_that_are_read_here_are_not_nobodys(setup: Setup) -> None:
    left_over = watched(setup)
    setup.store.assigned(range(COUNT))
    left_over.topic_made_again(0.0)
    assert not left_over.is_due(1.0)
    assert not left_over.is_due(20.0)
