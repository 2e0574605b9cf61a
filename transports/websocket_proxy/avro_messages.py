"""The messages of Kafka WebSocket Proxy in Avro: plain binary encoding, without header and schema id.

Their members: websocket-proxy.md §1.5 and §1.6; which branch of a union goes with which format: §1.7.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import Any

import fastavro

from kafka_gateway.avro_reading import schema_to_read
from kafka_gateway.records import ConsumedRecord, Headers, RecordsEncoder
from kafka_gateway.services.websocket_proxy import avro_schemas
from kafka_gateway.services.websocket_proxy.ports import MessageId, StoredRecord
from kafka_gateway.transports.websocket.message_frames import binary_frame
from kafka_gateway.transports.websocket_proxy.formats import Format, normal_json
from kafka_gateway.transports.websocket_proxy.messages import ProduceMessage, Undecodable, batches, place_of

_BRANCHES = {
    "json": "string", "string": "string", "avro": "bytes", "byte_array": "bytes", "bytearray": "bytes", "int": "int",
    "short": "int", "long": "long", "double": "double", "float": "float",
}  # fmt: skip
"""Format → branch of the union (websocket-proxy.md §1.7)."""
_WIDER = {"long": "int", "double": "float"}
"""Branch → the narrower branch that is taken in its place, too."""
_NUMBERS = {
    "int": struct.Struct(">i"),
    "short": struct.Struct(">h"),
    "long": struct.Struct(">q"),
    "double": struct.Struct(">d"),
    "float": struct.Struct(">f"),
}


class WrongBranch(ValueError):
    """A value of another type than the socket was opened for: the socket ends with code 1011 (§1.9)."""


def _tagged(member: str, union: list[Any]) -> list[Any]:
    """The union with a record round each branch, which is written as the branch alone and read with its name."""
    tagged = []
    for branch in union:
        if branch == "null":
            tagged.append(branch)
            continue
        tagged.append({"type": "record", "name": f"{member}_{branch}", "fields": [{"name": branch, "type": branch}]})
    return tagged


def _with_tags(schema: dict[str, Any]) -> Any:
    fields = []
    for field in schema["fields"]:
        name, type_ = field["name"], field["type"]
        fields.append({"name": name, "type": _tagged(name, type_) if name in ("key", "value") else type_})
    return schema_to_read({**schema, "fields": fields})


_READ_RECORD = _with_tags(avro_schemas.PRODUCER_RECORD)
_RESULT = fastavro.parse_schema(avro_schemas.PRODUCER_RESULT)
_RECORD = fastavro.parse_schema(avro_schemas.CONSUMER_RECORD)
_COMMIT = schema_to_read(avro_schemas.COMMIT)


def _read(schema: Any, payload: bytes, resource: str) -> Any:
    """The datum. Undecodable says where the schema is, in few words: a close frame has room for 123 bytes."""
    source = io.BytesIO(payload)
    try:
        datum = fastavro.schemaless_reader(source, schema, None)
    except Exception:  # it says what is wrong with bytes in many ways, none of which helps a client
        raise Undecodable(f"not Avro of /schemas/avro/{resource}; send it without schema id or file header") from None
    if source.tell() != len(payload):
        raise Undecodable(f"bytes behind the Avro of /schemas/avro/{resource}; send one record a message")
    return datum


def _write(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return binary_frame(out.getvalue())


def avro_produce_decoder(key_format: Format | None, value_format: Format) -> Callable[[bytes], ProduceMessage]:
    """Reads one message of a socket with these formats; a key without one is bytes. Raises Undecodable, WrongBranch."""
    key_name = key_format.name if key_format is not None else "avro"
    value_name = value_format.name

    def decode(payload: bytes) -> ProduceMessage:
        record = _read(_READ_RECORD, payload, "producer/record")
        key, headers, message_id = record["key"], record["headers"], record["clientMessageId"]
        return ProduceMessage(
            None if key is None else _stored(key, key_name, "key"),
            _stored(record["value"], value_name, "val"),
            [(each["key"], each["value"].encode()) for each in headers] if headers else None,
            None if message_id is None else message_id.encode(),
        )

    return decode


def _stored(tagged: dict[str, Any], format: str, part: str) -> bytes:
    ((branch, value),) = tagged.items()
    wanted = _BRANCHES[format]
    if branch not in (wanted, _WIDER.get(wanted)):
        raise WrongBranch(
            f"the {part} is {branch}: with {part}Type={format} it must be {wanted}; or open with another type"
        )
    try:
        if format == "json":
            return normal_json(value.encode())
        if wanted == "string":
            return bytes(value.encode())
        return bytes(value) if wanted == "bytes" else _NUMBERS[format].pack(value)
    except (ValueError, struct.error, OverflowError) as error:
        raise Undecodable(f"a {part} that is no {format}, the {part}Type: {str(error)[:60]}") from None


def avro_result(topic: str) -> Callable[[StoredRecord, bytes | None], bytes]:
    """Makes the result of one record, as a frame."""

    def result(stored: StoredRecord, message_id: bytes | None) -> bytes:
        datum = {
            "topic": topic,
            "partition": stored.partition() or 0,
            "offset": stored.offset() or 0,
            "timestamp": stored.timestamp()[1],
            "clientMessageId": None if message_id is None else message_id.decode(),
        }
        return _write(_RESULT, datum)

    return result


@functools.lru_cache(1024)
def avro_record_encoder(topic: str, key_format: Format | None, value_format: Format) -> RecordsEncoder:
    """Encodes consumed records of a topic as frames, one each; see `messages.record_encoder`."""
    show_key = None if key_format is None else _shower(key_format.name)
    show_value = _shower(value_format.name)

    def encode_one(record: ConsumedRecord) -> bytes:
        partition, offset, timestamp = record.partition() or 0, record.offset() or 0, record.timestamp()[1]
        key, value = record.key(), record.value()
        datum = {
            "wsProxyMessageId": f"{topic}-{partition}-{offset}-{timestamp}",
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp": timestamp,
            "key": None if key is None or show_key is None else show_key(key),
            "value": ("bytes", b"") if value is None else show_value(value),
            "headers": _headers(record.headers()),
        }
        return _write(_RECORD, datum)

    return batches(encode_one)


def _shower(format: str) -> Callable[[bytes], tuple[str, Any]]:
    branch = _BRANCHES[format]
    if branch == "bytes":
        return lambda stored: (branch, stored)
    if format == "json":
        return lambda stored: (branch, normal_json(stored).decode())
    if branch == "string":
        return lambda stored: (branch, stored.decode("utf-8", "replace"))
    numbers = _NUMBERS[format]

    def number(stored: bytes) -> tuple[str, Any]:
        if len(stored) != numbers.size:
            raise ValueError(f"{len(stored)} bytes instead of {numbers.size}")
        return branch, numbers.unpack(stored)[0]

    return number


def _headers(headers: Headers | None) -> list[dict[str, str]] | None:
    if not headers:
        return None
    return [{"key": key, "value": "" if value is None else value.decode("utf-8", "replace")} for key, value in headers]


def read_avro_commit(payload: bytes) -> MessageId | None:
    """The record that a commit names; None for a text that is no id. Undecodable if it is no commit (§3.6)."""
    return place_of(_read(_COMMIT, payload, "consumer/commit")["wsProxyMessageId"])
