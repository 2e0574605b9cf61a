"""Replies of brokers, built field by field from Kafka's protocol guide: what the rewriter is tried on.

Every builder takes a function that gives host and port of a node, so the same reply can be made with the real
addresses and with those that the client is to see; rewriting the one must give the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from kafka_gateway.wire.frames import compact_string, frame, string, uvarint

Where = Callable[[int], tuple[bytes, int]]
NULL = b"\xff\xff"
TAGS = b"\x02\x05\x03abc\x63\x01z"
"""Two tags that nobody knows."""
UUID = bytes(range(16))


def i16(value: int) -> bytes:
    return struct.pack(">h", value)


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def i64(value: int) -> bytes:
    return struct.pack(">q", value)


def array(items: Sequence[bytes]) -> bytes:
    return i32(len(items)) + b"".join(items)


def compact(items: Sequence[bytes]) -> bytes:
    return uvarint(len(items) + 1) + b"".join(items)


def flexible_broker(node: int, where: Where, rack: bytes | None, more: bytes = b"", tags: bytes = b"\0") -> bytes:
    host, port = where(node)
    return i32(node) + compact_string(host) + i32(port) + (compact_string(rack) if rack else b"\0") + more + tags


def metadata(version: int, where: Where, nodes: Sequence[int], rack: bytes | None = None, tail: bytes = b"") -> bytes:
    """``tail`` is everything behind the brokers, which no rewriter looks at."""
    if version >= 9:
        brokers = compact([flexible_broker(node, where, rack, tags=TAGS) for node in nodes])
        return frame(i32(7), TAGS, i32(0), brokers, tail)
    plain = []
    for node in nodes:
        host, port = where(node)
        plain.append(i32(node) + string(host) + i32(port))
        if version >= 1:
            plain[-1] += string(rack) if rack else NULL
    return frame(i32(7), i32(0) if version >= 3 else b"", array(plain), tail)


def find_coordinator(version: int, where: Where, nodes: Sequence[int], error: bytes | None = None) -> bytes:
    """With an error entry behind the nodes from version 4 on: id -1, no host, port -1."""
    if version >= 4:
        entries = [compact_string(b"k%d" % node) + broker(node, where, True) + i16(0) + b"\0" + TAGS for node in nodes]
        entries.append(b"\x02x" + i32(-1) + b"\x01" + i32(-1) + i16(15) + compact_string(b"none") + b"\0")
        return frame(i32(7), TAGS, i32(0), compact(entries), b"\0")
    (node,) = nodes
    if version == 3:
        message = compact_string(error) if error else b"\0"
        return frame(i32(7), b"\0", i32(0), i16(0), message, broker(node, where, True), TAGS)
    if version == 0:
        return frame(i32(7), i16(0), broker(node, where, False))
    return frame(i32(7), i32(0), i16(0), string(error) if error else NULL, broker(node, where, False))


def broker(node: int, where: Where, flexible: bool) -> bytes:
    host, port = where(node)
    return i32(node) + (compact_string(host) if flexible else string(host)) + i32(port)


def describe_cluster(version: int, where: Where, nodes: Sequence[int], endpoint_type: int = 1) -> bytes:
    kind = struct.pack("b", endpoint_type) if version >= 1 else b""
    fenced = b"\x01" if version >= 2 else b""
    brokers = compact([flexible_broker(node, where, b"rack", fenced, TAGS) for node in nodes])
    return frame(i32(7), b"\0", i32(0), i16(0), b"\0", kind, compact_string(b"cid"), i32(1), brokers, i32(-1), b"\0")


def endpoints(where: Where, nodes: Sequence[int], rack: bytes | None) -> bytes:
    """The last tag buffer: tag 0 with the addresses, between tags that nobody knows; without nodes no tag 0."""
    if not nodes:
        return TAGS
    inner = compact([flexible_broker(node, where, rack, tags=TAGS) for node in nodes])
    return b"\x02" + b"\0" + uvarint(len(inner)) + inner + b"\x07\x02hi"


def produce(version: int, where: Where, nodes: Sequence[int], rack: bytes | None = None) -> bytes:
    errors = compact([i32(3) + compact_string(b"bad") + TAGS, i32(4) + b"\0\0"])
    leader = b"\x01\0\x09" + i32(2) + i32(9) + b"\0"
    partition = i32(0) + i16(6) + i64(-1) * 3 + errors + b"\0" + leader
    name = UUID if version >= 13 else compact_string(b"topic")
    topic = name + compact([partition, partition]) + TAGS
    return frame(i32(7), b"\0", compact([topic, topic]), i32(0), endpoints(where, nodes, rack))


def fetch(version: int, where: Where, nodes: Sequence[int], rack: bytes | None = None, records: bytes = b"r") -> bytes:
    aborted = compact([i64(1) + i64(2) + b"\0"])
    partition = i32(0) + i16(0) + i64(5) * 3 + aborted + i32(-1) + compact_string(records) + TAGS
    empty = i32(1) + i16(6) + i64(-1) * 3 + b"\0" + i32(-1) + b"\0" + b"\0"
    topic = UUID + compact([partition, empty]) + b"\0"
    return frame(i32(7), b"\0", i32(0), i16(0), i32(77), compact([topic]), endpoints(where, nodes, rack))


def share_fetch(version: int, where: Where, nodes: Sequence[int], rack: bytes | None = None) -> bytes:
    leader = i32(2) + i32(9) + b"\0"
    acquired = compact([i64(0) + i64(9) + i16(1) + b"\0"])
    partition = i32(0) + i16(0) + b"\0" + i16(0) + compact_string(b"m") + leader + compact_string(b"rec") + acquired
    topic = UUID + compact([partition + b"\0"]) + TAGS
    timeout = i32(30000) if version >= 1 else b""
    brokers = compact([flexible_broker(node, where, rack) for node in nodes])
    return frame(i32(7), b"\0", i32(0), i16(0), b"\0", timeout, compact([topic]), brokers, TAGS)


def share_acknowledge(version: int, where: Where, nodes: Sequence[int], rack: bytes | None = None) -> bytes:
    partition = i32(0) + i16(0) + b"\0" + i32(2) + i32(9) + b"\0" + b"\0"
    topic = UUID + compact([partition]) + TAGS
    timeout = i32(30000) if version >= 2 else b""
    brokers = compact([flexible_broker(node, where, rack) for node in nodes])
    return frame(i32(7), b"\0", i32(0), i16(0), b"\0", timeout, compact([topic]), brokers, TAGS)
