"""Records in the shape that nearly all have, many at a time (kafka-rest-http.md §7.10).

A run of records in a request is decoded in one go into objects that hold what Kafka is to get: a key or value with the
type BINARY, JSON or STRING, its data, and nothing else. A run in which anything is otherwise is not read here but by
records.py, one record after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, PartitionNotFound, ServiceError
from kafka_gateway.jsonio import Raw
from kafka_gateway.services.v3.records import (
    HALF_A_PAIR,
    Record,
    RecordHeader,
    checked_headers,
    shown_part,
    timestamp_ms,
)

_Int32 = Annotated[int, jsonio.Meta(ge=-(2**31), le=2**31 - 1)]
_REMEMBERED = 10_000
"""Sizes whose text is kept, of a key or value of one type."""


class _Binary(jsonio.Struct, tag_field="type", tag="BINARY", forbid_unknown_fields=True, gc=False):
    data: bytes | None


class _Json(jsonio.Struct, tag_field="type", tag="JSON", forbid_unknown_fields=True, gc=False):
    data: Raw


class _String(jsonio.Struct, tag_field="type", tag="STRING", forbid_unknown_fields=True, gc=False):
    data: str | None


_Datum = _Binary | _Json | _String
_KINDS: dict[type, str] = {_Binary: "BINARY", _Json: "JSON", _String: "STRING"}


class PlainBody(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    """A record as it stands in a request."""

    value: _Datum | None = None
    key: _Datum | None = None
    partition_id: _Int32 | None = None
    headers: list[RecordHeader] | None = None
    timestamp: str | int | float | None = None


class PlainEntry(PlainBody, forbid_unknown_fields=True, gc=False, kw_only=True):
    """An entry of a batch."""

    id: str


class PlainBatch(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    """The body of a batch request (§7.11)."""

    entries: list[PlainEntry]


class PlainReader:
    """Reads runs of such records. Belongs to the event loop."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self._store_json = codecs["json"].store
        self._run: jsonio.Decoder[PlainBody] = jsonio.Decoder(PlainBody)
        self._batch: jsonio.Decoder[PlainBatch] = jsonio.Decoder(PlainBatch)
        self._shown: dict[type, tuple[dict[int, str], dict[int, str]]] = {kind: ({}, {}) for kind in _KINDS}
        """By type and size how reports show a key, and a value."""

    def read_run(self, run: bytes) -> list[PlainBody] | None:
        """All objects of a run of them, undivided; None unless each of them is just as it should be."""
        try:
            return self._run.decode_lines(run) if run.isascii() or run.decode() else None
        except (ValueError, RecursionError):
            return None

    def read_batch(self, body: bytes) -> list[PlainEntry] | None:
        """The entries of a batch; None unless each of them is just as it should be."""
        try:
            return self._batch.decode(body).entries if body.isascii() or body.decode() else None
        except (ValueError, RecursionError):
            return None

    def records(self, bodies: Sequence[PlainBody]) -> tuple[list[Record], Mapping[int, ServiceError]]:
        """The records that bodies stand for; those that cannot be, by their place among the bodies, are left out."""
        records: list[Record] = []
        refused: dict[int, ServiceError] = {}
        store, stored_of = self._store_json, self._stored
        json_sizes = self._shown[_Json][1]
        for body in bodies:
            value = body.value
            try:
                if (
                    type(value) is _Json
                    and body.key is None
                    and body.partition_id is None
                    and body.headers is None
                    and body.timestamp is None
                ):  # the usual record, for half the cost
                    text = store(value.data)
                    if text != b"null" and (shown := json_sizes.get(len(text))) is not None:
                        records.append(Record(None, text, value_shown=shown))
                        continue
                partition = body.partition_id
                if partition is not None and partition < 0:
                    raise PartitionNotFound()
                moment = 0 if (time := body.timestamp) is None else timestamp_ms(time)
                headers = checked_headers(found) if (found := body.headers) else None
                key, key_shown = (None, "") if (datum := body.key) is None else stored_of(datum, 0)
                stored, shown = (None, "") if value is None else stored_of(value, 1)
            except ServiceError as error:
                refused[len(records) + len(refused)] = error
            else:
                records.append(Record(key, stored, partition, moment, headers, key_shown, shown))
        return records, refused

    def check(self, body: PlainBody) -> None:
        """BadRequest for what is wrong with a record before anybody looks at its data (§7.11: it refuses a batch)."""
        if body.timestamp is not None:
            timestamp_ms(body.timestamp)
        if body.headers:
            checked_headers(body.headers)

    def _stored(self, datum: _Datum, place: int) -> tuple[bytes | None, str]:
        """A key (place 0) or a value (1) as Kafka gets it, and as reports show it."""
        kind = type(datum)
        data = datum.data
        stored: bytes | None
        if kind is _String:
            try:
                stored = data.encode() if data is not None else None  # type: ignore[union-attr]
            except UnicodeEncodeError:
                raise BadRequest(f"Bad Request: {HALF_A_PAIR}") from None
        elif kind is _Json:
            stored = self._store_json(data)
            if stored == b"null":
                stored = None
        else:
            stored = data  # type: ignore[assignment]
        size = -1 if stored is None else len(stored)
        sizes = self._shown[kind][place]
        shown = sizes.get(size)
        if shown is None:
            shown = shown_part(("key", "value")[place], _KINDS[kind], size)
            if size < _REMEMBERED:
                sizes[size] = shown
        return stored, shown
