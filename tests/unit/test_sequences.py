"""Requests in parts: atmosphere-binding.md §1.7 and rows 18 to 21 of its checklist."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kafka_gateway.errors import PayloadTooLarge, RequestTimeout, TooManyRequests
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.transports.envelope import streamed_bodies
from kafka_gateway.transports.envelope.codec import Envelope, read
from kafka_gateway.transports.envelope.sequences import Sequences
from kafka_gateway.transports.envelope.streamed_bodies import StreamedBodies


def part(content: bytes = b"", **head: Any) -> Envelope:
    if "more" in head:
        head["continue"] = head.pop("more")
    found = read(json.dumps(head).encode() + content)
    assert found is not None
    return found


@pytest.fixture
def sequences() -> Sequences:
    return Sequences(2, 20, 5.0, MemoryBudget(1 << 30).claim())


@pytest.mark.parametrize("repeat", [False, True])
def test_three_parts(sequences: Sequences, repeat: bool) -> None:
    attributes = {"method": "POST", "path": "/t", "type": "a/b"} if repeat else {}
    assert sequences.add(part(b'{"r', id="a", more=True, method="POST", path="/t", type="a/b"), 0) is None
    assert sequences.add(part(b'":[', id="a", more=True, **attributes), 1) is None
    whole = sequences.add(part(b"]}", id="a", **attributes), 2)
    assert whole is not None
    assert (whole.method, whole.path, whole.type, whole.content) == ("POST", "/t", "a/b", b'{"r":[]}')
    assert not sequences


def test_the_last_part_may_be_empty(sequences: Sequences) -> None:
    sequences.add(part(b"x", id="a", more=True), 0)
    whole = sequences.add(part(id="a"), 0)
    assert whole is not None
    assert whole.content == b"x"


def test_white_space_within_a_sequence_is_content(sequences: Sequences) -> None:
    sequences.add(part(b'"a', id="a", more=True), 0)
    sequences.add(part(b"  ", id="a", more=True), 0)
    whole = sequences.add(part(b'\n"', id="a"), 0)
    assert whole is not None
    assert whole.content == b'"a  \n"'


def test_data_and_detached_parts_mix(sequences: Sequences) -> None:
    sequences.add(part(id="a", more=True, type="text/plain", data="x"), 0)
    sequences.add(part(b"\ny", id="a", more=True, detached=True), 0)
    whole = sequences.add(part(b"z", id="a"), 0)
    assert whole is not None
    assert whole.content == b"xyz"


def test_sequences_interleave(sequences: Sequences) -> None:
    sequences.add(part(b"1", id="a", more=True), 0)
    sequences.add(part(b"2", id="b", more=True), 0)
    between = sequences.add(part(b"0", id="c"), 0)
    one, two = sequences.add(part(b"3", id="a"), 0), sequences.add(part(b"4", id="b"), 0)
    assert between is not None
    assert one is not None
    assert two is not None
    assert [each.content for each in (between, one, two)] == [b"0", b"13", b"24"]


def test_an_id_may_be_used_again_at_once(sequences: Sequences) -> None:
    for _ in range(3):
        assert sequences.add(part(b"1", id="a", more=True), 0) is None
        assert sequences.add(part(b"2", id="a"), 0) is not None


def test_a_sequence_without_an_end_is_given_up(sequences: Sequences) -> None:
    sequences.add(part(b"1", id="a", more=True, accept="x/y"), 0)
    sequences.add(part(b"1", id="b", more=True), 3)
    assert sequences.deadline == 5
    sequences.add(part(b"1", id="a", more=True), 4)
    assert sequences.deadline == 8
    assert [each.id for each in sequences.expired(8)] == [b'"b"']
    assert [(each.id, each.accept) for each in sequences.expired(9)] == [(b'"a"', "x/y")]
    assert sequences.deadline is None
    again = sequences.add(part(b"2", id="a"), 10)
    assert again is not None
    assert again.content == b"2"


def test_a_body_that_is_too_long(sequences: Sequences) -> None:
    sequences.add(part(b"x" * 20, id="a", more=True), 0)
    with pytest.raises(PayloadTooLarge):
        sequences.add(part(b"x", id="a", more=True), 0)
    assert sequences.add(part(b"x" * 30, id="a", more=True), 0) is None  # ignored
    assert sequences.add(part(b"x", id="a"), 0) is None
    assert sequences.add(part(b"x", id="a"), 0) is not None


def test_the_last_part_makes_it_too_long(sequences: Sequences) -> None:
    sequences.add(part(b"x" * 20, id="a", more=True), 0)
    with pytest.raises(PayloadTooLarge):
        sequences.add(part(b"x", id="a"), 0)
    assert not sequences


def test_all_open_sequences_share_the_bytes(sequences: Sequences) -> None:
    sequences.add(part(b"x" * 15, id="a", more=True), 0)
    with pytest.raises(PayloadTooLarge):
        sequences.add(part(b"x" * 6, id="b", more=True), 0)
    assert sequences.add(part(b"x" * 5, id="a"), 0) is not None


def test_too_many_sequences(sequences: Sequences) -> None:
    for id in ("a", "b"):
        sequences.add(part(b"x", id=id, more=True), 0)
    for id in ("c", "d", "e", "e"):  # the last two are more than can be remembered
        with pytest.raises(TooManyRequests):
            sequences.add(part(b"x", id=id, more=True), 0)
    assert sequences.add(part(b"x", id="c", more=True), 0) is None
    assert sequences.add(part(b"x", id="c"), 0) is None
    assert sequences.add(part(b"y", id="a"), 0) is not None
    assert list(sequences.expired(9)) != []  # "b"; of "d" the client was told
    assert not sequences


def test_a_message_that_is_too_long_by_itself(sequences: Sequences) -> None:
    with pytest.raises(PayloadTooLarge):
        sequences.add(part(b"x" * 21, id="a"), 0)


def test_what_is_unfinished_counts_in_the_memory_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.transports.envelope.sequences.COUNT_FROM", 5)
    memory = MemoryBudget(1 << 30)
    sequences = Sequences(2, 20, 5.0, memory.claim())
    sequences.add(part(b"1234", id="1", more=True), 0.0)
    assert memory.held == 0, "too little for the counting"
    sequences.add(part(b"5678", id="2", more=True), 0.0)
    assert memory.held == 8
    sequences.add(part(id="1"), 0.0)
    assert memory.held == 4
    assert len(list(sequences.expired(9.0))) == 1
    assert memory.held == 0
    sequences.add(part(b"123456", id="3", more=True), 0.0)
    sequences.close()
    assert memory.held == 0


async def test_a_body_does_not_grow_old_while_its_socket_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What slows down whoever takes it, a quota or Kafka, is not its client's silence."""
    monkeypatch.setattr(streamed_bodies, "WAITING_MAX", 10)
    memory, read = MemoryBudget(1 << 30), asyncio.Event()
    bodies = StreamedBodies(2, 0.05, memory, memory.claim(), read.set)
    body = bodies.open(part(b"x" * 20, id="a", more=True))
    assert bodies.is_full
    await asyncio.sleep(0.2)  # time itself: several times as long as a client may be silent
    assert await anext(body) == b"x" * 20
    assert read.is_set()
    assert bodies.add(part(b"y", id="a", more=True))
    assert await anext(body) == b"y"
    with pytest.raises(RequestTimeout):  # now it is
        await anext(body)
    bodies.close()
