"""JSON without white space between its parts, as it is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway import jsonio

# Texts that look like what stands between the parts of JSON.
TEXTS = st.text(alphabet=' ,:"{}[]\\1e', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
BLANKS = st.text(alphabet=" \n\t\r", max_size=2) | st.just("") | st.just("")


def spread(draw: Any, value: Any) -> str:
    """The value as JSON, with white space wherever it may be."""

    def blank() -> str:
        return str(draw(BLANKS))

    if isinstance(value, list):
        return "[" + ",".join(blank() + spread(draw, item) + blank() for item in value) + blank() + "]"
    if isinstance(value, dict):
        members = (
            f"{blank()}{json.dumps(name)}{blank()}:{blank()}{spread(draw, item)}{blank()}"
            for name, item in value.items()
        )
        return "{" + ",".join(members) + blank() + "}"
    return json.dumps(value)


@given(VALUES, st.data())
def test_no_white_space_is_left_between_the_parts(value: Any, data: st.DataObject) -> None:
    text = (data.draw(BLANKS) + spread(data.draw, value) + data.draw(BLANKS)).encode()
    assert jsonio.compact(text) == json.dumps(value, separators=(",", ":")).encode()


@given(VALUES)
def test_what_is_compact_stays_as_it_is(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()
    assert jsonio.compact(text) == text


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (rb'"\ud800"', True),
        (rb'["\ud800", 1]', True),
        (rb'"\\\uDBFFx"', True),
        (rb'"\ud800\n"', True),
        (rb'["\ud800', False),
        (rb'["\ud800\ud', False),
        (rb'["\\ud800"', False),
        (rb'["a', False),
    ],
)
def test_half_of_a_surrogate_pair_is_told_from_a_text_that_is_cut_off(text: bytes, half: bool) -> None:
    with pytest.raises(ValueError, match="surrogate pair" if half else "^Input data was truncated$"):
        jsonio.decode_value(text)
