"""Media types and ranges as the headers ``Accept`` and ``Content-Type`` spell them.

References with § are to kafka-rest-http.md, corrected where kafka-rest-http-observed.md says that the live proxy does
something else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, NamedTuple

from kafka_gateway.errors import BadRequest

_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS: Final = frozenset("0123456789")


@dataclasses.dataclass(frozen=True, slots=True)
class MediaType:
    """One media type or range, all names lower-case; parameter values are as sent, without quotes.

    Parameters do not count in comparisons (§3.2).
    """

    type: str
    subtype: str
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """``type/subtype``, without parameters."""
        return f"{self.type}/{self.subtype}"

    @property
    def specificity(self) -> int:
        """0 for ``*/*``, 1 for ``type/*``, 2 for a concrete type."""
        return (self.type != "*") + (self.subtype != "*")

    def covers(self, other: MediaType) -> bool:
        """Whether ``other`` is this type or lies in this range."""
        return self.type in ("*", other.type) and self.subtype in ("*", other.subtype)

    @classmethod
    def parse(cls, text: str) -> MediaType:
        """Reads ``type/subtype;name=value``.

        Raises:
            ValueError: if ``text`` is not of that form.
        """
        head, *rest = _split(text, ";")
        kind, slash, subtype = head.strip(" \t").partition("/")
        if kind == "*" and not slash:
            subtype = "*"  # Java's HttpURLConnection sends "*; q=.2" and means everything
        if not (_is_token(kind) and _is_token(subtype)) or (kind == "*" and subtype != "*"):
            raise ValueError(f"not a media type: {text[:80]!r}")
        parameters: dict[str, str] = {}
        for parameter in rest:
            parameter = parameter.strip(" \t")
            if not parameter:
                continue  # RFC 9110 §5.6.6 allows "a/b;" and "a/b;;c=d"
            name, equals, value = (part.strip(" \t") for part in parameter.partition("="))
            if not _is_token(name) or not equals:
                raise ValueError(f"not a parameter: {parameter[:80]!r}")
            parameters.setdefault(name.lower(), _unquote(value))
        return cls(kind.lower(), subtype.lower(), parameters)


class MediaRange(NamedTuple):
    """One element of ``Accept`` and its weight ``q``, 0 to 1."""

    media_type: MediaType
    q: float


def parse_accept(header: str) -> tuple[MediaRange, ...]:
    """The ranges of an ``Accept`` header in the order given; an empty header is ``*/*`` (§3.3 step 1).

    Elements that are no media range are skipped, so the result may be empty (observed §3.3).

    Raises:
        BadRequest: for a ``q`` that is not a decimal number between 0 and 1 (observed §3.3).
    """
    if not header.strip(" \t,"):
        return _ANYTHING
    ranges = []
    try:
        elements = _split(header, ",")
    except ValueError:  # a quote that is never closed: from there on nothing can be told apart
        elements = header.split(",")
    for element in elements:
        try:
            media_type = MediaType.parse(element)
        except ValueError:
            continue
        q = media_type.parameters.get("q")
        ranges.append(MediaRange(media_type, 1.0 if q is None else _weight(q)))
    return tuple(ranges)


def accept_parameter(header: str, media_type: str, name: str) -> str:
    """A parameter of the range in ``Accept`` for which a response got its type; "" if that range has none.

    Of several ranges that cover the type the heaviest counts, then the most specific. ``name`` is lower-case.

    Raises:
        BadRequest: as :func:`parse_accept`.
    """
    answered = MediaType.parse(media_type)
    ranges = [each for each in parse_accept(header) if each.media_type.covers(answered)]
    if not ranges:
        return ""
    chosen = max(ranges, key=lambda each: (each.q, each.media_type.specificity))
    return chosen.media_type.parameters.get(name, "")


def parse_content_type(header: str) -> str:
    """The lower-case ``type/subtype`` of a ``Content-Type`` header, without parameters.

    Raises:
        BadRequest: if it is empty or not a media type (observed §3.3).
    """
    try:
        return str(MediaType.parse(header))
    except ValueError:
        raise BadRequest(f"Bad Request: Content-Type is not a media type: {header[:80]!r}") from None


def _split(text: str, separator: str) -> list[str]:
    """``text`` cut at the separators that stand outside of quoted strings (RFC 9110 §5.6.4)."""
    if '"' not in text:
        return text.split(separator)
    parts, start, quoted, escaped = [], 0, False, False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char == separator:
            parts.append(text[start:position])
            start = position + 1
    if quoted:
        raise ValueError("a quoted string does not end")
    parts.append(text[start:])
    return parts


def _is_token(text: str) -> bool:
    return bool(text) and _TOKEN.issuperset(text)


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return value[1:-1].replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")


def _weight(text: str) -> float:
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    # ".2" passes: HttpURLConnection sends it. "1e-1", "nan" and "-0" are numbers to float(), but not to HTTP.
    if not digits or not _DIGITS.issuperset(digits) or (weight := float(text)) > 1:
        raise BadRequest(f"Bad Request: q={text[:80]} in Accept is not a number between 0 and 1.")
    return weight


_ANYTHING: Final = (MediaRange(MediaType("*", "*"), 1.0),)
