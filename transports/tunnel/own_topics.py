"""The gateway's own topics and groups, kept from clients of a tunnel that are the gateway's own user to Kafka.

With ``tunnel.upstream.auth=inject`` Kafka lets such a client do whatever the gateway may, so the rule that holds for
all other ways in (`kafka_gateway.own_names`, cluster.md §4.1) has to be kept here. A request that names one of them is
refused, and replies that list topics or groups do not show them (`own_listings`), so that who reads "all topics" never
asks for one.

Names are what requests are judged by. Therefore what names topics by their ids alone is not offered: versions of APIs
before that, and no APIs that know nothing else (Kafka's protocol guide; KIP-516).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway.own_names import PREFIX, is_own
from kafka_gateway.transports.tunnel import apis, own_listings
from kafka_gateway.wire.frames import Cursor

_OFFSET_COMMIT, _OFFSET_FETCH, _DELETE_TOPICS, _DESCRIBE_TOPIC_PARTITIONS = 8, 9, 20, 75

CAPS: Final[Mapping[int, int]] = {
    apis.PRODUCE: 12,
    apis.FETCH: 12,
    _OFFSET_COMMIT: 9,
    _OFFSET_FETCH: 9,
    _DELETE_TOPICS: 5,
    **own_listings.CAPS,
}
"""The newest version of each API in which requests name their topics, and of those whose replies list some."""
BY_ID: Final = frozenset({apis.SHARE_FETCH, apis.SHARE_ACKNOWLEDGE, _DESCRIBE_TOPIC_PARTITIONS})
"""APIs whose requests never do, and one whose replies would show them; clients ask with Metadata in its stead."""

_PREFIX: Final = PREFIX.encode()
_NAME_MAX: Final = 249
"""Kafka's limit for the name of a topic."""


def may_pass(key: int, version: int, request: bytes, at: int) -> bool:
    """Whether the request, whose body begins at ``at`` (tags of a flexible header included), leaves the gateway's own
    topics and groups alone. WireError: it is not what its version says."""
    if version > CAPS.get(key, version):
        return False
    if key == apis.PRODUCE:  # its records may hold anything
        return not _produces_to_own(Cursor(request, at), version)
    found = request.find(_PREFIX, at)
    while found >= 0:
        if _begins_string(request, found):
            return False
        found = request.find(_PREFIX, found + 1)
    return True


def _begins_string(data: bytes, at: int) -> bool:
    """Whether a STRING or a COMPACT_STRING begins there, by the length that stands before it: what has these letters
    further behind in a name is somebody else's."""
    longest = min(_NAME_MAX, len(data) - at)
    lengths = [int.from_bytes(data[at - 2 : at], "big"), data[at - 1] - 1]
    if data[at - 2] >= 128 > data[at - 1]:
        lengths.append((data[at - 2] & 0x7F | data[at - 1] << 7) - 1)
    return any(len(_PREFIX) <= length <= longest for length in lengths)


def _produces_to_own(cursor: Cursor, version: int) -> bool:
    flexible = version >= 9
    if flexible:
        cursor.skip_tags()
        cursor.skip_compact()
    elif version >= 3:
        cursor.skip_string()
    cursor.skip(2 + 4)
    for _topic in range(cursor.compact_count() if flexible else cursor.count()):
        if is_own(_name(cursor, flexible)):
            return True
        for _partition in range(cursor.compact_count() if flexible else cursor.count()):
            cursor.skip(4)
            if flexible:
                cursor.skip_compact()
                cursor.skip_tags()
            else:
                cursor.skip(max(0, cursor.int32()))
        if flexible:
            cursor.skip_tags()
    return False


def _name(cursor: Cursor, flexible: bool) -> str:
    """ "" for null."""
    length = cursor.uvarint() - 1 if flexible else cursor.int16()
    return cursor.bytes_of(max(0, length)).decode("utf-8", "replace")
