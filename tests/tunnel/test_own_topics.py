"""What clients of a tunnel cannot reach though they are the gateway's own user to Kafka (cluster.md §4.1)."""

from __future__ import annotations

import pytest

from kafka_gateway.transports.tunnel import apis, own_topics, rewriting
from kafka_gateway.wire.frames import WireError, compact_string, string, uvarint
from tests.tunnel import replies
from tests.tunnel.fake_broker import request
from tests.tunnel.replies import array, compact, i16, i32

OWN = b"_gateway.default.instances"
OTHERS = (b"orders", b"my_gateway.topic", b"_gateway", b"x" * 200)
CLIENT = b"_gateway.client"  # which is no topic


def may_pass(key: int, version: int, body: bytes) -> bool:
    message = request(key, version, 7, body, CLIENT)
    return own_topics.may_pass(key, version, message, len(message) - len(body))


def produce(version: int, *names: bytes) -> bytes:
    records = b"\x18" + OWN[:11] + string(OWN) + compact_string(OWN)  # which look like names
    if version >= 9:
        partition = i32(0) + uvarint(len(records) + 1) + records + b"\0"
        topics = compact([compact_string(name) + compact([partition]) + b"\0" for name in names])
        return b"\0" + compact_string(b"transaction") + i16(-1) + i32(1000) + topics + b"\0"
    partition = i32(0) + i32(len(records)) + records
    topics = array([string(name) + array([partition]) for name in names])
    return (b"\xff\xff" if version >= 3 else b"") + i16(-1) + i32(1000) + topics


@pytest.mark.parametrize("version", range(13))
def test_produce(version: int) -> None:
    assert may_pass(apis.PRODUCE, version, produce(version, *OTHERS))
    assert not may_pass(apis.PRODUCE, version, produce(version, OWN))
    assert not may_pass(apis.PRODUCE, version, produce(version, *OTHERS, OWN))
    with pytest.raises(WireError):
        may_pass(apis.PRODUCE, version, produce(version, *OTHERS)[:60])


def test_what_names_topics_by_their_ids_is_not_relayed() -> None:
    for key, newest in own_topics.CAPS.items():
        assert not may_pass(key, newest + 1, b"\0" * 40), key
    assert {apis.SHARE_FETCH, apis.SHARE_ACKNOWLEDGE} <= own_topics.BY_ID


@pytest.mark.parametrize("key", [apis.FETCH, apis.METADATA, apis.FIND_COORDINATOR, 11, 19, 20, 21, 33])
def test_every_other_request_that_names_one(key: int) -> None:
    """Wherever the name stands, in either form of a string, and also of 127 letters and more."""
    for name in (OWN, b"_gateway.x", OWN + b"x" * 150):
        for written in (string(name), compact_string(name)):
            assert not may_pass(key, 0, b"\0\0\1" + written + b"\0\0\0\1"), (key, name)
    for name in OTHERS:
        for written in (string(name), compact_string(name)):
            assert may_pass(key, 0, b"\0\0\1" + written + b"\0\0\0\1"), (key, name)


def topic(version: int, name: bytes) -> bytes:
    nodes = compact([i32(1), i32(2)]) if version >= 9 else array([i32(1), i32(2)])
    partition = i16(0) + i32(0) + i32(1) + (i32(5) if version >= 7 else b"") + nodes * (3 if version >= 5 else 2)
    found = i16(0) + (compact_string(name) if version >= 9 else string(name))
    found += (b"i" * 16 if version >= 10 else b"") + (b"\0" if version >= 1 else b"")
    found += compact([partition + b"\0"] * 2) if version >= 9 else array([partition] * 2)
    return found + (i32(-1) if version >= 8 else b"") + (b"\0" if version >= 9 else b"")


def metadata(version: int, *names: bytes) -> bytes:
    topics = [topic(version, name) for name in names]
    tail = b""
    if version >= 2:
        tail += compact_string(b"cluster") if version >= 9 else string(b"cluster")
    tail += i32(1) if version >= 1 else b""
    tail += compact(topics) if version >= 9 else array(topics)
    return replies.metadata(version, lambda node: (b"kafka", 9092), (1, 2), b"rack", tail + b"behind")


@pytest.mark.parametrize("version", range(14))
def test_metadata_does_not_show_them(version: int) -> None:
    given, expected = metadata(version, b"a", OWN, b"b", OWN + b"2"), metadata(version, b"a", b"b")
    assert own_topics.without_own(version, given) == expected
    assert own_topics.without_own(version, expected) is expected
    # And so behind the addresses that the tunnel puts there.
    rewritten = rewriting.rewrite(apis.METADATA, version, given, lambda *_: (b"127.0.0.1", 19100))
    assert own_topics.without_own(version, rewritten) == rewriting.rewrite(
        apis.METADATA, version, expected, lambda *_: (b"127.0.0.1", 19100)
    )
    with pytest.raises(WireError):
        own_topics.without_own(version, given[: len(given) // 2])


def test_a_version_that_nobody_knows_is_no_way_round() -> None:
    with pytest.raises(WireError):
        own_topics.without_own(14, metadata(13, OWN))
