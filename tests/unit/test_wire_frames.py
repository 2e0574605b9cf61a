"""Kafka's stream cut into frames (bridges.md C1, C8 nos. 1 and 3)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.wire import frames as wire
from kafka_gateway.wire.frames import Cutter, FrameTooLarge, WireError

A = bytes.fromhex("00000064") + b"a" * 100
B = bytes.fromhex("0000004b") + b"b" * 75


def test_the_vector_of_the_contract() -> None:
    cutter = Cutter()
    writes = [A[0:2], A[2:4], A[4:], B[:30], B[30:]]
    assert [cutter.cut(each) for each in writes] == [[], [], [A], [], [B]]


def test_frames_in_one_write_and_byte_by_byte() -> None:
    assert Cutter().cut(A + B + A) == [A, B, A]
    cutter = Cutter()
    assert [frame for byte in A + B for frame in cutter.cut(bytes([byte]))] == [A, B]
    assert Cutter().cut(b"\0\0\0\0") == [b"\0\0\0\0"]  # the success of SASL PLAIN
    assert Cutter().cut(b"") == []


@pytest.mark.parametrize("size", [-1, -4, -5, -(2**31)])
def test_a_size_that_cannot_be(size: int) -> None:
    cutter = Cutter()
    assert cutter.cut(struct.pack(">i", size)[:3]) == []
    with pytest.raises(WireError):
        cutter.cut(struct.pack(">i", size)[3:])


def test_a_frame_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(FrameTooLarge):
        Cutter().cut(b"\x7f\xff\xff\xff")
    with pytest.raises(WireError):
        Cutter(least=10).cut(struct.pack(">i", 9))
    limit = Cutter(100)
    assert limit.cut(A) == [A]
    with pytest.raises(FrameTooLarge):
        limit.cut(struct.pack(">i", 101))


def test_what_is_pending_is_no_more_than_came() -> None:
    cutter = Cutter()
    for _ in range(10):
        cutter.cut(struct.pack(">i", 1000) if not cutter.pending_bytes else b"x" * 10)
    assert cutter.pending_bytes == 94


@given(st.lists(st.binary(max_size=300), max_size=12), st.data())
def test_any_cut_gives_the_same_frames(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [wire.frame(payload) for payload in payloads]
    stream = b"".join(frames)
    cutter, found, at = Cutter(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 200))
        found += cutter.cut(stream[at : at + step])
        at += step
    assert found == frames
    assert cutter.pending_bytes == 0


@given(st.integers(0, 2**32 - 1))
def test_varints(value: int) -> None:
    assert wire.Cursor(wire.uvarint(value)).uvarint() == value


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x80\x01"])
def test_what_is_no_varint(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.Cursor(data).uvarint()
