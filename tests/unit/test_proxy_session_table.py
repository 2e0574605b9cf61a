"""Who may open a socket, and how several gateways agree on it (websocket-proxy.md §2.6, §3.3, §4.3, §4.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.services.websocket_proxy.session import CONSUMER, PRODUCER, Instance, ProxySession
from kafka_gateway.services.websocket_proxy.session_table import Duplicate, KindClash, LimitReached, SessionTable
from tests.examples import examples


@pytest.fixture
def table() -> SessionTable:
    return SessionTable("a")


def ids(table: SessionTable, session_id: str = "s") -> list[str]:
    session = table.sessions.get(session_id)
    return [each.id for each in session.instances] if session else []


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_of_two(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 2)
    before = table.add(CONSUMER, "s", "2", 2)
    with pytest.raises(LimitReached) as error:
        table.add(CONSUMER, "s", "3", 2)
    assert error.value.limit == 2
    assert table.sessions["s"] == before
    table.remove("s", "1")
    table.add(CONSUMER, "s", "3", 2)
    assert ids(table) == ["2", "3"]


def test_no_limit(table: SessionTable) -> None:
    for number in range(50):
        table.add(PRODUCER, "s", str(number), 0)
    assert len(ids(table)) == 50


def test_a_duplicate_is_told_before_the_limit(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 1)
    with pytest.raises(Duplicate):
        table.add(CONSUMER, "s", "1", 1)
    assert table.remove("s", "1")  # the first one's place is still its own


def test_the_other_kind(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 0)
    with pytest.raises(KindClash):
        table.add(PRODUCER, "s", "1", 0)
    assert table.sessions["s"].kind == CONSUMER


def test_the_limit_follows_the_last_connection(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 1)
    assert table.add(CONSUMER, "s", "2", 3).most == 3


def test_twins_of_a_producer_share_a_place_until_the_last_one_leaves(table: SessionTable) -> None:
    first = table.add(PRODUCER, "s", "1", 2)
    assert table.add(PRODUCER, "s", "1", 2) == first
    assert not table.remove("s", "1")
    assert ids(table) == ["1"]
    assert table.remove("s", "1")
    assert ids(table) == []
    assert not table.remove("s", "1")


def test_a_twin_counts_for_the_limit(table: SessionTable) -> None:
    table.add(PRODUCER, "s", "1", 1)
    with pytest.raises(LimitReached):
        table.add(PRODUCER, "s", "1", 1)


def test_unknown_sessions_and_instances(table: SessionTable) -> None:
    assert not table.remove("s", "1")
    table.add(CONSUMER, "s", "1", 0)
    assert not table.remove("s", "2")
    assert not table.set_limit("other", CONSUMER, 1)
    assert not table.set_limit("s", PRODUCER, 1)
    assert table.set_limit("s", CONSUMER, 1)


# --- the topic --------------------------------------------------------------------------------------------------------


def session(*instances: tuple[str, str], most: int = 0) -> ProxySession:
    return ProxySession(CONSUMER, "s", most, tuple(Instance(*each) for each in instances))


def test_leftovers_of_an_unclean_stop_are_to_be_corrected(table: SessionTable) -> None:
    assert table.read("s", session(("old", "a"), ("other", "b")), 0) is True
    assert ids(table) == ["other"]


def test_what_others_write_counts(table: SessionTable) -> None:
    assert table.read("s", session(("1", "b"), most=2), 0) is False
    with pytest.raises(Duplicate):
        table.add(CONSUMER, "s", "1", 2)
    assert table.read("s", None, 1) is False
    assert table.sessions == {}


def test_a_record_without_an_own_socket_is_to_be_corrected(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 0)
    assert table.read("s", session(("2", "b")), 5) is True
    assert ids(table) == ["2", "1"]
    assert table.read("s", None, 6) is True
    assert ids(table) == ["1"]


def test_what_an_own_write_has_overwritten_is_written_again(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 0)
    table.begin_write("s")
    assert table.read("s", session(("2", "b"), ("old", "a")), 7) is None
    assert table.end_write("s", 8) is True
    assert set(ids(table)) == {"1", "2"}
    assert table.read("s", session(("1", "a")), 8) is None  # the write itself
    assert set(ids(table)) == {"1", "2"}
    assert table.read("s", session(("1", "a"), ("2", "b")), 9) is False


def test_an_overwritten_record_without_news(table: SessionTable) -> None:
    table.read("s", session(("2", "b")), 0)
    table.add(CONSUMER, "s", "1", 0)
    table.begin_write("s")
    table.end_write("s", 5)
    assert table.read("s", session(("2", "b")), 3) is None
    assert table.read("s", session(), 4) is True  # it has left, and our write brought it back
    assert ids(table) == ["1"]


def test_a_record_that_came_during_a_write_and_behind_it_counts(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 0)
    table.begin_write("s")
    assert table.read("s", session(("2", "b")), 9) is None
    assert table.end_write("s", 8) is True
    assert ids(table) == ["2", "1"]


def test_a_write_whose_end_nobody_knows(table: SessionTable) -> None:
    table.add(CONSUMER, "s", "1", 0)
    table.begin_write("s")
    table.read("s", session(("2", "b")), 9)
    assert table.end_write("s", None) is True


def test_leaving_and_dead_gateways(table: SessionTable) -> None:
    table.read("s", session(("1", "b"), ("2", "c")), 0)
    table.add(CONSUMER, "s", "3", 0)
    assert table.servers() == {"b", "c"}
    assert table.drop_servers({"b", "a"}) == ["s"]
    assert ids(table) == ["2", "3"]
    assert table.leave() == ["s"]
    assert ids(table) == ["2"]
    assert table.own_sessions() == []


def test_a_topic_that_begins_anew(table: SessionTable) -> None:
    table.read("s", session(("1", "b")), 90)
    table.add(CONSUMER, "s", "2", 0)
    table.begin_write("s")
    table.end_write("s", 91)
    assert table.restarted() == ["s"]
    assert ids(table) == ["2"]
    assert table.read("s", session(("1", "b")), 0) is True
    assert ids(table) == ["2"] or set(ids(table)) == {"1", "2"}


# --- several gateways -------------------------------------------------------------------------------------------------


class Node:
    """A gateway as the keeper drives a table: one write of a session at a time, corrections later."""

    def __init__(self, name: str, log: list[ProxySession]) -> None:
        self.name, self.log = name, log
        self.start()

    def start(self) -> None:
        """Also after a crash: nothing is left but the topic."""
        self.table = SessionTable(self.name)
        self.place = 0
        self.dirty = False
        self.pending: ProxySession | None = None
        self.landed: int | None = None
        self.open: dict[str, int] = {}

    def judge(self, wrong: bool | None) -> None:
        if wrong is not None:
            self.dirty = wrong

    def write(self, written: ProxySession) -> None:
        self.table.begin_write("s")
        self.pending = written

    def join(self, client: str) -> None:
        if self.pending is not None or (self.place < len(self.log) and not self.table.sessions):
            return
        try:
            self.write(self.table.add(CONSUMER, "s", client, 0))
        except Duplicate:
            return
        self.open[client] = 1

    def quit(self, client: str) -> None:
        if self.open.pop(client, 0) and self.table.remove("s", client):
            self.dirty = True

    def land(self) -> None:
        if self.pending is not None and self.landed is None:
            self.log.append(self.pending)
            self.landed = len(self.log) - 1

    def ack(self) -> None:
        if self.landed is not None:
            offset, self.landed, self.pending = self.landed, None, None
            self.judge(self.table.end_write("s", offset))

    def read(self) -> None:
        if self.place < len(self.log):
            self.place += 1
            self.judge(self.table.read("s", self.log[self.place - 1], self.place - 1))

    def flush(self) -> None:
        if self.dirty and self.pending is None and "s" in self.table.sessions:
            self.dirty = False
            self.write(self.table.sessions["s"])

    def settle(self) -> bool:
        """Does all there is to do; whether there was anything."""
        before = (self.place, len(self.log), self.dirty, self.pending)
        while self.place < len(self.log):
            self.read()
        self.flush()
        self.land()
        self.ack()
        return before != (self.place, len(self.log), self.dirty, self.pending)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["join", "join", "quit", "land", "ack", "read", "read", "flush", "start"]),
        st.sampled_from(["x", "y", "z"]),
    ),
    max_size=60,
)


@examples(300)
@given(STEPS)
def test_gateways_agree_in_the_end_on_the_sockets_that_are_open(steps: list[tuple[int, str, str]]) -> None:
    log: list[ProxySession] = []
    nodes = [Node(name, log) for name in "abc"]
    for number, step, client in steps:
        node = nodes[number]
        if step in ("join", "quit"):
            getattr(node, step)(client)
        else:
            getattr(node, step)()
    for _ in range(100):
        moved = [node.settle() for node in nodes]
        if not any(moved):
            break
    else:
        pytest.fail("they never come to rest")
    expected = {client for node in nodes for client in node.open}
    for node in nodes:
        assert set(ids(node.table)) == expected
    assert {each.id for each in (log[-1].instances if log else ())} == expected
