"""The embedded format ``protobuf``: JSON in requests and replies, messages in Kafka (kafka-rest-http.md §4.4, §4.7).

A schema is the text of a .proto file, or a FileDescriptorProto in base64, which some clients register (and some
registries return). Either becomes a descriptor; the pool of each schema is its own, so equal names do not meet.
"""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, EncodeError

from kafka_gateway import jsonio
from kafka_gateway.codecs.proto_json import JsonMapping
from kafka_gateway.codecs.proto_text import parse
from kafka_gateway.codecs.proto_tokens import formatted, tokens
from kafka_gateway.codecs.schema import SchemaCodec
from kafka_gateway.schemas import CompiledSchema, Misfit, Schema, UnusableSchema

_MAIN = "schema.proto"
_WELL_KNOWN = (
    "any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type",
    "wrappers",
)  # fmt: skip
"""Of google/protobuf: every registry has them."""
_CONFLUENT = {
    "confluent/meta.proto": (
        'syntax = "proto3"; package confluent; message Meta { string doc = 1; map<string, string> params = 2; '
        "repeated string tags = 3; }"
    ),
    "confluent/type/decimal.proto": (
        'syntax = "proto3"; package confluent.type; message Decimal { bytes value = 1; uint32 precision = 2; '
        "int32 scale = 3; }"
    ),
}
"""What Confluent's clients import without a reference."""
_SYMBOLS_MAX = 7_000
"""Of one file. The pool takes the names of a file that it refuses out again, in one call and in a time that grows with
the square of their number: 50 ms for these."""
_RESERVED_NUMBERS = range(19_000, 20_000)
_SURELY_SHALLOW = 30
"""Brackets of a datum's JSON. The free values of google/protobuf/struct.proto take three messages for each, and no
reader takes more than a hundred messages inside each other."""
_PATH_MAX = 64
"""Messages inside each other, in a message index path."""


class ProtobufCodec(SchemaCodec):
    name = "protobuf"
    schema_type = "PROTOBUF"

    def canonical(self, text: str) -> str:
        """The text without comments and with uniform blanks: else some registries would take it for another schema."""
        _check_numbers(_read(text, _MAIN).message_type)
        return text if _is_base64(text) else formatted(tokens(text))

    def compile(self, schema: Schema) -> ProtobufSchema:
        return ProtobufSchema(schema)


class ProtobufSchema(CompiledSchema):
    """One schema, ready to write messages of its first type and to read those of any."""

    def __init__(self, schema: Schema) -> None:
        """ValueError says what is wrong with the text."""
        if not schema.text.strip():
            raise UnusableSchema("the schema is empty")
        main = _read(schema.text, _MAIN)
        file = _build(main, [(name, _read(text, name)) for name, text in schema.imports])
        self._types = _Types(main.message_type, main.package, file)
        self._mapping = JsonMapping()
        first = self._types.inner[0].descriptor if self._types.inner else None
        self.name = first.full_name if first is not None else ""
        self._class = message_factory.GetMessageClass(first) if first is not None else None
        self._fill = self._mapping.fill(first) if first is not None else None
        if first is not None:
            self._mapping.show(first)

    def encode(self, text: bytes) -> bytes | None:
        if self._class is None or self._fill is None:
            raise ValueError("the schema has no message")
        message = self._class()
        try:
            self._fill(message, jsonio.decode_value(text))
            # Equal data, equal bytes: they may be a key, which chooses the partition.
            payload = bytes(message.SerializeToString(deterministic=True))
            if text.count(b"{") + text.count(b"[") > _SURELY_SHALLOW:
                self._class.FromString(payload)
            return b"\0" + payload
        except DecodeError:
            raise ValueError("it is nested too deeply: a hundred messages inside each other can be read") from None
        except EncodeError as error:
            raise ValueError(str(error)) from None
        except Misfit:
            raise
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def decode(self, payload: bytes, rest: bytes | None = None) -> Any:
        message_type, payload = self._type_of(payload, rest)
        try:
            message = message_factory.GetMessageClass(message_type).FromString(payload)
        except (DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"the payload is no message {message_type.full_name}: {error}") from None
        return self._mapping.show(message_type)(message)

    def name_of(self, payload: bytes, rest: bytes | None = None) -> str:
        return str(self._type_of(payload, rest)[0].full_name)

    def _type_of(self, payload: bytes, rest: bytes | None) -> tuple[Descriptor, bytes]:
        """The type that the message index path leads to, and the message."""
        # With an id in a header the path is behind the id there (observed §4.4).
        path, end = _read_path(payload if rest is None else rest)
        if rest is None:
            payload = payload[end:]
        elif end != len(rest):
            raise ValueError("there is more than an id and a message index path in the header")
        types = self._types
        for index in path:
            if not 0 <= index < len(types.inner):
                raise ValueError(f"the schema has no message with the index path {path}")
            types = types.inner[index]
        if types.descriptor is None:
            raise ValueError("the message index path is empty")
        return types.descriptor, payload


