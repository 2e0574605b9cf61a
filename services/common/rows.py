"""Consumed records as replies show them (kafka-rest-http.md §5.6, §6.8).

Encoding runs in Kafka's worker threads, for whole runs of records: rows are typed structs, built in one comprehension
and encoded in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import UndecodableRecord
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.schemas import REGISTRY_AWAY, Part, Schemas, SchemaUnreachable

SEEK_PAST = "Seek past the record to go on, or read with another format."
READ_AGAIN = "Read again when the registry answers: the record keeps its place."
"""How the message of an UndecodableRecord ends: what the reader can do."""
_READ_ALONE = (
    "Read the record alone, with another format if need be: GET /topics/{topic}/partitions/{partition}/messages."
)


def left_out(error: UndecodableRecord) -> UndecodableRecord:
    """The same error for a reader that gets the records behind this one without doing anything."""
    message = error.message
    for advice in (SEEK_PAST, READ_AGAIN):
        message = message.replace(advice, "It is left out.")
    return type(error)(message).with_help(_READ_ALONE)


class RowV2(jsonio.Struct, gc=False):
    """One element of a v2 read."""

    topic: str | None
    key: Any
    value: Any
    partition: int | None
    offset: int | None


class RowHeader(jsonio.Struct, gc=False):
    """A header, as produce requests have it; the value in base64, or null."""

    name: str
    value: bytes | None


class WideRowV2(jsonio.Struct, gc=False):
    """One element of a v2 read with ``include``; members that are UNSET are left out."""

    topic: str | None
    key: Any
    value: Any
    partition: int | None
    offset: int | None
    timestamp: int | jsonio.UnsetType | None = jsonio.UNSET
    headers: list[RowHeader] | jsonio.UnsetType = jsonio.UNSET


INCLUDABLE = ("headers", "timestamp")
"""What v2 reads can show of a record besides the members that Confluent's have."""


class RowV1(jsonio.Struct, gc=False):
    """One element of a v1 read; it has no topic."""

    key: Any
    value: Any
    partition: int | None
    offset: int | None


class UndecodableRecordV1(UndecodableRecord):
    """A record that cannot be shown: for v1 it is no more than a "Kafka error" (§4.2)."""

    status, error_code, text = 500, 50002, "Kafka error: the record cannot be decoded."
    help = "Read it with the format binary, or read at an offset behind it."


LoadPart = Callable[[Part, ConsumedRecord], Any]
"""What a reply shows of a key or value that is not null; ValueError if it cannot be shown."""


def v2_encoder(codec: Codec) -> RecordsEncoder:
    """Encodes records for v2 reads in this format. It raises UndecodableRecord (40801/408), naming the record."""
    load = codec.load

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            return jsonio.encode(
                [
                    RowV2(
                        record.topic(),
                        None if (key := record.key()) is None else load(key),
                        None if (value := record.value()) is None else load(value),
                        record.partition(),
                        record.offset(),
                    )
                    for record in records
                ]
            )
        except ValueError:
            raise _undecodable(records, codec.name, _part_of(codec), UndecodableRecord) from None

    return encode


def v1_encoder(codec: Codec) -> RecordsEncoder:
    """Encodes records for v1 reads in this format. It raises UndecodableRecordV1 (50002/500), naming the record."""
    load = codec.load

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            return jsonio.encode(
                [
                    RowV1(
                        None if (key := record.key()) is None else load(key),
                        None if (value := record.value()) is None else load(value),
                        record.partition(),
                        record.offset(),
                    )
                    for record in records
                ]
            )
        except ValueError:
            raise _undecodable(records, codec.name, _part_of(codec), UndecodableRecordV1) from None

    return encode


