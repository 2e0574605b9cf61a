"""Reads the text of a .proto file into a FileDescriptorProto, as a compiler would (proto2, proto3, edition 2023).

Everything that has to do with how messages are written and named in JSON is read. Options beyond that are passed over,
so are services: their types are not checked. Names are resolved, and numbers judged, by the descriptor pool.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from google.protobuf.descriptor_pb2 import (
    EDITION_2023,
    DescriptorProto,
    EnumDescriptorProto,
    FeatureSet,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from kafka_gateway.codecs.proto_tokens import Token, tokens, unquote

F = FieldDescriptorProto
SCALARS = {
    "double": F.TYPE_DOUBLE, "float": F.TYPE_FLOAT, "int32": F.TYPE_INT32, "int64": F.TYPE_INT64,
    "uint32": F.TYPE_UINT32, "uint64": F.TYPE_UINT64, "sint32": F.TYPE_SINT32, "sint64": F.TYPE_SINT64,
    "fixed32": F.TYPE_FIXED32, "fixed64": F.TYPE_FIXED64, "sfixed32": F.TYPE_SFIXED32, "sfixed64": F.TYPE_SFIXED64,
    "bool": F.TYPE_BOOL, "string": F.TYPE_STRING, "bytes": F.TYPE_BYTES,
}  # fmt: skip
_PRESENCES = ("EXPLICIT", "IMPLICIT", "LEGACY_REQUIRED")
_LABELS = {"optional": F.LABEL_OPTIONAL, "repeated": F.LABEL_REPEATED, "required": F.LABEL_REQUIRED}
_DEEPEST = 64
_MAX_NUMBER = 2**29 - 1
_ENUM_END = 2**31 - 1


def parse(text: str, name: str) -> FileDescriptorProto:
    """The file's descriptor, under this name. ValueError names the line of what is wrong."""
    return _Parser(tokens(text), name).file()


