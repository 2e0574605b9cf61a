"""Media types: which one a response gets, which ones a body may have, and which API generation they ask for.

Everything here is decided from header texts and fixed lists, without I/O. References with § are to kafka-rest-http.md,
corrected where kafka-rest-http-observed.md says that the live proxy does something else.

A resource has a :class:`Produces` (its response types with server weights) and a :class:`Consumes` (its body types with
the embedded format that each one stands for). Check ``Consumes`` first: a request wrong on both sides is a 415, not a
406. The functions at the end build both for each kind of resource from the names of the installed embedded formats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from kafka_gateway.errors import BadRequest, NotAcceptable, UnsupportedMediaType

JSON: Final = "application/json"
KAFKA: Final = "application/vnd.kafka+json"
V1: Final = "application/vnd.kafka.v1+json"
V2: Final = "application/vnd.kafka.v2+json"
OCTETS: Final = "application/octet-stream"
EVENTS: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"

V1_FORMATS: Final = ("binary", "json", "avro")
V2_FORMATS: Final = ("binary", "json", "avro", "jsonschema", "protobuf")

DEFAULT_FORMAT: Final = "binary"
"""The embedded format of requests and reads that name none (§3.2)."""

_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS: Final = frozenset("0123456789")


# --- headers ---------------------------------------------------------------------------------------------------------


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


# --- the response side -----------------------------------------------------------------------------------------------


class Produces:
    """The media types that a resource can answer with, each with its server weight ``qs`` (§3.2).

    The types are concrete, so the candidates of §3.3 are all equally specific and only ``(q, qs)`` decides. Of equals
    the client's first counts, then the server's first.
    """

    __slots__ = ("_known", "_weighted", "default", "types")

    def __init__(self, weighted: Iterable[tuple[str, float]]) -> None:
        self._weighted = tuple((MediaType.parse(text), qs) for text, qs in weighted)
        self.types = tuple(str(media_type) for media_type, _ in self._weighted)
        self.default = str(max(self._weighted, key=lambda pair: pair[1])[0])
        """What a request without ``Accept`` gets."""
        self._known: dict[str, str] = {}

    @property
    def weighted(self) -> tuple[tuple[MediaType, float], ...]:
        """The types and their server weights."""
        return self._weighted

    def __repr__(self) -> str:
        return f"Produces({', '.join(self.types)})"

    def negotiate(self, accept: str | None) -> str:
        """The response's media type, without parameters.

        Raises:
            NotAcceptable: if the client takes none of these types.
            BadRequest: as :func:`parse_accept`.
        """
        if not accept or accept == "*/*":
            return self.default
        known = self._known.get(accept)
        if known is None:
            known = self._negotiate(parse_accept(accept))
            # Clients send very few different headers; whoever varies them only loses the shortcut.
            if len(self._known) < 64 and len(accept) <= 256:
                self._known[accept] = known
        return known

    def _negotiate(self, ranges: tuple[MediaRange, ...]) -> str:
        # q=0 excludes a type where it stands at the most specific range that covers it (RFC 9110 §12.5.1), unless
        # nothing else is left: then it is as if there were no q, because a refusal helps nobody (observed §3.3).
        best = self._best(ranges, [pair for pair in self._weighted if not _refused(ranges, pair[0])])
        best = best or self._best(ranges, self._weighted)
        if not best:
            raise NotAcceptable()
        return best

    @staticmethod
    def _best(ranges: tuple[MediaRange, ...], weighted: Iterable[tuple[MediaType, float]]) -> str:
        best, best_key = "", (-1.0, -1.0)
        for accepted, q in ranges:
            for media_type, qs in weighted:
                if (q, qs) > best_key and accepted.covers(media_type):
                    best, best_key = str(media_type), (q, qs)
        return best


def _refused(ranges: tuple[MediaRange, ...], media_type: MediaType) -> bool:
    covering = [(accepted.specificity, q) for accepted, q in ranges if accepted.covers(media_type)]
    return bool(covering) and max(covering)[1] == 0


def with_events(produces: Produces) -> Produces:
    """The same, and an event stream for those who ask for nothing else (streams.md §1)."""
    return Produces([*((str(kind), qs) for kind, qs in produces.weighted), (EVENTS, 0.001)])


def negotiate(accept: str | None, produces: Produces) -> str:
    """Same as ``produces.negotiate(accept)``."""
    return produces.negotiate(accept)


# --- the request side ------------------------------------------------------------------------------------------------


class Body(NamedTuple):
    """What a request's body is: its media type, and the embedded format of the records in it ("" if it has none)."""

    media_type: str
    format: str


