"""What several nodes decide without any I/O: records, the fold, anchors, the table, routing (cluster.md §14 no. 1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kafka_gateway import jsonio
from kafka_gateway.cluster.fold import Effect, Fold
from kafka_gateway.cluster.records import (
    Claim,
    UnknownRecord,
    hash_of_key,
    read_claim,
    read_count,
    read_definition,
    read_slots,
    record_key,
    slot_key,
    write_count,
    write_slots,
)
from kafka_gateway.cluster.routing import RoutingDecision, SlotState, Turn, decide
from kafka_gateway.cluster.table import Table
from kafka_gateway.definitions import (
    Anchor,
    Definition,
    Deletion,
    SlotKey,
    Subscribed,
    anchors_of,
    goes_on,
    new_uid,
    start_of,
)
from kafka_gateway.kafka.ports.topics import TopicPartition

KEY_OF_SLOT = SlotKey("g", "c1")
KEY = record_key(KEY_OF_SLOT)


def defined(uid: str, note: str = "", by: str = "gw-1/0") -> Definition:
    return Definition(1, uid, "g", "c1", 2, "json", "User:alice", by, options={"note": note})


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_definition_comes_back_as_it_was_written() -> None:
    definition = Definition(
        1, new_uid(), "g", "c1", 2, "json", "User:älice", "gw-1/3",
        options={"auto.offset.reset": "latest"},
        subscription=Subscribed(partitions=(("orders", 0), ("orders", 1))),
        anchors={"orders": {"0": Anchor(120, 100), "1": Anchor(7)}},
        handed=True,
    )  # fmt: skip
    value = jsonio.encode(definition)
    assert read_definition(KEY, value) == definition
    assert b'"1":{"at":7}' in value, "members that say nothing are left out"
    assert definition.anchor("orders", 0) == Anchor(120, 100)
    assert definition.anchor("orders", 2) is None


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (KEY, b'"v":2'),
        (b"g\0another", b'"v":1'),
        (b"no separator", b'"v":1'),
        (b"\xff\0c1", b'"v":1'),
        (KEY, b'"v":"1"'),
        (KEY, b'"v":'),
    ],
)
def test_records_of_others_are_known_as_such(key: bytes, change: bytes) -> None:
    value = jsonio.encode(defined("u")).replace(b'"v":1', change)
    with pytest.raises(UnknownRecord):
        read_definition(key, value)


def test_members_that_are_not_known_are_passed_over() -> None:
    assert read_definition(KEY, jsonio.encode(defined("u")).replace(b'"v":1', b'"later":[{}],"v":1')) == defined("u")


@pytest.mark.parametrize(
    ("group", "name", "partition"),
    [("group", "name", 54), ("g", "c1", 42), ("readers", "one", 51), ("ü", "rest-consumer-7e7c", 7)],
)
def test_the_slot_is_the_partition_that_producers_choose(group: str, name: str, partition: int) -> None:
    """Where Kafka 4.1 stored records with these keys, in a topic of 64 partitions, by the partitioner murmur2."""
    place = SlotKey(group, name)
    assert slot_key(record_key(place)) == place
    assert hash_of_key(place) % 64 == partition


@given(st.frozensets(st.integers(0, 99_999), max_size=200))
def test_runs_of_slots_come_back(slots: frozenset[int]) -> None:
    assert read_slots(write_slots(slots)) == slots
    assert write_slots([3, 0, 17, 2, 1]) == "0-3,17"


@pytest.mark.parametrize("text", ["-", "1-", "a", "3-1", "0-999999999999", "-1", "1,,2", "²"])
def test_what_are_no_slots(text: str) -> None:
    with pytest.raises(UnknownRecord):
        read_claim(jsonio.encode(Claim(1, "b", (), text)))


@pytest.mark.parametrize("value", [b"", b"{}", b'{"v":2,"count":8}', b'{"v":1,"count":0}', b'{"v":1,"count":-3}'])
def test_what_says_no_number_of_slots(value: bytes) -> None:
    assert read_count(value) == 0
    assert read_count(write_count(8)) == 8


# --- the fold ---------------------------------------------------------------------------------------------------------

UIDS = ("a", "b", "c")
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(UIDS), st.text("xyz", max_size=1)),
        st.tuples(st.just("delete"), st.sampled_from(("", *UIDS)), st.just("")),
    ),
    max_size=12,
)


def apply(fold: Fold, write: tuple[str, str, str]) -> Effect:
    kind, uid, note = write
    return fold.put(KEY, defined(uid, note)) if kind == "put" else fold.delete(KEY, Deletion(uid))


@given(WRITES)
def test_a_reader_of_the_compacted_log_finds_the_same_after_repair(writes: list[tuple[str, str, str]]) -> None:
    """Whatever comes, a holder repairs what is void; then the last record of the key says what is true."""
    fold, last = Fold(), None
    for write in writes:
        effect, last = apply(fold, write), write
        if effect is Effect.VOID:
            live = fold.get(KEY)
            last = ("put", live.uid, live.options["note"]) if live is not None else ("delete", write[1], "")
            assert apply(fold, last) is not Effect.VOID, "a repair is valid itself"
        late = Fold()
        apply(late, last)
        assert late.get(KEY) == fold.get(KEY)


@given(WRITES)
def test_who_is_dead_stays_dead(writes: list[tuple[str, str, str]]) -> None:
    fold, ended = Fold(), set()
    for write in writes:
        apply(fold, write)
        if write[0] == "delete":
            ended.add(write[1])
        live = fold.get(KEY)
        assert live is None or live.uid not in ended


def test_of_two_that_create_one_name_the_first_in_the_log_has_it() -> None:
    fold = Fold()
    assert fold.put(KEY, defined("a")) is Effect.CREATED
    assert fold.put(KEY, defined("b")) is Effect.VOID
    assert fold.delete(KEY, Deletion("b")) is Effect.VOID
    assert fold.put(KEY, defined("a", "x")) is Effect.CHANGED
    assert [each.uid for each in fold] == ["a"]
    assert fold.delete(KEY, Deletion("a")) is Effect.ENDED
    assert fold.put(KEY, defined("a", "late")) is Effect.VOID
    assert fold.delete(KEY, Deletion("c")) is Effect.NOTHING
    assert len(fold) == 0


def test_a_hand_over_counts_if_nobody_else_has_written_since() -> None:
    """One that comes late, since Kafka was away, is not where the client of an instance is that was opened elsewhere
    meanwhile."""
    fold = Fold()
    opened, handed, elsewhere = (defined("a", note, by) for note, by in (("", "x"), ("handed", "x"), ("", "y")))
    handed = structs.replace(handed, handed=True)
    for each, effect in (
        (opened, Effect.CREATED), (handed, Effect.CHANGED), (elsewhere, Effect.CHANGED), (handed, Effect.VOID),
    ):  # fmt: skip
        assert fold.put(KEY, each) is effect
    assert fold.get(KEY) == elsewhere
    alone = Fold()
    assert alone.put(KEY, handed) is Effect.CREATED, "compaction has kept nothing else"


MINE = "mine"
OTHERS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from((MINE, *UIDS)), st.text("xyz", max_size=1)),
        st.tuples(st.just("delete"), st.sampled_from(("", MINE, *UIDS)), st.just("")),
        st.tuples(st.just("open"), st.just(MINE), st.just("")),
    ),
    max_size=8,
)


@given(OTHERS)
def test_what_was_kept_without_its_slot_goes_on_if_nothing_that_counts_was_written_since(
    writes: list[tuple[str, str, str]],
) -> None:
    """Whoever else opens the instance writes the same definition in its own name."""
    kept = defined(MINE, "as it was")
    fold, counted = Fold(), False
    assert fold.put(KEY, kept) is Effect.CREATED
    for kind, uid, note in writes:
        if kind == "delete":
            effect = fold.delete(KEY, Deletion(uid))
        else:
            text = "as it was" if kind == "open" else note
            effect = fold.put(KEY, defined(uid, text, "another/0"))
        counted = counted or effect not in (Effect.VOID, Effect.NOTHING)
    assert goes_on(kept, fold.get(KEY)) is not counted
    assert not goes_on(None, None)


# --- anchors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchor", "committed", "start"),
    [
        (None, None, None),
        (None, 5, 5),
        (Anchor(120, 100), 100, 120),
        (Anchor(120, 100), 130, 130),
        (Anchor(120, 100), None, None),
        (Anchor(7), None, 7),
        (Anchor(7), 0, 0),
        (Anchor(3, 100), 100, 3),
    ],
)
def test_an_anchor_counts_until_something_else_is_committed(
    anchor: Anchor | None, committed: int | None, start: int | None
) -> None:
    assert start_of(anchor, committed) == start


def test_only_what_the_group_does_not_say_becomes_an_anchor() -> None:
    one, two, three = (TopicPartition("t", number) for number in range(3))
    found = anchors_of({one: 5, two: 5, three: 0}, {one: 5, two: 4})
    assert found == {"t": {"1": Anchor(5, 4), "2": Anchor(0)}}


# --- the table, and where requests go ---------------------------------------------------------------------------------


def test_the_latest_claim_to_a_slot_wins() -> None:
    table = Table()
    assert table.put("a", Claim(1, "1", slots="0-3"), 0, 0.0) == frozenset(range(4))
    assert table.put("b", Claim(1, "1", slots="2-5"), 1, 0.0) == frozenset(range(2, 6))
    assert [table.owner(slot) for slot in range(7)] == ["a", "a", "b", "b", "b", "b", None]
    # What a has lost to b is not taken from b when a gives it up, and a slot that nobody claims has no owner.
    assert table.put("a", Claim(1, "1", slots="0", state="draining"), 2, 0.0) == {1}
    assert [table.owner(slot) for slot in range(3)] == ["a", None, "b"]
    assert table.put("b", Claim(1, "2", slots="0-5", state="gone"), 3, 0.0) == frozenset(range(2, 6))
    assert table.remove("a") == {0}
    assert next(iter(table)).id == "b"


CLAIMS = st.lists(st.tuples(st.sampled_from("abc"), st.frozensets(st.integers(0, 5))), max_size=12)


@given(CLAIMS)
def test_each_slot_is_of_the_last_that_told_of_it(claims: list[tuple[str, frozenset[int]]]) -> None:
    table, owners = Table(), dict[int, str]()
    for offset, (process, slots) in enumerate(claims):
        table.put(process, Claim(1, "1", slots=write_slots(slots)), offset, 0.0)
        owners = {slot: owner for slot, owner in owners.items() if owner != process} | dict.fromkeys(slots, process)
    assert {slot: owner for slot in range(6) if (owner := table.owner(slot)) is not None} == owners


S, T = SlotState, Turn


@pytest.mark.parametrize(
    ("state", "owner", "of_peer", "unreachable", "expected"),
    [
        (S.SERVING, "b", False, "", RoutingDecision(T.HERE)),  # the state here counts, not the table
        (S.SERVING, "me", True, "", RoutingDecision(T.HERE)),
        (S.REPLAYING, "b", False, "", RoutingDecision(T.HOLD)),
        (S.HANDING_OVER, "me", True, "", RoutingDecision(T.HOLD)),
        (None, "b", False, "", RoutingDecision(T.FORWARD, "b")),
        (None, "b", True, "", RoutingDecision(T.MISROUTED)),
        (None, "b", False, "b", RoutingDecision(T.HOLD)),
        (None, "b", False, "c", RoutingDecision(T.FORWARD, "b")),
        (None, None, False, "", RoutingDecision(T.HOLD)),
        (None, "me", False, "", RoutingDecision(T.HOLD)),  # an old claim of this process
    ],
)
def test_where_a_request_goes(
    state: SlotState | None, owner: str | None, of_peer: bool, unreachable: str, expected: RoutingDecision
) -> None:
    assert decide(state, owner, "me", of_peer, unreachable) == expected


def test_of_all_states_only_serving_serves() -> None:
    states = [decide(each, "b", "me", False).turn for each in (*SlotState, None)]
    assert states.count(Turn.HERE) == 1
