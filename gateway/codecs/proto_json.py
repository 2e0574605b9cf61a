"""Protobuf messages and JSON: the proto3 mapping, and what clients rely on beyond it (kafka-rest-http.md §4.7).

For each message type one function fills a message from a JSON value and one shows it, made when they are first needed.
Both know their fields by name; nothing is looked up in descriptors for a record.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from kafka_gateway.codecs import proto_wellknown as wellknown
from kafka_gateway.codecs.floating import as_float
from kafka_gateway.schemas import Misfit

F = FieldDescriptor
Fill = Callable[[Any, Any], None]
"""(message, JSON value): sets the message."""
Show = Callable[[Any], Any]
Convert = Callable[[Any], Any]

_INTEGERS = {
    F.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "int32"),
    F.CPPTYPE_UINT32: (0, 2**32 - 1, "uint32"),
    F.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "int64"),
    F.CPPTYPE_UINT64: (0, 2**64 - 1, "uint64"),
}
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOAT_END = (2 - 2**-24) * 2.0**127
"""From here on numbers are rounded to what is no float of 32 bits any more."""
_DIGITS = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_TEXT_MAX = 400
"""Digits of a number that is given as text."""
NULL_VALUE = "google.protobuf.NullValue"


class JsonMapping:
    """The functions of all messages of one schema. Safe to use from several threads: what is made twice is the same."""

    def __init__(self) -> None:
        self._fills: dict[str, Fill] = {}
        self._shows: dict[str, Show] = {}

    # --- from JSON ----------------------------------------------------------------------------------------------------

    def fill(self, message: Descriptor) -> Fill:
        """The function that fills messages of this type; it raises Misfit."""
        name = message.full_name
        made = self._fills.get(name) or wellknown.FILLS.get(name)
        if made is None:
            wrapped = message.fields_by_name.get("value") if name in wellknown.WRAPPERS else None
            made = _fill_wrapper(_scalar(wrapped)) if wrapped is not None else self._fill_message(message)
            self._fills[name] = made
        return made

    def _fill_message(self, message: Descriptor) -> Fill:
        members: dict[str, tuple[str, str | None, bool, Fill]] = {}
        full_name = message.full_name

        def fill(target: Any, value: Any) -> None:
            if type(value) is not dict:
                raise Misfit.expected(f"message {full_name}", value)
            seen = set()
            for name, item in value.items():
                member = members.get(name)
                if member is None:
                    raise Misfit(f"the message {full_name} has no field {name!r}")
                field, oneof, takes_null, set_field = member
                if item is None and not takes_null:
                    continue
                if field in seen:
                    raise Misfit(f"the field {field} is given twice")
                seen.add(field)
                if oneof is not None and target.WhichOneof(oneof) is not None:
                    raise Misfit(f"{name} and {target.WhichOneof(oneof)} cannot both be given: one of {oneof}")
                try:
                    set_field(target, item)
                except Misfit as misfit:
                    misfit.within(name)
                    raise

        self._fills[message.full_name] = fill  # before its fields: one of them may be of this type
        for field in message.fields:
            if field.type == F.TYPE_GROUP:
                continue  # upstream knows no member for them
            oneof = field.containing_oneof
            name = oneof.name if oneof is not None and not _is_synthetic(oneof) else None
            entry = (field.name, name, _takes_null(field), self._setter(field))
            members[field.name] = entry
            members[field.json_name] = entry
        return fill

    def _setter(self, field: FieldDescriptor) -> Fill:
        name = field.name
        entry = field.message_type if _is_map(field) else None
        if entry is not None:
            return self._map_setter(name, entry)
        if field.message_type is not None:
            return self._message_setter(name, field, field.message_type)
        convert = _scalar(field)
        if not field.is_repeated:
            return lambda target, value: setattr(target, name, convert(value))

        def extend(target: Any, value: Any) -> None:
            if type(value) is not list:
                raise Misfit.expected("array", value)
            getattr(target, name).extend(_each(convert, value))

        return extend

    def _message_setter(self, name: str, field: FieldDescriptor, inner_type: Descriptor) -> Fill:
        lazy = _Lazy(lambda: self.fill(inner_type))
        if not field.is_repeated:

            def set_message(target: Any, value: Any) -> None:
                inner = getattr(target, name)
                inner.SetInParent()
                lazy.get()(inner, value)

            return set_message
        takes_null = inner_type.full_name == wellknown.VALUE

        def add_messages(target: Any, value: Any) -> None:
            if type(value) is not list:
                raise Misfit.expected("array", value)
            fill, add = lazy.get(), getattr(target, name).add
            for i, item in enumerate(value):
                try:
                    if item is None and not takes_null:
                        raise Misfit("null cannot be an element of a repeated field")
                    fill(add(), item)
                except Misfit as misfit:
                    misfit.within(i)
                    raise

        return add_messages

    def _map_setter(self, name: str, entry: Descriptor) -> Fill:
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        convert_key = _map_key(key_field)
        inner_type = value_field.message_type
        takes_null = _takes_null(value_field)
        lazy = _Lazy(lambda: self.fill(inner_type)) if inner_type is not None else None
        convert = _scalar(value_field) if inner_type is None else None

        def set_map(target: Any, value: Any) -> None:
            if type(value) is not dict:
                raise Misfit.expected("map", value)
            entries = getattr(target, name)
            for text, item in value.items():
                try:
                    if item is None and not takes_null:
                        raise Misfit("null cannot be a value of a map")
                    key = convert_key(text)
                    if key in entries:
                        raise Misfit("the key is given twice")
                    if convert is not None:
                        entries[key] = convert(item)
                    elif lazy is not None:
                        lazy.get()(entries[key], item)
                except Misfit as misfit:
                    misfit.within(text)
                    raise

        return set_map

    # --- to JSON ------------------------------------------------------------------------------------------------------

    def show(self, message: Descriptor) -> Show:
        """The function that makes a JSON value of a message of this type; ValueError for what JSON cannot say."""
        name = message.full_name
        made = self._shows.get(name) or wellknown.SHOWS.get(name)
        if made is None:
            wrapped = message.fields_by_name.get("value") if name in wellknown.WRAPPERS else None
            made = _show_wrapper(_shown(wrapped)) if wrapped is not None else self._show_message(message)
            self._shows[name] = made
        return made

    def _show_message(self, message: Descriptor) -> Show:
        always: list[tuple[str, str, Show | None]] = []
        present: list[tuple[str, str, Show | None]] = []
        order: list[str] = []

        def show(source: Any) -> Any:
            shown = {}
            for json_name, name, of_field in always:
                value = getattr(source, name)
                shown[json_name] = value if of_field is None else of_field(value)
            if not present:
                return shown
            for json_name, name, of_field in present:
                if source.HasField(name):
                    value = getattr(source, name)
                    shown[json_name] = value if of_field is None else of_field(value)
            return {name: shown[name] for name in order if name in shown}

        self._shows[message.full_name] = show
        for field in sorted(message.fields, key=lambda field: field.number):
            # Defaults are written out, but not for what is absent: messages, and members of a oneof (observed §4.7).
            single = field.message_type is not None and not field.is_repeated
            where = present if single or field.containing_oneof is not None else always
            where.append((field.json_name, field.name, self._shower(field)))
            order.append(field.json_name)
        return show

    def _shower(self, field: FieldDescriptor) -> Show | None:
        entry = field.message_type
        if entry is not None and _is_map(field):
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            of_key: Show = _show_bool_key if key.type == F.TYPE_BOOL else str
            of_value = self._shower_of_one(value)
            if value.message_type is not None:
                # A message that is the value of a map is looked up, not copied: items() would do the latter.
                return lambda source: {of_key(each): of_value(source[each]) for each in source}  # type: ignore[misc]
            if of_value is None:
                return lambda source: {of_key(each): item for each, item in source.items()}
            return lambda source: {of_key(each): of_value(item) for each, item in source.items()}
        of_one = self._shower_of_one(field)
        if not field.is_repeated:
            return of_one
        if of_one is None:
            return list
        return lambda source: [of_one(item) for item in source]

    def _shower_of_one(self, field: FieldDescriptor) -> Show | None:
        inner = field.message_type
        if inner is None:
            return _shown(field)
        lazy = _Lazy(lambda: self.show(inner))
        return lambda source: lazy.get()(source)


class _Lazy:
    """A function that is made when it is first needed: types may hold each other."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def get(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.is_repeated and field.message_type.GetOptions().map_entry


