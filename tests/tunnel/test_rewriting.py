"""Addresses in replies (bridges.md C5; C8 nos. 12 to 15)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.transports.tunnel import apis, rewriting
from kafka_gateway.transports.tunnel.advertised_addresses import AdvertisedAddresses
from kafka_gateway.wire.frames import WireError, frame
from tests.examples import examples
from tests.fuzz.mutations import mutate
from tests.tunnel import replies
from tests.tunnel.golden import VECTORS

NEW = AdvertisedAddresses("127.0.0.1", 19100)


def told(node: int, host: str = "", port: int = 0) -> tuple[bytes, int]:
    return NEW.address(node)


def rewritten(key: int, version: int, reply: bytes, address: rewriting.Address = told) -> bytes:
    if key == apis.API_VERSIONS:
        return rewriting.api_versions(version, reply, apis.INTERNAL, True, apis.CAPS)
    return rewriting.rewrite(key, version, reply, address)


@pytest.mark.parametrize(("key", "version", "given", "expected"), VECTORS)
def test_golden_vectors(key: int, version: int, given: str, expected: str) -> None:
    asked: list[tuple[int, str, int]] = []

    def address(node: int, host: str, port: int) -> tuple[bytes, int]:
        asked.append((node, host, port))
        return told(node)

    assert rewritten(key, version, bytes.fromhex(given), address).hex() == expected
    assert all((host, port) == (f"kafka-{node}.internal", 9092) for node, host, port in asked)
    assert asked or key == apis.API_VERSIONS


Build = Callable[[replies.Where], bytes]
HOSTS = {"short": b"k", "long": b"b" * 200 + b".example", "two bytes": b"h" * 127}


def frames_of_the_table() -> list[tuple[str, int, int, Build]]:
    """(name, API key, version, builder) for every version that carries addresses."""
    found: list[tuple[str, int, int, Build]] = []
    for v in range(14):
        found.append(("metadata", 3, v, lambda w, v=v: replies.metadata(v, w, (1, 2, 70), b"r1", b"anything behind")))
        found.append(("no racks", 3, v, lambda w, v=v: replies.metadata(v, w, (1,), None)))
        found.append(("no brokers", 3, v, lambda w, v=v: replies.metadata(v, w, ())))
    for v in range(7):
        nodes = (2,) if v < 4 else (2, 3)
        found.append(("coordinator", 10, v, lambda w, v=v, n=nodes: replies.find_coordinator(v, w, n)))
        found.append(("message", 10, v, lambda w, v=v, n=nodes: replies.find_coordinator(v, w, n, b"why")))
    for v in range(3):
        found.append(("cluster", 60, v, lambda w, v=v: replies.describe_cluster(v, w, (1, 2))))
        found.append(("controllers", 60, v, lambda w, v=v: replies.describe_cluster(v, w, (1, 2), 2)))
        found.append(("share", 78, v, lambda w, v=v: replies.share_fetch(v, w, (1, 2), b"rack")))
        found.append(("ack", 79, v, lambda w, v=v: replies.share_acknowledge(v, w, (1, 2))))
    for key, build, versions in ((0, replies.produce, range(10, 14)), (1, replies.fetch, range(16, 19))):
        for v in versions:
            found.append(("hint", key, v, lambda w, v=v, b=build: b(v, w, (2,), b"rack")))  # type: ignore[operator]
            found.append(("hints", key, v, lambda w, v=v, b=build: b(v, w, (1, 2), None)))  # type: ignore[operator]
            found.append(("no hint", key, v, lambda w, v=v, b=build: b(v, w, ())))  # type: ignore[operator]
    return found


TABLE = frames_of_the_table()


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
@pytest.mark.parametrize(("name", "key", "version", "build"), TABLE, ids=[f"{n}-{k}-v{v}" for n, k, v, _ in TABLE])
def test_every_version_of_the_table(name: str, key: int, version: int, build: Build, host: bytes) -> None:
    reply = build(lambda node: (host, 9092))
    assert rewritten(key, version, reply) == build(told)
    # And growing again: what was told is now the real address.
    assert rewritten(key, version, build(told), lambda node, *_: (host, 9092)) == reply


def test_without_addresses_the_frame_is_the_same_object() -> None:
    for reply, key, version in (
        (replies.fetch(17, told, ()), 1, 17),
        (replies.produce(12, told, ()), 0, 12),
        (frame(b"\0\0\0\7anything"), 1, 15),
        (frame(b"\0\0\0\7anything"), 0, 9),
        (frame(b"\0\0\0\7anything"), 55, 1),
        (frame(b"\0\0\0\7anything"), 11, 9),
    ):
        assert rewritten(key, version, reply) is reply


@pytest.mark.slow
def test_records_are_not_touched() -> None:
    records = random.Random(1).randbytes(1 << 20) * 50
    real = replies.fetch(17, lambda node: (b"kafka-2.internal", 9092), (2,), records=records)
    assert rewritten(1, 17, real) == replies.fetch(17, told, (2,), records=records)


def test_controllers_are_rewritten_and_not_learned() -> None:
    learned: list[int] = []

    def learn(node: int, host: str, port: int) -> tuple[bytes, int]:
        learned.append(node)
        return told(node)

    for endpoint_type, expected in ((1, [1, 2]), (2, [])):
        learned.clear()
        reply = replies.describe_cluster(1, lambda node: (b"real", 9092), (1, 2), endpoint_type)
        changed = rewriting.rewrite(60, 1, reply, learn, told)
        assert changed == replies.describe_cluster(1, told, (1, 2), endpoint_type)
        assert learned == expected


def test_a_node_without_a_port_is_an_error() -> None:
    reply = replies.metadata(12, lambda node: (b"real", 9092), (70000,))
    with pytest.raises(WireError, match="node 70000 has no port"):
        rewritten(3, 12, reply)
    mapped = AdvertisedAddresses("127.0.0.1", 19100, {70000: 9001})
    assert rewritten(3, 12, reply, lambda node, *_: mapped.address(node)) == replies.metadata(
        12, lambda node: (b"127.0.0.1", 9001), (70000,)
    )


@pytest.mark.parametrize(("key", "version"), [(0, 14), (1, 19), (3, 14), (10, 7), (60, 3), (78, 3), (79, 3), (55, 2)])
def test_versions_beyond_the_table_are_not_trusted(key: int, version: int) -> None:
    with pytest.raises(WireError):
        rewritten(key, version, frame(b"\0\0\0\7", bytes(100)))


# --- ApiVersions -----------------------------------------------------------------------------------------------------


def test_api_versions() -> None:
    keys = {0: (0, 15), 1: (4, 18), 3: (0, 13), 55: (0, 2), 52: (0, 2), 78: (1, 1), 99: (0, 0), 7: (0, 3), 18: (0, 4)}
    kept = {0: (0, 13), 1: (4, 18), 3: (0, 13), 55: (0, 1), 78: (1, 1), 18: (0, 4)}

    def reply(version: int, apis_: dict[int, tuple[int, int]]) -> bytes:
        rows = [replies.i16(key) + replies.i16(low) + replies.i16(high) for key, (low, high) in apis_.items()]
        if version < 3:
            return frame(replies.i32(7), replies.i16(0), replies.array(rows), replies.i32(0) if version else b"")
        features = b"\x01\x00\x04\x00\x01\x02\x03"
        rows = [row + replies.TAGS for row in rows]
        return frame(replies.i32(7), replies.i16(0), replies.compact(rows), replies.i32(0), features)

    for version in range(6):
        assert rewritten(18, version, reply(version, keys)) == reply(version, kept)
    shown = rewriting.api_versions(3, reply(3, keys), frozenset(), False, {**apis.CAPS, 1: 15})
    assert shown == reply(3, {**keys, 0: (0, 13), 1: (4, 15), 55: (0, 1)})
    assert rewriting.api_versions(0, reply(0, {1: (16, 18), 2: (0, 1)}), frozenset(), True, {1: 15}) == reply(
        0, {2: (0, 1)}
    )


def test_a_refused_api_versions_is_left_as_it_is() -> None:
    refused = frame(replies.i32(7), replies.i16(35), replies.array([replies.i16(18) + replies.i16(0) + replies.i16(4)]))
    for version in (3, 4, 5, 9):
        assert rewritten(18, version, refused) is refused


# --- broken replies --------------------------------------------------------------------------------------------------

CORPUS = [(key, version, build(lambda node: (b"kafka-1.internal", 9092))) for _, key, version, build in TABLE]
CORPUS += [(key, version, bytes.fromhex(given)) for key, version, given, _ in VECTORS]


def _whole_or_refused(key: int, version: int, reply: bytes) -> None:
    try:
        changed = rewritten(key, version, reply)
    except WireError:
        return
    assert changed is reply or int.from_bytes(changed[:4], "big") == len(changed) - 4


def test_a_reply_that_ends_early_is_refused() -> None:
    for key, version, reply in CORPUS:
        for end in range(4, len(reply), 3):
            _whole_or_refused(key, version, reply[:end])


@pytest.mark.slow
def test_mutated_replies_raise_nothing_else() -> None:
    """H2 for the tunnel, scaled: mutations of real layouts; never more than WireError, never long."""
    rnd = random.Random(20261121)
    frames = [reply for _, _, reply in CORPUS]
    for number in range(40_000):
        key, version, reply = CORPUS[number % len(CORPUS)]
        _whole_or_refused(key, version, mutate(reply, frames, rnd))


@examples(300)
@given(st.sampled_from([(key, version) for key, version, _ in CORPUS]), st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(api: tuple[int, int], data: bytes) -> None:
    _whole_or_refused(*api, data)


def test_a_count_of_billions_ends_at_once() -> None:
    for key, version in ((3, 1), (3, 12), (0, 12), (1, 17), (10, 4), (60, 0), (18, 0), (18, 3)):
        _whole_or_refused(key, version, frame(bytes(4), b"\x7f\xff\xff\xff" * 5))
        _whole_or_refused(key, version, frame(bytes(4), b"\0", b"\xff\xff\xff\xff\x0f" * 5))
