"""Replaces the brokers' addresses in replies to the client by addresses that the client can reach.

Otherwise a client would leave the tunnel after its first Metadata reply (bridges.md C5.1). Each function steps through
one reply up to its addresses, replaces host and port, and copies the rest as it is, so fields that newer versions add
at the end do no harm. Everything here is bytes in, bytes out, and raises `WireError` only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kafka_gateway.transports.tunnel import apis
from kafka_gateway.wire.frames import Cursor, WireError, compact_string, frame, string, uvarint

Address = Callable[[int, str, int], tuple[bytes, int]]
"""Where the client finds a broker: (node id, real host, real port) → (host, port)."""

_BODY = 8
"""A reply's body begins behind Size and correlation id."""
_PORT = struct.Struct(">i")
_CONTROLLERS = 2


def rewrite(key: int, version: int, reply: bytes, address: Address, learn: Address | None = None) -> bytes:
    """The reply (Size included) with the addresses of its brokers replaced; the same object if it has none.

    Args:
        address: asked for each broker.
        learn: asked instead of ``address`` for controllers.
    Raises:
        WireError: if the reply does not fit the layout of its version, or an address cannot be written.
    """
    cursor = Cursor(reply, _BODY)
    if len(reply) < _BODY:
        raise WireError("reply without a header")
    if version > apis.CAPS.get(key, version):
        raise WireError("version with an unknown layout")
    if not apis.carries_addresses(key, version):
        return reply
    _LAYOUTS[key](cursor, version, address, learn or address)
    return cursor.result()