def _is_synthetic(oneof: Any) -> bool:
    """Of a proto3 field that is ``optional``."""
    return len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}" and oneof.fields[0].has_presence


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether null is a value there, and not the absence of one."""
    if field.is_repeated:
        return False
    if field.enum_type is not None:
        return bool(field.enum_type.full_name == NULL_VALUE)
    return field.message_type is not None and field.message_type.full_name == wellknown.VALUE


def _each(convert: Convert, values: list[Any]) -> list[Any]:
    converted = []
    for i, item in enumerate(values):
        try:
            converted.append(convert(item))
        except Misfit as misfit:
            misfit.within(i)
            raise
    return converted


def _fill_wrapper(convert: Convert) -> Fill:
    def fill(target: Any, value: Any) -> None:
        target.value = convert(value)

    return fill


def _show_wrapper(show: Show | None) -> Show:
    return lambda source: source.value if show is None else show(source.value)


def _show_bool_key(key: bool) -> str:
    return "true" if key else "false"


# --- scalars from JSON ------------------------------------------------------------------------------------------------


def _scalar(field: FieldDescriptor) -> Convert:
    if field.cpp_type in _INTEGERS:
        return _integer(*_INTEGERS[field.cpp_type])
    if field.type == F.TYPE_BYTES:
        return _bytes
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return {
        F.TYPE_STRING: _string,
        F.TYPE_BOOL: _bool,
        F.TYPE_DOUBLE: _double,
        F.TYPE_FLOAT: _float,
    }[field.type]


def _integer(least: int, most: int, word: str) -> Convert:
    def convert(value: Any) -> int:
        number = value if type(value) is int else _whole(value, word)
        if least <= number <= most:
            return number
        raise Misfit(f"expected {word}: {number} is out of range")

    return convert


def _whole(value: Any, word: str) -> int:
    """A whole number that is written as a text, or with a fraction of zero (observed §4.7)."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and len(value) <= _TEXT_MAX:
        if _DIGITS.fullmatch(value):
            return int(value)
        if _NUMBER.fullmatch(value):
            try:
                number = Decimal(value)
            except InvalidOperation:
                raise Misfit.expected(word, value) from None
            # Bounded first: the integer of 1e4000 is long.
            if abs(number) < 2**65 and number == number.to_integral_value():
                return int(number)
    raise Misfit.expected(word, value)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if value in ("true", "false") and type(value) is str:
        return value == "true"
    raise Misfit.expected("bool", value)


