"""The fast and the exact reading of produce bodies must be one (services/rest/produce_bodies.py)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.codec import Codec
from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.errors import PayloadTooLarge, ServiceError
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.services.common.json_members import has_more
from kafka_gateway.services.rest.produce_bodies import RecordsReader, _fast_parse
from tests.examples import examples
from tests.services.fake_kafka import as_values

BINARY, JSON = BinaryCodec(), JsonCodec()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
base64_texts = st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())
integers = st.none() | st.integers(-2, 3) | st.sampled_from([2**31 - 1, 2**31, 2**63, 0.5, 1.0, "1", "", "x", True])
headers = st.none() | st.lists(
    st.fixed_dictionaries({"name": text}, optional={"value": st.none() | base64_texts | st.just("e")}), max_size=2
)


def bodies(datum: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    record = st.fixed_dictionaries(
        {},
        optional={"key": datum, "value": datum, "partition": integers, "timestamp": integers, "headers": headers},
    )
    return st.fixed_dictionaries(
        {"records": st.lists(record, max_size=3)},
        optional={"key_schema": st.none() | text, "value_schema_id": integers, "other": st.just(1)},
    )


def outcome(read: Any, *arguments: Any) -> list[OutgoingRecord] | type[Exception]:
    try:
        return as_values(read(*arguments))
    except (ServiceError, ValueError) as error:
        return type(error)


def agree(codec: Codec, body: bytes) -> None:
    for generation, with_partition in (("v1", True), ("v1", False), ("v2", True)):
        reader = RecordsReader(generation, with_partition)
        fast = outcome(_fast_parse(codec, with_partition), body)
        exact = outcome(reader._records, body, codec)
        if isinstance(fast, list):
            assert exact == fast
        assert outcome(reader, body, codec) == exact


@examples(300)
@given(bodies(json_values), st.sampled_from([None, 1]))
def test_json(body: Any, indent: int | None) -> None:
    agree(JSON, json.dumps(body, indent=indent, ensure_ascii=False).encode())


@examples(300)
@given(bodies(st.none() | base64_texts | text | st.integers(0, 9)))
def test_binary(body: Any) -> None:
    agree(BINARY, json.dumps(body).encode())


@examples(200)
@given(json_values)
def test_every_json_value_survives(value: Any) -> None:
    body = json.dumps({"records": [{"key": value, "value": value}]}).encode()
    (record,) = RecordsReader("v2")(body, JSON)
    if value is None:
        assert record.key is record.value is None
    else:
        assert record.key is not None
        assert json.loads(record.key) == value
        assert record.value == record.key


@examples(200)
@given(st.binary(max_size=60))
def test_no_input_gets_further_than_a_refusal(body: bytes) -> None:
    for codec in (BINARY, JSON):
        result = outcome(RecordsReader("v2"), body, codec)
        assert isinstance(result, list) or issubclass(result, ServiceError)


def test_nesting_is_refused_not_survived() -> None:
    deep = b'{"records":[{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(ServiceError, match="nested too deeply"):
        RecordsReader("v2")(deep, JSON)


def test_data_of_a_plugins_format_is_named_with_its_place() -> None:
    class Picky(Codec):
        name = "picky"
        datum = str

        def store(self, datum: str) -> bytes:
            if datum == "bad":
                raise ValueError("I do not store bad.")
            return datum.encode()

    reader = RecordsReader("v2")
    assert reader(b'{"records":[{"value":"good"}]}', Picky())[0].value == b"good"
    with pytest.raises(ServiceError, match=r"Bad Request: I do not store bad\. At records\[1\]\.key\."):
        reader(b'{"records":[{"key":"good"},{"key":"bad"}]}', Picky())
    with pytest.raises(ServiceError, match=r"data=1 is not valid for the format picky\. At records\[0\]\.value\."):
        reader(b'{"records":[{"value":1}]}', Picky())


@pytest.mark.parametrize("text", ["{" * 50, '{"' * 50, "{\\" * 50, '{\\"' * 50, '\\\\"{' * 50, "\\"])
def test_what_stands_in_texts_is_no_object(text: str) -> None:
    objects = [{"value": text}, *({"{": "}"} for _ in range(24))]
    body = json.dumps(objects).encode()
    assert not has_more(body, b"{", 25)
    assert has_more(body, b"{", 24)


def test_a_record_may_hold_a_text_of_many_braces() -> None:
    assert RecordsReader("v2")(json.dumps({"records": [{"value": "{" * 100_001}]}).encode(), JSON)
    with pytest.raises(PayloadTooLarge):
        RecordsReader("v2")(b'{"records":[{"value":[%b{}]}]}' % (b"{}," * 100_001), JSON)
