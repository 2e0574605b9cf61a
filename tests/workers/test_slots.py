"""Homes of keys, and what workers say to each other, without any worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway import jsonio
from kafka_gateway.logs.destination import Destination
from kafka_gateway.metrics.joined import join
from kafka_gateway.slots import murmur2, slot_of
from kafka_gateway.workers.frames import (
    Answer,
    Ask,
    Cancel,
    Failure,
    FrameError,
    FrameReader,
    Part,
    frame,
    told,
    untold,
)
from kafka_gateway.workers.slots import StaticTable

# Of org.apache.kafka.common.utils.UtilsTest, as Java's signed numbers.
KNOWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize("text", KNOWN)
def test_the_hash_is_that_of_javas_partitioner(text: str) -> None:
    assert murmur2(text.encode()) == KNOWN[text] % 2**32
    assert slot_of(text, 64) == (KNOWN[text] & 0x7FFFFFFF) % 64


@given(st.lists(st.text(), min_size=2, max_size=2), st.integers(1, 256))
def test_every_key_has_one_home(key: list[str], workers: int) -> None:
    home = StaticTable(workers).home(*key)
    assert home == slot_of("\0".join(key), workers)
    assert 0 <= home < workers


def test_homes_are_spread_evenly() -> None:
    table = StaticTable(4)
    counts = [0] * 4
    for number in range(4000):
        counts[table.home("group", f"rest-consumer-{number}")] += 1
    assert min(counts) > 850


HEADS = st.one_of(
    st.builds(Cancel, st.integers(0, 2**53)),
    st.builds(Part, st.integers(0, 2**53), st.text(), st.binary(), st.integers(200, 599)),
    st.builds(
        Answer,
        st.integers(0, 2**53),
        st.integers(200, 599),
        st.text(),
        st.lists(st.tuples(st.text(), st.text())).map(tuple),
        failure=st.none() | st.builds(Failure, st.integers(), st.integers(), st.text(), st.booleans()),
    ),
    st.builds(
        Ask,
        st.integers(0, 2**53),
        st.just(jsonio.Raw(b'{"principal":"alice","kind":"User"}')),
        st.text(),
        st.text(),
        st.dictionaries(st.text(), st.text()),
        st.dictionaries(st.text(), st.text()),
    ),
)


@given(st.lists(st.tuples(HEADS, st.binary(max_size=300)), max_size=6), st.integers(1, 700))
def test_frames_come_out_as_they_went_in(frames: list[tuple[object, bytes]], piece: int) -> None:
    data = b"".join(frame(head, content) for head, content in frames)  # type: ignore[arg-type]
    reader = FrameReader()
    found = [each for at in range(0, len(data), piece) for each in reader.feed(data[at : at + piece])]
    assert [(jsonio.encode(head), content) for head, content in found] == [
        (jsonio.encode(head), content) for head, content in frames
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x00\x02{}",  # 4 GiB
        b"\x00\x00\x00\x01\x00",
        b"\x00\x00\x00\x04\x00\x09{}",
        b"\x00\x00\x00\x04\x00\x02{}",
        b"\x00\x00\x00\x0f\x00\x0d" + b'{"is":"evil"}',
        b"\x00\x00\x00\x04\x00\x02\xff\xff",
    ],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(data))


def test_a_head_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(FrameError):
        frame(Part(1, "x" * 70_000))


@given(st.binary())
def test_header_fields_that_are_no_utf8_travel_as_they_are(value: bytes) -> None:
    text = value.decode("utf-8", "surrogateescape")
    assert untold(jsonio.decode_value(jsonio.encode(told(text)))) == text


def test_pages_of_metrics_become_one() -> None:
    page = b'# HELP a_total A\n# TYPE a_total counter\na_total{x="1"} %d.0\n# HELP b B\n# TYPE b gauge\nb %d.0\n'
    of_all = b"# HELP kafka_gateway_worker_up U\n# TYPE kafka_gateway_worker_up gauge\n"
    of_all += b'kafka_gateway_worker_up{worker="1"} %d.0\n'
    others = page % (3, 4) + b"# HELP c C\n# TYPE c gauge\nc{} 5\n" + of_all % 0
    joined = join({0: page % (1, 2) + of_all % 1, 1: others}, 0)
    assert joined.decode().splitlines() == [
        "# HELP a_total A",
        "# TYPE a_total counter",
        'a_total{worker="0",x="1"} 1.0',
        'a_total{worker="1",x="1"} 3.0',
        "# HELP b B",
        "# TYPE b gauge",
        'b{worker="0"} 2.0',
        'b{worker="1"} 4.0',
        "# HELP kafka_gateway_worker_up U",
        "# TYPE kafka_gateway_worker_up gauge",
        'kafka_gateway_worker_up{worker="1"} 1.0',
        "# HELP c C",
        "# TYPE c gauge",
        'c{worker="1"} 5',
    ]
    assert join({0: b"# TYPE a gauge\na 1\n# EOF\n"}, 0) == b'# TYPE a gauge\na{worker="0"} 1\n# EOF\n'


class Pieces:
    """Standard error, as it is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffer = self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def flush(self) -> None:
        pass


def test_lines_of_several_processes_do_not_break_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = Pieces()
    monkeypatch.setattr("sys.stderr", pieces)
    lines = b"".join(b"%d %b\n" % (number, b"x" * (number % 300)) for number in range(400)) + b"y" * 5000 + b"\nlast\n"
    Destination("", shared=True).write(lines, 402)
    assert b"".join(pieces.written) == lines
    assert all(each.endswith(b"\n") for each in pieces.written)
    assert [len(each) for each in pieces.written if len(each) > 4096] == [5001]
