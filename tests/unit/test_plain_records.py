"""v3 records that are read many at a time are what they are when read one by one (services/v3/plain_records.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.errors import ServiceError
from kafka_gateway.services.v3.plain_records import PlainReader
from kafka_gateway.services.v3.records import Record, RecordReader

CODECS = {"binary": BinaryCodec(), "json": JsonCodec()}
PLAIN, EXACT = PlainReader(CODECS), RecordReader(CODECS)

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
BASE64 = st.sampled_from(["", "YQ==", "YQ", "a2V5", "*", "Y"])
ORDINARY: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.fixed_dictionaries({"type": st.just("JSON"), "data": st.none() | VALUES}),
    st.fixed_dictionaries({"type": st.just("STRING"), "data": TEXTS | st.none()}),
    st.fixed_dictionaries({"type": st.just("BINARY"), "data": st.sampled_from(["", "YQ==", "a2V5", None])}),
)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"type": st.just("STRING"), "data": st.integers()}),
    st.fixed_dictionaries({"type": st.just("BINARY"), "data": BASE64 | st.none()}),
    st.fixed_dictionaries({}, optional={"type": st.sampled_from(["JSON", "json", "AVRO", 1]), "data": VALUES}),
)
HEADER = st.fixed_dictionaries({"name": TEXTS}, optional={"value": BASE64 | st.none()})
RECORDS = st.fixed_dictionaries({}, optional={"value": ORDINARY, "key": ORDINARY, "partition_id": st.integers(-1, 3)})
ODD_RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "value": ORDINARY | ODD,
        "key": ORDINARY | ODD,
        "partition_id": st.none() | st.integers(-1, 3) | st.just(2**31) | st.just("1"),
        "headers": st.none() | st.lists(HEADER, max_size=2),
        "timestamp": st.none() | st.sampled_from(["", "2021-02-05T19:14:42Z", "x", 1.5, -1, 0, 1e300, "7"]),
    },
)


def read_alone(text: bytes) -> Record | tuple[int, str]:
    try:
        return EXACT.record(EXACT.read(text))
    except ServiceError as error:
        return error.error_code, error.message


@given(
    st.lists(RECORDS | ODD_RECORDS, min_size=1, max_size=3),
    st.sampled_from(["", "\n", " \r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_a_run_is_what_its_records_are(records: list[Any], between: str, is_ascii: bool, is_tight: bool) -> None:
    texts = [
        json.dumps(each, ensure_ascii=is_ascii, separators=(",", ":") if is_tight else None).encode("utf-8", "replace")
        for each in records
    ]
    bodies = PLAIN.read_run(between.encode().join(texts))
    if bodies is None:  # then all of it goes the other way
        return
    assert len(bodies) == len(records)
    made, refused = PLAIN.records(bodies)
    rest = iter(made)
    for place, text in enumerate(texts):
        error = refused.get(place)
        assert read_alone(text) == ((error.error_code, error.message) if error is not None else next(rest))
    assert next(rest, None) is None


@pytest.mark.parametrize(
    "record",
    [
        {"value": {"type": "JSON", "data": {"a": 1}}},
        {"key": {"type": "STRING", "data": "k"}, "value": {"data": "YQ==", "type": "BINARY"}, "partition_id": 1},
        {"headers": [{"name": "h", "value": "YQ=="}], "timestamp": "2021-02-05T19:14:42Z"},
        {},
    ],
)
def test_ordinary_records_are_read_so(record: Any) -> None:
    """Or all of the above would be shown of nothing."""
    assert PLAIN.read_run(json.dumps(record).encode() * 2) is not None


def test_text_that_is_not_utf_8_is_left_to_the_exact_reading() -> None:
    assert PLAIN.read_run(b'{"value":{"type":"JSON","data":"\xff"}}') is None
