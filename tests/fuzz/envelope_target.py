"""What is fuzzed: a client's messages through reader, sequences and replies (reliability.md H2, H3).

Input: messages, each behind its length in two bytes. ``tests.fuzz.envelope`` is the coverage-guided fuzzer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from kafka_gateway.errors import ServiceError
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.transports.envelope import codec as envelope
from kafka_gateway.transports.envelope.codec import Envelope, Form, InvalidMessage
from kafka_gateway.transports.envelope.replying import reply
from kafka_gateway.transports.envelope.sequences import Sequences


def pack(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def unpack(data: bytes) -> Iterator[bytes]:
    while len(data) > 2:
        end = 2 + int.from_bytes(data[:2], "big")
        yield data[2:end]
        data = data[end:]


def one_input(data: bytes) -> None:
    """AssertionError, or any exception but the codec's own, is a finding."""
    reader = envelope.EnvelopeReader()
    sequences = Sequences(4, 4096, 1.0, MemoryBudget(1 << 30).claim())
    for now, message in enumerate(unpack(data)):
        part = _read_both(reader, message)
        if part is None:
            continue
        with contextlib.suppress(ServiceError):
            whole = sequences.add(part, now / 10)
            if whole is not None:
                _check_whole(whole)
        for first in sequences.expired(now / 10):
            _check_reply(first.id, b"{}", first.form)
        assert len(sequences) <= 8


def _read_both(reader: envelope.EnvelopeReader, message: bytes) -> Envelope | None:
    """A reader that remembers heads must say the same as one that does not."""
    found: list[object] = []
    for read in (envelope.read, reader.read):
        try:
            part = read(message)
        except InvalidMessage as error:
            _check_reply(error.id, error.message.encode(), error.form)
            found.append((error.message, error.id))
        else:
            found.append(part and [getattr(part, name) for name in Envelope.__struct_fields__])
    assert found[0] == found[1], found
    return part if isinstance(found[1], list) else None


def _check_whole(whole: Envelope) -> None:
    assert len(whole.content) <= 4096
    path, query = whole.target
    assert path.startswith("/")
    (path + query + whole.method).encode()
    for text in (whole.type or "", whole.accept or "", *(whole.headers or {}).values()):
        assert text.isprintable()
    _check_reply(whole.id, whole.content, whole.form)


def _check_reply(id: bytes | None, payload: bytes, form: Form | None) -> None:
    if id is not None:
        json.loads(id)
    for each in (form,) if form else Form:
        limit = 2 * len(id or b"") + 300
        messages, binary = reply(each, id, 200, "application/json", payload, limit)
        for message in messages:
            assert binary or len(message.decode().encode("utf-16-le")) <= 2 * limit or id is None
            if not binary and id is not None:
                head, _ = json.JSONDecoder().raw_decode(message.decode())
                assert json.dumps(head["id"]) == json.dumps(json.loads(id))
