"""Header fields of HTTP as record headers, and back (bridges.md A2.3, A3.2).

Values pass as bytes. Fields that belong to one connection, or to HTTP's own framing, are dropped in both directions: a
record may come from any producer, so its headers are trusted no more than those of a client.
"""

from __future__ import annotations

import base64
import dataclasses
import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence

from kafka_gateway.records import ConsumedRecord, Headers

Fields = Iterable[tuple[bytes, bytes]]
"""Header fields as they came: name and value, in the order of arrival."""

HttpHeaders = list[tuple[str, str]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What RFC 9110 §5.5 forbids in a value: all control characters but the tabulator."""

CONNECTION_FIELDS = frozenset(
    {
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Te",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Expect",
    }
)
"""A-11: of one hop, or of HTTP's framing."""

_SINGLE = frozenset({"Content-Type", "Content-Encoding", "User-Agent", "Authorization"})
"""A-20: of several the last counts."""

_REMEMBERED = 2048
_NAME_MAX = 128
"""Names that are remembered, and how long they may be: clients choose them, and must not fill the memory."""

_KEY_MAX = 4096
"""Bytes of a key that is sent as a field. Servers take lines of 8 KiB or so, and refuse requests with longer ones."""

_DROPPED = ""


def canonical(name: bytes) -> str:
    """``x-request-ID`` as ``X-Request-Id``; a name with other bytes than those of a token as it is (A2.3 rule 1)."""
    text = name.decode("latin-1")
    if not _TOKEN.fullmatch(name):
        return text
    return "-".join(part[:1].upper() + part[1:].lower() for part in text.split("-"))


@dataclasses.dataclass(frozen=True, slots=True)
class HeaderRules:
    """Which fields of a request go into the record (A-9 to A-13).

    ``allow`` and ``deny`` are globs over canonical names, whatever their case. With ``allow`` only those that it
    matches pass; ``deny`` wins; what belongs to the connection never passes. ``repeat`` keeps every field line as a
    record header of its own instead of joining those of one name.
    """

    repeat: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def passes(self, name: str) -> bool:
        """Whether fields of this canonical name go into the record."""
        if name in CONNECTION_FIELDS or _matches(name, self.deny):
            return False
        return not self.allow or _matches(name, self.allow)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), glob.lower()) for glob in globs)


class RecordHeaders:
    """Makes record headers of a request's fields. It remembers what each name becomes: most fields cost one look-up."""

    def __init__(self, rules: HeaderRules) -> None:
        self._rules = rules
        self._names: dict[bytes, str] = {}

    def of(self, fields: Fields) -> list[tuple[str, bytes]]:
        """The headers in the order in which their names came first; values are the bytes that were sent."""
        names = self._names
        found: dict[str, bytes] = {}
        hop: bytes | None = None
        listed: list[tuple[str, bytes]] = []
        for raw, value in fields:
            name = names.get(raw)
            if name is None:
                name = self._learn(raw)
            if name is _DROPPED:
                if len(raw) == 10 and raw.lower() == b"connection":
                    hop = value if hop is None else hop + b"," + value
                continue
            if self._rules.repeat:
                listed.append((name, value))
            elif name in found:
                found[name] += (b"; " if name == "Cookie" else b",") + value
            else:
                found[name] = value
        headers = listed or list(found.items())
        if hop is not None:
            gone = {canonical(each.strip()) for each in hop.split(b",")}
            return [each for each in headers if each[0] not in gone]
        return headers

    def _learn(self, raw: bytes) -> str:
        name = canonical(raw)
        if not self._rules.passes(name):
            name = _DROPPED
        if len(raw) <= _NAME_MAX:
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            self._names[raw] = name
        return name


@dataclasses.dataclass(frozen=True, slots=True)
class SinkHeaderRules:
    """How record headers become fields of a POST (A-17 to A-23)."""

    split_commas: bool = False
    metadata: bool = False
    user_agent: str = "kafka-gateway"


def http_headers(record: ConsumedRecord, rules: SinkHeaderRules) -> tuple[HttpHeaders, int]:
    """The fields of the POST for a record, and how many of its headers cannot be fields and were left out (A-22)."""
    fields: HttpHeaders = []
    single: dict[str, HttpHeaders] = {}
    dropped = 0
    headers = record.headers() or ()
    gone = _named_by_connection(headers)
    for name, value in headers:
        known, is_token = _known(name) if len(name) <= _NAME_MAX else _look_at(name)
        if known in CONNECTION_FIELDS or known in gone:
            continue
        text = _text(value or b"")
        if text is None or not is_token:
            dropped += 1
            continue
        lines = [(name, text)]
        if rules.split_commas and "," in text:
            lines = [(name, piece.strip()) for piece in text.split(",")]
            if known == "User-Agent":
                del lines[1:]
        if known in _SINGLE:
            single[known] = lines
        else:
            fields += lines
    for lines in single.values():
        fields += lines
    if rules.metadata:
        own = _metadata(record)
        names = {name.lower() for name, _ in own}
        fields = [each for each in fields if each[0].lower() not in names] + own
    if "User-Agent" not in single and rules.user_agent:
        fields.append(("User-Agent", rules.user_agent))
    return fields, dropped


def _look_at(name: str) -> tuple[str, bool]:
    """The canonical name of a record header, and whether it can be the name of a field."""
    raw = name.encode("utf-8", "surrogateescape")
    return canonical(raw), bool(_TOKEN.fullmatch(raw))


_known = functools.lru_cache(_REMEMBERED)(_look_at)


def _named_by_connection(headers: Headers) -> frozenset[str]:
    """What the record's own Connection headers name: fields of the hop that they came over."""
    found: set[str] = set()
    for name, value in headers:
        if value and len(name) == 10 and name.lower() == "connection":
            found.update(canonical(each.strip()) for each in value.split(b","))
    return frozenset(found)


def _text(value: bytes) -> str | None:
    """The value as a field can carry it, without the blanks round it; None if it cannot."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text.strip(" \t")


def _metadata(record: ConsumedRecord) -> HttpHeaders:
    fields = [
        ("X-Kafka-Topic", str(record.topic())),
        ("X-Kafka-Partition", str(record.partition())),
        ("X-Kafka-Offset", str(record.offset())),
        ("X-Kafka-Timestamp", str(record.timestamp()[1])),
    ]
    key = record.key()
    if key is not None and len(key) <= _KEY_MAX:
        fields.append(("X-Kafka-Key", base64.b64encode(key).decode()))
    return fields
