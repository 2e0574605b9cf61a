"""Media types: the outcomes of kafka-rest-http.md §3.3 and what the live proxy was seen to answer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway import generations, media
from kafka_gateway.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from kafka_gateway.media import JSON, KAFKA, OCTETS, V1, V2, Produces, embedded
from kafka_gateway.media_ranges import MediaType, parse_accept, parse_content_type

BINARY1, JSON1, AVRO1 = (embedded(fmt, "v1") for fmt in media.V1_FORMATS)
BINARY2, JSON2, AVRO2, JSONSCHEMA2, PROTOBUF2 = (embedded(fmt, "v2") for fmt in media.V2_FORMATS)
ALL1 = (BINARY1, JSON1, AVRO1)
ALL2 = (BINARY2, JSON2, AVRO2, JSONSCHEMA2, PROTOBUF2)

PRODUCES = {
    "v1 metadata": media.v1_metadata(),
    "v1 partition": media.v1_partition(),
    "v1 consumer": media.v1_consumer(),
    "v1 reads": media.v1_reads(),
    "v2 metadata": media.v2_metadata(),
    "v2 produce": media.v2_produce(),
    "v2 consumer": media.v2_consumer(),
    "v2 reads": media.v2_reads(),
    "v3": media.plain_json(),
}
NOT_READS_1 = ("v1 metadata", "v1 partition", "v1 consumer")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
LEGACY = f"{V2}, {KAFKA}, {JSON}"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"

# (resource, Accept, response type or None for a 406): "Effective outcomes that MUST hold", row by row.
OUTCOMES: list[tuple[str, str | None, str | None]] = [
    *((resource, accept, V1) for resource in NOT_READS_1 for accept in (None, "", "*/*", "application/*")),
    *((resource, kind, kind) for resource in NOT_READS_1 for kind in (V1, KAFKA, JSON)),
    *((resource, f"{KAFKA}; q=0.9, {JSON}; q=0.4", KAFKA) for resource in NOT_READS_1),
    *(("v1 consumer", kind, kind) for kind in ALL1),
    ("v1 partition", BINARY1, BINARY1),
    ("v1 partition", AVRO1, AVRO1),
    ("v1 partition", JSON1, None),
    *(("v1 metadata", kind, None) for kind in ALL1),
    *(("v1 reads", accept, BINARY1) for accept in (None, "", "*/*", "application/*")),
    *(("v1 reads", kind, kind) for kind in (V1, KAFKA, JSON)),
    *(("v1 reads", kind, kind) for kind in ALL1),
    *(("v2 reads", accept, BINARY2) for accept in (None, "", "*/*", "application/*")),
    ("v2 reads", V2, V2),
    *(("v2 reads", kind, kind) for kind in ALL2),
    *((resource, accept, V2) for resource in ("v2 metadata", "v2 produce") for accept in (None, "", "*/*", V2)),
    *((resource, JSON, None) for resource in ("v2 metadata", "v2 produce", "v2 consumer", "v2 reads")),
    *(("v2 consumer", kind, kind) for kind in (V2, *ALL2)),
    *(("v2 consumer", accept, V2) for accept in (None, "", "*/*", "application/*")),
    *(("v3", accept, JSON) for accept in (None, "", "*/*", "application/*", JSON)),
    *((resource, kind, None) for resource in PRODUCES for kind in ("text/plain", OCTETS, "text/*")),
]

# Replies of Confluent 8.1.1, cases v2.accept.*, v2.records.* and v3.accept.*; where the gateway differs on purpose
# (upper-case, parameters without echo), what deviations.json says.
RECORDED: list[tuple[str, str, str | None]] = [
    ("v2 metadata", f"{V2};q=0", V2),
    ("v2 metadata", f"{V2};q=0, */*;q=0.1", V2),
    ("v2 metadata", f"{JSON}, {V2}", V2),
    ("v2 metadata", f"{JSON}, */*;q=0.1", V2),
    ("v2 metadata", BROWSER, V2),
    ("v2 metadata", "application/vnd.kafka.v3+json", None),
    *(("v2 metadata", kind, None) for kind in (BINARY2, JSON2, AVRO2)),
    ("v2 metadata", V2.upper(), V2),
    ("v2 metadata", f"{V2}; charset=utf-8", V2),
    ("v2 metadata", f"{V2};charset=iso-8859-1", V2),
    ("v2 metadata", f"{V2};foo=bar", V2),
    ("v2 metadata", "garbage", None),
    ("v2 metadata", f"garbage, {V2}", V2),
    ("v2 metadata", LEGACY, V2),
    ("v2 metadata", f"*/*;q=0.1, {BINARY2};q=0.9", V2),
    ("v2 metadata", f"text/plain, {V2}", V2),
    ("v2 produce", f"{JSON}, {V2}", V2),
    ("v2 produce", f"{V2};q=0", V2),
    ("v2 produce", JSON2, None),
    ("v2 produce", V1, None),
    ("v2 produce", LEGACY, V2),
    ("v2 consumer", f"{JSON}, {V2}", V2),
    ("v2 consumer", V1, None),
    ("v2 reads", f"{BINARY2};q=0.5, {V2};q=0.9", V2),
    ("v2 reads", f"{V2}, {JSON2};q=0.1", V2),
    ("v2 reads", f"{JSON2}, {BINARY2};q=0.5", JSON2),
    ("v3", f"{JSON};charset=utf-8", JSON),
    ("v3", f"{V2}, {JSON};q=0.1", JSON),
    ("v3", "Application/JSON", JSON),
    ("v3", f"{JSON};q=0", JSON),
    ("v3", "text/html,application/xhtml+xml,*/*;q=0.8", JSON),
    ("v3", "garbage", None),
    ("v3", "application/problem+json", None),
    ("v3", "text/event-stream", None),
]

# What follows from the rules but is in no table.
OWN: list[tuple[str, str, str | None]] = [
    ("v1 metadata", f"{JSON}, {KAFKA}, {V1}", V1),  # equal q: the server's weights decide
    ("v1 metadata", f"{V1};q=0, */*", KAFKA),  # q=0 excludes as long as something is left
    ("v1 metadata", f"*/*;q=0, {JSON}", JSON),
    ("v1 metadata", f"application/*;q=0, {JSON};q=0.1, */*", JSON),
    ("v1 metadata", "*/*;q=0", V1),
    ("v2 reads", f"{JSON2}, {AVRO2}", JSON2),  # equal in all: the client's order
    ("v2 reads", f"{AVRO2}, {JSON2}", AVRO2),
    ("v2 reads", f"{JSON2}, */*", BINARY2),  # pairs, not specificity: */* offers binary with a higher qs
    ("v2 reads", f"{JSON2}, */*;q=0.9", JSON2),
    ("v2 metadata", JAVA, V2),
    ("v2 metadata", ",", V2),
    ("v2 metadata", f",, {V2} ,", V2),
    ("v2 metadata", f'text/plain;a="x, {V2}"', None),  # a comma in quotes separates nothing
    ("v2 metadata", f'{V2};a="x,\\"y;"', V2),
    ("v2 metadata", f'text/plain;a="x, {V2}', V2),  # a quote that is never closed costs its own element alone
    ("v2 metadata", f"{V2} ; Q = 0.5", V2),
    ("v2 metadata", f"{V2};", V2),
    ("v2 metadata", f"{V2};nothing", None),
    ("v3", "*/json", None),
    ("v2 metadata", "application/", None),
    ("v2 metadata", "garbage;q=high, */*", V2),  # the weight of something unparsable does not matter
]


@pytest.mark.parametrize(("resource", "accept", "result"), [*OUTCOMES, *RECORDED, *OWN])
def test_negotiation(resource: str, accept: str | None, result: str | None) -> None:
    produces = PRODUCES[resource]
    for _ in range(2):  # the second answer comes from what it remembers
        if result is None:
            with pytest.raises(NotAcceptable):
                media.negotiate(accept, produces)
        else:
            assert media.negotiate(accept, produces) == result


@pytest.mark.parametrize("q", ["high", "1.5", "2", "-1", "-0", "nan", "inf", "1e-1", "", ".", "0.5.5", "+0.5", "٠"])
def test_bad_weight(q: str) -> None:
    with pytest.raises(BadRequest):
        parse_accept(f"{V2};q={q}")
    with pytest.raises(BadRequest):
        PRODUCES["v2 metadata"].negotiate(f"*/*, {V2};q={q}")


@pytest.mark.parametrize(
    ("q", "weight"), [("0", 0), ("1", 1), ("1.000", 1), ("0.", 0), (".2", 0.2), ("0.5", 0.5), ('"0.5"', 0.5)]
)
def test_weight(q: str, weight: float) -> None:
    assert parse_accept(f"{V2};q={q};x=y") == ((MediaType.parse(V2), weight),)


def test_remembered_headers_are_bounded() -> None:
    produces = media.v2_metadata()
    for number in range(1000):
        produces.negotiate(f"{V2};n={number}")
    produces.negotiate(f"{V2};n={'9' * 10_000}")
    assert len(produces._known) == 64


def test_lenient_json() -> None:
    assert media.v2_metadata(lenient_json=True).negotiate(JSON) == JSON
    assert media.v2_consumer(lenient_json=True).negotiate(f"{JSON}, {V2}") == V2
    assert media.v2_reads(lenient_json=True).negotiate("*/*") == BINARY2


def test_formats_of_plugins() -> None:
    text1, text2 = embedded("text", "v1"), embedded("text", "v2")
    assert media.v1_reads((*media.V1_FORMATS, "text")).negotiate(text1) == text1
    assert media.v1_partition((*media.V1_FORMATS, "text")).negotiate(text1) == text1
    assert media.v2_reads((*media.V2_FORMATS, "text")).negotiate(text2) == text2
    assert media.v2_takes_records((*media.V2_FORMATS, "text")).select(text2).format == "text"
    with pytest.raises(NotAcceptable):
        media.v2_reads().negotiate(text2)


# --- Content-Type ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["", " ", "garbage", "*", "a/", "/b", "a b/c", "a/b/c", f"{JSON}, {JSON}", "a/b;c", "é/b"]
)
def test_bad_content_type(header: str) -> None:
    if header == "*":  # Java's */*: parsable, though no resource takes it
        assert parse_content_type(header) == "*/*"
        return
    with pytest.raises(BadRequest):
        parse_content_type(header)


@pytest.mark.parametrize(
    "header",
    [
        JSON,
        "Application/JSON",
        f" {JSON} ",
        f"{JSON};charset=utf-8",
        f'{JSON}; charset="UTF-8"',
        f"{JSON};",
        f"{JSON}; ;a=b",
    ],
)
def test_content_type(header: str) -> None:
    assert parse_content_type(header) == JSON


def test_parameters_are_kept_for_those_who_want_them() -> None:
    assert MediaType.parse(f'{JSON}; Charset="ISO-\\8859-1"; x = y').parameters == {"charset": "ISO-8859-1", "x": "y"}
    assert MediaType.parse('a/b; c="\\\\\\""').parameters == {"c": '\\"'}
    assert MediaType.parse(f"{JSON};a=b") == MediaType.parse(JSON)
    assert str(MediaType.parse(f"{JSON};a=b")) == JSON
    assert [MediaType.parse(text).specificity for text in ("*/*", "a/*", "a/b")] == [0, 1, 2]


CONSUMES = {
    "v1 plain": media.v1_takes_plain(),
    "v1 produce": media.v1_takes_records(),
    "v1 consumer": media.v1_takes_consumer(),
    "v2 plain": media.v2_takes_plain(),
    "v2 produce": media.v2_takes_records(),
    "v2 consumer": media.v2_takes_consumer(),
    "v3": media.takes_json(),
    "v3 records": media.takes_json_records(),
}
GENERIC1 = (V1, KAFKA, JSON, OCTETS)
UNKNOWN = ("text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json", "*/*")
UNKNOWN_KAFKA = ("application/vnd.kafka.binary.v2", "application/vnd.kafka.binary.v3+json")
EVERYTHING = (*GENERIC1, *ALL1, V2, *ALL2, *UNKNOWN, *UNKNOWN_KAFKA)
# The table "Request side" of §3.3: what each resource takes, and the embedded format it stands for.
TAKES: dict[str, dict[str, str]] = {
    "v1 plain": dict.fromkeys(GENERIC1, ""),
    "v1 produce": {**dict.fromkeys((*GENERIC1, BINARY1), "binary"), JSON1: "json", AVRO1: "avro"},
    "v1 consumer": dict.fromkeys((*GENERIC1, *ALL1), ""),
    "v2 plain": {V2: ""},
    "v2 produce": dict(zip(ALL2, media.V2_FORMATS, strict=True)),
    "v2 consumer": dict.fromkeys((V2, *ALL2), ""),
    "v3": {JSON: ""},
    "v3 records": {JSON: ""},
}


@pytest.mark.parametrize("resource", CONSUMES)
@pytest.mark.parametrize("content_type", EVERYTHING)
def test_request_side(resource: str, content_type: str) -> None:
    fmt = TAKES[resource].get(content_type)
    for header in (
        content_type,
        content_type.upper(),
        f"{content_type}; charset=utf-8",
        f'{content_type};charset="UTF-8"',
    ):
        if fmt is not None:
            assert CONSUMES[resource].select(header) == (content_type, fmt)
        else:
            with pytest.raises(UnsupportedMediaType):
                CONSUMES[resource].select(header)
            CONSUMES[resource].select(header, has_body=False)  # nobody looks at the type of nothing


@pytest.mark.parametrize(
    ("resource", "result"),
    [
        ("v1 plain", (OCTETS, "")),
        ("v1 produce", (OCTETS, "binary")),
        ("v1 consumer", (OCTETS, "")),
        ("v2 plain", (V2, "")),
        ("v2 produce", (BINARY2, "binary")),  # observed; the specification's 415 would break clients that exist
        ("v2 consumer", (V2, "")),
        ("v3", (JSON, "")),
    ],
)
def test_body_without_content_type(resource: str, result: tuple[str, str]) -> None:
    assert CONSUMES[resource].select(None) == result
    assert CONSUMES[resource].select(None, has_body=False) == result


def test_records_without_content_type() -> None:
    with pytest.raises(UnsupportedMediaType):
        CONSUMES["v3 records"].select(None)
    assert CONSUMES["v3 records"].select(None, has_body=False) == ("", "")


@pytest.mark.parametrize("header", ["", "garbage"])
@pytest.mark.parametrize("resource", CONSUMES)
def test_broken_content_type(resource: str, header: str) -> None:
    with pytest.raises(BadRequest):
        CONSUMES[resource].select(header)
    CONSUMES[resource].select(header, has_body=False)


# --- formats and generations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "fmt", "generation"),
    [
        (V1, None, "v1"),
        (V2, None, "v2"),
        (KAFKA, None, "v1"),
        (JSON, None, "v1"),
        (OCTETS, None, None),
        (BINARY1, "binary", "v1"),
        (PROTOBUF2, "protobuf", "v2"),
        (embedded("text", "v2"), "text", "v2"),
        ("application/vnd.kafka.v3+json", None, None),
        ("application/vnd.kafka.binary.v2", None, None),
        ("application/vnd.kafka.binary.v2+yaml", None, None),
        ("application/vnd.kafka..v2+json", None, None),
        ("application/vnd.kafka.a.b.v2+json", None, None),
        ("application/vnd.kafkaesque.v2+json", None, None),
        ("text/plain", None, None),
        ("", None, None),
    ],
)
def test_formats_and_generations(media_type: str, fmt: str | None, generation: str | None) -> None:
    assert media.embedded_format(media_type) == fmt
    assert generations.generation(media_type) == generation
    assert media.read_format(media_type) == (fmt or "binary")


BOTH = ("v1", "v2")


@pytest.mark.parametrize(
    ("method", "accept", "content_type", "result"),
    [
        ("GET", None, None, None),
        ("GET", "*/*", None, None),
        ("GET", BROWSER, "application/x-www-form-urlencoded", None),
        ("GET", "garbage", "garbage", None),
        *(("GET", kind, None, "v1") for kind in (V1, KAFKA, JSON, *ALL1)),
        *(("GET", kind, None, "v2") for kind in (V2, *ALL2)),
        *(("DELETE", None, kind, "v1") for kind in (V1, KAFKA, JSON, *ALL1)),
        *(("DELETE", None, kind, "v2") for kind in (V2, *ALL2)),
        ("GET", V2, JSON, "v2"),  # by Accept first …
        ("HEAD", V1, V2, "v1"),
        ("DELETE", V1, V2, "v1"),
        ("POST", V1, BINARY2, "v2"),  # … and by Content-Type first
        ("POST", V2, JSON, "v1"),
        ("POST", V2, "text/plain", "v2"),
        ("POST", V2, OCTETS, "v2"),  # §3.1 does not name it among the types that select v1
        ("POST", V1, OCTETS, "v1"),
        ("POST", V2, "", "v2"),
        ("POST", V2, None, "v2"),
        ("GET", LEGACY, None, "v2"),  # of equals the first
        ("GET", f"{JSON}, {V2}", None, "v1"),
        ("GET", f"{JSON};q=0.5, {V2}", None, "v2"),  # the client's weights
        ("GET", f"text/html, */*, {V2};q=0.1", None, "v2"),
        ("GET", f"{JSON};q=0, */*", None, None),
        ("GET", V2.upper(), None, "v2"),
    ],
)
def test_generation_of_a_shared_path(
    method: str, accept: str | None, content_type: str | None, result: str | None
) -> None:
    assert generations.generation_hint(method, accept, content_type) == result
    for default in BOTH:
        assert generations.classify(method, accept, content_type, default, BOTH) == (result or default)
        for only in BOTH:
            assert generations.classify(method, accept, content_type, default, {only}) == only


def test_classify_with_foreign_default() -> None:
    assert generations.classify("GET", None, None, "v3", ["v2", "v1"]) == "v1"


def test_classify_reads_no_header_where_nothing_is_to_be_decided() -> None:
    assert generations.classify("GET", "*/*;q=high", None, "v1", ["v2"]) == "v2"
    with pytest.raises(BadRequest):
        generations.classify("GET", "*/*;q=high", None, "v1", BOTH)


# --- errors before a route was chosen --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "status", "generation", "result"),
    [
        # v2.accept.error-media-type
        (V2, 415, "v2", V2),
        ("*/*", 415, "v2", JSON),
        ("text/plain", 415, "v2", JSON),
        (None, 415, "v2", JSON),
        ("", 415, "v3", JSON),
        (f"text/plain, {V2}, {JSON}", 415, "v2", V2),
        (f"{V2};q=0.1, {JSON}", 415, "v2", JSON),
        (f"{V2};q=high", 415, "v2", JSON),
        # v2.accept.error-method: JSON, whatever is asked for
        *((accept, status, "v2", JSON) for accept in (V2, JSON, "text/plain", None) for status in (404, 405, 406)),
        # v1 keeps the rule of 2.0.1 for all of them
        *((accept, status, "v1", V1) for accept in (V1, "*/*", "text/plain", None) for status in (404, 405, 415)),
        *((KAFKA, status, "v1", KAFKA) for status in (404, 405, 415)),
        (f"{BINARY1}, {JSON}", 404, "v1", JSON),
        (V2, 404, "v1", V1),
    ],
)
def test_error_media_type(accept: str | None, status: int, generation: str, result: str) -> None:
    assert generations.error_media_type(accept, status, generation) == result


def test_error_media_type_by_configuration() -> None:
    assert generations.error_media_type("text/plain", 415, "v2", preferred=[KAFKA], default=V2) == V2
    assert generations.error_media_type(KAFKA, 415, "v2", preferred=[KAFKA], default=V2) == KAFKA


# --- any header ------------------------------------------------------------------------------------------------------

_pieces = st.sampled_from(
    [*EVERYTHING, "*/*", "*", "application/*", ";", ",", " ", "q=", "0.5", "1", "=", '"', "\\", "a"]
)
_headers = st.text(max_size=30) | st.lists(_pieces, max_size=12).map("".join)


@given(_headers, st.sampled_from(sorted(PRODUCES)))
def test_any_accept_is_answered_or_refused(accept: str, resource: str) -> None:
    try:
        result = PRODUCES[resource].negotiate(accept)
    except (BadRequest, NotAcceptable):
        return
    assert result in PRODUCES[resource].types


@given(_headers, st.sampled_from(sorted(CONSUMES)), st.booleans())
def test_any_content_type_is_taken_or_refused(header: str, resource: str, has_body: bool) -> None:
    try:
        body = CONSUMES[resource].select(header, has_body)
    except (BadRequest, UnsupportedMediaType):
        assert has_body
        return
    assert body.format == CONSUMES[resource].formats.get(body.media_type, "")


@given(_headers, _headers, st.sampled_from(["GET", "POST"]))
def test_any_headers_choose_a_generation(accept: str, content_type: str, method: str) -> None:
    with contextlib.suppress(BadRequest):
        assert generations.classify(method, accept, content_type, "v2", BOTH) in BOTH
    assert generations.error_media_type(accept, 415, "v2") in generations.CURRENT_PREFERRED


_weights = st.sampled_from(["", ";q=1", ";q=0.5", ";q=0.1", ";q=0"])


@given(st.lists(st.tuples(st.sampled_from([*EVERYTHING, "*/*", "application/*"]), _weights), min_size=1, max_size=5))
def test_negotiation_agrees_with_the_text_of_the_specification(elements: list[tuple[str, str]]) -> None:
    accept = ", ".join(kind + q for kind, q in elements)
    weighted = [(V1, 0.9), (KAFKA, 0.8), (JSON, 0.5), (BINARY1, 0.1), (JSON1, 0.1)]

    def specificity(accepted: str, kind: str) -> int:
        return {kind: 2, "application/*": 1, "*/*": 0}.get(accepted, -1)

    ranges = [(accepted, float(q.removeprefix(";q=") or 1)) for accepted, q in elements]
    left = []
    for kind, qs in weighted:
        covering = [(specificity(accepted, kind), q) for accepted, q in ranges if specificity(accepted, kind) >= 0]
        if covering and max(covering)[1] > 0:
            left.append((kind, qs))
    candidates = [
        (q, qs, -place, kind)
        for place, (accepted, q) in enumerate(ranges)
        for kind, qs in left or weighted
        if specificity(accepted, kind) >= 0
    ]
    try:
        result = Produces(weighted).negotiate(accept)
    except NotAcceptable:
        assert not candidates
    else:
        q, qs, place, _ = max(candidates, key=lambda each: each[:3])
        assert (q, qs, place, result) in candidates


@pytest.mark.parametrize("produces", PRODUCES.values(), ids=PRODUCES)
def test_a_406_tells_what_is_answered(produces: Produces) -> None:
    with pytest.raises(NotAcceptable) as refused:
        produces.negotiate("text/plain")
    named = [word.rstrip(",.") for word in refused.value.help.split() if "/" in word]
    assert named
    for each in named:
        assert produces.negotiate(each) in produces.types