class Consumes:
    """The media types that a resource takes (§3.3 "Request side").

    Args:
        formats: media type → embedded format ("" for a body without embedded data).
        missing: what a body without ``Content-Type`` is taken to be; None refuses it.
    """

    __slots__ = ("formats", "missing")

    def __init__(self, formats: Mapping[str, str], missing: str | None) -> None:
        self.formats: Mapping[str, str] = MappingProxyType(dict(formats))
        self.missing = Body(missing, self.formats[missing]) if missing is not None else None

    def __repr__(self) -> str:
        return f"Consumes({', '.join(self.formats)})"

    def select(self, content_type: str | None, has_body: bool = True) -> Body:
        """What the body is, from its ``Content-Type`` (None if the header is missing).

        Without a body a foreign or broken ``Content-Type`` is ignored: many clients send one with every request (§3.3).

        Raises:
            UnsupportedMediaType: if the resource does not take that type.
            BadRequest: if the header is empty or not a media type.
        """
        if content_type is None:
            if self.missing is not None:
                return self.missing
            if has_body:
                raise UnsupportedMediaType()
            return _NO_BODY
        known = self.formats.get(content_type)  # the common case: exactly the listed type, no parameters
        if known is not None:
            return Body(content_type, known)
        try:
            media_type = parse_content_type(content_type)
            if media_type in self.formats:
                return Body(media_type, self.formats[media_type])
            raise UnsupportedMediaType()
        except (BadRequest, UnsupportedMediaType):
            if has_body:
                raise
            return self.missing or _NO_BODY


_NO_BODY: Final = Body("", "")


# --- generations and embedded formats --------------------------------------------------------------------------------


def embedded(fmt: str, version: str) -> str:
    """The media type of an embedded format: ``embedded("json", "v2")`` is ``application/vnd.kafka.json.v2+json``."""
    return f"application/vnd.kafka.{fmt}.{version}+json"


def embedded_format(media_type: str) -> str | None:
    """The embedded format that a media type names: "binary", "json", …; None if it names none (§3.2)."""
    return _vendor(media_type)[0] or None


def read_format(media_type: str) -> str:
    """The embedded format of a read answered with ``media_type``: binary where the type names none (§3.3)."""
    return embedded_format(media_type) or DEFAULT_FORMAT


def generation(media_type: str) -> str | None:
    """The generation that a media type selects: "v1", "v2" or None (§3.1).

    The generic ``application/vnd.kafka+json`` and ``application/json`` select v1.
    """
    if media_type in (KAFKA, JSON):
        return "v1"
    version = _vendor(media_type)[1]
    return version if version in ("v1", "v2") else None


def _vendor(media_type: str) -> tuple[str, str]:
    """(embedded format, version) of ``application/vnd.kafka[.<format>].<version>+json``, "" for what is missing."""
    if not media_type.startswith("application/vnd.kafka.") or not media_type.endswith("+json"):
        return "", ""
    match media_type[len("application/vnd.kafka.") : -len("+json")].split("."):
        case [version]:
            return "", version
        case [fmt, version] if fmt:
            return fmt, version
        case _:
            return "", ""


def generation_hint(method: str, accept: str | None, content_type: str | None) -> str | None:
    """The generation that the headers ask for on a path that v1 and v2 share; None if they say nothing (§3.1).

    Requests with a body are told by ``Content-Type`` first, the others by ``Accept`` first. In ``Accept`` the range
    with the highest ``q`` that says anything decides. A body of ``application/octet-stream`` is v1's if nothing else
    says more: only older proxies take it (§3.2).

    Raises:
        BadRequest: as :func:`parse_accept`.
    """
    by_accept = None
    kind = _content_type(content_type)
    by_type = generation(kind)
    if by_type is not None and method in _WITH_BODY:
        return by_type
    if accept:
        for media_range, _ in sorted((each for each in parse_accept(accept) if each.q > 0), key=_by_weight):
            by_accept = generation(str(media_range))
            if by_accept is not None:
                break
    return by_accept or by_type or ("v1" if kind == OCTETS and method in _WITH_BODY else None)


