"""The envelope in both directions: whatever a client can say is understood, whatever the gateway says can be read."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kafka_gateway.errors import PayloadTooLarge, TooManyRequests
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.transports.envelope.codec import EnvelopeReader, Form, InvalidMessage, read
from kafka_gateway.transports.envelope.replying import reply
from kafka_gateway.transports.envelope.sequences import Sequences

patient = settings(deadline=None)  # the machine may be busy

text = st.text(st.characters(exclude_categories=["Cs"]))
header = st.text(st.characters(min_codepoint=32, max_codepoint=126))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
extras = st.dictionaries(text.filter(lambda name: name not in KNOWN), values, max_size=3)
KNOWN = {
    "id", "method", "path", "type", "accept", "headers", "continue", "data", "detached", "heartbeat",
}  # fmt: skip
heads = st.fixed_dictionaries(
    {"id": text.filter(lambda id: len(json.dumps(id)) < 1000)},
    optional={"method": st.sampled_from(["GET", "POST"]), "path": text, "type": header, "accept": header},
)


@patient
@given(heads, extras, st.binary(), st.booleans(), st.sampled_from([None, 1]), st.randoms(use_true_random=False))
def test_a_request_is_read_as_it_was_written(
    head: dict[str, Any], extra: dict[str, Any], content: bytes, escape: bool, indent: int | None, random: Any
) -> None:
    members = list({**head, **extra}.items())
    random.shuffle(members)
    found = read(json.dumps(dict(members), ensure_ascii=escape, indent=indent).encode() + content)
    assert found is not None
    assert found.id is not None
    assert json.loads(found.id) == head["id"]
    assert found.method == head.get("method", "GET")
    assert found.path == head.get("path", "/")
    assert (found.type, found.accept) == (head.get("type"), head.get("accept"))
    assert found.content == content


@patient
@given(heads, values, st.integers(min_value=0, max_value=3))
def test_embedded_data_keeps_its_source(head: dict[str, Any], value: Any, place: int) -> None:
    head.pop("type", None)
    source = json.dumps(value, ensure_ascii=False, separators=(" ,", ": "))
    members = [f"{json.dumps(name)}:{json.dumps(each)}" for name, each in head.items()]
    members.insert(place, f'"data" : {source}')
    found = read(("{" + ",".join(members) + "}").encode())
    assert found is not None
    assert found.content == source.encode()
    assert found.form is Form.EMBEDDED


@patient
@given(st.binary())
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for candidate in (message, b"{" + message, b'{"id":"1"' + message):
        with contextlib.suppress(InvalidMessage):
            read(candidate)


@patient
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "22", "", "é", '"', "\\"]),
            extras,
            st.binary(max_size=8),
            st.sampled_from([(",", ":"), (", ", ": "), (",", " : ")]),
        ),
        max_size=8,
    )
)
def test_a_reader_that_remembers_reads_the_same(
    messages: list[tuple[str, dict[str, Any], bytes, tuple[str, str]]],
) -> None:
    reader = EnvelopeReader()
    for id, extra, content, separators in messages:
        message = json.dumps({"id": id, **extra}, ensure_ascii=False, separators=separators).encode() + content
        for again in (message, message):
            one, other = read(again), reader.read(again)
            assert one is not None
            assert other is not None
            assert msgspec.structs.astuple(one) == msgspec.structs.astuple(other)


@patient
@given(
    st.sampled_from(Form),
    text.filter(lambda id: len(json.dumps(id)) < 200),
    st.sampled_from([200, 201, 404, 500]),
    st.sampled_from(["text/plain", "application/json", "application/vnd.kafka.v2+json"]),
    text.map(str.encode) | st.binary() | values.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
    st.integers(min_value=0, max_value=60),
)
def test_replies_can_be_put_together(
    form: Form, id: str, status: int, media_type: str, payload: bytes, room: int
) -> None:
    token = json.dumps(id, ensure_ascii=False).encode()
    limit = len(token) * 2 + 220 + room
    messages, binary = reply(form, token, status, media_type, payload, limit)
    decoder = json.JSONDecoder()
    parts: list[bytes] = []
    for place, message in enumerate(messages):
        characters = message.decode() if not binary else message.decode("latin-1")
        assert len(characters.encode("utf-16-le")) // 2 <= limit or binary
        head, end = decoder.raw_decode(characters)
        if binary:
            head = json.loads(message[:end])
        assert head["id"] == id
        assert head.get("code", 200) == status
        assert head.get("continue", False) is (place < len(messages) - 1)
        rest = message[len(characters[:end].encode()) if not binary else end :]
        if form is Form.EMBEDDED:
            assert not rest
            parts.append(_embedded(head, message, payload, len(messages) == 1))
        elif form is Form.DETACHED_LF and payload:
            assert head["detached"] is True
            assert rest[:1] == b"\n"
            parts.append(rest[1:])
        else:
            parts.append(rest)
    assert b"".join(parts) == payload


def _embedded(head: dict[str, Any], message: bytes, payload: bytes, whole: bool) -> bytes:
    """The payload of an embedded reply. A string may be a text, or a JSON payload that is a string: clients know."""
    if "data" not in head:
        return b""
    data = head["data"]
    if head.get("encoding") == "base64":
        return base64.b64decode(data)
    source = message[message.index(b'"data": ') + 8 : -1]
    if not isinstance(data, str) or (whole and source == payload):
        return source
    return data.encode()


@patient
@given(st.binary(min_size=1), st.lists(st.integers(min_value=0, max_value=200)), st.booleans())
def test_a_request_in_parts_is_the_request(body: bytes, cuts: list[int], repeat: bool) -> None:
    sequences = Sequences(4, 1000, 10.0, MemoryBudget(1 << 30).claim())
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    bounds = [0, *places, len(body)]
    chunks = [body[start:end] for start, end in itertools.pairwise(bounds)]
    whole = None
    for number, chunk in enumerate(chunks):
        head: dict[str, Any] = {"id": "a"}
        if number == 0 or repeat:
            head |= {"path": f"/p{number}", "type": "x/y"}
        if number < len(chunks) - 1:
            head["continue"] = True
        part = read(json.dumps(head).encode() + chunk)
        assert part is not None
        assert whole is None
        whole = sequences.add(part, 0.0)
    assert whole is not None
    assert whole.path == "/p0"
    assert whole.content == body
    assert not sequences


@patient
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.binary(max_size=60)), max_size=60))
def test_what_sequences_hold_is_bounded(messages: list[tuple[str, bool, bytes]]) -> None:
    sequences = Sequences(2, 100, 10.0, MemoryBudget(1 << 30).claim())
    for id, more, content in messages:
        part = read(json.dumps({"id": id, "continue": more, "type": "x/y"}).encode() + content)
        assert part is not None
        with contextlib.suppress(PayloadTooLarge, TooManyRequests):
            whole = sequences.add(part, 0.0)
            assert whole is None or len(whole.content) <= 100
        held = [each for each in sequences._open.values() if each.first is not None]
        assert len(held) <= 2
        assert len(sequences) <= 4
        assert sum(len(chunk) for each in held for chunk in each.parts) == sequences._size_bytes <= 100
    list(sequences.expired(20.0))
    assert not sequences
    assert sequences._size_bytes == 0
