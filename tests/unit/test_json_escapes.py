"""Equal JSON values have equal bytes in Kafka, however their clients spell them (gateway/codecs/json_escapes.py)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.codecs.json_escapes import minimal
from kafka_gateway.jsonio import Raw


def stored(text: str) -> str:
    return JsonCodec().store(Raw(text.encode())).decode()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r'"caf\u00e9"', '"café"'),
        (r'"caf\u00E9"', '"café"'),
        (r'"a\/b"', '"a/b"'),
        (r'"\\/"', r'"\\/"'),
        (r'"\\\/"', r'"\\/"'),
        (r'"\\u00e9"', r'"\\u00e9"'),
        (r'"\\\u00e9"', r'"\\é"'),
        (r'"\u005c\u0022\u005C\u002f"', r'"\\\"\\/"'),
        (r'"\u005cu00e9"', r'"\\u00e9"'),
        (r'"\b\f\n\r\t\"\\"', r'"\b\f\n\r\t\"\\"'),
        (r'"\u0008\u000c\u000C\u000a\u000A\u000d\u0009"', r'"\b\f\f\n\n\r\t"'),
        (r'"\u0000\u001F\u001f\u000B\u007f"', '"\\u0000\\u001f\\u001f\\u000b\x7f"'),
        (r'"\ud83d\ude00 \u20ac 😀"', '"😀 € 😀"'),
        (r'"\udE00"', r'"\ude00"'),
        (r'"\u2028"', '"\u2028"'),
        (r'{"\u00e4" : [1.10, 1e400, -0, 1E+2], "\u00e4":"\u0041" }', '{"ä":[1.10,1e400,-0,1E+2],"ä":"A"}'),
        ("1" * 400, "1" * 400),
        (' { "b" : 1 , "a" : 2 } ', '{"b":1,"a":2}'),
        ('"a b"', '"a b"'),
    ],
)
def test_stored_json(sent: str, kept: str) -> None:
    assert stored(sent) == kept


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_spelling_of_a_text_is_stored_alike(text: str) -> None:
    plain = json.dumps(text, ensure_ascii=False)
    spelled = '"' + "".join(f"\\u{ord(each):04x}" if ord(each) < 0x10000 else each for each in text) + '"'
    for spelling in (plain, json.dumps(text), json.dumps(text).replace("/", r"\/"), spelled):
        kept = minimal(spelling.encode())
        assert json.loads(kept) == text
        assert kept == minimal(plain.encode())


_scalars = st.text() | st.integers() | st.none()


@given(st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_value_is_changed(value: object) -> None:
    text = json.dumps(value, separators=(",", ":"))
    kept = minimal(text.encode())
    assert json.loads(kept.decode("utf-8", "surrogatepass")) == value
    assert minimal(kept) == kept
