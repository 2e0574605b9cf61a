"""Records of v3 produce requests: one JSON object each (kafka-rest-http.md §7.10, §4).

As in v2, an object is first read in one typed decode, which nearly always does; any other is read a second time, member
by member, with the coercions of §3.4, and what is wrong is named with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.errors import BadRequest, PartitionNotFound, Unprocessable
from kafka_gateway.jsonio import Raw
from kafka_gateway.records import Headers
from kafka_gateway.services.common.json_members import NULL, read_integer, read_list, read_object, read_text, shown
from kafka_gateway.services.common.timestamps import NOT_STORABLE, parse_instant

SCHEMALESS = ("BINARY", "JSON", "STRING")
WITH_SCHEMA = {"AVRO": "avro", "JSONSCHEMA": "jsonschema", "PROTOBUF": "protobuf"}
"""Type → name of the embedded format."""
STRATEGIES = ("TOPIC_NAME", "RECORD_NAME", "TOPIC_RECORD_NAME")
_TYPES = (*SCHEMALESS, *WITH_SCHEMA)
_MESSAGE_MAX = 300
_ABSENT = Raw(b"")
HALF_A_PAIR = "data holds half of a surrogate pair, which is no character."
_binary = BinaryCodec()

_Int32 = Annotated[int, jsonio.Meta(ge=-(2**31), le=2**31 - 1)]


class BrokenJson(BadRequest):
    """Text that is no JSON: the rest of a stream cannot be read."""


class RecordHeader(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    value: bytes | None = None


class Data(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    """A key or a value: its JSON, and what it is to become."""

    type: str | None = None
    data: Raw = _ABSENT
    subject: str | None = None
    subject_name_strategy: str | None = None
    schema_id: _Int32 | None = None
    schema_version: _Int32 | None = None
    schema: str | None = None


class RecordBody(jsonio.Struct, forbid_unknown_fields=True, gc=False):
    """A record as it stands in a request."""

    partition_id: _Int32 | None = None
    headers: list[RecordHeader] | None = None
    key: Data | None = None
    value: Data | None = None
    timestamp: str | int | float | None = None


class NeededSchema(jsonio.Struct, frozen=True):
    """A datum that needs a schema, and which one. None for what the request does not say."""

    type: str | None
    subject: str | None
    strategy: str | None
    id: int | None
    version: int | None
    schema: str | None


class Record(jsonio.Struct, gc=False):
    """A record to be produced: what the producer reads, and how its report shows key and value."""

    key: bytes | None = None
    value: bytes | None = None
    partition: int | None = None
    timestamp_ms: int = 0
    headers: Headers | None = None
    key_shown: str = ""
    value_shown: str = ""
    unready: list[tuple[str, bytes, NeededSchema]] | None = None
    """The members that need a schema before they are bytes: key or value, its JSON, which schema."""


class RecordReader:
    """Reads objects into records. Stateless, but for its decoders."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        binary, json = codecs["binary"], codecs["json"]
        as_base64: jsonio.Decoder[bytes] = jsonio.Decoder(bytes)

        def read_binary(text: bytes) -> bytes:
            try:
                return as_base64.decode(text)
            except jsonio.ValidationError:
                return binary.read(text)

        self._stores: dict[str, Callable[[bytes], bytes]] = {
            "BINARY": read_binary,
            "JSON": lambda text: json.store(Raw(text)),
            "STRING": _read_string,
        }
        self._decoder: jsonio.Decoder[RecordBody] = jsonio.Decoder(RecordBody)

    def read_block(self, block: bytes) -> list[RecordBody] | None:
        """All objects of a run of them, undivided; None unless each of them is just as it should be."""
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError:
                return None
        try:
            return self._decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return None

    def read(self, text: bytes) -> RecordBody:
        """One object. BadRequest for JSON of another shape or kind, Unprocessable for an unknown member; BrokenJson if
        it is no JSON."""
        try:
            return jsonio.decode(text, self._decoder)
        except jsonio.ValidationError:
            return _read_exactly(text)
        except BadRequest as error:
            raise BrokenJson(f"Bad Request: Error processing message: {error.message}") from None

    def record(self, body: RecordBody) -> Record:
        """The record that a body stands for. BadRequest, Unprocessable, PartitionNotFound."""
        record = Record()
        if body.partition_id is not None:
            if body.partition_id < 0:
                raise PartitionNotFound()
            record.partition = body.partition_id
        if body.timestamp is not None:
            record.timestamp_ms = timestamp_ms(body.timestamp)
        if body.headers:
            record.headers = checked_headers(body.headers)
        if (key := body.key) is not None:
            record.key, record.key_shown = self._datum(key, "key", record)
        if (value := body.value) is not None:
            record.value, record.value_shown = self._datum(value, "value", record)
        return record

    def check(self, body: RecordBody) -> None:
        """BadRequest for what is wrong with a record before anybody looks at its data (§7.11: it refuses a batch)."""
        for part, data in (("key", body.key), ("value", body.value)):
            if data is not None:
                _check_present(data, part)
                check_rules(data, part)
        if body.timestamp is not None:
            timestamp_ms(body.timestamp)
        if body.headers:
            checked_headers(body.headers)

    def _datum(self, data: Data, part: str, record: Record) -> tuple[bytes | None, str]:
        text = bytes(data.data)
        if not text:
            _check_present(data, part)
        kind = data.type
        store = self._stores.get(kind) if kind is not None else None
        if store is None or not (
            data.schema is data.subject is data.subject_name_strategy is None
            and data.schema_id is data.schema_version is None
        ):
            check_rules(data, part)
            if kind not in SCHEMALESS:
                choice = NeededSchema(
                    kind, data.subject, data.subject_name_strategy, data.schema_id, data.schema_version, data.schema
                )
                record.unready = [*(record.unready or ()), (part, text, choice)]
                return None, ""
        assert store is not None
        assert kind is not None
        if text == b"null":
            return None, shown_part(part, kind, -1)
        try:
            stored = store(text)
        except ValueError as reason:
            raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)}") from None
        return stored, shown_part(part, kind, len(stored))


