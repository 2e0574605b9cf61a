"""Whose client a tracking id is, read from its mark by every process in the same way (cluster.md §5.1)."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.cluster.ports import PeerLost
from kafka_gateway.cluster.table import mark_of
from kafka_gateway.cluster.way import ClusterWay
from kafka_gateway.config import load
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.messages import Reply
from tests.cluster.test_store import COUNT, ME, Setup, request
from tests.keys import BUILTIN_KEYS

NOBODYS = "0000000a"
ADOPTED = int(NOBODYS, 16) % COUNT
"""The slot that it falls on."""
THERE = Reply(200, "", b"there")


@pytest.fixture
async def setup() -> Setup:
    return Setup(load(BUILTIN_KEYS, overrides=["cluster.hold.ms=300"]))


def way_of(setup: Setup) -> ClusterWay:
    node = ["me/0", "me/1"]
    return ClusterWay(setup.gateway, ME, node, setup.store, setup.processes.table, setup.others)


def lost(sent: bool = False) -> PeerLost:
    return PeerLost("", sent)


async def test_a_mark_names_the_process_that_made_it(setup: Setup) -> None:
    way = way_of(setup)
    setup.claim("other/0", 1)
    setup.claim("bare/0")
    assert way.elsewhere_marked(way.mark) is None
    for process in ("other/0", "bare/0", "me/1"):  # with slots, without, and one that has told nothing yet
        worker = way.elsewhere_marked(mark_of(process))
        assert worker is not None
        setup.others.answers = [THERE]
        assert await way.relay("atmosphere", request(), worker) is THERE
    assert setup.others.asked == ["other/0", "bare/0", "me/1"]


async def test_the_client_of_one_that_is_gone_is_adopted(setup: Setup) -> None:
    """By whoever has the slot that the mark falls on; so is what nobody has made."""
    way = way_of(setup)
    assert way.elsewhere_marked(NOBODYS) is None, "nobody is known"
    setup.claim("other/0", ADOPTED)
    worker = way.elsewhere_marked(NOBODYS)
    assert worker is not None
    setup.others.answers = [THERE]
    assert await way.relay("atmosphere", request(), worker) is THERE
    setup.claim("dead/0", 1)
    slot = int(mark_of("dead/0"), 16) % COUNT
    worker = way.elsewhere_marked(mark_of("dead/0"))
    assert worker is not None
    setup.claim("other/0", *range(COUNT))  # others have what it had
    setup.others.answers, setup.others.asked = [lost(), THERE], []
    assert await way.relay("atmosphere", request(), worker) is THERE
    assert setup.others.asked == ["dead/0", "other/0"]
    setup.claim("other/0")
    setup.claim("me/0", slot)
    setup.others.answers = [lost()]
    assert await way.relay("atmosphere", request(), worker) is None, "this one"
    setup.claim("dead/0", state="gone")
    assert way.elsewhere_marked(mark_of("dead/0")) is None


async def test_one_that_is_only_away_is_waited_for(setup: Setup) -> None:
    """While it has its slots nobody else serves its clients. What it may have carried out is not sent again."""
    way = way_of(setup)
    setup.claim("other/0", 1)
    worker = way.elsewhere_marked(mark_of("other/0"))
    assert worker is not None
    setup.others.answers = [lost(), THERE]
    assert await way.relay("atmosphere", request(), worker) is THERE
    setup.others.answers = [lost() for _ in range(20)]
    with pytest.raises(InstanceUnavailable):
        await way.relay("atmosphere", request(), worker)
    setup.others.answers = [lost(sent=True), THERE]
    with pytest.raises(InstanceUnavailable):
        await way.relay("atmosphere", request(), worker)
    assert setup.others.answers == [THERE]


async def test_a_node_that_ends_answers_before(setup: Setup) -> None:
    way = way_of(setup)
    setup.claim("other/0", 1)
    worker = way.elsewhere_marked(mark_of("other/0"))
    assert worker is not None
    asking = asyncio.ensure_future(way.relay("atmosphere", request(), worker))
    await setup.others.called.wait()
    await setup.gateway.drain(0.0)
    with pytest.raises(InstanceUnavailable):
        await asking
