"""Replies that list topics or groups, without the gateway's own: for clients of a tunnel that are the gateway's own
user to Kafka (see `own_topics`).

These are the replies to requests that name nobody: who reads "all topics" or "all groups" is not to be shown what a
request may not name. Layouts: Kafka's protocol guide (4.1).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from kafka_gateway.own_names import PREFIX, is_own
from kafka_gateway.transports.tunnel import apis
from kafka_gateway.wire.frames import Cursor, WireError, uvarint

_LIST_GROUPS, _DESCRIBE_LOG_DIRS, _LIST_REASSIGNMENTS, _LIST_CONFIG_RESOURCES = 16, 35, 46, 74
_BODY: Final = 8
"""A reply's body begins behind Size and correlation id."""
_PREFIX: Final = PREFIX.encode()


class Fields:
    """Steps over the fields of one reply, which are compact, with tags, from some version on."""

    __slots__ = ("cursor", "flexible", "version")

    def __init__(self, reply: bytes, version: int, flexible: bool) -> None:
        self.cursor = Cursor(reply, _BODY)
        self.version = version
        self.flexible = flexible
        self.tags()

    def skip(self, size: int, since: int = 0) -> None:
        """Numbers that are there from that version on."""
        if self.version >= since:
            self.cursor.skip(size)

    def text(self) -> None:
        """A string, or null."""
        if self.flexible:
            self.cursor.skip_compact()
        else:
            self.cursor.skip_string()

    def is_own(self) -> bool:
        """Whether the name that stands here is one of the gateway's own."""
        cursor = self.cursor
        length = cursor.uvarint() - 1 if self.flexible else cursor.int16()
        return is_own(cursor.bytes_of(max(0, length)).decode("utf-8", "replace"))

    def count(self) -> int:
        """Of an array; 0 for null."""
        return self.cursor.compact_count() if self.flexible else self.cursor.count()

    def numbers(self) -> None:
        """An array of INT32."""
        self.cursor.skip(4 * self.count())

    def tags(self) -> None:
        if self.flexible:
            self.cursor.skip_tags()

    def sift(self, entry: Callable[[Fields], bool]) -> None:
        """An array, without the entries of which ``entry``, which steps over one, says that they are the gateway's."""
        cursor = self.cursor
        begin = cursor.at
        count, kept = self.count(), []
        for _number in range(count):
            at = cursor.at
            if not entry(self):
                kept.append(cursor.data[at : cursor.at])
        if len(kept) < count:
            length = uvarint(len(kept) + 1) if self.flexible else struct.pack(">i", len(kept))
            cursor.replace(begin, cursor.at, length + b"".join(kept))


class _Listing(NamedTuple):
    """What is known of the replies of an API."""

    newest: int
    """The newest version with this layout."""
    flexible_from: int
    sift: Callable[[Fields], None]


# --- Metadata ---------------------------------------------------------------------------------------------------------


def _metadata(fields: Fields) -> None:
    fields.skip(4, since=3)
    for _broker in range(fields.count()):
        fields.skip(4)
        fields.text()
        fields.skip(4)
        if fields.version >= 1:
            fields.text()
        fields.tags()
    if fields.version >= 2:
        fields.text()
    fields.skip(4, since=1)
    fields.sift(_topic)


def _topic(fields: Fields) -> bool:
    fields.skip(2)
    own = fields.is_own()
    fields.skip(16, since=10)
    fields.skip(1, since=1)
    for _partition in range(fields.count()):
        fields.skip(2 + 4 + 4)
        fields.skip(4, since=7)
        for _nodes in range(3 if fields.version >= 5 else 2):
            fields.numbers()
        fields.tags()
    fields.skip(4, since=8)
    fields.tags()
    return own


# --- ListGroups -------------------------------------------------------------------------------------------------------


def _groups(fields: Fields) -> None:
    fields.skip(4, since=1)
    fields.skip(2)
    fields.sift(_group)


def _group(fields: Fields) -> bool:
    own = fields.is_own()
    fields.text()
    for since in (4, 5):  # state and type
        if fields.version >= since:
            fields.text()
    fields.tags()
    return own


# --- DescribeLogDirs --------------------------------------------------------------------------------------------------


def _log_dirs(fields: Fields) -> None:
    fields.skip(4)
    fields.skip(2, since=3)
    for _directory in range(fields.count()):
        fields.skip(2)
        fields.text()
        fields.sift(_topic_of_directory)
        fields.skip(8 + 8, since=4)
        fields.tags()


def _topic_of_directory(fields: Fields) -> bool:
    own = fields.is_own()
    for _partition in range(fields.count()):
        fields.skip(4 + 8 + 8 + 1)
        fields.tags()
    fields.tags()
    return own


# --- ListPartitionReassignments ---------------------------------------------------------------------------------------


def _reassignments(fields: Fields) -> None:
    fields.skip(4 + 2)
    fields.text()
    fields.sift(_topic_of_reassignments)


def _topic_of_reassignments(fields: Fields) -> bool:
    own = fields.is_own()
    for _partition in range(fields.count()):
        fields.skip(4)
        for _nodes in range(3):
            fields.numbers()
        fields.tags()
    fields.tags()
    return own


_LISTINGS: Final[Mapping[int, _Listing]] = {
    apis.METADATA: _Listing(apis.CAPS[apis.METADATA], 9, _metadata),
    _LIST_GROUPS: _Listing(5, 3, _groups),
    _DESCRIBE_LOG_DIRS: _Listing(4, 2, _log_dirs),
    _LIST_REASSIGNMENTS: _Listing(0, 0, _reassignments),
}
CAPS: Final[Mapping[int, int]] = {key: listing.newest for key, listing in _LISTINGS.items()} | {
    _LIST_CONFIG_RESOURCES: 0  # from version 1 on it lists topics and groups (KIP-1142)
}
"""The newest version of each API in which it is known where a reply lists them, or that it does not."""


def lists(key: int) -> bool:
    """Whether replies of the API may list topics or groups that no request has named."""
    return key in _LISTINGS


def without_own(key: int, version: int, reply: bytes) -> bytes:
    """The reply, to a request of an API that `lists`, without the gateway's own; the same object if it has none.
    WireError."""
    listing = _LISTINGS[key]
    if version > listing.newest:
        raise WireError("version with an unknown layout")
    if _PREFIX not in reply:
        return reply
    fields = Fields(reply, version, version >= listing.flexible_from)
    listing.sift(fields)
    return fields.cursor.result()
