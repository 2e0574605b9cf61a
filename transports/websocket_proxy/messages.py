"""The messages of Kafka WebSocket Proxy in JSON; those of the gateway as ready WebSocket frames
(websocket-proxy.md §1.5, §1.6)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kafka_gateway.errors import UndecodableRecord
from kafka_gateway.records import ConsumedRecord, Headers, RecordsEncoder
from kafka_gateway.services.websocket_proxy.ports import MessageId, StoredRecord
from kafka_gateway.transports.websocket.message_frames import text_frame
from kafka_gateway.transports.websocket_proxy.formats import FORMATS, Format

_encode = msgspec.json.encode


class Undecodable(ValueError):
    """A message that cannot be produced; the text says why, without the payload."""


class ProduceMessage(msgspec.Struct, gc=False):
    """A record to be produced, and the id that is echoed with its result. A struct, because every message makes one."""

    key: bytes | None
    value: bytes
    headers: Headers | None
    message_id: bytes | None
    """As JSON text."""
    partition: None = None
    timestamp_ms: int = 0


_NOTHING = msgspec.Raw()


class _Header(msgspec.Struct):
    key: str
    value: str


class _Text(msgspec.Struct):
    value: str
    format: str


class _Datum(msgspec.Struct):
    value: msgspec.Raw
    format: str


class _Plain(msgspec.Struct):
    """What nearly all clients send: every part well-formed, the value a string."""

    value: _Text
    key: _Text | None = None
    headers: list[_Header] | None = None
    messageId: str | None = None


class _Tolerant(msgspec.Struct):
    """Only the value has to be right (§1.5)."""

    value: _Datum
    key: msgspec.Raw = _NOTHING
    headers: msgspec.Raw = _NOTHING
    messageId: msgspec.Raw = _NOTHING


_plain = msgspec.json.Decoder(_Plain).decode
_tolerant = msgspec.json.Decoder(_Tolerant).decode
_key = msgspec.json.Decoder(_Datum).decode
_headers = msgspec.json.Decoder(list[_Header]).decode
_message_id = msgspec.json.Decoder(str).decode


def produce_decoder(key_format: Format | None, value_format: Format) -> Callable[[bytes], ProduceMessage]:
    """Reads one message of a socket with these formats. The function raises Undecodable."""
    strings = value_format.name == "string" and (key_format is None or key_format.name == "string")

    def decode(text: bytes) -> ProduceMessage:
        if strings:
            try:
                plain = _plain(text)
                given, headers = plain.key, plain.headers
                if plain.value.format in FORMATS and (given is None or given.format in FORMATS):
                    key = given.value.encode() if given is not None and key_format is not None else None
                    return ProduceMessage(
                        key,
                        plain.value.value.encode(),
                        [(each.key, each.value.encode()) for each in headers] if headers else None,
                        None if plain.messageId is None else _encode(plain.messageId),
                    )
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass  # `_careful` says what is wrong, or finds that it does not matter
        return _careful(text, key_format, value_format)

    return decode


def _careful(text: bytes, key_format: Format | None, value_format: Format) -> ProduceMessage:
    try:
        message = _tolerant(text)
        if message.value.format.lower() not in FORMATS:
            raise Undecodable("the format of the value has an unknown name")
        value = value_format.store(bytes(message.value.value))
    except Undecodable:
        raise
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"no record with a value of the format {value_format.name}: {_reason(error)}") from None
    return ProduceMessage(
        _optional(message.key, lambda raw: _key_of(raw, key_format)),
        value,
        _optional(message.headers, lambda raw: [(each.key, each.value.encode()) for each in _headers(raw)] or None),
        _optional(message.messageId, lambda raw: _encode(_message_id(raw))),
    )


def _key_of(raw: bytes, key_format: Format | None) -> bytes | None:
    if key_format is None:
        return None
    key = _key(raw)
    if key.format.lower() not in FORMATS:
        return None
    return key_format.store(bytes(key.value))


def _optional(raw: msgspec.Raw, read: Callable[[bytes], Any]) -> Any:
    """What ``read`` makes of a key, headers or an id; None if they are wrong: they are dropped silently (§1.5)."""
    text = bytes(raw)
    if not text or text == b"null":
        return None
    try:
        return read(text)
    except (ValueError, RecursionError):
        return None


def _reason(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition(" - at")[0][:80]


def result_frame(topic: bytes, stored: StoredRecord, message_id: bytes | None) -> bytes:
    """The result of one record as a frame; ``topic`` is JSON text (§1.5, D1)."""
    place = (topic, stored.partition() or 0, stored.offset() or 0, stored.timestamp()[1])
    if message_id is None:
        text = b'{"topic":%b,"partition":%d,"offset":%d,"timestamp":%d,"clientMessageId":null}' % place
    else:
        text = b'{"topic":%b,"partition":%d,"offset":%d,"timestamp":%d,"clientMessageId":%b,"messageId":%b}' % (
            *place,
            message_id,
            message_id,
        )
    return text_frame(text)


@functools.lru_cache(1024)
def record_encoder(topic: str, key_format: Format | None, value_format: Format) -> RecordsEncoder:
    """Encodes consumed records of a topic as frames, one for each (§1.6).

    The encoder raises UndecodableRecord, with partition and offset, for a key or value that the format cannot express.
    The same arguments give the same encoder, so a batch that feeds many sockets is encoded once.
    """
    name = _encode(topic)
    head = (
        b'{"wsProxyMessageId":"' + name[1:-1] + b'-%d-%d-%d","topic":' + name.replace(b"%", b"%%") + b',"partition":%d,'
        b'"offset":%d,"timestamp":%d,"headers":%b%b,"value":{"value":%b,"format":"'
        + value_format.name.encode()
        + b'"}}'
    )
    load_value = value_format.load
    load_key = key_format.load if key_format is not None else None
    key_text = b',"key":{"value":%b,"format":"' + (key_format.name.encode() if key_format else b"") + b'"}'

    def encode_key(key: bytes | None) -> bytes:
        if key is None:
            return b""
        if load_key is None:
            return b',"key":{"value":{},"format":null}'  # as every deployment does
        return key_text % load_key(key)

    def encode_one(record: ConsumedRecord) -> bytes:
        partition, offset, timestamp = record.partition(), record.offset(), record.timestamp()[1]
        value, headers = record.value(), record.headers()
        text = head % (
            partition,
            offset,
            timestamp,
            partition,
            offset,
            timestamp,
            b"null" if not headers else _headers_text(headers),
            encode_key(record.key()),
            b"null" if value is None else load_value(value),
        )
        return text_frame(text)

    return batches(encode_one)


def batches(encode_one: Callable[[ConsumedRecord], bytes]) -> RecordsEncoder:
    """An encoder of many records. It raises UndecodableRecord, which names the record that does not fit its format."""

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        frames = []
        for record in records:
            try:
                frames.append(encode_one(record))
            except (ValueError, RecursionError) as error:
                where = f"{record.topic()}-{record.partition()} at offset {record.offset()}"
                raise UndecodableRecord(f"the record in {where} does not fit its format: {_reason(error)}") from None
        return b"".join(frames)

    return encode


def _headers_text(headers: Headers) -> bytes:
    return _encode(
        [{"key": key, "value": None if value is None else value.decode("utf-8", "replace")} for key, value in headers]
    )


class _Commit(msgspec.Struct):
    wsProxyMessageId: str


_commit = msgspec.json.Decoder(_Commit).decode


def read_commit(text: bytes) -> MessageId | None:
    """The record that a commit names; None for anything else, which is ignored (§3.6)."""
    try:
        return place_of(_commit(text).wsProxyMessageId)
    except (ValueError, RecursionError):
        return None


def place_of(message_id: str) -> MessageId | None:
    """What a wsProxyMessageId names; None for a text that is no such id."""
    try:
        topic, partition, offset, timestamp = message_id.rsplit("-", 3)
        place = MessageId(topic, int(partition), int(offset), int(timestamp))
    except ValueError:
        return None
    return place if message_id == f"{topic}-{place.partition}-{place.offset}-{place.timestamp}" else None
