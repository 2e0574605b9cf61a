"""Header fields as record headers and back (bridges.md A2.3, A3.2; reliability.md H10)."""

from __future__ import annotations

import time

import pytest

from kafka_gateway.records import Headers, OutgoingRecord
from kafka_gateway.services.bridges.headers import HeaderRules, RecordHeaders, SinkHeaderRules, canonical, http_headers
from tests.services.fake_kafka import FakeRecord

Fields = list[tuple[bytes, bytes]]


def stored(*fields: tuple[bytes, bytes], **rules: object) -> list[tuple[str, bytes]]:
    return RecordHeaders(HeaderRules(**rules)).of(fields)  # type: ignore[arg-type]


def posted(headers: Headers, dropped: int = 0, **rules: object) -> list[tuple[str, str]]:
    """The fields of the post, but for the User-Agent that is added."""
    record = FakeRecord("t", 3, 7, OutgoingRecord(b"\x00k", b"v", None, 1700, headers))
    fields, left_out = http_headers(record, SinkHeaderRules(**{"user_agent": "", **rules}))  # type: ignore[arg-type]
    assert left_out == dropped
    return fields


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"x-request-ID", "X-Request-Id"),
        (b"etag", "Etag"),
        (b"X-Prometheus-Remote-Write-Version", "X-Prometheus-Remote-Write-Version"),
        (b"x--y-", "X--Y-"),
        (b"3a-b!", "3a-B!"),
        (b"x A", "x A"),
        (b"x\xe9", "x\xe9"),
        (b"", ""),
    ],
)
def test_names_are_canonical(sent: bytes, name: str) -> None:
    assert canonical(sent) == name


def test_fields_of_one_name_are_joined_in_the_order_of_their_arrival() -> None:
    fields = [(b"x-a", b"1"), (b"X-B", b""), (b"X-A", b"2, 3"), (b"cookie", b"a=1"), (b"Cookie", b"b=2")]
    assert stored(*fields) == [("X-A", b"1,2, 3"), ("X-B", b""), ("Cookie", b"a=1; b=2")]
    assert stored(*fields, repeat=True) == [
        ("X-A", b"1"), ("X-B", b""), ("X-A", b"2, 3"), ("Cookie", b"a=1"), ("Cookie", b"b=2"),
    ]  # fmt: skip


def test_values_are_the_bytes_that_were_sent() -> None:
    every = bytes(range(0x80, 0x100)) + b"\t x"
    assert stored((b"X-Raw", every)) == [("X-Raw", every)]