def schema_encoder(generation: str, codec: Codec, schemas: Schemas) -> RecordsEncoder:
    """As the encoders above, for a format with schemas: what a key or value means is found by its schema's id."""
    name = codec.name
    load: LoadPart = partial(schemas.load, name)
    v1 = generation == "v1"

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            rows: list[RowV1 | RowV2] = []
            for record in records:
                key = None if record.key() is None else load("key", record)
                value = None if record.value() is None else load("value", record)
                if v1:
                    rows.append(RowV1(key, value, record.partition(), record.offset()))
                else:
                    rows.append(RowV2(record.topic(), key, value, record.partition(), record.offset()))
            return jsonio.encode(rows)
        except ValueError:
            raise _undecodable(records, name, load, UndecodableRecordV1 if v1 else UndecodableRecord) from None

    return encode


def wide_encoder(codec: Codec, load: LoadPart, include: frozenset[str]) -> RecordsEncoder:
    """As the encoders for v2, with the further members that ``include`` names; see INCLUDABLE."""

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            return jsonio.encode(
                [
                    WideRowV2(
                        record.topic(),
                        None if record.key() is None else load("key", record),
                        None if record.value() is None else load("value", record),
                        record.partition(),
                        record.offset(),
                        _timestamp(record) if "timestamp" in include else jsonio.UNSET,
                        _headers(record) if "headers" in include else jsonio.UNSET,
                    )
                    for record in records
                ]
            )
        except ValueError:
            raise _undecodable(records, codec.name, load, UndecodableRecord) from None

    return encode


def _timestamp(record: ConsumedRecord) -> int | None:
    """Milliseconds since 1970; None for a record that has no time."""
    kind, at = record.timestamp()
    return at if kind else None


def _headers(record: ConsumedRecord) -> list[RowHeader]:
    """In order, repeated ones included; "?" stands in a name for what no JSON can have."""
    return [RowHeader(name.encode("utf-8", "replace").decode(), value) for name, value in record.headers() or ()]


def _part_of(codec: Codec) -> LoadPart:
    return lambda part, record: codec.load((record.key() if part == "key" else record.value()) or b"")


def _undecodable(
    records: Sequence[ConsumedRecord], format: str, load: LoadPart, error: type[UndecodableRecord]
) -> UndecodableRecord:
    parts: tuple[Part, Part] = ("key", "value")
    for record in records:
        for name in parts:
            if (record.key() if name == "key" else record.value()) is None:
                continue
            try:
                # A value may decode and still not encode, e.g. a format of a plugin that loads something strange.
                jsonio.encode(load(name, record))
            except ValueError as reason:
                unreachable = isinstance(reason, SchemaUnreachable)
                advice = READ_AGAIN if unreachable else SEEK_PAST
                lead = "Kafka error: " if issubclass(error, UndecodableRecordV1) else ""
                found = error(
                    f"{lead}Error deserializing the {name} of the record at "
                    f"{record.topic()}-{record.partition()}-{record.offset()} as {format}: {reason}. {advice}"
                )
                return found.with_help(REGISTRY_AWAY) if unreachable else found
    return error()


class RecordEncoders:
    """One encoder per generation and embedded format. They are made once: a batch remembers its payload by encoder."""

    def __init__(self, codecs: Mapping[str, Codec], schemas: Schemas) -> None:
        kinds: dict[str, Callable[[Codec], RecordsEncoder]] = {"v1": v1_encoder, "v2": v2_encoder}
        self._encoders = {
            (generation, codec.name): schema_encoder(generation, codec, schemas) if codec.schema_type else make(codec)
            for generation, make in kinds.items()
            for codec in codecs.values()
        }

        self._codecs, self._schemas = codecs, schemas
        self._wide: dict[tuple[str, frozenset[str]], RecordsEncoder] = {}

    def wide(self, format: str, include: frozenset[str]) -> RecordsEncoder:
        """The encoder of v2 rows that show more of a record; made when it is first wanted."""
        encoder = self._wide.get((format, include))
        if encoder is None:
            codec = self._codecs[format]
            load: LoadPart = partial(self._schemas.load, format) if codec.schema_type else _part_of(codec)
            encoder = self._wide[format, include] = wide_encoder(codec, load, include)
        return encoder

    def get(self, generation: str, format: str) -> RecordsEncoder:
        """The encoder of that format, by its name."""
        return self._encoders[generation, format]