def _string(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):  # they become text (observed §4.7)
        return str(value)
    raise Misfit.expected("string", value)


def _bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise Misfit.expected("bytes (base64)", value)
    digits = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Misfit.expected("bytes (base64)", value) from None


def _double(value: Any) -> float:
    return _number(value, "double")


def _float(value: Any) -> float:
    number = _number(value, "float")
    if math.isfinite(number) and abs(number) >= _FLOAT_END:
        raise Misfit(f"expected float: {number} is out of range")
    return number


def _number(value: Any, word: str) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return as_float(value, word)
    if type(value) is str:
        if value in _WORDS:
            return _WORDS[value]
        if len(value) <= _TEXT_MAX and _NUMBER.fullmatch(value):
            number = float(value)
            if math.isfinite(number):
                return number
            raise Misfit(f"expected {word}: {value} is out of range")
    raise Misfit.expected(word, value)


def _enum(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}
    known = frozenset(numbers.values())
    closed = enum.is_closed
    of_text = _integer(-(2**31), 2**31 - 1, f"enum {enum.full_name}")
    takes_null = enum.full_name == NULL_VALUE

    def convert(value: Any) -> int:
        if type(value) is str and value in numbers:
            return numbers[value]
        if value is None and takes_null:
            return 0
        if type(value) is bool or not isinstance(value, (int, float, str)):
            raise Misfit.expected(f"enum {enum.full_name}", value)
        number: int = of_text(value)
        if closed and number not in known:
            raise Misfit(f"expected enum {enum.full_name}: it has no value {number}")
        return number

    return convert


def _map_key(field: FieldDescriptor) -> Convert:
    """A map's key, which JSON has as a text."""
    return _bool if field.type == F.TYPE_BOOL else str if field.type == F.TYPE_STRING else _scalar(field)


# --- scalars to JSON --------------------------------------------------------------------------------------------------


def _shown(field: FieldDescriptor) -> Show | None:
    """None for values that JSON has as they are."""
    if field.cpp_type in (F.CPPTYPE_INT64, F.CPPTYPE_UINT64):
        return str
    if field.type == F.TYPE_BYTES:
        return show_bytes
    if field.type == F.TYPE_DOUBLE:
        return wellknown.show_double
    if field.type == F.TYPE_FLOAT:
        return show_float
    if field.enum_type is not None:
        return _show_enum(field.enum_type)
    return None


def show_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def show_float(value: float) -> float | str:
    """The shortest decimal that is this float of 32 bits, as Java prints it."""
    if not math.isfinite(value):
        return wellknown.show_double(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _FLOAT_END and struct.unpack("<f", struct.pack("<f", short))[0] == value:
            return short
    return float(f"{value:.9g}")


def _show_enum(enum: EnumDescriptor) -> Show:
    if enum.full_name == NULL_VALUE:
        return lambda value: None
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)  # of several names the first
    return lambda value: names.get(value, value)