def can_mean(own: str, produces: Produces | None, method: str, accept: str | None, content_type: str | None) -> bool:
    """Whether a request for an object of the generation ``own`` can be meant for it (§3.1).

    Many clients send one ``Accept`` with every request (``application/json, text/plain, */*``), which tells what they
    can read and not which API they speak. So a request is the other generation's only if it names one of that one's
    versioned types and accepts nothing that ``own`` would answer, or if ``own`` has no answer that it accepts. A
    DELETE is answered without content, so the generic types say nothing there.

    Args:
        produces: what ``own`` answers this request with.

    Raises:
        BadRequest: as :func:`parse_accept`.
    """
    body_version = _vendor(_content_type(content_type))[1]
    if body_version and method in _WITH_BODY:
        return body_version == own
    if not accept:
        return body_version in ("", own)
    ranges = [each.media_type for each in parse_accept(accept) if each.q > 0]
    if produces is None or any(each.covers(kind) for each in ranges for kind, _ in produces.weighted):
        return True
    versions = {_vendor(str(each))[1] for each in ranges}
    return method == "DELETE" and versions <= {"", own}


def _content_type(header: str | None) -> str:
    """The media type of a body; "" for none and for one that cannot be read, which is refused or ignored later."""
    if header is None:
        return ""
    try:
        return parse_content_type(header)
    except BadRequest:
        return ""


def classify(method: str, accept: str | None, content_type: str | None, default: str, enabled: Collection[str]) -> str:
    """The generation that serves a request on a path which the ``enabled`` generations share (§3.1).

    A hint at a generation that is not enabled is no hint: ``application/json`` with v2 alone is v2's 406.
    """
    if len(enabled) == 1:
        return next(iter(enabled))
    hint = generation_hint(method, accept, content_type)
    if hint in enabled:
        return str(hint)
    return default if default in enabled else min(enabled)


_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def _by_weight(media_range: MediaRange) -> float:
    return -media_range.q


# --- errors before a resource was chosen -----------------------------------------------------------------------------

V1_PREFERRED: Final = (V1, KAFKA, JSON)
CURRENT_PREFERRED: Final = (JSON, V2)


def error_media_type(
    accept: str | None,
    status: int,
    generation: str,
    preferred: Collection[str] | None = None,
    default: str | None = None,
) -> str:
    """The media type of an error raised before a resource and its response type were chosen (§3.3). Never raises.

    v1: the client's first range that is literally one of ``preferred``, else ``default``. Later generations do that for
    415 alone and answer 404, 405 and 406 as ``application/json`` (observed §3.3).

    Args:
        preferred: ``response.mediatype.preferred``; None for the generation's own default.
        default: ``response.mediatype.default``; likewise.
    """
    if generation != "v1" and status != 415:
        return JSON
    if preferred is None:
        preferred = V1_PREFERRED if generation == "v1" else CURRENT_PREFERRED
    if default is None:
        default = V1 if generation == "v1" else JSON
    try:
        ranges = parse_accept(accept or "")
    except BadRequest:
        return default
    return next((str(kind) for kind, _ in sorted(ranges, key=_by_weight) if str(kind) in preferred), default)


# --- what each kind of resource produces (§3.2, §3.3) ----------------------------------------------------------------

_V1_GENERIC: Final = ((V1, 0.9), (KAFKA, 0.8), (JSON, 0.5))


def v1_metadata() -> Produces:
    """v1 root, brokers, topics, and produce to a topic: no embedded types."""
    return Produces(_V1_GENERIC)


def v1_partition(formats: Collection[str] = V1_FORMATS) -> Produces:
    """v1 partition metadata and produce to a partition. They do not list the ``json`` type: it is a 406 here (§3.3)."""
    return Produces([*_V1_GENERIC, *((embedded(fmt, "v1"), 0.1) for fmt in formats if fmt != "json")])


