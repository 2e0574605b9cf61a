"""A cluster of the size that is promised, in one process and without sockets (cluster.md §12.1).

What grows with it is counted, not timed: interpreter instructions and bytes are the same on each machine.
"""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from kafka_gateway import jsonio
from kafka_gateway.cluster.ports import Process
from kafka_gateway.cluster.records import Claim, hash_of_key, read_claim, record_key, write_slots
from kafka_gateway.cluster.routing import SlotState, Turn, decide
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.cluster.table import Table
from kafka_gateway.definitions import Anchor, Definition, SlotKey, Subscribed, new_uid
from kafka_gateway.kafka.ports.slots import SlotRecord
from tests.bench.instructions import instructions

PROCESSES = 200
SLOTS = 1024
INSTANCES = 10_000
POLL = 500
"""Records that come together."""
STEP_MAX = 400_000
"""Interpreter instructions in one step of the event loop: 10 ms or so, a fifth of what a step may take."""


class Group:
    """The slots of each process, as Kafka's cooperative assignor keeps them: balanced, and few move."""

    def __init__(self) -> None:
        self.of: dict[str, set[int]] = {}

    def join(self, process: str) -> set[str]:
        """Whose slots are others now."""
        return self._balance({**self.of, process: set()}, set())

    def leave(self, process: str) -> set[str]:
        rest = dict(self.of)
        return self._balance(rest, rest.pop(process))

    def _balance(self, members: dict[str, set[int]], free: set[int]) -> set[str]:
        before = {process: frozenset(slots) for process, slots in self.of.items()}
        free = free or (set() if self.of else set(range(SLOTS)))
        least, more = divmod(SLOTS, len(members))
        for place, process in enumerate(sorted(members, key=lambda each: -len(members[each]))):
            slots, share = members[process], least + (place < more)
            while len(slots) > share:
                free.add(slots.pop())
            while len(slots) < share and free:
                slots.add(free.pop())
        for process in members:
            while free and len(members[process]) <= least:
                members[process].add(free.pop())
        self.of = members
        return {process for process, slots in members.items() if frozenset(slots) != before.get(process)}


def name(number: int) -> str:
    return f"gateway-{number:03}.example.com/0"


class Cluster:
    """The process topic, and what each process knows of it."""

    def __init__(self, processes: int) -> None:
        self.group = Group()
        self.log: list[tuple[str, bytes]] = []
        self.written: Counter[str] = Counter()
        for number in range(processes):
            self.group.join(name(number))
        for process in self.group.of:
            self.tell(process)

    def tell(self, process: str) -> None:
        host = process.partition("/")[0]
        addresses = (f"unix:default/{process}.sock", f"tls://{host}:7885")
        claim = Claim(1, "3f2c9b1e5a7d4c80", addresses, write_slots(self.group.of.get(process, ())))
        self.log.append((process, jsonio.encode(claim)))
        self.written[process] += 1

    def read(self, table: Table, start: int = 0) -> None:
        for offset, (process, value) in enumerate(self.log[start:], start):
            table.put(process, read_claim(value), offset, 0.0)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(PROCESSES)


def allocated(make: object) -> tuple[object, int]:
    tracemalloc.start()
    try:
        made = make()  # type: ignore[operator]
        return made, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


async def test_a_table_of_many_processes_is_small_and_changes_cheaply(cluster: Cluster) -> None:
    def read() -> Table:
        table = Table()
        cluster.read(table)
        return table

    table, size = allocated(read)
    assert isinstance(table, Table)
    assert size < 1_000_000
    assert {slot: table.owner(slot) for slot in range(SLOTS)} == {
        slot: process for process, slots in cluster.group.of.items() for slot in slots
    }
    assert max(len(value) for _, value in cluster.log) <= 400
    before = len(cluster.log)
    changed = cluster.group.join(name(PROCESSES))
    assert len(changed) <= 10  # it gets five slots or six, of as many others
    for process in changed:
        cluster.tell(process)
    cluster.read(table, before)
    assert all(table.owner(slot) == name(PROCESSES) for slot in cluster.group.of[name(PROCESSES)])
    # What one record costs a reader does not grow with the cluster.
    process, value = cluster.log[-1]
    small = Cluster(4)
    few = Table()
    small.read(few)

    def put(into: Table, bytes_of: bytes) -> None:
        into.put(process, read_claim(bytes_of), before, 0.0)

    here = await instructions(partial(put, table, value))
    assert here <= 2 * await instructions(partial(put, few, value))
    # And all of them together, as a process that starts reads them.
    assert here * len(cluster.log) < STEP_MAX


