"""Records as streams show them (streams.md §2): one JSON object a line. Carriers make arrays of the lines.

Encoding runs on Kafka's reading threads, for whole runs of records, once for all clients and carriers that want the
same formats. A record that a format cannot express becomes a row that says so; the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.schemas import Part, Schemas
from kafka_gateway.services.streams.row_types import (
    AUTO,
    STRING,
    UNDECODABLE,
    PlainRow,
    RowError,
    StreamHeader,
    StreamRow,
    headers_of,
    on_one_line,
)
from kafka_gateway.services.streams.schema_rows import PartLoader, schema_stream_encoder

Load = Callable[[bytes], Any]


def stream_encoder(key_format: str, load_key: Load, value_format: str, load_value: Load) -> RecordsEncoder:
    """Encodes records as lines, each with its line feed; never raises for what is in a record."""

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            lines = jsonio.encode_lines(
                [
                    PlainRow(
                        record.topic(),
                        record.partition(),
                        record.offset(),
                        at[1],
                        None if (key := record.key()) is None else load_key(key),
                        None if (value := record.value()) is None else load_value(value),
                    )
                    if (at := record.timestamp())[0] and not record.headers()
                    else full(record)
                    for record in records
                ]
            )
        except ValueError:
            return b"".join(map(line, records))
        if lines.count(b"\n") != len(records) or 0x0D in lines:
            # JSON values keep their spelling, and one of these is written over several lines.
            return b"".join(map(line, records))
        return lines

    def full(record: ConsumedRecord) -> StreamRow:
        key, value = record.key(), record.value()
        return StreamRow(
            record.topic(),
            record.partition(),
            record.offset(),
            _timestamp(record),
            None if key is None else load_key(key),
            None if value is None else load_value(value),
            [StreamHeader(name, value) for name, value in record.headers() or ()] or jsonio.UNSET,
        )

    def line(record: ConsumedRecord) -> bytes:
        row = StreamRow(
            record.topic(), record.partition(), record.offset(), _timestamp(record), None, None, headers_of(record)
        )
        for part, stored, load, format in (
            ("key", record.key(), load_key, key_format),
            ("value", record.value(), load_value, value_format),
        ):
            if stored is None:
                continue
            try:
                # A value may load and still not encode, e.g. a format of a plugin that loads something strange.
                setattr(row, part, jsonio.Raw(on_one_line(jsonio.encode(load(stored)))))
            except ValueError as reason:
                if row.error is jsonio.UNSET:
                    row.error = RowError(UNDECODABLE, f"The {part} is not {format}: {reason}.")
        return jsonio.encode(row) + b"\n"

    return encode


def load_string(stored: bytes) -> str:
    """The text; ValueError if it is not UTF-8."""
    return stored.decode()


def _timestamp(record: ConsumedRecord) -> int | jsonio.UnsetType:
    kind, at = record.timestamp()
    return at if kind else jsonio.UNSET


class StreamEncoders:
    """One encoder for each pair of formats, made when it is first wanted: a batch remembers its payload by encoder."""

    def __init__(self, codecs: Mapping[str, Codec], schemas: Schemas) -> None:
        self._codecs = {codec.name: codec for codec in codecs.values()}
        self._schemas = schemas
        self._encoders: dict[tuple[str, str], RecordsEncoder] = {}

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of all formats."""
        return (*self._codecs, STRING, AUTO)

    def get(self, key_format: str, value_format: str) -> RecordsEncoder:
        encoder = self._encoders.get((key_format, value_format))
        if encoder is None:
            encoder = self._encoders[key_format, value_format] = self._make(key_format, value_format)
        return encoder

    def _make(self, key_format: str, value_format: str) -> RecordsEncoder:
        if AUTO in (key_format, value_format) or any(
            name in self._codecs and self._codecs[name].schema_type for name in (key_format, value_format)
        ):
            key, value = self._part_loader("key", key_format), self._part_loader("value", value_format)
            return schema_stream_encoder(key, value)
        return stream_encoder(key_format, self._load(key_format), value_format, self._load(value_format))

    def _load(self, format: str) -> Load:
        return load_string if format == STRING else self._codecs[format].load

    def _part_loader(self, part: Part, format: str) -> PartLoader:
        if format == AUTO:
            return PartLoader(part, format, None, self._schemas)
        if format != STRING and self._codecs[format].schema_type:
            return PartLoader(part, format, None, self._schemas)
        return PartLoader(part, format, self._load(format), self._schemas)
