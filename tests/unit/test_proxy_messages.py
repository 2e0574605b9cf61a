# ruff: noqa: UP031
"""Messages of the proxy protocol, byte for byte (websocket-proxy.md §1.5, §1.6)."""

from __future__ import annotations

import pytest

from kafka_gateway.errors import UndecodableRecord
from kafka_gateway.services.websocket_proxy.ports import MessageId
from kafka_gateway.transports.websocket_proxy.formats import FORMATS
from kafka_gateway.transports.websocket_proxy.messages import (
    ProduceMessage,
    Undecodable,
    produce_decoder,
    read_commit,
    record_encoder,
    result_frame,
)

STRING = FORMATS["string"]


class Record:
    """As much of confluent_kafka's Message as is looked at."""

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        offset: int = 7,
    ) -> None:
        self._value, self._key, self._headers, self._offset = value, key, headers, offset

    def topic(self) -> str:
        return "t-1"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1554402266846

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers


def message(value: bytes, key: bytes | None = None, **more: object) -> ProduceMessage:
    return ProduceMessage(key, value, **{"headers": None, "message_id": None, **more})  # type: ignore[arg-type]


V = '"value":{"value":"v","format":"string"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{%s}" % V, message(b"v")),
        ('{"key":{"value":"k","format":"string"},%s,"messageId":"m"}' % V, message(b"v", b"k", message_id=b'"m"')),
        ('{"headers":[{"key":"h","value":"ö"},{"key":"h","value":""}],%s}' % V,
         message(b"v", headers=[("h", "ö".encode()), ("h", b"")])),
        ('{%s,"colour":"blue"}' % V, message(b"v")),
        (' { "value" : {"value":"v","format":"STRING","x":1} }\n', message(b"v")),
        ('{"value":{"value":"a","format":"string"},%s}' % V, message(b"v")),
        # What is wrong beside the value is left out.
        ('{"key":null,%s}' % V, message(b"v")),
        ('{"key":{},%s}' % V, message(b"v")),
        ('{"key":{"value":5,"format":"string"},%s}' % V, message(b"v")),
        ('{"key":{"value":"k","format":"no"},%s}' % V, message(b"v")),
        ('{"headers":{"a":"b"},%s}' % V, message(b"v")),
        ('{"headers":[{"key":"h","value":"v"},{"key":"h","value":1}],%s}' % V, message(b"v")),
        ('{%s,"messageId":5}' % V, message(b"v")),
    ],
)  # fmt: skip
def test_a_produce_message(text: str, expected: ProduceMessage) -> None:
    assert produce_decoder(STRING, STRING)(text.encode()) == expected


def test_without_a_key_type_there_is_no_key() -> None:
    decode = produce_decoder(None, STRING)
    assert decode(('{"key":{"value":"k","format":"string"},%s}' % V).encode()).key is None


def test_the_formats_of_the_parameters_count() -> None:
    decode = produce_decoder(FORMATS["json"], FORMATS["long"])
    found = decode(b'{"key":{"value":{"a": 1.50},"format":"string"},"value":{"value":"7","format":"json"}}')
    assert (found.key, found.value) == (b'{"a":1.50}', b"\0" * 7 + b"\7")


@pytest.mark.parametrize(
    "text",
    [
        "{not json",
        "  ",
        "[]",
        "null",
        "{}",
        '{"value":"bare"}',
        '{"value":null}',
        '{"value":{"value":"v"}}',
        '{"value":{"value":null,"format":"string"}}',
        '{"value":{"value":5,"format":"string"}}',
        '{"value":{"value":"v","format":"nonsense"}}',
        "{%s} x" % V,
        '{"value":{"value":"\\ud800","format":"string"}}',
        '{"value":' + "[" * 100_000,
    ],
)
def test_what_cannot_be_produced(text: str) -> None:
    with pytest.raises(Undecodable) as failed:
        produce_decoder(STRING, STRING)(text.encode())
    assert len(str(failed.value)) < 160


class _Stored:
    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 4

    def timestamp(self) -> tuple[int, int]:
        return 1, 1554896731782


def test_results() -> None:
    plain = b'{"topic":"t","partition":2,"offset":4,"timestamp":1554896731782,"clientMessageId":null}'
    assert result_frame(b'"t"', _Stored(), None) == b"\x81" + bytes([len(plain)]) + plain
    named = plain[:-5] + b'"m","messageId":"m"}'
    assert result_frame(b'"t"', _Stored(), b'"m"') == b"\x81" + bytes([len(named)]) + named


HEAD = (
    '{"wsProxyMessageId":"t-1-2-7-1554402266846","topic":"t-1","partition":2,"offset":7,"timestamp":1554402266846,'
    '"headers":%s%s,"value":{"value":%s,"format":"%s"}}'
)


@pytest.mark.parametrize(
    ("record", "key", "value", "expected"),
    [
        (Record(b"v"), None, "string", HEAD % ("null", "", '"v"', "string")),
        (Record(b"v", b"k"), "string", "string",
         HEAD % ("null", ',"key":{"value":"k","format":"string"}', '"v"', "string")),
        (Record(b"v", b"k"), None, "string", HEAD % ("null", ',"key":{"value":{},"format":null}', '"v"', "string")),
        (Record(None, b""), "bytearray", "json",
         HEAD % ("null", ',"key":{"value":"","format":"bytearray"}', "null", "json")),
        (Record(b"{}", None, [("h", b"1"), ("h", None), ("i", b"\xff")]), "int", "json",
         HEAD % ('[{"key":"h","value":"1"},{"key":"h","value":null},{"key":"i","value":"\ufffd"}]', "", "{}", "json")),
        (Record(b"100%d%s"), None, "string", HEAD % ("null", "", '"100%d%s"', "string")),
    ],
)  # fmt: skip
def test_a_consumed_record(record: Record, key: str | None, value: str, expected: str) -> None:
    frame = record_encoder("t-1", FORMATS[key] if key else None, FORMATS[value])([record])
    assert frame[:2] == b"\x81\x7e"
    assert int.from_bytes(frame[2:4], "big") == len(frame) - 4
    assert frame[4:].decode() == expected


def test_many_records_are_frames_behind_each_other() -> None:
    encode = record_encoder("t-1", None, STRING)
    one, two = Record(b"1"), Record(b"2" * 70_000, offset=8)
    assert encode([one, two]) == encode([one]) + encode([two])
    assert encode([two])[:2] == b"\x81\x7f"


def test_a_record_that_does_not_fit_names_its_place() -> None:
    with pytest.raises(UndecodableRecord, match="t-1-2 at offset 8"):
        record_encoder("t-1", None, FORMATS["int"])([Record(b"\0" * 4), Record(b"abc", offset=8)])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"wsProxyMessageId":"t-0-1-1554402266846"}', MessageId("t", 0, 1, 1554402266846)),
        ('{"wsProxyMessageId":"a-b-1-2-3-4","x":1}', MessageId("a-b-1", 2, 3, 4)),
        ('{"wsProxyMessageId":"no-such-id"}', None),
        ('{"wsProxyMessageId":"t-0-01-5"}', None),
        ('{"wsProxyMessageId":"t-0-1_0-5"}', None),
        ('{"wsProxyMessageId":5}', None),
        ("{}", None),
        ("[]", None),
        ("", None),
        ("{not json", None),
    ],
)
def test_commits(text: str, place: MessageId | None) -> None:
    assert read_commit(text.encode()) == place