# --- definitions ------------------------------------------------------------------------------------------------------


def definitions() -> Iterator[Definition]:
    for number in range(INSTANCES):
        anchors = {"orders": {str(each): Anchor(120_000 + number, 100_000) for each in range(2)}}
        yield Definition(
            1, new_uid(), f"readers-{number % 97}", f"rest-consumer-{number:08x}", 2, "json", "User:alice", name(7),
            options={"auto.offset.reset": "earliest", "auto.commit.enable": "false"},
            subscription=Subscribed(("orders",)), anchors=anchors,
        )  # fmt: skip


class Nobody:
    def slots_changed(self) -> None:
        pass

    def fenced(self, why: str) -> None:
        pass


@pytest.fixture(scope="module")
def records() -> list[SlotRecord]:
    found = []
    for each in definitions():
        place = SlotKey(each.group, each.name)
        found.append(SlotRecord(hash_of_key(place) % SLOTS, record_key(place), jsonio.encode(each)))
    return found


def store() -> SlotStore:
    made = SlotStore(Process("c", name(7), "1"), "instances", lambda: None, Nobody())  # type: ignore[arg-type, return-value]
    made.count = SLOTS
    made.assigned(range(SLOTS))
    return made


async def test_all_instances_fit_into_one_process(records: list[SlotRecord]) -> None:
    """The last one that is left, or the first one after an outage, has them all for a moment."""
    assert sum(len(each.key) + len(each.value or b"") for each in records) < 5_000_000

    def replay() -> SlotStore:
        made = store()
        for start in range(0, INSTANCES, POLL):
            made.records(records[start : start + POLL])
        made.caught_up(range(SLOTS))
        return made

    made, size = allocated(replay)
    assert isinstance(made, SlotStore)
    assert sum(made.instances().values()) == INSTANCES
    assert size < 40_000_000
    # By the hash no slot has many more than its share.
    assert max(made.instances().values()) < 4 * INSTANCES / SLOTS
    here = store()
    assert await instructions(partial(here.records, records[:POLL])) < STEP_MAX
    assert await instructions(partial(here.caught_up, range(SLOTS))) < STEP_MAX


async def test_each_request_finds_its_owner_in_one_hop(cluster: Cluster, records: list[SlotRecord]) -> None:
    """Whichever process it comes to: answered there, or forwarded once; and all but one in so many are."""
    table = Table()
    cluster.read(table)
    processes, chosen = list(cluster.group.of), random.Random(18)
    turns: Counter[Turn] = Counter()
    for record in records:
        origin = chosen.choice(processes)

        def state(process: str, slot: int = record.slot) -> SlotState | None:
            return SlotState.SERVING if slot in cluster.group.of[process] else None

        decision = decide(state(origin), table.owner(record.slot), origin, False)
        turns[decision.turn] += 1
        if decision.turn is Turn.FORWARD:
            at_home = decide(state(decision.process), table.owner(record.slot), decision.process, True)
            assert at_home.turn is Turn.HERE
    assert set(turns) == {Turn.HERE, Turn.FORWARD}
    assert turns[Turn.HERE] < 3 * INSTANCES / len(processes)


async def test_a_node_that_leaves_leaves_no_slot_behind(cluster: Cluster) -> None:
    """A tenth of them goes, one after the other; every table ends with the same owners."""
    table, late = Table(), Table()
    cluster.read(table)
    before = len(cluster.log)
    written = cluster.written.total()
    for number in range(PROCESSES // 10):
        leaving = name(number)
        changed = cluster.group.leave(leaving)
        for process in (leaving, *changed):
            cluster.tell(process)
        await asyncio.sleep(0)
    cluster.read(table, before)
    cluster.read(late)
    owners = {slot: process for process, slots in cluster.group.of.items() for slot in slots}
    assert {slot: table.owner(slot) for slot in range(SLOTS)} == owners
    assert {slot: late.owner(slot) for slot in range(SLOTS)} == owners
    assert cluster.written.total() - written <= 10 * PROCESSES // 10
