"""Holders of one instance, one after the other, whose records Kafka stores late or never (cluster.md §4.2): the fold
alone decides what counts, and what counts is never what an earlier holder has written.

Of a process that is killed and started again both are writers of their own, so it is two holders here."""

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
from kafka_gateway.cluster.records import headers_of, read_deletion, record_key
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.definitions import Definition, Deletion, SlotKey, opened_by
from kafka_gateway.kafka.ports.slots import SlotRecord

KEY = record_key(SlotKey("g", "c"))
PROCESSES = ("a/0", "b/0", "c/0")


def record(written: Definition | Deletion, repaired: Deletion | None = None) -> SlotRecord:
    deletion = repaired if isinstance(written, Definition) else written
    headers = {name: value.decode() for name, value in headers_of(deletion)} if deletion is not None else {}
    return SlotRecord(0, KEY, jsonio.encode(written) if isinstance(written, Definition) else None, headers)


class Late(NamedTuple):
    """Records of a process, so many, are stored now, or will never be."""

    process: str
    count: int
    lost: bool


class Turn(NamedTuple):
    """Of a process that has the slot: how many records are stored of those that it has written, behind the opening,
    behind what its client does, and behind the hand-over. Its client changes something, reads or deletes it, or it
    expires before its client asks for anything. Meanwhile records of others are stored late."""

    process: str
    first: int
    late: list[Late]
    expires: bool
    does: list[str]
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
    opens: int = 0
    """The epoch in which it is being opened here."""
    deletes: bool = False
    """Whether its client waits for that."""
    unstored: deque[tuple[SlotRecord, HeldSlot]] = dataclasses.field(default_factory=deque)

    def write(self, written: Definition | Deletion, repaired: Deletion | None = None) -> None:
        assert self.held is not None
        if isinstance(written, Definition) and repaired is None:
            self.held.written[written.uid] = written
        self.unstored.append((record(written, repaired), self.held))

    def repair(self) -> None:
        assert self.held is not None
        for _, live, deletion in self.held.repairs():
            self.unstored.append((record(live, deletion) if live is not None else record(_known(deletion)), self.held))

    def delete(self) -> None:
        """As `SlotStore.delete`."""
        assert self.held is not None
        live = self.held.fold.get(KEY)
        assert live is not None
        self.write(Deletion(live.uid, live.epoch + 1, self.name))


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
        self.deleted = False
        """Whether its client was told so."""

    def turn(self, turn: Turn) -> None:
        """One process has the slot for a while."""
        process = self.processes[turn.process]
        self.take(process)
        assert process.held is not None
        if turn.expires and process.held.fold.get(KEY) is not None:
            process.delete()
        else:
            self.open(process, process.held)
        self.store(turn.process, turn.first)
        for late in turn.late:
            self.store(*late)
        for does in turn.does if not turn.expires else ():
            if process.deletes:
                break
            if process.instance is None:
                self.open(process, process.held)
            elif does == "change":
                self.change(process)
            elif does == "delete":
                process.delete()
                process.deletes = True
            else:
                self.returned += 1
        self.store(turn.process, turn.then)
        if turn.hands_over and process.instance is not None:
            options = {**process.instance.options, "returned": str(self.returned)}
            process.write(structs.replace(process.instance, options=options, handed=True))
            self.store(turn.process, turn.at_last)
        process.held = process.instance = self.holder = None
        process.deletes = False

    def take(self, process: Process) -> None:
        self.holder = process
        held = process.held = HeldSlot()
        for each in self.log:
            held.take(each, process.name)
        held.state = SlotState.SERVING
        process.repair()
        found = self.found(held)
        assert found is None or _change(found) >= self.confirmed, "what was confirmed is taken back"

    def found(self, held: HeldSlot) -> Definition | None:
        live = held.fold.get(KEY)
        assert live is None or not self.deleted, "what was deleted lives again"
        return held.newest(live) if live is not None else None

    def open(self, process: Process, held: HeldSlot) -> None:
        found = self.found(held)
        if process.instance is None and found is not None:
            if found.handed:
                assert found.options["returned"] == str(self.returned), "its client is somewhere else"
            live = held.fold.get(KEY)
            assert live is not None
            process.opens = live.epoch + 1
            process.write(opened_by(process.name, found, process.opens))

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
            written, held = process.unstored.popleft()
            if not lost:
                self.append(process, written, held)

    def append(self, process: Process, written: SlotRecord, held: HeldSlot) -> None:
        self.log.append(written)
        definition = jsonio.Decoder(Definition).decode(written.value) if written.value is not None else None
        is_own = process.held is held
        if (reader := self.holder) is not None and reader.held is not None:
            taken = reader.held.take(written, reader.name)
            if taken.effect is Effect.ENDED:
                assert is_own or reader.instance is None, "an earlier holder ends what is in use"
                reader.instance = None
            elif taken.is_foreign:
                reader.instance = None
            elif is_own and definition is not None and taken.effect is not Effect.VOID and taken.epoch == reader.opens:
                reader.instance = reader.instance or definition  # it is open
            if taken.is_foreign or taken.effect is Effect.ENDED:
                reader.held.written.pop(taken.uid, None)
            if is_own and definition is None and process.deletes and taken.effect is not Effect.VOID:
                self.deleted = True
            reader.repair()
            self.agree(reader.held, taken.effect)
        if is_own and definition is not None:
            self.confirmed = max(self.confirmed, _change(definition))

    def agree(self, held: HeldSlot, effect: Effect) -> None:
        """Whoever reads all of the log finds the same."""
        late = HeldSlot()
        for each in self.log:
            last = late.take(each, "another/0").effect
        assert (late.fold.get(KEY), last) == (held.fold.get(KEY), effect)

    def compact(self) -> None:
        """Whoever reads the log as compaction leaves it finds the same, in whichever place that ended: all that is void
        has been repaired by then (cluster.md §11 no. 2), and no segment ends between a void definition and that."""
        whole, compacted = HeldSlot(), list[list[SlotRecord]]()
        for place, each in enumerate(self.log):
            effect, behind = whole.take(each, "another/0").effect, self.log[place + 1 :]
            is_repaired = each.value is None and any(
                read_deletion(later.headers) == read_deletion(each.headers) for later in behind if later.value
            )
            if effect is not Effect.VOID or is_repaired:
                compacted.append([each, *behind])
        for log in compacted:
            reader = HeldSlot()
            for each in log:
                reader.take(each, "another/0")
            assert reader.fold.get(KEY) == whole.fold.get(KEY)


def _known(deletion: Deletion | None) -> Deletion:
    assert deletion is not None
    return deletion


def _change(definition: Definition) -> int:
    return int(definition.options.get("change", "0"))


COUNTS = st.sampled_from((0, 1, 9))
NAMES = st.sampled_from(PROCESSES)
LATE = st.lists(st.builds(Late, NAMES, COUNTS, st.booleans()), max_size=2)
TURNS = st.builds(
    Turn, NAMES, COUNTS, LATE, expires=st.sampled_from((False, False, True)),
    does=st.lists(st.sampled_from(("change", "read", "delete")), max_size=3), then=COUNTS, hands_over=st.booleans(),
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
    cluster.compact()
