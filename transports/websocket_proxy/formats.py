"""Keys and values of Kafka WebSocket Proxy: JSON on the socket, Java's serialisers in Kafka (websocket-proxy.md §1.7).

``store`` takes the JSON text of a value and gives the bytes for Kafka, ``load`` takes those and gives JSON text. Both
raise ValueError for what the format cannot express. Any thread may call them.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec

Convert = Callable[[bytes], bytes]

_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_encode = msgspec.json.encode
_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    """As the client wrote it, in lower case; ``byte_array`` and ``bytearray`` are one format (D2)."""
    store: Convert
    load: Convert


def _store_string(text: bytes) -> bytes:
    return _text(text).encode()


def _load_string(stored: bytes) -> bytes:
    return _encode(stored.decode("utf-8", "replace"))


def normal_json(text: bytes) -> bytes:
    """The JSON text without blanks and needless escapes; numbers keep their spelling, of duplicate members the last
    counts (websocket-proxy-observed.md §1.7)."""
    try:
        return _encode(json.loads(text, parse_int=_raw, parse_float=_raw, parse_constant=_no_json))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _raw(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _number(text: bytes) -> bytes:
    """The number in a JSON text: bare, or in a string."""
    if text.startswith(b'"'):
        text = _store_string(text)
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text


def _whole(text: bytes) -> int:
    digits = _number(text)
    if len(digits) <= 20 and b"." not in digits and b"e" not in digits and b"E" not in digits:
        return int(digits)
    try:
        number = Decimal(digits.decode())
    except InvalidOperation:
        raise ValueError("not a number") from None
    if number.adjusted() > 20 or number != number.to_integral_value():
        raise ValueError("not a whole number in range")
    return int(number)


def _integers(pack: struct.Struct) -> tuple[Convert, Convert]:
    def store(text: bytes) -> bytes:
        try:
            return pack.pack(_whole(text))
        except struct.error:
            raise ValueError("out of range") from None

    def load(stored: bytes) -> bytes:
        return b"%d" % _unpack(pack, stored)

    return store, load


def _unpack(pack: struct.Struct, stored: bytes) -> int | float:
    if len(stored) != pack.size:
        raise ValueError(f"{len(stored)} bytes instead of {pack.size}")
    number: int | float = pack.unpack(stored)[0]
    return number


_FLOAT, _DOUBLE = struct.Struct(">f"), struct.Struct(">d")


def _decimal(text: bytes) -> float:
    return math.nan if text == b"null" else float(_number(text))


def _store_double(text: bytes) -> bytes:
    return _DOUBLE.pack(_decimal(text))


def _load_double(stored: bytes) -> bytes:
    number = _unpack(_DOUBLE, stored)
    return java_decimal(repr(number)) if math.isfinite(number) else b"null"


def _store_float(text: bytes) -> bytes:
    number = _decimal(text)
    try:
        return _FLOAT.pack(number)
    except OverflowError:
        return _FLOAT.pack(math.copysign(math.inf, number))


def _load_float(stored: bytes) -> bytes:
    number = _unpack(_FLOAT, stored)
    if not math.isfinite(number):
        return b"null"
    for digits in range(1, 10):  # the shortest that identifies the 32-bit value
        shortest = f"{number:.{digits}g}"
        try:
            if _FLOAT.pack(float(shortest)) == stored:
                break
        except OverflowError:  # rounded beyond the largest one
            continue
    return java_decimal(repr(float(shortest)))


def java_decimal(shortest: str) -> bytes:
    """Python's shortest digits of a number the way Java writes them: ``1.0E7``, ``1.0E-5``, ``7.0``."""
    mantissa, _, exponent = shortest.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + ("" if fraction == "0" else fraction)).lstrip("0")
    if not digits:
        return (sign + "0.0").encode()
    stripped = whole.lstrip("0")
    # The power of ten of the first digit.
    power = len(stripped) - 1 if stripped else -(len(fraction) - len(fraction.lstrip("0"))) - 1
    power += int(exponent or 0)
    digits = digits.rstrip("0") or "0"
    if -3 <= power < 0:
        text = "0." + "0" * (-power - 1) + digits
    elif 0 <= power < 7:
        padded = digits.ljust(power + 1, "0")
        text = f"{padded[: power + 1]}.{padded[power + 1 :] or '0'}"
    else:
        text = f"{digits[0]}.{digits[1:] or '0'}E{power}"
    return (sign + text).encode()


def _store_bytes(text: bytes) -> bytes:
    coded = _store_string(text)
    if not coded.endswith(b"=") and len(coded) % 4:  # padding may be missing
        coded += b"=" * (-len(coded) % 4)
    return base64.b64decode(coded, validate=True)


def _load_bytes(stored: bytes) -> bytes:
    return b'"%b"' % base64.b64encode(stored)


def _load_json(stored: bytes) -> bytes:
    stored.decode()
    return normal_json(stored)


_CONVERSIONS: dict[str, tuple[Convert, Convert]] = {
    "json": (normal_json, _load_json),
    "avro": (_store_bytes, _load_bytes),
    "byte_array": (_store_bytes, _load_bytes),
    "bytearray": (_store_bytes, _load_bytes),
    "string": (_store_string, _load_string),
    "int": _integers(struct.Struct(">i")),
    "short": _integers(struct.Struct(">h")),
    "long": _integers(struct.Struct(">q")),
    "double": (_store_double, _load_double),
    "float": (_store_float, _load_float),
}

FORMATS: Mapping[str, Format] = {name: Format(name, *both) for name, both in _CONVERSIONS.items()}
