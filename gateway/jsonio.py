"""JSON in and out: the one place that imports the JSON library.

Bodies must be UTF-8 and may begin with a BOM (kafka-rest-http-observed.md §3.4). msgspec leaves undecoded parts
(``Raw``) unchecked for UTF-8 and reports too deep nesting as RecursionError; both are settled here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from kafka_gateway.errors import BadRequest

T = TypeVar("T")

Raw = msgspec.Raw
Struct = msgspec.Struct
Decoder = msgspec.json.Decoder
Meta = msgspec.Meta
define_struct = msgspec.defstruct
replace = msgspec.structs.replace
"""A copy of a struct with other values of the members that are named."""
UNSET = msgspec.UNSET
"""The value of members that are left out."""
UnsetType = msgspec.UnsetType
ValidationError = msgspec.ValidationError
"""Well-formed JSON that is not what was asked for."""

RECURSION_LIMIT = 2500
"""What ``sys.setrecursionlimit`` is given in a process that reads JSON: msgspec counts each level of nested JSON, and
the calls that led to it. So 1000 levels are read anywhere (kafka-rest-http-observed.md §3.4), and no 2500."""

_BOM = b"\xef\xbb\xbf"
_HALF_MAX = 64
_HALF_AT_THE_END = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(.{,5})\Z", re.DOTALL)
_SECOND_HALF_BEGINS = re.compile(rb"(?:\\(?:u[0-9a-fA-F]{,4})?)?")
_encoder = msgspec.json.Encoder()
_value_decoder = msgspec.json.Decoder()
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)

encode = _encoder.encode
"""Any value of structs, dicts, lists, scalars, bytes (as base64) and Raw (as it is) as compact JSON."""
encode_lines = _encoder.encode_lines
"""The items of a list, each as ``encode`` makes it and with a line feed behind it."""

_LINE_ENDS: Final = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))
"""Characters that JSON may hold as they are, and at which many readers end a line (Unicode, section 5.8)."""


def one_line(text: bytes) -> bytes:
    """The JSON text, as ``encode`` makes it, without any character that a reader of logs could take for the end of
    its line."""
    if not text.isascii():
        for character, escaped in _LINE_ENDS:
            text = text.replace(character, escaped)
    return text


def check_utf8(text: bytes) -> bytes:
    """The text without a BOM; BadRequest if it is not UTF-8."""
    if text.isascii():
        return text
    if text.startswith(_BOM):
        text = text[3:]
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not valid UTF-8: byte {error.start} cannot be decoded.") from None
    return text


def decode(text: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The text as the decoder's type. BadRequest if it is not JSON; ValidationError if it is JSON of another shape."""
    try:
        return decoder.decode(check_utf8(text))
    except ValidationError:
        raise
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not JSON: {_reason(text, error)}.") from None
    except RecursionError:
        raise BadRequest(
            "The body is not acceptable JSON: it is nested too deeply (about 1000 levels are read)."
        ) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not JSON: a string holds an invalid character.") from None


def decode_value(text: bytes) -> Any:
    """The text as plain Python values; ValueError if it is not JSON."""
    try:
        return _value_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(_reason(text, error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decoder_with_floats(of_float: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A function like ``decode_value`` that has ``of_float`` make every number with a fraction or an exponent."""
    decode = msgspec.json.Decoder(float_hook=of_float).decode

    def read(text: bytes) -> Any:
        try:
            return decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(_reason(text, error)) from None
        except RecursionError:
            raise ValueError("nested too deeply") from None

    return read


def _reason(text: bytes, error: msgspec.DecodeError) -> str:
    """What is wrong with a text. msgspec calls it truncated, too, where it would look for the other half of a pair
    behind its end."""
    said = str(error)
    if said == "Input data was truncated":
        found = _HALF_AT_THE_END.search(text[-_HALF_MAX:])
        if found is not None and _SECOND_HALF_BEGINS.fullmatch(found[1]) is None:
            return "a string holds half of a surrogate pair, which is no character"
    return said


def is_json(text: bytes) -> bool:
    """Whether the text is one JSON value in valid UTF-8."""
    try:
        _raw_decoder.decode(text)
        return text.isascii() or bool(text.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def raw(stored: bytes) -> Raw:
    """The text for `encode`, which shows it as it is. ValueError if it is not one JSON value in valid UTF-8."""
    try:
        found = _raw_decoder.decode(stored)
        if stored.isascii() or stored.decode():
            return found if len(found) == len(stored) else Raw(stored)  # it is without white space around it
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise ValueError("not JSON")


def compact(text: bytes) -> bytes:
    """The same JSON without white space between its parts; numbers and strings keep their spelling."""
    # Characters as numbers: CPython takes ten times as long to look for b" ", which it tries as a number first.
    if 0x20 in text or 0x0A in text or 0x09 in text or 0x0D in text:
        return msgspec.json.format(text, indent=-1)
    return text