def test_what_belongs_to_the_connection_stays_there() -> None:
    hop = [b"Connection", b"keep-alive", b"PROXY-CONNECTION", b"Proxy-Authenticate", b"Proxy-Authorization", b"TE",
           b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Host", b"Content-Length", b"Expect"]  # fmt: skip
    assert stored(*((name, b"x") for name in hop)) == []
    named = [(b"Connection", b"close, X-Hop ,te"), (b"x-hop", b"1"), (b"connection", b"x-other"), (b"X-Other", b"2")]
    assert stored(*named, (b"X-Kept", b"3")) == [("X-Kept", b"3")]
    assert stored(*named, (b"X-Kept", b"3"), repeat=True) == [("X-Kept", b"3")]


def test_everything_else_is_kept() -> None:
    names = ["Content-Type", "Content-Encoding", "X-Prometheus-Remote-Write-Version", "X-Scope-Orgid", "Traceparent",
             "Authorization", "Cookie", "User-Agent", "Accept-Encoding", "Pragma", "Date"]  # fmt: skip
    assert [name for name, _ in stored(*((name.encode(), b"v") for name in names))] == names


def test_allow_and_deny_are_patterns_and_deny_wins() -> None:
    fields = [(b"x-a", b"1"), (b"X-Secret", b"2"), (b"Content-Type", b"3"), (b"Host", b"4")]
    assert stored(*fields, deny=("x-s*",)) == [("X-A", b"1"), ("Content-Type", b"3")]
    assert stored(*fields, allow=("x-*", "HOST"), deny=("*secret",)) == [("X-A", b"1")]


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    headers = RecordHeaders(HeaderRules())
    for number in range(5000):
        assert headers.of([(f"x-{number}".encode(), b""), (b"y" * 5000, b"")])
    assert len(headers._names) < 3000
    assert sum(map(len, headers._names)) < 100_000


def test_back_to_http_a_value_stays_one_line() -> None:
    date = ("Date", b"Tue, 15 Nov 1994 08:12:31 GMT")
    agent = ("User-Agent", b"one/1 (x, y)")
    assert posted([date, agent]) == [("Date", date[1].decode()), ("User-Agent", "one/1 (x, y)")]
    assert posted([date, agent], split_commas=True) == [
        ("Date", "Tue"), ("Date", "15 Nov 1994 08:12:31 GMT"), ("User-Agent", "one/1 (x"),
    ]  # fmt: skip


def test_repeated_headers_are_repeated_but_for_those_that_are_single() -> None:
    headers = [("X-A", b"1"), ("content-type", b"old"), ("X-A", b"2"), ("Content-Type", b"new"), ("x-a", None)]
    assert posted(headers) == [("X-A", "1"), ("X-A", "2"), ("x-a", ""), ("Content-Type", "new")]


def test_a_user_agent_is_added_if_there_is_none() -> None:
    assert posted([], user_agent="us/1") == [("User-Agent", "us/1")]
    assert posted([("user-agent", b"them/2")], user_agent="us/1") == [("user-agent", "them/2")]


def test_a_record_cannot_say_where_or_how_it_is_posted() -> None:
    hostile = ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "Expect", "Trailer"]
    assert posted([(name, b"chunked") for name in hostile]) == []
    assert posted([("Connection", b"X-Hop, close"), ("x-hop", b"1"), ("X-Kept", b"2")]) == [("X-Kept", "2")]


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X\r\nEvil", "X\0", "é", "X\tA", "(x)"])
def test_h10_a_name_that_is_no_token_is_left_out(name: str) -> None:
    assert posted([(name, b"1"), ("X-Kept", b"2")], dropped=1) == [("X-Kept", "2")]


@pytest.mark.parametrize("value", [b"a\r\nEvil: 1", b"\n", b"a\rb", b"\0", b"a\x7f", b"\x1b[0m", b"\xff\xfe", b"\xc3"])
def test_h10_a_value_that_breaks_out_is_left_out(value: bytes) -> None:
    assert posted([("X-A", value), ("X-Kept", "é\t1".encode())], dropped=1) == [("X-Kept", "é\t1")]


@pytest.mark.timing
def test_h10_ten_thousand_headers_take_no_time() -> None:
    many: Headers = [(f"X-{number}", b"v") for number in range(5000)] + [("Content-Type", b"t")] * 5000
    began = time.process_time()
    fields = posted(many)
    assert len(fields) == 5001
    assert time.process_time() - began < 0.5


def test_metadata_on_demand_and_never_the_records_own() -> None:
    headers = [("x-kafka-offset", b"666"), ("X-A", b"1")]
    assert posted(headers, metadata=True) == [
        ("X-A", "1"), ("X-Kafka-Topic", "t"), ("X-Kafka-Partition", "3"), ("X-Kafka-Offset", "7"),
        ("X-Kafka-Timestamp", "1700"), ("X-Kafka-Key", "AGs="),
    ]  # fmt: skip


def test_h10_a_key_too_long_for_a_line_is_not_sent() -> None:
    record = FakeRecord("t", 0, 0, OutgoingRecord(b"k" * 1_000_000, b"v", None, 1, None))
    fields, _ = http_headers(record, SinkHeaderRules(metadata=True))
    assert "X-Kafka-Key" not in dict(fields)