def _check_present(data: Data, part: str) -> None:
    if not bytes(data.data):
        raise BadRequest(f"Bad Request: Null data: {part}.data must be given; null is a null {part}.")


def shown_part(part: str, kind: str, size: int, more: str = "") -> str:
    """A key or value as a report shows it: behind a comma, in JSON."""
    return f',"{part}":{{"type":"{kind}"{more},"size":{size}}}'


def check_rules(data: Data, part: str) -> None:
    """BadRequest if the members of a key or value contradict each other (§7.10, table of violations)."""
    kind, given = data.type, [data.schema_id, data.schema_version, data.schema]
    if kind is not None and kind not in _TYPES:
        raise BadRequest(f"{part}.type must be one of {', '.join(_TYPES)}, not {shown(repr(kind))}.")
    strategy = data.subject_name_strategy
    if strategy is not None and strategy not in STRATEGIES:
        raise BadRequest(
            f"{part}.subject_name_strategy must be one of {', '.join(STRATEGIES)}, not {shown(repr(strategy))}."
        )
    if data.subject is not None and strategy is not None:
        raise BadRequest(f"Only one of 'subject_name_strategy' or 'subject' can be used. (in {part})")
    if sum(each is not None for each in given) > 1:
        raise BadRequest(f"Only one of 'schema_id', 'schema_version' or 'schema' can be used. (in {part})")
    if kind in SCHEMALESS:
        members = {
            "schema_id": data.schema_id,
            "schema_version": data.schema_version,
            "schema": data.schema,
            "subject": data.subject,
            "subject_strategy": strategy,
        }
        for name, value in members.items():
            if value is not None:
                raise BadRequest(f"'type={kind}' cannot be used with '{name}'. (in {part})")
        return
    if kind is not None:
        _check_schema_type(data, part)
    elif data.schema is not None:
        raise BadRequest(f"Unsupported argument: : null ({part}.schema needs a type)")
    if strategy in ("RECORD_NAME", "TOPIC_RECORD_NAME") and data.schema_id is None and data.schema is None:
        raise BadRequest(f"Bad Request: Cannot use schema_subject_strategy={strategy} without schema_id or schema.")


def _check_schema_type(data: Data, part: str) -> None:
    """A type with a schema wants the schema itself: an id or a version says of which type it is."""
    if data.schema is not None:
        return
    if data.schema_id is not None:
        found = f"schema_id={data.schema_id}"
    else:
        found = f"schema_version={'latest' if data.schema_version is None else data.schema_version}"
    raise BadRequest(f"'{found}' cannot be used with 'serializer'. (in {part})")


def _read_string(text: bytes) -> bytes:
    value = jsonio.decode_value(text)
    if not isinstance(value, str):
        raise ValueError(f"data={text.decode()} is not a string.")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError(HALF_A_PAIR) from None


