"""Records of formats with schemas as streams show them: decoded by their schema's id, and named after it.

``auto`` looks at each record: what begins with a schema's id, or has one in its headers, is decoded with that schema;
what is not, is shown as JSON if it is JSON and as bytes if it is not. A record of a schema that the registry does not
have is shown as bytes, too, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.schemas import Part, SchemaName, Schemas
from kafka_gateway.services.common.subjects import topic_of
from kafka_gateway.services.streams.row_types import (
    AUTO,
    UNDECODABLE,
    RowError,
    SchemaOfPart,
    SchemaRow,
    headers_of,
    on_one_line,
)


class PartLoader:
    """Shows the keys, or the values, of one stream's records."""

    def __init__(self, part: Part, format: str, load: Callable[[bytes], Any] | None, schemas: Schemas) -> None:
        """``load`` is that of a format without schemas; None for one with, and for ``auto``."""
        self.part = part
        self.format = format
        self._load = load
        self._schemas = schemas

    def show(self, record: ConsumedRecord, row: SchemaRow) -> None:
        """Sets the part in the row, and what is known of it; ValueError if it cannot be shown."""
        stored = record.key() if self.part == "key" else record.value()
        if stored is None:
            return
        if self._load is not None:
            self._put(row, jsonio.Raw(on_one_line(jsonio.encode(self._load(stored)))))
        elif self.format != AUTO:
            self._put(row, self._decoded(self.format, record))
            self._name(row, record)
        else:
            self._guess(stored, record, row)

    def _guess(self, stored: bytes, record: ConsumedRecord, row: SchemaRow) -> None:
        # The schema's id begins with a byte 0, which no JSON does.
        if not stored[:1].strip(b"\0") or record.headers():
            try:
                self._put(row, self._decoded("", record))
            except ValueError:
                pass
            else:
                name = self._name(row, record)
                self._put_format(row, name.format if name is not None else "binary")
                return
        if stored and jsonio.is_json(stored):
            self._put(row, jsonio.Raw(on_one_line(stored)))
            self._put_format(row, "json")
        else:
            self._put(row, stored)
            self._put_format(row, "binary")

    def _decoded(self, format: str, record: ConsumedRecord) -> Any:
        shown = self._schemas.load(format, self.part, record)
        return jsonio.Raw(on_one_line(bytes(shown))) if isinstance(shown, jsonio.Raw) else shown

    def _put(self, row: SchemaRow, shown: Any) -> None:
        if self.part == "key":
            row.key = shown
        else:
            row.value = shown

    def _put_format(self, row: SchemaRow, format: str) -> None:
        if self.part == "key":
            row.key_format = format
        else:
            row.value_format = format

    def _name(self, row: SchemaRow, record: ConsumedRecord) -> SchemaName | None:
        name = self._schemas.name(self.part, record)
        if name is None:
            return None
        told = SchemaOfPart(name.id, name.name or jsonio.UNSET)
        topic = record.topic() or ""
        subject = subject_of(topic, self.part, name)
        if subject is None and self._schemas.look_for_subjects(name.id, topic):
            subject = subject_of(topic, self.part, self._schemas.name(self.part, record) or name)
        if subject is not None:
            told.subject, told.version = subject
        if self.part == "key":
            row.key_schema = told
        else:
            row.value_schema = told
        return name


def subject_of(topic: str, part: str, name: SchemaName) -> tuple[str, int] | None:
    """The subject under which the topic has the schema, and its version. None: under no name that belongs to the topic.

    Equal schemas of all topics have one id, so the other subjects belong to other topics, whose names not every client
    may see.
    """
    usual = f"{topic}-{part}"
    own = [
        each
        for each in name.subjects
        if each[0] == name.name or (each[0].startswith(f"{topic}-") and topic_of(each[0]) in ("", topic))
    ]
    return next((each for each in own if each[0] == usual), own[0] if own else None)


class _Encoder:
    """The encoder. ``waits``: on the event loop it may raise SchemaPending."""

    waits = True

    def __init__(self, row: Callable[[ConsumedRecord], SchemaRow]) -> None:
        self._row = row

    def __call__(self, records: Sequence[ConsumedRecord]) -> bytes:
        return jsonio.encode_lines([self._row(record) for record in records])


def schema_stream_encoder(key: PartLoader, value: PartLoader) -> RecordsEncoder:
    """Encodes records as lines, each with its line feed; never raises for what is in a record.

    On the event loop it may raise SchemaPending.
    """

    def row(record: ConsumedRecord) -> SchemaRow:
        kind, at = record.timestamp()
        shown = SchemaRow(
            record.topic(),
            record.partition(),
            record.offset(),
            at if kind else jsonio.UNSET,
            None,
            None,
            headers_of(record),
        )
        for loader in (key, value):
            try:
                loader.show(record, shown)
            except ValueError as reason:
                if shown.error is jsonio.UNSET:
                    shown.error = RowError(UNDECODABLE, f"The {loader.part} is not {loader.format}: {reason}.")
        return shown

    return _Encoder(row)
