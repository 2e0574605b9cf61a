"""Long Fetch replies that pass piece by piece (transports/tunnel/fetch_response_scanner.py)."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.transports.tunnel.fetch_response_scanner import TAIL_MAX, FetchResponseScanner, without_hint
from kafka_gateway.wire.frames import WireError, frame
from tests.examples import examples
from tests.fuzz.mutations import mutate
from tests.tunnel import replies

HOST = b"kafka-2.internal"
RECORDS = random.Random(5).randbytes(3000)


def where(node: int) -> tuple[bytes, int]:
    return HOST, 9092


def passed(reply: bytes, cuts: random.Random) -> tuple[bytes, bytes]:
    """What goes on at once, and what is held to the end."""
    walk = FetchResponseScanner(len(reply) - 8)
    sent, held, at = b"", b"", 8
    while at < len(reply):
        end = min(len(reply), at + cuts.randint(1, 40))
        stop = walk.pass_on(reply, at, end)
        sent += reply[at:stop]
        held += reply[stop:end]
        at = end
    return sent, held


@pytest.mark.parametrize("nodes", [(), (2,), (1, 2)])
def test_all_but_the_end_goes_on(nodes: tuple[int, ...]) -> None:
    for version in (16, 17, 18):
        reply = replies.fetch(version, where, nodes, b"rack", RECORDS)
        for seed in range(20):
            sent, held = passed(reply, random.Random(seed))
            assert sent + held == reply[8:]
            assert held == replies.endpoints(where, nodes, b"rack")
            assert RECORDS in sent


def test_a_hint_is_taken_out_and_the_length_stays() -> None:
    tail = replies.endpoints(where, (1, 2), b"rack")
    changed = without_hint(tail)
    assert len(changed) == len(tail)
    assert HOST not in changed
    assert changed.endswith(b"\x07\x02hi")
    plain = replies.endpoints(where, (), None)
    assert without_hint(plain) is plain


def test_what_does_not_fit_is_refused() -> None:
    reply = replies.fetch(17, where, (), records=RECORDS)
    with pytest.raises(WireError):  # the frame ends within the records
        FetchResponseScanner(1000).pass_on(reply, 8, len(reply))
    with pytest.raises(WireError):
        FetchResponseScanner(len(reply) - 8 + TAIL_MAX + 1).pass_on(reply, 8, len(reply))
    with pytest.raises(WireError):
        FetchResponseScanner(20).pass_on(b"\xff" * 20, 0, 20)


@pytest.mark.slow
def test_mutated_replies_raise_nothing_else() -> None:
    rnd = random.Random(20261121)
    corpus = [replies.fetch(v, where, n, records=RECORDS[:99]) for v in (16, 18) for n in ((), (2,), (1, 2))]
    for number in range(15_000):
        reply = mutate(corpus[number % len(corpus)], corpus, rnd)
        if len(reply) > 9:
            try:
                sent, held = passed(reply, rnd)
                changed = without_hint(held)
            except WireError:
                continue
            assert len(sent) + len(changed) == len(reply) - 8


@examples(200)
@given(st.binary(min_size=9, max_size=300), st.integers())
def test_any_bytes_raise_nothing_else(data: bytes, seed: int) -> None:
    with contextlib.suppress(WireError):
        without_hint(passed(frame(data), random.Random(seed))[1])
