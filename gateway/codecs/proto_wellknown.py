"""How the messages of ``google/protobuf/*.proto`` look in JSON: texts, numbers, free values.

kafka-rest-http.md §4.7 says how."""

from __future__ import annotations

import base64
import calendar
import datetime
import math
import re
from collections.abc import Callable
from typing import Any

from kafka_gateway.codecs.floating import as_float
from kafka_gateway.schemas import Misfit

VALUE = "google.protobuf.Value"
WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Messages around one scalar, shown as that scalar."""

_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]+))?s")
_FIRST_S, _LAST_S = -62135596800, 253402300799
"""The years 1 to 9999."""
_DURATION_MAX_S = 315_576_000_000
_DEEPEST = 100
"""Lists and objects inside each other."""


def show_double(value: float) -> float | str:
    """What JSON has no number for is a text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# --- timestamps and durations -----------------------------------------------------------------------------------------


def _nanos(digits: str | None) -> int:
    return int((digits or "0")[:9].ljust(9, "0"))  # what goes beyond nanoseconds is cut (observed §4.7)


def _fill_timestamp(target: Any, value: Any) -> None:
    match = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Misfit.expected('a timestamp such as "2020-01-02T03:04:05.123Z"', value)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(max(year, 1), month)[1] and year >= 1):
        raise Misfit.expected("a timestamp with a date that exists", value)
    if hour > 23 or minute > 59 or second > 59:
        raise Misfit.expected("a timestamp with a time that exists", value)
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    if not _FIRST_S <= seconds <= _LAST_S:
        raise Misfit.expected("a timestamp of the years 1 to 9999", value)
    target.seconds, target.nanos = seconds, _nanos(match[7])


def _show_timestamp(source: Any) -> str:
    if not _FIRST_S <= source.seconds <= _LAST_S or not 0 <= source.nanos < 10**9:
        raise ValueError("a timestamp is out of range")
    days, rest = divmod(source.seconds - _FIRST_S, 86400)
    date, clock = datetime.date.fromordinal(days + 1), f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{date}T{clock}{_fraction(source.nanos)}Z"


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03}"
    return f".{nanos // 1000:06}" if nanos % 1000 == 0 else f".{nanos:09}"


def _fill_duration(target: Any, value: Any) -> None:
    match = _DURATION.fullmatch(value) if type(value) is str else None
    if match is None or int(match[2]) > _DURATION_MAX_S:
        raise Misfit.expected('a duration such as "1.5s"', value)
    sign = -1 if match[1] else 1
    target.seconds, target.nanos = sign * int(match[2]), sign * _nanos(match[3])


def _show_duration(source: Any) -> str:
    seconds, nanos = source.seconds, source.nanos
    if abs(seconds) > _DURATION_MAX_S or abs(nanos) >= 10**9 or seconds * nanos < 0:
        raise ValueError("a duration is out of range")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


# --- free values ------------------------------------------------------------------------------------------------------


def _fill_value(target: Any, value: Any, depth: int = 0) -> None:
    if value is None:
        target.null_value = 0
    elif type(value) is bool:
        target.bool_value = value
    elif type(value) in (int, float):
        target.number_value = as_float(value, "a number")
    elif type(value) is str:
        target.string_value = value
    elif type(value) is list:
        target.list_value.SetInParent()
        _fill_list(target.list_value, value, depth + 1)
    else:
        target.struct_value.SetInParent()
        _fill_struct(target.struct_value, value, depth + 1)


def _fill_struct(target: Any, value: Any, depth: int = 0) -> None:
    if type(value) is not dict:
        raise Misfit.expected("an object", value)
    if depth > _DEEPEST:
        raise Misfit("nested too deeply")
    for name, item in value.items():
        _fill_value(target.fields[name], item, depth)


def _fill_list(target: Any, value: Any, depth: int = 0) -> None:
    if type(value) is not list:
        raise Misfit.expected("array", value)
    if depth > _DEEPEST:
        raise Misfit("nested too deeply")
    for item in value:
        _fill_value(target.values.add(), item, depth)


def _show_value(source: Any) -> Any:
    kind = source.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "number_value":
        return show_double(source.number_value)
    if kind == "struct_value":
        return _show_struct(source.struct_value)
    if kind == "list_value":
        return _show_list(source.list_value)
    return getattr(source, kind)


def _show_struct(source: Any) -> Any:
    return {name: _show_value(source.fields[name]) for name in source.fields}


def _show_list(source: Any) -> Any:
    return [_show_value(item) for item in source.values]


# --- others -----------------------------------------------------------------------------------------------------------


def _fill_field_mask(target: Any, value: Any) -> None:
    if type(value) is not str:
        raise Misfit.expected('a field mask such as "a,fooBar"', value)
    target.paths.extend(
        re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", path) for path in value.split(",") if path
    )


def _show_field_mask(source: Any) -> str:
    return ",".join(re.sub(r"_([a-z])", lambda match: match[1].upper(), path) for path in source.paths)


def _fill_any(target: Any, value: Any) -> None:
    if type(value) is not dict:
        raise Misfit.expected("an object", value)
    if value:  # no type is ever known (observed §4.7)
        raise Misfit("a google.protobuf.Any can be empty only: the gateway knows no type to put into it")


def _show_any(source: Any) -> Any:
    """Any without its type's schema: the type's name and the bytes."""
    if not source.type_url and not source.value:
        return {}
    return {"@type": source.type_url, "value": base64.b64encode(source.value).decode()}


FILLS: dict[str, Callable[[Any, Any], None]] = {
    "google.protobuf.Timestamp": _fill_timestamp,
    "google.protobuf.Duration": _fill_duration,
    VALUE: _fill_value,
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list,
    "google.protobuf.FieldMask": _fill_field_mask,
    "google.protobuf.Any": _fill_any,
}
SHOWS: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": _show_timestamp,
    "google.protobuf.Duration": _show_duration,
    VALUE: _show_value,
    "google.protobuf.Struct": _show_struct,
    "google.protobuf.ListValue": _show_list,
    "google.protobuf.FieldMask": _show_field_mask,
    "google.protobuf.Any": _show_any,
}