class _Parser:
    def __init__(self, words: list[Token], name: str) -> None:
        self._words = words
        self._at = 0
        self._file = FileDescriptorProto(name=name, syntax="proto2")
        self._depth = 0

    # --- words --------------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._words[self._at]

    @property
    def _after(self) -> Token:
        return self._words[min(self._at + 1, len(self._words) - 1)]

    def _take(self) -> Token:
        token = self._words[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _fail(self, wanted: str, token: Token | None = None) -> ValueError:
        token = token or self._next
        found = f"not {token.text!r}" if token.kind != "end" else "but the text ends"
        return ValueError(f"line {token.line}: expected {wanted}, {found}")

    def _sign(self, sign: str) -> None:
        if self._next.text != sign or self._next.kind != "sign":
            raise self._fail(repr(sign))
        self._at += 1

    def _is(self, text: str) -> bool:
        """Takes the next word if it is this one."""
        if self._next.text != text or self._next.kind not in ("sign", "word"):
            return False
        self._at += 1
        return True

    def _word(self, what: str = "a name") -> str:
        token = self._take()
        if token.kind != "word":
            raise self._fail(what, token)
        return token.text

    def _full_name(self) -> str:
        name = "." if self._is(".") else ""
        name += self._word()
        while self._is("."):
            name += f".{self._word()}"
        return name

    def _integer(self) -> int:
        sign = -1 if self._is("-") else 1
        token = self._take()
        if token.kind != "integer":
            raise self._fail("a whole number", token)
        base = 16 if token.text[:2] in ("0x", "0X") else 8 if len(token.text) > 1 and token.text[0] == "0" else 10
        return sign * int(token.text, base)

    def _text(self) -> bytes:
        token = self._take()
        if token.kind != "text":
            raise self._fail("a text in quotes", token)
        text = unquote(token)
        while self._next.kind == "text":
            text += unquote(self._take())
        return text

    # --- the file -----------------------------------------------------------------------------------------------------

    def file(self) -> FileDescriptorProto:
        file = self._file
        first = True
        while self._next.kind != "end":
            word = self._next.text
            if word in ("syntax", "edition") and first:
                self._syntax()
            elif self._is("import"):
                self._import()
            elif self._is("package"):
                file.package = self._full_name()
                self._sign(";")
            elif self._is("option"):
                self._option()
                self._sign(";")
            elif self._is("message"):
                self._message(file.message_type.add())
            elif self._is("enum"):
                self._enum(file.enum_type.add())
            elif self._is("extend"):
                self._extend(file.extension.add, file.message_type.add)
            elif self._is("service"):
                self._word()
                self._block()
            elif not self._is(";"):
                raise self._fail("message, enum, import, option or another statement")
            first = False
        return file

    def _syntax(self) -> None:
        kind = self._word()
        self._sign("=")
        value = self._text().decode(errors="replace")
        self._sign(";")
        if kind == "syntax" and value in ("proto2", "proto3"):
            self._file.syntax = value
        elif kind == "edition" and value == "2023":
            self._file.syntax = "editions"
            self._file.edition = EDITION_2023
        else:
            raise ValueError(f"{kind} {value!r} is not known; there are proto2, proto3 and edition 2023")

    def _import(self) -> None:
        public = self._is("public")
        if not public:
            self._is("weak")
        if public:
            self._file.public_dependency.append(len(self._file.dependency))
        self._file.dependency.append(self._text().decode(errors="replace"))
        self._sign(";")

    # --- messages -----------------------------------------------------------------------------------------------------

    def _message(self, message: DescriptorProto) -> None:
        message.name = self._word()
        self._body(message)

    def _body(self, message: DescriptorProto) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"line {self._next.line}: more than {_DEEPEST} messages inside each other")
        self._sign("{")
        while not self._is("}"):
            self._statement(message)
        if self._file.syntax == "proto3":
            _add_synthetic_oneofs(message)
        self._depth -= 1

    def _statement(self, message: DescriptorProto) -> None:
        following = self._after
        word = self._next.text if following.kind in ("word", "sign") else ""
        named = following.kind == "word"
        if self._is(";"):
            return
        if word == "message" and named and self._is("message"):
            self._message(message.nested_type.add())
        elif word == "enum" and named and self._is("enum"):
            self._enum(message.enum_type.add())
        elif word == "extend" and self._is("extend"):
            self._extend(message.extension.add, message.nested_type.add)
        elif word == "option" and self._is("option"):
            name, value = self._option()
            self._sign(";")
            if name == "message_set_wire_format":
                message.options.message_set_wire_format = value == "true"
        elif word == "oneof" and named and self._is("oneof"):
            self._oneof(message)
        elif self._next.text == "extensions" and self._is("extensions"):
            self._extensions(message)
        elif self._next.text == "reserved" and self._is("reserved"):
            self._reserved(message)
        elif word == "map" and following.text == "<":
            self._map(message)
        else:
            self._field(message.field.add(), message.nested_type.add)

    def _field(
        self,
        field: FieldDescriptorProto,
        add_group: Callable[[], DescriptorProto],
        oneof: int | None = None,
    ) -> None:
        label = _LABELS.get(self._next.text) if self._after.text not in ("=", ".") else None
        explicit = label is not None
        if explicit:
            self._take()
        elif self._file.syntax == "proto2" and oneof is None:
            raise self._fail("optional, repeated, required or another statement of a message")
        field.label = label or F.LABEL_OPTIONAL
        if self._next.text == "group" and self._after.kind == "word":
            self._take()
            self._group(field, add_group)
        else:
            self._type(field)
            field.name = self._word("the name of a field")
            self._sign("=")
            field.number = self._number()
            self._field_options(field)
            self._sign(";")
        if oneof is not None:
            field.oneof_index = oneof
        elif explicit and label == F.LABEL_OPTIONAL and self._file.syntax == "proto3":
            field.proto3_optional = True

    def _group(self, field: FieldDescriptorProto, add_group: Callable[[], DescriptorProto]) -> None:
        name = self._word()
        field.name, field.type, field.type_name = name.lower(), F.TYPE_GROUP, name
        self._sign("=")
        field.number = self._number()
        self._field_options(field)
        group = add_group()
        group.name = name
        self._body(group)

    def _type(self, field: FieldDescriptorProto) -> None:
        name = self._full_name()
        scalar = SCALARS.get(name)
        if scalar is not None:
            field.type = scalar
        else:
            field.type_name = name

    def _number(self) -> int:
        token = self._next
        number = self._integer()
        if not 1 <= number <= _MAX_NUMBER:
            raise ValueError(f"line {token.line}: {number} is no number of a field")
        return number

    def _oneof(self, message: DescriptorProto) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add().name = self._word()
        self._sign("{")
        while not self._is("}"):
            if self._is(";"):
                continue
            if self._next.text == "option" and self._after.text != "=" and self._is("option"):
                self._option()
                self._sign(";")
            else:
                self._field(message.field.add(), message.nested_type.add, index)

    def _map(self, message: DescriptorProto) -> None:
        field, entry = message.field.add(), message.nested_type.add()
        self._take()
        self._sign("<")
        key = entry.field.add(name="key", number=1, label=F.LABEL_OPTIONAL)
        self._type(key)
        self._sign(",")
        self._type(entry.field.add(name="value", number=2, label=F.LABEL_OPTIONAL))
        self._sign(">")
        field.name = self._word("the name of a field")
        self._sign("=")
        field.number = self._number()
        self._field_options(field)
        self._sign(";")
        entry.name = "".join(part[:1].upper() + part[1:] for part in field.name.split("_")) + "Entry"
        entry.options.map_entry = True
        field.label, field.type, field.type_name = F.LABEL_REPEATED, F.TYPE_MESSAGE, entry.name
        if key.type in (0, F.TYPE_DOUBLE, F.TYPE_FLOAT, F.TYPE_BYTES):
            raise ValueError(
                f"line {self._next.line}: the keys of the map {field.name} are of a type that keys cannot be"
            )

    def _extensions(self, message: DescriptorProto) -> None:
        while True:
            first, last = self._range(_MAX_NUMBER)
            message.extension_range.add(start=first, end=last + 1)
            if not self._is(","):
                break
        if self._next.text == "[":
            self._bracket()
        self._sign(";")

    def _reserved(self, message: DescriptorProto) -> None:
        while True:
            if self._next.kind == "text":
                message.reserved_name.append(self._text().decode(errors="replace"))
            elif self._next.kind == "word":
                message.reserved_name.append(self._word())
            else:
                first, last = self._range(_MAX_NUMBER)
                message.reserved_range.add(start=first, end=last + 1)
            if not self._is(","):
                break
        self._sign(";")

    def _range(self, most: int) -> tuple[int, int]:
        first = last = self._integer()
        if self._is("to"):
            last = most if self._is("max") else self._integer()
        if last < first:
            raise ValueError(f"line {self._next.line}: the range {first} to {last} is empty")
        return first, last

    def _extend(self, add: Callable[[], FieldDescriptorProto], add_group: Callable[[], DescriptorProto]) -> None:
        extendee = self._full_name()
        self._sign("{")
        while not self._is("}"):
            if not self._is(";"):
                field = add()
                self._field(field, add_group, None)
                field.ClearField("proto3_optional")
                field.extendee = extendee

    # --- enums --------------------------------------------------------------------------------------------------------

    def _enum(self, enum: EnumDescriptorProto) -> None:
        enum.name = self._word()
        self._sign("{")
        while not self._is("}"):
            if self._is(";"):
                continue
            following = self._after.text
            if self._next.text == "option" and following != "=" and self._is("option"):
                name, value = self._option()
                self._sign(";")
                if name == "allow_alias":
                    enum.options.allow_alias = value == "true"
            elif self._next.text == "reserved" and following != "=" and self._is("reserved"):
                self._enum_reserved(enum)
            else:
                value_ = enum.value.add(name=self._word("the name of a value"))
                self._sign("=")
                value_.number = self._integer_of(32)
                if self._next.text == "[":
                    self._bracket()
                self._sign(";")
        if not enum.value:
            raise ValueError(f"the enum {enum.name} has no values")

    def _integer_of(self, bits: int) -> int:
        token = self._next
        number = self._integer()
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise ValueError(f"line {token.line}: {number} is out of range")
        return number

    def _enum_reserved(self, enum: EnumDescriptorProto) -> None:
        while True:
            if self._next.kind == "text":
                enum.reserved_name.append(self._text().decode(errors="replace"))
            elif self._next.kind == "word":
                enum.reserved_name.append(self._word())
            else:
                first, last = self._range(_ENUM_END)
                enum.reserved_range.add(start=first, end=last)
            if not self._is(","):
                break
        self._sign(";")

    # --- options ------------------------------------------------------------------------------------------------------

    def _option(self) -> tuple[str, str]:
        """An option's name and, if it is one word, its value."""
        name = self._option_name()
        self._sign("=")
        return name, self._constant()

    def _option_name(self) -> str:
        name = ""
        while True:
            if self._is("("):
                name += f"({self._full_name()})"
                self._sign(")")
            else:
                name += self._word("the name of an option")
            if not self._is("."):
                return name
            name += "."

    def _constant(self) -> str:
        if self._next.text == "{":
            self._block()
            return ""
        if self._next.text == "[":
            self._bracket()
            return ""
        if self._next.kind == "text":
            return self._text().decode("latin-1")
        sign = "-" if self._is("-") else ""
        if not sign:
            self._is("+")
        token = self._take()
        if token.kind not in ("word", "integer", "float"):
            raise self._fail("a value", token)
        value = token.text
        while self._is("."):
            value += f".{self._word()}"
        return sign + value

    def _field_options(self, field: FieldDescriptorProto) -> None:
        if not self._is("["):
            return
        while True:
            name, is_text = self._option_name(), False
            self._sign("=")
            is_text = self._next.kind == "text"
            value = self._constant()
            if name == "default":
                field.default_value = _default(field, value, is_text)
            elif name == "json_name":
                field.json_name = value.encode("latin-1").decode(errors="replace")
            elif name == "packed":
                field.options.packed = value == "true"
            elif name == "features.field_presence" and value in _PRESENCES:
                field.options.features.field_presence = FeatureSet.FieldPresence.Value(value)
            if not self._is(","):
                break
        self._sign("]")

    def _block(self) -> None:
        """Passes over { … }."""
        self._skip("{", "}")

    def _bracket(self) -> None:
        """Passes over [ … ]."""
        self._skip("[", "]")

    def _skip(self, begin: str, end: str) -> None:
        self._sign(begin)
        depth = 1
        while depth:
            token = self._take()
            if token.kind == "end":
                raise self._fail(repr(end), token)
            if token.kind == "sign":
                depth += (token.text == begin) - (token.text == end)


def _default(field: FieldDescriptorProto, value: str, is_text: bool) -> str:
    """A default as descriptors write it: numbers in decimal, bytes with C's escapes."""
    if field.type == F.TYPE_BYTES:
        return re.sub(r"[^ -\[\]-~]|[\"'\\]", lambda match: f"\\{ord(match[0]):03o}", value)
    if is_text:
        return value.encode("latin-1").decode(errors="replace")
    if field.type in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return value.rstrip("fF") if value.lstrip("-")[:1].isdigit() or "." in value else value
    digits = value.lstrip("-")
    if digits[:2] in ("0x", "0X") or (len(digits) > 1 and digits[0] == "0" and digits.isdigit()):
        return ("-" if value[0] == "-" else "") + str(int(digits, 16 if digits[1] in "xX" else 8))
    return value


def _add_synthetic_oneofs(message: DescriptorProto) -> None:
    """An ``optional`` field of proto3 is in a oneof of its own, behind the written ones."""
    taken = {oneof.name for oneof in message.oneof_decl} | {field.name for field in message.field}
    for field in message.field:
        if field.proto3_optional and not field.HasField("oneof_index"):
            name = f"_{field.name}"
            while name in taken:
                name = f"X{name}"
            taken.add(name)
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add().name = name