class _Types:
    """Messages by their place: of a file, or inside another message."""

    __slots__ = ("descriptor", "inner")

    def __init__(
        self,
        messages: Sequence[DescriptorProto],
        package: str,
        file: FileDescriptor | None,
        parent: Descriptor | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.descriptor = parent
        self.inner: list[_Types] = []
        for message in messages:
            # Entries of maps and groups are no messages that anybody wrote down.
            if message.options.map_entry or message.name in hidden:
                continue
            holder = file.message_types_by_name if file is not None else parent.nested_types_by_name  # type: ignore[union-attr]
            groups = frozenset(
                field.type_name.rpartition(".")[2]
                for field in message.field
                if field.type == FieldDescriptorProto.TYPE_GROUP
            )
            self.inner.append(_Types(message.nested_type, package, None, holder[message.name], groups))


def _read(text: str, name: str) -> FileDescriptorProto:
    """The descriptor of a schema's text, or of the descriptor in base64 that stands for it."""
    if _is_base64(text):
        try:
            file = FileDescriptorProto.FromString(base64.b64decode("".join(text.split()), validate=True))
        except (binascii.Error, DecodeError):
            pass
        else:
            file.name = name
            return file
    return parse(text, name)


def _is_base64(text: str) -> bool:
    return bool(text.strip()) and text.isascii() and ";" not in text and "{" not in text


def _build(main: FileDescriptorProto, imports: Sequence[tuple[str, FileDescriptorProto]]) -> FileDescriptor:
    known = dict(imports)
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptorProto) -> None:
        added.add(file.name)
        have = [name for name in file.dependency if find(name) is not None]
        if len(have) < len(file.dependency):
            # An import that nobody knows matters only if something of it is used: then its name is not found.
            file.ClearField("public_dependency")
            del file.dependency[:]
            file.dependency.extend(have)
        for name in have:
            found = find(name)
            if found is not None and name not in added:
                add(found)
        symbols = _symbols(file)
        if symbols > _SYMBOLS_MAX:
            raise ValueError(
                f"it is too large: a file has {symbols} messages, enums, values of enums, and extensions, and may have "
                f"{_SYMBOLS_MAX}. Split it into several schemas"
            )
        try:
            pool.AddSerializedFile(file.SerializeToString())
        except TypeError as error:
            raise _refused(error) from None

    def find(name: str) -> FileDescriptorProto | None:
        found = known.get(name)
        if found is None:
            found = known[name] = _standard(name)  # type: ignore[assignment]
        return found

    add(main)
    return pool.FindFileByName(main.name)


def _symbols(part: FileDescriptorProto | DescriptorProto) -> int:
    """How many names of a file, or of a message, the pool keeps; it keeps those of fields with their message."""
    messages = part.message_type if isinstance(part, FileDescriptorProto) else part.nested_type
    return (
        sum(1 + _symbols(message) for message in messages)
        + sum(1 + len(enum.value) for enum in part.enum_type)
        + len(part.extension)
    )


def _check_numbers(messages: Sequence[DescriptorProto]) -> None:
    """ValueError if a field has one of the numbers that belong to Protocol Buffers itself ("Assigning Field Numbers").

    Compilers refuse them. Some registries do not, so a schema of a registry is read even if it has them.
    """
    for message in messages:
        for field in message.field:
            if field.number in _RESERVED_NUMBERS:
                raise ValueError(
                    f"the field {message.name}.{field.name} has the number {field.number}: "
                    "those from 19000 to 19999 are reserved"
                )
        _check_numbers(message.nested_type)


def _standard(name: str) -> FileDescriptorProto | None:
    if name in _CONFLUENT:
        return parse(_CONFLUENT[name], name)
    folder, _, base = name.rpartition("/")
    if folder != "google/protobuf" or base.removesuffix(".proto") not in _WELL_KNOWN:
        return None
    module = importlib.import_module(f"google.protobuf.{base.removesuffix('.proto')}_pb2")
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def _refused(error: TypeError) -> ValueError:
    reason = str(error).partition(": ")[2] or str(error)
    if "mini table" in reason:
        return UnusableSchema(
            "a message cannot be held: all its fields, without what is in texts and lists, may take 65,535 bytes, "
            f"which are about 8,000 int64 ({reason})"
        )
    return ValueError(reason)


def _read_path(data: bytes) -> tuple[list[int], int]:
    """A message index path and where it ends: a count, then so many indexes; a count of 0 stands for [0] (§4.4)."""
    count, at = _zigzag(data, 0)
    if count == 0:
        return [0], at
    if not 0 < count <= _PATH_MAX:
        raise ValueError(f"a message index path of {count} steps cannot be")
    path = []
    for _ in range(count):
        index, at = _zigzag(data, at)
        path.append(index)
    return path, at


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
    raise ValueError("the message index path is cut off")