def v1_consumer(formats: Collection[str] = V1_FORMATS) -> Produces:
    """v1 consumer management: creating, committing, deleting."""
    return Produces([*_V1_GENERIC, *((embedded(fmt, "v1"), 0.1) for fmt in formats)])


def v1_reads(formats: Collection[str] = V1_FORMATS) -> Produces:
    """v1 reads; :func:`read_format` tells the embedded format of the outcome."""
    return Produces([*_V1_GENERIC, *((embedded(fmt, "v1"), _read_weight(fmt)) for fmt in formats)])


def v2_metadata(lenient_json: bool = False) -> Produces:
    """v2 root, brokers, topics, partitions. ``lenient_json`` also takes ``application/json`` (§13 no. 3)."""
    return Produces(_v2_plain(lenient_json))


def v2_produce(lenient_json: bool = False) -> Produces:
    """v2 produce responses."""
    return Produces(_v2_plain(lenient_json))


def v2_consumer(formats: Collection[str] = V2_FORMATS, lenient_json: bool = False) -> Produces:
    """v2 consumer management: everything about an instance but reads."""
    return Produces([*_v2_plain(lenient_json), *((embedded(fmt, "v2"), 0.1) for fmt in formats)])


def v2_reads(formats: Collection[str] = V2_FORMATS, lenient_json: bool = False) -> Produces:
    """v2 ``…/records``; :func:`read_format` tells the embedded format of the outcome."""
    return Produces([*_v2_plain(lenient_json), *((embedded(fmt, "v2"), _read_weight(fmt)) for fmt in formats)])


def plain_json() -> Produces:
    """v3, and the gateway's own resources."""
    return Produces([(JSON, 1.0)])


def _v2_plain(lenient_json: bool) -> list[tuple[str, float]]:
    return [(V2, 0.9), (JSON, 0.05)] if lenient_json else [(V2, 0.9)]


def _read_weight(fmt: str) -> float:
    return 1.0 if fmt == DEFAULT_FORMAT else 0.1


# --- what each kind of resource consumes (§3.3 "Request side") -------------------------------------------------------

_V1_BODIES: Final = (V1, KAFKA, JSON, OCTETS)


def v1_takes_plain() -> Consumes:
    """v1 ``POST /`` and metadata."""
    return Consumes(dict.fromkeys(_V1_BODIES, ""), missing=OCTETS)


def v1_takes_records(formats: Collection[str] = V1_FORMATS) -> Consumes:
    """v1 produce: the generic types and a missing one are binary, any other format wants its own type."""
    return Consumes(
        {**dict.fromkeys(_V1_BODIES, DEFAULT_FORMAT), **{embedded(fmt, "v1"): fmt for fmt in formats}}, missing=OCTETS
    )


def v1_takes_consumer(formats: Collection[str] = V1_FORMATS) -> Consumes:
    """v1 consumer resources: any v1 type; the body has no embedded data."""
    return Consumes(dict.fromkeys((*_V1_BODIES, *(embedded(fmt, "v1") for fmt in formats)), ""), missing=OCTETS)


def v2_takes_plain() -> Consumes:
    """v2 ``POST /`` and metadata."""
    return Consumes({V2: ""}, missing=V2)


def v2_takes_records(formats: Collection[str] = V2_FORMATS) -> Consumes:
    """v2 produce: exactly one type per format. Without ``Content-Type`` the body is binary (observed §3.3)."""
    return Consumes({embedded(fmt, "v2"): fmt for fmt in formats}, missing=embedded(DEFAULT_FORMAT, "v2"))


def v2_takes_consumer(formats: Collection[str] = V2_FORMATS) -> Consumes:
    """v2 consumer resources: any v2 type; the body has no embedded data."""
    return Consumes(dict.fromkeys((V2, *(embedded(fmt, "v2") for fmt in formats)), ""), missing=V2)


def takes_json() -> Consumes:
    """v3 resources, and the gateway's own. A missing type is JSON (observed §3.3)."""
    return Consumes({JSON: ""}, missing=JSON)


def takes_json_records() -> Consumes:
    """v3 ``…/records``: the stream must say that it is JSON (observed §3.3)."""
    return Consumes({JSON: ""}, missing=None)
