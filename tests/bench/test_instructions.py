"""The hot paths do not become dearer unnoticed (instructions.py says what is counted)."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

from tests.bench import instructions
from tests.bench.forwarding import RECORDS
from tests.bench.instructions import KEPT, UNDER_RIGHTS, VERSION, kept

ROOT = Path(__file__).parents[2]
_AT_MOST = 1.05
_OF_A_CLUSTER = 120
"""Instructions that being a node of a cluster may add to a request that is answered in place."""


async def test_no_hot_path_costs_more_than_is_kept() -> None:
    if VERSION not in kept():
        pytest.skip(f"{KEPT.name} has no counts of Python {VERSION}")
    # In a process of its own: here the tests look into what passes through.
    command = [sys.executable, "-m", "tests.bench.instructions", "--json"]
    counted = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    printed, _ = await counted.communicate()
    before, now = kept()[VERSION], json.loads(printed)
    assert now.keys() == before.keys()
    # Rights cost nothing per delivery: they are asked when a stream is opened, and when the rules change.
    assert now[UNDER_RIGHTS] == now["a batch to 1,000 event streams"]
    dearer = {name: (before[name], count) for name, count in now.items() if count > before[name] * _AT_MOST}
    assert dearer == {}, "kept, now; if it has to be: python -m tests.bench.instructions --write, and say why"


async def test_a_dearer_path_is_seen() -> None:
    def path(lines: int) -> None:
        textwrap.dedent("a\n" * lines)

    cheap, dear = [await instructions.instructions(partial(path, lines)) for lines in (1, 9)]
    assert cheap * _AT_MOST < dear


@pytest.mark.parametrize("what", ["no records", f"{RECORDS} records"])
def test_a_node_of_a_cluster_reads_in_place_for_little_more(what: str) -> None:
    """A request takes processor time of 150 µs and more, from socket to socket and in the threads of Kafka's client;
    100 instructions take 2 to 3 (cluster.md §12)."""
    if VERSION not in kept():
        pytest.skip(f"{KEPT.name} has no counts of Python {VERSION}")
    counts = kept()[VERSION]
    assert counts[f"a read of {what}, in place"] - counts[f"a read of {what}, alone"] <= _OF_A_CLUSTER
