"""Holders of one instance, one after the other, whose records Kafka stores late or never (cluster.md §4.2): the fold
alone decides what counts, and what counts is never what an earlier holder has written."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from kafka_gateway import jsonio
from kafka_gateway.cluster.fold import Effect
from kafka_gateway.cluster.held_slot import HeldSlot
from kafka_gateway.cluster.records import record_key
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.definitions import Definition, SlotKey, opened_by
from kafka_gateway.kafka.ports.slots import SlotRecord

KEY = record_key(SlotKey("g", "c"))
PROCESSES = ("a/0", "b/0", "c/0")


def record(definition: Definition) -> SlotRecord:
    return SlotRecord(0, KEY, jsonio.encode(definition), "")


class Late(NamedTuple):
    """Records of a process, so many, are stored now, or will never be."""

    process: str
    count: int
    lost: bool


class Turn(NamedTuple):
    """Of a process that has the slot: how many records are stored of those that it has written, behind the opening,
    behind what its client does, and behind the hand-over. Its client changes something (True) or reads. Meanwhile
    records of others are stored late."""

    process: str
    first: int
    late: list[Late]
    does: list[bool]
    then: int
    hands_over: bool
    at_last: int


@dataclasses.dataclass
class Process:
    """One that may have the slot. What it has written is stored in that order, or some of it never."""

    name: str
    held: HeldSlot | None = None
    instance: Definition | None = None
    """What is open here, when that is stored."""
    unstored: deque[tuple[Definition, HeldSlot]] = dataclasses.field(default_factory=deque)

    def write(self, definition: Definition) -> None:
        assert self.held is not None
        self.held.written[definition.uid] = definition
        self.unstored.append((definition, self.held))


class Cluster:
    def __init__(self) -> None:
        self.log = [record(Definition(1, "uid", "g", "c", 2, "json", "User:a", PROCESSES[0], epoch=1))]
        self.processes = {name: Process(name) for name in PROCESSES}
        self.holder: Process | None = None
        self.changes = 0
        self.confirmed = 0
        """The number of the last change that was answered 2xx."""
        self.returned = 0
        """How often the client was given something."""

    def turn(self, turn: Turn) -> None:
        """One process has the slot for a while."""
        process = self.processes[turn.process]
        self.take(process)
        assert process.held is not None
        self.open(process, process.held)
        self.store(turn.process, turn.first)
        for late in turn.late:
            self.store(*late)
        for change in turn.does:
            if process.instance is None:
                self.open(process, process.held)
            elif change:
                self.change(process)
            else:
                self.returned += 1
        self.store(turn.process, turn.then)
        if turn.hands_over and process.instance is not None:
            options = {**process.instance.options, "returned": str(self.returned)}
            process.write(structs.replace(process.instance, options=options, handed=True))
            self.store(turn.process, turn.at_last)
        process.held = process.instance = self.holder = None

    def take(self, process: Process) -> None:
        self.holder = process
        held = process.held = HeldSlot()
        for each in self.log:
            held.take(each, process.name, ())
        held.state = SlotState.SERVING
        assert _change(self.found(held)) >= self.confirmed, "what was confirmed is taken back"

    def found(self, held: HeldSlot) -> Definition:
        live = held.fold.get(KEY)
        assert live is not None
        return held.newest(live)

    def open(self, process: Process, held: HeldSlot) -> None:
        found = self.found(held)
        if process.instance is None:
            if found.handed:
                assert found.options["returned"] == str(self.returned), "its client is somewhere else"
            live = held.fold.get(KEY)
            assert live is not None
            process.write(opened_by(process.name, found, live.epoch + 1))

    def change(self, process: Process) -> None:
        assert process.instance is not None
        self.changes += 1
        options = {**process.instance.options, "change": str(self.changes)}
        process.instance = structs.replace(process.instance, options=options, handed=False)
        process.write(process.instance)

    def store(self, name: str, count: int, lost: bool = False) -> None:
        """Kafka stores the next records of the process, or they are lost."""
        process = self.processes[name]
        for _ in range(min(count, len(process.unstored))):
            definition, held = process.unstored.popleft()
            if not lost:
                self.append(process, definition, held)

    def append(self, process: Process, definition: Definition, held: HeldSlot) -> None:
        self.log.append(record(definition))
        if (reader := self.holder) is not None and reader.held is not None:
            taken = reader.held.take(self.log[-1], reader.name, ())
            if taken.is_foreign:
                reader.held.written.pop(definition.uid, None)
                reader.instance = None
            elif held is reader.held and reader.instance is None and taken.effect is not Effect.VOID:
                reader.instance = definition  # it is open
            self.agree(reader.held, taken.effect)
        if process.held is held:
            self.confirmed = max(self.confirmed, _change(definition))

    def agree(self, held: HeldSlot, effect: Effect) -> None:
        """Whoever reads all of the log finds the same."""
        late = HeldSlot()
        for each in self.log:
            last = late.take(each, "another/0", ()).effect
        assert (late.fold.get(KEY), last) == (held.fold.get(KEY), effect)


def _change(definition: Definition) -> int:
    return int(definition.options.get("change", "0"))


COUNTS = st.sampled_from((0, 1, 9))
NAMES = st.sampled_from(PROCESSES)
LATE = st.lists(st.builds(Late, NAMES, COUNTS, st.booleans()), max_size=2)
TURNS = st.builds(
    Turn, NAMES, COUNTS, LATE, does=st.lists(st.booleans(), max_size=3), then=COUNTS, hands_over=st.booleans(),
    at_last=COUNTS,
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.tuples(TURNS, LATE), max_size=6))
def test_nothing_that_was_confirmed_is_taken_back_by_an_earlier_holder(history: list[tuple[Turn, list[Late]]]) -> None:
    cluster = Cluster()
    for turn, behind in history:
        cluster.turn(turn)
        for late in behind:
            cluster.store(*late)
    cluster.take(cluster.processes[PROCESSES[0]])
