"""Bodies of produce requests, read into records (kafka-rest-http.md §4, §5.3, §6.3).

A body is first read in one typed decode: nearly all are exactly as they should be, and a record then costs a fraction
of a microsecond. Any other is read a second time, member by member, with the coercions of §3.4, and the first thing
that is wrong is named with its place (``records[3].value``). Either way nothing is sent unless everything is right.

Additions to the contract, for records of v1 and v2: ``timestamp`` (milliseconds since 1970, or an ISO-8601 text) and
``headers`` (``[{"name": "…", "value": "<base64>" or null}]``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, Optional, cast

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.errors import (
    BadRequest,
    PayloadTooLarge,
    SchemasUnavailable,
    Unprocessable,
    UnsupportedMediaType,
)
from kafka_gateway.jsonio import Raw
from kafka_gateway.records import OutgoingRecord, RecordToSend
from kafka_gateway.rights import Rights
from kafka_gateway.schemas import Preparing, Schemas
from kafka_gateway.services.common.dry_run import DryRunProducer, is_dry
from kafka_gateway.services.common.json_members import (
    NULL,
    has_many_parts,
    has_more,
    read_document,
    read_integer,
    read_list,
    read_object,
    read_text,
    shown,
    unknown_member,
)
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.common.timestamps import NOT_STORABLE, parse_instant
from kafka_gateway.services.rest.schema_bodies import GivenSchemas, RawRecord, SchemaReader

_Partition = Annotated[int, jsonio.Meta(ge=0, le=2**31 - 1)]
_Millis = Annotated[int, jsonio.Meta(ge=1, le=2**63 - 1)]
_SchemaId = Annotated[int, jsonio.Meta(ge=-(2**31), le=2**31 - 1)]

OBJECTS_MAX = 100_000
"""Records, their headers and the objects in JSON values of one request. A body of 64 MiB could hold 20 million empty
records, which would keep the event loop busy for half a minute and take gigabytes."""

_AT_ONCE_BYTES = 256 * 1024
"""A longer body that has to be read a second time is so in a later turn of the event loop: 5 MiB of spaces or of digits
take 20 ms each time."""

_MESSAGE_MAX = 300
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_binary = BinaryCodec()

_EXAMPLES: Final = {
    "": 'A body looks like this: {"records": [{"key": KEY, "value": VALUE}]}',
    "json": 'A body looks like this: {"records": [{"key": "k", "value": {"any": "JSON"}}]}',
    "binary": 'A body looks like this, keys and values in base64: {"records": [{"key": "a2V5", "value": "dmFsdWU="}]}',
    "avro": 'A body looks like this: {"value_schema": "{\\"type\\":\\"string\\"}", "records": [{"value": "text"}]}',
}
"""By embedded format: what would have been right."""

Headers = list[tuple[str, bytes | None]]
Parse = Callable[[bytes], Sequence[RecordToSend]]


class _Header(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    value: bytes | None = None


class RecordsReader:
    """Reads produce bodies of one generation; used as ``Route.takes``.

    ``prepares``: it wants the parameters of path and query, and what it reads may have to wait for a schema.

    Args:
        generation: "v1" or "v2"; they refuse bad base64 differently.
        with_partition: whether records may name a partition. The partition resource of v1 does not know that member
            (§5.3), that of v2 does.
        records_max: how many records are taken. They go to Kafka's client in one turn of the event loop, which keeps
            them in order: 25,000 of a few bytes hold it for 45 ms.
        rules, judge: which topics may have records, and which records Kafka would not take; nothing is registered for
            others.
    """

    prepares = True

    def __init__(
        self,
        generation: str,
        with_partition: bool = True,
        records_max: int = OBJECTS_MAX,
        schemas: Schemas | None = None,
        rules: TopicRules | None = None,
        judge: DryRunProducer | None = None,
    ) -> None:
        self._v1 = generation == "v1"
        self._records_max = records_max
        self._with_partition = with_partition
        self._known = {"key", "value", "timestamp", "headers"} | ({"partition"} if with_partition else set())
        self._fast: dict[Codec, Parse] = {}
        self._with_schemas = None if schemas is None else SchemaReader(generation, schemas, rules, judge)
        self._datums: dict[Codec, jsonio.Decoder[Any]] = {}

    def __call__(
        self,
        body: bytes,
        codec: Codec | None,
        params: Mapping[str, Any] = _NOTHING,
        query: Mapping[str, str] = _NOTHING,
    ) -> Sequence[RecordToSend] | Preparing:
        """The records of the body, at least one; Preparing if a schema has to be asked for first, or reading a long
        body that is not just as it should be goes on in another turn of the event loop.

        Raises:
            BadRequest: not JSON, a member of the wrong type, data that the format cannot store.
            Unprocessable: no records, an unknown member, a negative number; v1: bad base64.
            UnsupportedMediaType: without a format.
            PayloadTooLarge: more than ``records_max`` records or OBJECTS_MAX objects.
            What `SchemaReader.read` raises: formats with schemas.
        """
        fast = self._fast.get(codec) if codec is not None else None
        if fast is not None and len(body) <= OBJECTS_MAX:
            try:
                records = fast(body)
            except (ValueError, BadRequest):
                pass  # what is wrong is found out below
            else:
                if len(records) <= self._records_max:
                    return records
        try:
            return self._read_body(body, codec, params, query)
        except (BadRequest, Unprocessable) as error:
            raise _with_example(error, codec) from None

    def _read_body(
        self, body: bytes, codec: Codec | None, params: Mapping[str, Any], query: Mapping[str, str]
    ) -> Sequence[RecordToSend] | Preparing:
        if codec is None:
            raise UnsupportedMediaType().with_help(
                f"Send Content-Type: application/vnd.kafka.json.{'v1' if self._v1 else 'v2'}+json, or binary, avro, "
                "jsonschema, protobuf in the place of json."
            )
        if has_more(body, b"{", OBJECTS_MAX):
            raise PayloadTooLarge(
                f"The body has more than {OBJECTS_MAX} objects; send the records in several requests."
            )
        if codec.schema_type:
            raw = self._fast_raw_records(body, codec)
            if raw is not None:
                return self._written(raw, len(body), codec, params, query)
        else:
            records = self._fast_records(body, codec)
            if records is not None:
                self._check_count(records)
                return records
        if len(body) > _AT_ONCE_BYTES:
            return Preparing(partial(self._read_exactly_later, body, codec, params, query))
        return self._read_exactly(body, codec, params, query)

    async def _read_exactly_later(
        self, body: bytes, codec: Codec, params: Mapping[str, Any], query: Mapping[str, str], rights: Rights
    ) -> Sequence[RecordToSend]:
        await asyncio.sleep(0)
        try:
            found = self._read_exactly(body, codec, params, query)
        except (BadRequest, Unprocessable) as error:
            raise _with_example(error, codec) from None
        return cast(Sequence[RecordToSend], await found.ready(rights)) if isinstance(found, Preparing) else found

    def _read_exactly(
        self, body: bytes, codec: Codec, params: Mapping[str, Any], query: Mapping[str, str]
    ) -> Sequence[RecordToSend] | Preparing:
        if codec.schema_type:
            return self._written(self._raw_records(body, codec), len(body), codec, params, query)
        records = self._records(body, codec)
        self._check_count(records)
        return records

    def _written(
        self,
        found: tuple[Sequence[RawRecord], GivenSchemas],
        size: int,
        codec: Codec,
        params: Mapping[str, Any],
        query: Mapping[str, str],
    ) -> Sequence[RecordToSend] | Preparing:
        """The records, written with their schemas."""
        raw, given = found
        self._check_count(raw)
        if self._with_schemas is None:
            raise SchemasUnavailable()
        topic = str(params.get("topic", ""))
        partition = params.get("partition")
        return self._with_schemas.read(codec.name, topic, raw, given, size, is_dry(query), partition)

    def _check_count(self, records: Sequence[object]) -> None:
        if len(records) > self._records_max:
            raise PayloadTooLarge(
                f"The request has {len(records)} records; at most {self._records_max} are taken at a time "
                "(produce.records.max). Send them in several requests."
            )

    def _fast_records(self, body: bytes, codec: Codec) -> Sequence[RecordToSend] | None:
        """None: the exact reading has to find out what it is, and whether it is acceptable."""
        if body:
            fast = self._fast.get(codec)
            if fast is None:
                fast = self._fast[codec] = _fast_parse(codec, self._with_partition)
            try:
                return fast(body)
            except ValueError as reason:
                # The exact reading of a long body takes too long (2.6 µs a record): the decoder's message has to do.
                if has_many_parts(body):
                    raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)}") from None
            except BadRequest:
                if not body.isspace():  # which is refused like a missing body
                    raise
        return None

    def _fast_raw_records(self, body: bytes, codec: Codec) -> tuple[list[RawRecord], GivenSchemas] | None:
        """The records with their data as they are in the body, and what it says of their schemas."""
        if body:
            decoder = self._datums.get(codec)
            if decoder is None:
                decoder = self._datums[codec] = _document_decoder(Raw, NULL, self._with_partition)
            try:
                return _fast_raw(jsonio.decode(body, decoder), self._with_partition)
            except ValueError as reason:
                if has_many_parts(body):
                    raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)}") from None
            except BadRequest:
                if not body.isspace():
                    raise
        return None

    # --- the exact reading ------------------------------------------------------------------------------------------

    def _raw_records(self, body: bytes, codec: Codec) -> tuple[list[RawRecord], GivenSchemas]:
        elements, schemas = self._members(body)
        raw = [RawRecord(*self._record(element, codec, f"records[{i}]")) for i, element in enumerate(elements)]
        for record in raw:
            record.key = NULL if record.key is None else record.key
            record.value = NULL if record.value is None else record.value
        return raw, GivenSchemas(**schemas)  # type: ignore[arg-type]

    def _records(self, body: bytes, codec: Codec) -> list[OutgoingRecord]:
        elements, _ = self._members(body)
        return [self._record(element, codec, f"records[{i}]") for i, element in enumerate(elements)]

    def _members(self, body: bytes) -> tuple[list[dict[str, Raw]], dict[str, str | int | None]]:
        """The members of each record, and those that speak of schemas."""
        members = read_document(body)
        if members is None:
            raise Unprocessable('The body must not be null: {"records": [{"key": …, "value": …}, …]} is expected.')
        elements: list[dict[str, Raw]] = []
        schemas: dict[str, str | int | None] = dict.fromkeys(GivenSchemas._fields)
        for name, raw in members.items():
            if name == "records":
                elements = [_element(element, i) for i, element in enumerate(read_list(raw, "records") or ())]
            elif name in ("key_schema", "value_schema"):
                schemas[name] = read_text(raw, name)
            elif name in ("key_schema_id", "value_schema_id"):
                schemas[name] = read_integer(raw, name)
            else:
                raise unknown_member(name)
        if not elements:
            raise Unprocessable("records must not be empty (was [])")
        return elements, schemas

    def _record(self, members: dict[str, Raw], codec: Codec, place: str) -> OutgoingRecord:
        key = value = partition = headers = None
        timestamp_ms = 0
        for name, raw in members.items():
            where = f"{place}.{name}"
            if name not in self._known:
                raise unknown_member(name, place)
            if name == "key":
                key = self._datum(raw, codec, where)
            elif name == "value":
                value = self._datum(raw, codec, where)
            elif name == "partition":
                partition = _not_negative(read_integer(raw, where), where)
            elif name == "timestamp":
                timestamp_ms = _timestamp_ms(raw, where)
            else:
                headers = _headers(raw, where)
        return OutgoingRecord(key, value, partition, timestamp_ms, headers)

    def _datum(self, raw: Raw, codec: Codec, place: str) -> bytes | None:
        if raw == NULL:
            return None
        if codec.schema_type:
            return bytes(raw)  # encoded when its schema is known
        if self._v1 and codec.name == "binary":
            return _binary_v1(raw, place)
        text = bytes(raw)
        decoder = self._datums.get(codec)
        if decoder is None:
            decoder = self._datums[codec] = jsonio.Decoder(codec.datum)
        try:
            try:
                datum = decoder.decode(text)
            except jsonio.ValidationError:
                return codec.read(text)
            return codec.store(datum)
        except ValueError as reason:
            raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)} At {place}.") from None


def _with_example(error: BadRequest | Unprocessable, codec: Codec | None) -> BadRequest | Unprocessable:
    """The refusal of a body, which says what would have been right."""
    if "help" not in vars(error) and not isinstance(error, SchemasUnavailable):  # another body would not help
        error.help = _EXAMPLES.get(codec.name if codec is not None else "", _EXAMPLES[""])
    return error


def _element(raw: Raw, index: int) -> dict[str, Raw]:
    members = read_object(raw, f"records[{index}]")
    if members is None:
        raise BadRequest(f"records[{index}] must be an object, not null.")
    return members


def _not_negative(number: int | None, place: str) -> int | None:
    if number is not None and number < 0:
        raise Unprocessable(f"{place} must be greater than or equal to 0 (was {number})")
    return number


def _timestamp_ms(raw: Raw, place: str) -> int:
    try:
        number = read_integer(raw, place, 64)
    except BadRequest:
        text = bytes(raw)
        if text[:1] != b'"':
            raise
        try:
            number = parse_instant(str(jsonio.decode_value(text)))
        except ValueError as reason:
            raise BadRequest(
                f"{place} must be milliseconds since 1970 or an ISO-8601 text: {shown(text.decode())} is {reason}."
            ) from None
    if number == 0:
        raise Unprocessable(f"{place} {NOT_STORABLE}.")
    return _not_negative(number, place) or 0  # of null


def _headers(raw: Raw, place: str) -> Headers | None:
    headers: Headers = []
    for i, element in enumerate(read_list(raw, place) or ()):
        where = f"{place}[{i}]"
        members = read_object(element, where)
        if members is None:
            raise BadRequest(f"{where} must be an object, not null.")
        name = value = None
        for member, content in members.items():
            if member == "name":
                name = read_text(content, f"{where}.name")
            elif member == "value":
                value = _header_value(content, f"{where}.value")
            else:
                raise unknown_member(member, where)
        if name is None:
            raise Unprocessable(f"{where}.name must not be null (was null)")
        if "\0" in name:
            raise Unprocessable(f"{where}.name holds the character NUL, which Kafka's clients cannot carry.")
        headers.append((name, value))
    return headers or None


def _header_value(raw: Raw, place: str) -> bytes | None:
    if raw == NULL:
        return None
    try:
        return _binary.read(bytes(raw))
    except ValueError as reason:
        raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)} At {place}.") from None


def _binary_v1(raw: Raw, place: str) -> bytes:
    """Base64 as v1 takes it: white space is ignored, wrong padding is a 422 (§4.1).

    2.0.1 ignores every character outside of the alphabet, so ``"****"`` is stored as an empty value there; here only
    what cannot be part of anybody's data is skipped.
    """
    digits = "".join((read_text(raw, place) or "").split())
    try:
        return base64.b64decode(digits, validate=True)
    except (ValueError, binascii.Error):
        member = place.rpartition(".")[2]
        raise Unprocessable(f"Record {member} contains invalid base64 encoding (at {place})") from None


# --- the fast reading -----------------------------------------------------------------------------------------------


def _fast_parse(codec: Codec, with_partition: bool) -> Parse:
    """A function that reads bodies which are just as they should be; ValueError for others, BadRequest if no JSON."""
    raw = codec.datum is Raw
    datum: Any = codec.datum if raw or codec.datum is Any else Optional[codec.datum]  # noqa: UP045 (a runtime value)
    null = NULL if raw else None
    decoder = _document_decoder(datum, null, with_partition)
    store = codec.store
    as_it_is = type(codec) is BinaryCodec

    def parse(body: bytes) -> Sequence[RecordToSend]:
        """The decoded records themselves, mended in place: they have the shape that the producer reads."""
        records = jsonio.decode(body, decoder).records
        for record in records:
            if record.headers is not None:
                record.headers = _fast_headers(record.headers)
            if as_it_is:
                continue
            key, value = record.key, record.value
            record.key = None if key is None or key == null else store(key)
            record.value = None if value is None or value == null else store(value)
        if with_partition:
            return cast(Sequence[RecordToSend], records)
        return [OutgoingRecord(each.key, each.value, None, each.timestamp_ms, each.headers) for each in records]

    return parse


def _document_decoder(datum: Any, null: object, with_partition: bool) -> jsonio.Decoder[Any]:
    """Decodes bodies whose keys and values are of this type; ``null`` stands for one that is absent."""
    fields: list[Any] = [("key", datum, null), ("value", datum, null)]
    if with_partition:
        fields.append(("partition", _Partition | None, None))
    fields += [("timestamp_ms", _Millis, 0), ("headers", list[_Header] | None, None)]
    # gc=False: records cannot be part of a reference cycle, so the collector need not look at them.
    record = jsonio.define_struct(
        "Record", fields, rename={"timestamp_ms": "timestamp"}, forbid_unknown_fields=True, gc=False
    )
    document = jsonio.define_struct(
        "Document",
        [
            ("records", Annotated[list[record], jsonio.Meta(min_length=1)]),  # type: ignore[valid-type]
            ("key_schema", str | None, None),
            ("key_schema_id", _SchemaId | None, None),
            ("value_schema", str | None, None),
            ("value_schema_id", _SchemaId | None, None),
        ],
        forbid_unknown_fields=True,
        gc=False,
    )
    return jsonio.Decoder(document)


def _fast_raw(document: Any, with_partition: bool) -> tuple[list[RawRecord], GivenSchemas]:
    records = document.records
    for record in records:
        if record.headers is not None:
            record.headers = _fast_headers(record.headers)
    if not with_partition:
        records = [RawRecord(each.key, each.value, None, each.timestamp_ms, each.headers) for each in records]
    return records, GivenSchemas(
        document.key_schema, document.key_schema_id, document.value_schema, document.value_schema_id
    )


def _fast_headers(headers: list[_Header]) -> Headers | None:
    if any("\0" in header.name for header in headers):
        raise ValueError("NUL in the name of a header")
    return [(header.name, header.value) for header in headers] or None