def _metadata(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    if version >= 9:
        cursor.skip_tags()
        cursor.skip(4)
        _flexible_brokers(cursor, address)
        return
    if version >= 3:
        cursor.skip(4)
    for _number in range(cursor.count()):
        _plain_broker(cursor, address)
        if version >= 1:
            cursor.skip_string()


def _find_coordinator(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    if version >= 4:
        cursor.skip_tags()
        cursor.skip(4)
        for _number in range(cursor.compact_count()):
            cursor.skip_compact()
            _flexible_broker(cursor, address)
            cursor.skip(2)
            cursor.skip_compact()
            cursor.skip_tags()
    elif version == 3:
        cursor.skip_tags()
        cursor.skip(6)
        cursor.skip_compact()
        _flexible_broker(cursor, address)
    else:
        if version >= 1:
            cursor.skip(4)
        cursor.skip(2)
        if version >= 1:
            cursor.skip_string()
        _plain_broker(cursor, address)


def _describe_cluster(cursor: Cursor, version: int, address: Address, unlearned: Address) -> None:
    cursor.skip_tags()
    cursor.skip(6)
    cursor.skip_compact()
    if version >= 1 and cursor.int8() == _CONTROLLERS:
        address = unlearned
    cursor.skip_compact()
    cursor.skip(4)
    for _number in range(cursor.compact_count()):
        _flexible_broker(cursor, address)
        cursor.skip_compact()
        if version >= 2:
            cursor.skip(1)
        cursor.skip_tags()


def _produce(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    cursor.skip_tags()
    for _topic in range(cursor.compact_count()):
        if version >= 13:
            cursor.skip(16)
        else:
            cursor.skip_compact()
        for _partition in range(cursor.compact_count()):
            cursor.skip(4 + 2 + 8 + 8 + 8)
            for _error in range(cursor.compact_count()):
                cursor.skip(4)
                cursor.skip_compact()
                cursor.skip_tags()
            cursor.skip_compact()
            cursor.skip_tags()
        cursor.skip_tags()
    cursor.skip(4)
    _endpoints_tag(cursor, address)


def _fetch(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    cursor.skip_tags()
    cursor.skip(4 + 2 + 4)
    for _topic in range(cursor.compact_count()):
        cursor.skip(16)
        for _partition in range(cursor.compact_count()):
            cursor.skip(4 + 2 + 8 + 8 + 8)
            for _aborted in range(cursor.compact_count()):
                cursor.skip(16)
                cursor.skip_tags()
            cursor.skip(4)
            cursor.skip_compact()
            cursor.skip_tags()
        cursor.skip_tags()
    _endpoints_tag(cursor, address)


def _share_fetch(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    _share_head(cursor, with_timeout=version >= 1)
    for _topic in range(cursor.compact_count()):
        cursor.skip(16)
        for _partition in range(cursor.compact_count()):
            cursor.skip(6)
            cursor.skip_compact()
            cursor.skip(2)
            cursor.skip_compact()
            cursor.skip(8)
            cursor.skip_tags()
            cursor.skip_compact()
            for _range in range(cursor.compact_count()):
                cursor.skip(8 + 8 + 2)
                cursor.skip_tags()
            cursor.skip_tags()
        cursor.skip_tags()
    _flexible_brokers(cursor, address)


def _share_acknowledge(cursor: Cursor, version: int, address: Address, _: Address) -> None:
    _share_head(cursor, with_timeout=version >= 2)
    for _topic in range(cursor.compact_count()):
        cursor.skip(16)
        for _partition in range(cursor.compact_count()):
            cursor.skip(6)
            cursor.skip_compact()
            cursor.skip(8)
            cursor.skip_tags()
            cursor.skip_tags()
        cursor.skip_tags()
    _flexible_brokers(cursor, address)


def _share_head(cursor: Cursor, with_timeout: bool) -> None:
    cursor.skip_tags()
    cursor.skip(6)
    cursor.skip_compact()
    if with_timeout:
        cursor.skip(4)


_LAYOUTS: dict[int, Callable[[Cursor, int, Address, Address], None]] = {
    apis.METADATA: _metadata,
    apis.FIND_COORDINATOR: _find_coordinator,
    apis.DESCRIBE_CLUSTER: _describe_cluster,
    apis.PRODUCE: _produce,
    apis.FETCH: _fetch,
    apis.SHARE_FETCH: _share_fetch,
    apis.SHARE_ACKNOWLEDGE: _share_acknowledge,
}


# --- one broker ------------------------------------------------------------------------------------------------------


def _flexible_brokers(cursor: Cursor, address: Address) -> int:
    """A COMPACT_ARRAY of {node, host, port, rack, tags}; by how much it grows."""
    grown = 0
    for _number in range(cursor.compact_count()):
        grown += _flexible_broker(cursor, address)
        cursor.skip_compact()
        cursor.skip_tags()
    return grown


def _plain_broker(cursor: Cursor, address: Address) -> int:
    node = cursor.int32()
    begin = cursor.at
    length = cursor.int16()
    if length < 0:
        raise WireError("broker without a host")
    return _replace(cursor, begin, node, length, string, address)


def _flexible_broker(cursor: Cursor, address: Address) -> int:
    node = cursor.int32()
    begin = cursor.at
    length = cursor.uvarint() - 1
    if length < 0:
        raise WireError("broker without a host")
    return _replace(cursor, begin, node, length, compact_string, address)


def _replace(
    cursor: Cursor, begin: int, node: int, length: int, write: Callable[[bytes], bytes], address: Address
) -> int:
    host = cursor.bytes_of(length)
    port = cursor.int32()
    if node < 0 or not host:  # no broker, an error: id -1, host "", port -1 (C-19)
        return 0
    try:
        new_host, new_port = address(node, host.decode("ascii"), port)
    except UnicodeDecodeError:
        raise WireError("host name is not ASCII") from None
    return cursor.replace(begin, cursor.at, write(new_host) + _PORT.pack(new_port))


def _endpoints_tag(cursor: Cursor, address: Address) -> None:
    """The last tag buffer of Produce and Fetch: tag 0 holds the addresses of new leaders (KIP-951)."""
    for _tag in range(cursor.uvarint()):
        tag = cursor.uvarint()
        begin = cursor.at
        size = cursor.uvarint()
        end_of_size, end = cursor.at, cursor.at + size
        if tag != 0:
            cursor.skip(size)
            continue
        grown = _flexible_brokers(cursor, address)
        if cursor.at != end:
            raise WireError("tag of another length than it says")
        if grown:
            cursor.replace(begin, end_of_size, uvarint(size + grown))


# --- ApiVersions -----------------------------------------------------------------------------------------------------


def api_versions(version: int, reply: bytes, hidden: frozenset[int], hide_unknown: bool, caps: dict[int, int]) -> bytes:
    """The reply to ApiVersions without what the tunnel does not relay, and with the versions that it can rewrite.

    An error, such as UNSUPPORTED_VERSION, has the oldest layout and is left as it is: the client asks again (C-22).
    """
    cursor = Cursor(reply, _BODY)
    if cursor.int16() != 0:
        return reply
    flexible = version >= 3
    begin = cursor.at
    kept: list[bytes] = []
    for _number in range(cursor.compact_count() if flexible else cursor.count()):
        entry = cursor.at
        key, least, most = cursor.int16(), cursor.int16(), cursor.int16()
        behind = cursor.at
        if flexible:
            cursor.skip_tags()
        most = min(most, caps.get(key, most))
        if key in hidden or most < least or (hide_unknown and key not in apis.KNOWN):
            continue
        kept.append(reply[entry : entry + 4] + struct.pack(">h", most) + reply[behind : cursor.at])
    length = uvarint(len(kept) + 1) if flexible else struct.pack(">i", len(kept))
    return frame(reply[4:begin], length, *kept, reply[cursor.at :])