def timestamp_ms(value: str | int | float) -> int:
    """Milliseconds of an ISO-8601 text; numbers, also as texts, are seconds since 1970; 0 for "" (observed §7.10)."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return 0
        try:
            millis = parse_instant(text)
        except ValueError as reason:
            try:
                millis = int(float(text) * 1000)
            except (ValueError, OverflowError):
                raise BadRequest(f"timestamp must be an ISO-8601 text: {shown(repr(value))} is {reason}.") from None
    else:
        try:
            millis = int(value * 1000)
        except (ValueError, OverflowError):
            millis = -1
    if not 0 <= millis < 2**63:
        raise BadRequest(f"timestamp must not be before 1970, nor out of range (was {shown(repr(value))}).")
    if millis == 0:
        raise BadRequest(f"timestamp {NOT_STORABLE}.")
    return millis


def checked_headers(headers: list[RecordHeader]) -> Headers:
    """The headers as the producer takes them. BadRequest for a name that Kafka's clients cannot carry."""
    for header in headers:
        if "\0" in header.name:
            raise BadRequest("The name of a header holds the character NUL, which Kafka's clients cannot carry.")
    return [(header.name, header.value) for header in headers]


# --- the exact reading -----------------------------------------------------------------------------------------------

_OBJECT: jsonio.Decoder[dict[str, Raw]] = jsonio.Decoder(dict[str, Raw])


def _read_exactly(text: bytes) -> RecordBody:
    text = jsonio.check_utf8(text)
    if text.strip() == b"null":
        raise BadRequest("A record must be an object, not null.")
    members = read_object(Raw(text), "The record")
    return read_members(members or {})


def read_members(members: Mapping[str, Raw], place: str = "") -> RecordBody:
    """The record with these members, read leniently; ``place`` is where it stands, for messages."""
    before = f"{place}." if place else ""
    body = RecordBody()
    for name, raw in members.items():
        where = before + name
        if name == "partition_id":
            body.partition_id = read_integer(raw, where)
        elif name == "headers":
            body.headers = _read_headers(raw, where)
        elif name == "key":
            body.key = _read_data(raw, where)
        elif name == "value":
            body.value = _read_data(raw, where)
        elif name == "timestamp":
            body.timestamp = _read_timestamp(raw, where)
        else:
            raise _unknown(name, place)
    return body


def _unknown(name: str, place: str) -> Unprocessable:
    return Unprocessable(f'Unrecognized field "{shown(name)}"' + (f" (in {place})" if place else ""))


def _read_headers(raw: Raw, place: str) -> list[RecordHeader] | None:
    elements = read_list(raw, place)
    if elements is None:
        return None
    headers = []
    for i, element in enumerate(elements):
        where = f"{place}[{i}]"
        members = read_object(element, where)
        if members is None:
            raise BadRequest(f"{where} must be an object, not null.")
        name: str | None = None
        value: bytes | None = None
        for member, content in members.items():
            if member == "name":
                name = read_text(content, f"{where}.name")
            elif member == "value":
                value = _header_value(content, f"{where}.value")
            else:
                raise _unknown(member, where)
        if name is None:
            raise BadRequest(f"{where}.name must not be null.")
        headers.append(RecordHeader(name, value))
    return headers


def _header_value(raw: Raw, place: str) -> bytes | None:
    if raw == NULL:
        return None
    try:
        return _binary.read(bytes(raw))
    except ValueError as reason:
        raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)} At {place}.") from None


def _read_timestamp(raw: Raw, place: str) -> str | int | float | None:
    value = jsonio.decode_value(bytes(raw))
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    raise BadRequest(f"{place} must be an ISO-8601 text, or seconds since 1970.")


def _read_data(raw: Raw, place: str) -> Data | None:
    members = read_object(raw, place)
    if members is None:
        return None
    data = Data()
    for name, content in members.items():
        where = f"{place}.{name}"
        if name == "data":
            data.data = content
        elif name in ("schema_id", "schema_version"):
            setattr(data, name, read_integer(content, where))
        elif name == "type":
            data.type = _read_type(content, where)
        elif name in ("subject", "subject_name_strategy", "schema"):
            setattr(data, name, read_text(content, where))
        else:
            raise _unknown(name, place)
    return data


def _read_type(raw: Raw, place: str) -> str | None:
    if raw == NULL:
        return None
    value = jsonio.decode_value(bytes(raw))
    if value not in _TYPES:
        raise BadRequest(f"{place} must be one of {', '.join(_TYPES)}, not {shown(bytes(raw).decode())}.")
    return str(value)
