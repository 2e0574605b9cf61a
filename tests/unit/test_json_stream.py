"""Values out of a stream of JSON: kafka-rest-http.md §7.10 "Framing"."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.services.v3.json_stream import CutOff, JsonSplitter, NotJson, ValueTooLong
from tests.examples import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def split(data: bytes, *cuts: int, longest: int = 10**6) -> list[bytes]:
    """The values of the data, fed in pieces that end at these places."""
    splitter = JsonSplitter(longest)
    values, at = [], 0
    for cut in [*sorted(cuts), len(data)]:
        values += splitter.feed(data[at:cut])
        at = max(at, cut)
    return values + splitter.finish()


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", []),
        (b" \r\n\t ", []),
        (b'{"a":1}{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n {"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":"}{"}[]', [b'{"a":"}{"}', b"[]"]),
        (b'{"a":"\\"}"}{}', [b'{"a":"\\"}"}', b"{}"]),
        (b'{"a":"\\\\"}{}', [b'{"a":"\\\\"}', b"{}"]),
        (b'5 null"x" true', [b"5", b"null", b'"x"', b"true"]),
        (b"12", [b"12"]),
        (b"\xef\xbb\xbf{}", [b"{}"]),
        (b'[{"a":[1,2]},[]]', [b'[{"a":[1,2]},[]]']),
    ],
)
def test_values_wherever_the_pieces_end(data: bytes, values: list[bytes]) -> None:
    assert split(data) == values
    assert split(data, *range(len(data))) == values
    for cut in range(len(data)):
        assert split(data, cut) == values, cut


@given(st.lists(JSON, max_size=6), st.data(), st.sampled_from(["", " ", "\n", "\r\n"]), st.booleans())
@examples(200)
def test_any_values_cut_anywhere(values: list[object], data: st.DataObject, between: str, ascii_only: bool) -> None:
    texts = [json.dumps(each, ensure_ascii=ascii_only) for each in values]
    # Numbers and words need something between them.
    text = "".join(each + (between or (" " if each[-1] not in '}]"' else "")) for each in texts).encode()
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert [json.loads(each) for each in split(text, *cuts)] == values


@pytest.mark.parametrize("data", [b'{"a":1},{}', b"}", b'{"a":1}]', b":"])
def test_what_begins_no_value_ends_the_stream(data: bytes) -> None:
    splitter = JsonSplitter(100)
    with pytest.raises(NotJson) as raised:
        splitter.feed(data)
    assert raised.value.values == [each for each in [b'{"a":1}'] if data.startswith(each)]


@pytest.mark.parametrize("data", [b'{"a":1', b'{"a":"', b'"x', b"[1", b'{"a":"\\'])
def test_a_value_that_is_cut_off(data: bytes) -> None:
    splitter = JsonSplitter(100)
    assert splitter.feed(data) == []
    assert splitter.pending
    with pytest.raises(CutOff):
        splitter.finish()


def test_the_longest_value() -> None:
    value = b'{"a":"' + b"x" * 92 + b'"}'
    assert split(value, longest=100) == [value]
    for cuts in ((), (50,), (10, 99)):
        with pytest.raises(ValueTooLong):
            split(value, *cuts, longest=99)
    splitter = JsonSplitter(99)
    with pytest.raises(ValueTooLong) as raised:
        splitter.feed(b"{}" + value)
    assert raised.value.values == [b"{}"]
