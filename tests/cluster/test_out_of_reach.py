"""What a process says of others that it does not reach: to balancers, and to those who watch it (cluster.md §7)."""

from __future__ import annotations

import pytest

from kafka_gateway.cluster.out_of_reach import OutOfReach
from kafka_gateway.cluster.ports import Reach
from kafka_gateway.config import load
from tests.cluster.test_store import COUNT, Setup
from tests.keys import BUILTIN_KEYS

HOLD_S = 10.0
HALF, MOST = COUNT // 2, COUNT // 2 + 1


@pytest.fixture
async def setup() -> Setup:
    """A member that nobody keeps waiting for a share any more."""
    made = Setup(load(BUILTIN_KEYS))
    reach = OutOfReach(made.gateway.config, made.store, made.processes.table, made.others)
    made.store.out_of_reach = reach.trouble
    made.store.trouble = ""
    made.gateway.metrics.add(reach.families)
    return made


def unreached(seconds: float) -> Reach:
    return Reach(False, None, "Connection refused", seconds)


NAME = "kafka_gateway_cluster_slots_out_of_reach"
REACHED = Reach(True, 0.0, "")


@pytest.mark.parametrize(
    ("slots", "reach", "ready"),
    [
        (MOST, unreached(HOLD_S), False),
        (MOST, unreached(HOLD_S - 0.1), True),
        (MOST, REACHED, True),
        (MOST, Reach(None, None, ""), True),
        (HALF, unreached(HOLD_S), True),
    ],
)
async def test_not_ready_is_who_does_not_reach_most_slots(setup: Setup, slots: int, reach: Reach, ready: bool) -> None:
    setup.serve(*range(slots, COUNT))
    setup.claim("away/0", *range(slots))
    setup.others.reached["away/0"] = reach
    assert (setup.store.trouble == "") is ready
    if not ready:
        assert f"{slots} of {COUNT} slots" in setup.store.trouble
        setup.claim("other/0", *range(slots))
        assert setup.store.trouble == "", "another process has taken them over"
        setup.others.reached["other/0"] = unreached(HOLD_S)
        setup.serve(*range(slots))
        assert setup.store.trouble == "", "or this one, and nobody has read that yet"


async def test_a_dead_process_is_nobodys_trouble_before_others_can_have_its_slots() -> None:
    setup = Setup(load(BUILTIN_KEYS, overrides=["cluster.hold.ms=2000", "cluster.session.timeout.ms=6000"]))
    reach = OutOfReach(setup.gateway.config, setup.store, setup.processes.table, setup.others)
    setup.claim("away/0", *range(COUNT))
    setup.others.reached["away/0"] = unreached(7.9)
    assert not reach.trouble()
    setup.others.reached["away/0"] = unreached(8.0)
    assert reach.trouble()


async def test_processes_and_slots_out_of_reach_are_counted(setup: Setup) -> None:
    setup.serve(0)
    setup.claim("me/0", 0)
    setup.claim("near/0", 1)
    setup.claim("away/0", 2, 3)
    setup.claim("gone/0", 4, state="gone")
    setup.others.reached |= {"near/0": REACHED, "away/0": unreached(0.1), "gone/0": unreached(HOLD_S)}
    rendered, _ = await setup.gateway.metrics.render()
    lines = rendered.decode().splitlines()
    assert {line for line in lines if line.startswith(("kafka_gateway_cluster_peers{", NAME))} == {
        'kafka_gateway_cluster_peers{state="reachable"} 1.0',
        'kafka_gateway_cluster_peers{state="unreachable"} 1.0',
        f"{NAME} 2.0",
    }
