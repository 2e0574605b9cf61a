"""JSON with escapes only where JSON needs them, so that equal values have equal bytes (kafka-rest-http.md §4.2).

Clients spell one text in different ways: Python's requests sends ``"caf\\u00e9"``, Node ``"café"``, PHP ``"a\\/b"``. As
keys they would be two records on two partitions. The work is done by passes over the whole text that run in C: a step
for each escape in Python would let a large body of escapes hold the event loop for seconds.
"""

from __future__ import annotations

from typing import Final

_SHORT: Final = ((b"08", rb"\b"), (b"09", rb"\t"), (b"0a", rb"\n"), (b"0c", rb"\f"), (b"0d", rb"\r"))
"""Control characters that have an escape of two characters (RFC 8259 §7)."""

_BACKSLASH: Final = b"\x01"
_CONTROL: Final = b"\x02"
"""Stand for an escaped backslash, and for the ``\\u00`` of a control character, while other escapes are resolved.
Neither is part of JSON without white space, where control characters are always escaped."""


def minimal(text: bytes) -> bytes:
    """The same JSON with the shortest escapes, and none for characters that can stand for themselves.

    What JSON must escape keeps an escape: quotes, backslashes, control characters, and halves of surrogate pairs, which
    UTF-8 cannot carry.

    Args:
        text: valid JSON in UTF-8, without white space between its parts.
    """
    text = text.replace(rb"\\", _BACKSLASH).replace(rb"\/", b"/")
    if rb"\u" in text:
        text = _resolve(text)
    return text.replace(_CONTROL, rb"\u00").replace(_BACKSLASH, rb"\\")


def _resolve(text: bytes) -> bytes:
    """The text without the escapes that are made of a code point, but for those that are needed."""
    if rb"\u00" in text:
        text = text.replace(rb"\u0022", rb"\"").replace(rb"\u005c", _BACKSLASH).replace(rb"\u005C", _BACKSLASH)
        for digits, short in _SHORT:
            text = text.replace(rb"\u00" + digits, short).replace(rb"\u00" + digits.upper(), short)
        for first in (b"0", b"1"):
            control = rb"\u00" + first
            if control in text:
                text = text.replace(control, _CONTROL + first)
                for letter in (b"A", b"B", b"C", b"D", b"E", b"F"):
                    text = text.replace(_CONTROL + first + letter, _CONTROL + first + letter.lower())
    # The codec reads \uXXXX and nothing else: no backslash is doubled any more, and \U is no JSON.
    resolved = text.decode().encode("raw_unicode_escape").decode("raw_unicode_escape")
    # UTF-16 makes one character of the two halves of a pair; a half that is alone is escaped again.
    joined = resolved.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return joined.encode("utf-8", "backslashreplace")
