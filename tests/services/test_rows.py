"""Records as replies show them (services/common/rows.py)."""

from __future__ import annotations

import json

import pytest

from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.config import load
from kafka_gateway.errors import UndecodableRecord
from kafka_gateway.records import OutgoingRecord, RecordBatch
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.services.common.rows import RecordEncoders, v1_encoder, v2_encoder
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeRecord


def record(key: bytes | None, value: bytes | None, offset: int = 0) -> FakeRecord:
    return FakeRecord("t", 1, offset, OutgoingRecord(key, value))


def test_rows() -> None:
    records = [record(None, b"", 0), record(b"\xff\x00", b"0", 1)]
    assert json.loads(v2_encoder(BinaryCodec())(records)) == [
        {"topic": "t", "key": None, "value": "", "partition": 1, "offset": 0},
        {"topic": "t", "key": "/wA=", "value": "MA==", "partition": 1, "offset": 1},
    ]
    assert json.loads(v1_encoder(JsonCodec())([record(b"0", b"false")])) == [
        {"key": 0, "value": False, "partition": 1, "offset": 0}
    ]
    assert v2_encoder(JsonCodec())([]) == b"[]"


@pytest.mark.parametrize("value", [b" 1", b"\n[1, 2]\t", b'{"a": 1.0}  ', '"\u00e4"'.encode(), b"1"])
def test_json_is_shown_as_it_is_stored(value: bytes) -> None:
    row = b'[{"key":%b,"value":%b,"partition":1,"offset":0}]' % (value, value)
    assert v1_encoder(JsonCodec())([record(value, value)]) == row


@pytest.mark.parametrize("value", [b"", b"{oops", b'"\xff"', b"1 2", b"[" * 5000])
def test_undecodable(value: bytes) -> None:
    records = [record(b"1", b"1", 7), record(b"1", value, 8)]
    with pytest.raises(UndecodableRecord, match=r"the value of the record at t-1-8 as json: not JSON") as caught:
        v2_encoder(JsonCodec())(records)
    assert (caught.value.status, caught.value.error_code) == (408, 40801)
    with pytest.raises(UndecodableRecord, match=r"^Kafka error: ") as caught:
        v1_encoder(JsonCodec())(records)
    assert (caught.value.status, caught.value.error_code) == (500, 50002)
    with pytest.raises(UndecodableRecord, match="the key of the record at t-1-8"):
        v2_encoder(JsonCodec())([record(value, b"1", 8)])


def test_encoders_are_the_same_each_time() -> None:
    encoders = RecordEncoders({"binary": BinaryCodec()}, Catalogue(load(BUILTIN_KEYS), {}))
    batch = RecordBatch([record(None, b"x")], 1)
    assert batch.encode(encoders.get("v2", "binary")) is batch.encode(encoders.get("v2", "binary"))
    assert batch.encode(encoders.get("v1", "binary")) != batch.encode(encoders.get("v2", "binary"))
