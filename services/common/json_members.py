"""Members of JSON objects, read as leniently as upstream's JSON library does (kafka-rest-http.md §3.4, observed).

Numeric texts are integers, fractions are cut off, ``""`` for an integer is null, numbers and booleans are texts; a
boolean is no integer. Whoever reads a member says where it stands, so that messages can name the place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest, PayloadTooLarge, Unprocessable
from kafka_gateway.jsonio import Raw

NULL = Raw(b"null")

_OBJECT = jsonio.Decoder(dict[str, Raw])
_LIST = jsonio.Decoder(list[Raw])
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_SHOWN_MAX = 100

PARTS_MAX = 20_000
_COUNTED = 256 * 1024
_LOOKED_INTO = 4 * 1024 * 1024
_QUOTES, _ESCAPES = 4, 20

_KINDS = {ord("{"): "an object", ord("["): "a list", ord('"'): "a text", ord("t"): "a boolean", ord("f"): "a boolean"}


def shown(text: str, limit: int = _SHOWN_MAX) -> str:
    """The text, cut where it is too long for a message."""
    return text if len(text) <= limit else text[:limit] + "…"


def has_many_parts(body: bytes) -> bool:
    """Whether the document has more parts than can be read one by one without holding up the event loop.

    A part costs one to two microseconds. Commas are counted: that takes next to no time.
    """
    return has_more(body, b",", PARTS_MAX)


def has_more(body: bytes, character: bytes, most: int) -> bool:
    """Whether the character occurs more than ``most`` times outside of texts. It stops counting when it knows.

    Texts are looked at only where it matters, and in documents for which that takes some milliseconds.
    """
    if len(body) <= most:
        return False
    found = 0
    for start in range(0, len(body), _COUNTED):
        found += body.count(character, start, start + _COUNTED)
        if found > most:
            break
    else:
        return False
    if len(body) > _LOOKED_INTO or body.count(b"\\") > _ESCAPES * most:
        return True
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > _QUOTES * most:
        return True
    return b"".join(unescaped.split(b'"')[::2]).count(character) > most


def read_document(body: bytes) -> dict[str, Raw] | None:
    """The members of the object that is a request's body; None if there is no body, or it is null.

    Raises:
        BadRequest: if it is not JSON, or not an object.
        PayloadTooLarge: if it has more than PARTS_MAX parts.
    """
    if has_many_parts(body):
        raise PayloadTooLarge(f"The body has more than {PARTS_MAX} parts; send several requests.")
    if not body or body.isspace():
        return None
    try:
        return jsonio.decode(body, _OBJECT)
    except jsonio.ValidationError:
        if jsonio.check_utf8(body).strip() == b"null":
            return None
        raise BadRequest(f"The body must be an object, not {_kind(jsonio.check_utf8(body).strip())}.") from None


def check_names(members: Mapping[str, Raw], known: Collection[str], place: str = "") -> None:
    """Unprocessable if there is a member with another name."""
    for name in members:
        if name not in known:
            raise unknown_member(name, place)


def unknown_member(name: str, place: str = "") -> Unprocessable:
    """The refusal of a member that is not known; ``place`` is the object it stands in, "" for the body."""
    return Unprocessable(f"Unrecognized field: {shown(name)}" + (f" (in {place})" if place else ""))


def read_object(raw: Raw, place: str) -> dict[str, Raw] | None:
    """The members of an object; None for null."""
    if raw == NULL:
        return None
    try:
        return _OBJECT.decode(raw)
    except jsonio.ValidationError:
        raise _mismatch(raw, place, "an object") from None


def read_list(raw: Raw, place: str) -> list[Raw] | None:
    """The elements of a list; None for null."""
    if raw == NULL:
        return None
    try:
        return _LIST.decode(raw)
    except jsonio.ValidationError:
        raise _mismatch(raw, place, "a list") from None


def read_text(raw: Raw, place: str) -> str | None:
    """A text; scalars become their JSON text, null is None."""
    text = bytes(raw)
    if text[:1] == b'"':
        return str(jsonio.decode_value(text))
    if text[:1] in (b"{", b"["):
        raise _mismatch(raw, place, "a text")
    return None if raw == NULL else text.decode()


def read_integer(raw: Raw, place: str, bits: int = 32) -> int | None:
    """A signed integer of that many bits; None for null and for ``""``."""
    text = bytes(raw)
    if raw == NULL:
        return None
    if text[:1] == b'"':
        digits = str(jsonio.decode_value(text)).strip()
        if not digits:
            return None
        if not _WHOLE.fullmatch(digits):
            raise BadRequest(f"{place} must be an integer: {shown(text.decode())} is none.")
        value = int(digits)
    elif text[:1] in b"-0123456789":
        try:
            value = int(jsonio.decode_value(text))
        except ValueError:  # more digits, or a greater exponent, than any integer of the protocol has
            raise _out_of_range(text, place, bits) from None
    else:
        raise _mismatch(raw, place, "an integer")
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise _out_of_range(text, place, bits)
    return value


def _out_of_range(text: bytes, place: str, bits: int) -> BadRequest:
    return BadRequest(f"{place} is out of range: {shown(text.decode())} does not fit into {bits} bits.")


def _mismatch(raw: Raw, place: str, wanted: str) -> BadRequest:
    return BadRequest(f"{place} must be {wanted}, not {_kind(bytes(raw))}.")


def _kind(text: bytes) -> str:
    return "null" if text == b"null" else _KINDS.get(text[0], "a number")
