"""What clients of a tunnel cannot reach though they are the gateway's own user to Kafka (cluster.md §4.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kafka_gateway.transports.tunnel import apis, own_listings, own_topics, rewriting
from kafka_gateway.wire.frames import WireError, compact_string, frame, string, uvarint
from tests.tunnel import replies
from tests.tunnel.fake_broker import request
from tests.tunnel.replies import TAGS, array, compact, i16, i32, i64

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


def name(written: bytes, flexible: bool) -> bytes:
    return compact_string(written) if flexible else string(written)


def several(entries: list[bytes], flexible: bool) -> bytes:
    return compact(entries) if flexible else array(entries)


def groups(version: int, *names: bytes) -> bytes:
    flexible = version >= 3
    tags = TAGS if flexible else b""
    more = b"".join(name(each, flexible) for each in (b"Stable", b"Classic")[: max(0, version - 3)])
    entries = [name(each, flexible) + name(b"consumer", flexible) + more + tags for each in names]
    return frame(i32(7), tags, i32(0) if version >= 1 else b"", i16(0), several(entries, flexible), tags)


def log_dirs(version: int, *names: bytes) -> bytes:
    """Two directories, with the same topics."""
    flexible = version >= 2
    tags = TAGS if flexible else b""
    partition = i32(0) + i64(100) + i64(0) + b"\0" + tags
    topics = [name(each, flexible) + several([partition] * 2, flexible) + tags for each in names]
    directory = i16(0) + name(b"/data", flexible) + several(topics, flexible)
    directory += (i64(1000) + i64(10) if version >= 4 else b"") + tags
    error = i16(0) if version >= 3 else b""
    return frame(i32(7), tags, i32(0), error, several([directory] * 2, flexible), tags)


def reassignments(_version: int, *names: bytes) -> bytes:
    partition = i32(0) + compact([i32(1), i32(2)]) + compact([i32(2)]) + compact([]) + TAGS
    topics = [compact_string(each) + compact([partition]) + TAGS for each in names]
    return frame(i32(7), TAGS, i32(0), i16(0), b"\0", compact(topics), TAGS)


LISTINGS = ((apis.METADATA, 14, metadata), (16, 6, groups), (35, 5, log_dirs), (46, 1, reassignments))


@pytest.mark.parametrize(
    ("key", "version", "build"), [(key, version, build) for key, end, build in LISTINGS for version in range(end)]
)
def test_what_lists_them_does_not_show_them(key: int, version: int, build: Callable[..., bytes]) -> None:
    assert own_listings.lists(key)
    given, expected = build(version, b"a", OWN, b"b", OWN + b"2"), build(version, b"a", b"b")
    assert own_listings.without_own(key, version, given) == expected
    assert own_listings.without_own(key, version, expected) is expected
    assert own_listings.without_own(key, version, build(version, OWN)) == build(version)
    with pytest.raises(WireError):
        own_listings.without_own(key, version, given[: len(given) // 2])


@pytest.mark.parametrize("version", range(14))
def test_metadata_does_not_show_them_behind_addresses_of_the_tunnel(version: int) -> None:
    given, expected = (
        rewriting.rewrite(apis.METADATA, version, metadata(version, *names), lambda *_: (b"127.0.0.1", 19100))
        for names in ((b"a", OWN), (b"a",))
    )
    assert own_listings.without_own(apis.METADATA, version, given) == expected


@pytest.mark.parametrize(("key", "end", "build"), LISTINGS)
def test_a_version_that_nobody_knows_is_no_way_round(key: int, end: int, build: Callable[..., bytes]) -> None:
    with pytest.raises(WireError):
        own_listings.without_own(key, end, build(end - 1, OWN))
    assert own_topics.CAPS[key] == end - 1, "clients are not offered it"
