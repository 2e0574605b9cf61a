"""Media types: which one a response gets, and which ones a body may have.

Everything here is decided from header texts and fixed lists, without I/O. References with § are to kafka-rest-http.md,
corrected where kafka-rest-http-observed.md says that the live proxy does something else.

A resource has a :class:`Produces` (its response types with server weights) and a :class:`Consumes` (its body types with
the embedded format that each one stands for). Check ``Consumes`` first: a request wrong on both sides is a 415, not a
406. The functions at the end build both for each kind of resource from the names of the installed embedded formats.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from kafka_gateway.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from kafka_gateway.media_ranges import MediaRange, MediaType, parse_accept, parse_content_type

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
            shown = sorted(self._weighted, key=lambda pair: -pair[1])[:5]
            raise NotAcceptable().with_help(f"Accept one of these: {', '.join(str(kind) for kind, _ in shown)}.")
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

    __slots__ = ("formats", "hint", "missing")

    def __init__(self, formats: Mapping[str, str], missing: str | None) -> None:
        shown = sorted(formats, key=lambda kind: (not kind.startswith("application/vnd.kafka."), len(kind)))[:5]
        self.hint = f"Send one of these as Content-Type: {', '.join(shown)}."
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
                raise UnsupportedMediaType().with_help(self.hint)
            return _NO_BODY
        known = self.formats.get(content_type)  # the common case: exactly the listed type, no parameters
        if known is not None:
            return Body(content_type, known)
        try:
            media_type = parse_content_type(content_type)
            if media_type in self.formats:
                return Body(media_type, self.formats[media_type])
            raise UnsupportedMediaType().with_help(self.hint)
        except (BadRequest, UnsupportedMediaType):
            if has_body:
                raise
            return self.missing or _NO_BODY


_NO_BODY: Final = Body("", "")


# --- embedded formats ------------------------------------------------------------------------------------------------


def embedded(fmt: str, version: str) -> str:
    """The media type of an embedded format: ``embedded("json", "v2")`` is ``application/vnd.kafka.json.v2+json``."""
    return f"application/vnd.kafka.{fmt}.{version}+json"


def embedded_format(media_type: str) -> str | None:
    """The embedded format that a media type names: "binary", "json", …; None if it names none (§3.2)."""
    return vendor_parts(media_type)[0] or None


def read_format(media_type: str) -> str:
    """The embedded format of a read answered with ``media_type``: binary where the type names none (§3.3)."""
    return embedded_format(media_type) or DEFAULT_FORMAT


def vendor_parts(media_type: str) -> tuple[str, str]:
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
