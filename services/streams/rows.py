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

UNDECODABLE = 42208
"""``error_code`` of a record that the format cannot express."""

STRING = "string"
"""The format for keys and values that are text. It is no embedded format of the REST API."""

Load = Callable[[bytes], Any]


class StreamHeader(jsonio.Struct, gc=False):
    name: str
    value: bytes | None


class RowError(jsonio.Struct, gc=False):
    error_code: int
    message: str


class StreamRow(jsonio.Struct, gc=False):
    """One record; members that are UNSET are left out."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int | jsonio.UnsetType
    key: Any
    value: Any
    headers: list[StreamHeader] | jsonio.UnsetType = jsonio.UNSET
    error: RowError | jsonio.UnsetType = jsonio.UNSET


class PlainRow(jsonio.Struct, gc=False):
    """A StreamRow of a record as most are. It takes half the time: to look for members to leave out is not free."""

    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int
    key: Any
    value: Any


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
        if lines.count(b"\n") != len(records) or b"\r" in lines:
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
            record.topic(), record.partition(), record.offset(), _timestamp(record), None, None, _headers_of(record)
        )
        for part, stored, load, format in (
            ("key", record.key(), load_key, key_format),
            ("value", record.value(), load_value, value_format),
        ):
            if stored is None:
                continue
            try:
                # A value may load and still not encode, e.g. a format of a plugin that loads something strange.
                setattr(row, part, jsonio.Raw(_on_one_line(jsonio.encode(load(stored)))))
            except ValueError as reason:
                if row.error is jsonio.UNSET:
                    row.error = RowError(UNDECODABLE, f"The {part} is not {format}: {reason}.")
        return jsonio.encode(row) + b"\n"

    return encode


def load_string(stored: bytes) -> str:
    """The text; ValueError if it is not UTF-8."""
    return stored.decode()


def _on_one_line(text: bytes) -> bytes:
    # Outside of strings, where they are escaped, line ends are blanks like any other (RFC 8259 §2).
    return text.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in text or b"\r" in text else text


def _timestamp(record: ConsumedRecord) -> int | jsonio.UnsetType:
    kind, at = record.timestamp()
    return at if kind else jsonio.UNSET


def _headers_of(record: ConsumedRecord) -> list[StreamHeader] | jsonio.UnsetType:
    headers = record.headers()
    if not headers:
        return jsonio.UNSET
    return [StreamHeader(name.encode("utf-8", "replace").decode(), value) for name, value in headers]


class StreamEncoders:
    """One encoder for each pair of formats, made when it is first wanted: a batch remembers its payload by encoder."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self._loads: dict[str, Load] = {codec.name: codec.load for codec in codecs.values()}
        self._loads[STRING] = load_string
        self._encoders: dict[tuple[str, str], RecordsEncoder] = {}

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of all formats."""
        return tuple(self._loads)

    def get(self, key_format: str, value_format: str) -> RecordsEncoder:
        encoder = self._encoders.get((key_format, value_format))
        if encoder is None:
            encoder = stream_encoder(key_format, self._loads[key_format], value_format, self._loads[value_format])
            self._encoders[key_format, value_format] = encoder
        return encoder
