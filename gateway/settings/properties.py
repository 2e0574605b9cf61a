"""The file format of ``kafka-rest.properties``, read by the rules of ``java.util.Properties``.

The rules are those of the Java documentation of ``Properties.load(Reader)``: natural lines end with LF, CR or CRLF; a
line that is blank or whose first character that is not blank is ``#`` or ``!`` is skipped; an odd number of
backslashes at the end of a line joins it with the next one, whose leading blanks are dropped; the key ends at the first
``=``, ``:`` or blank that no backslash protects.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANK = " \t\f"
_LINE_END = re.compile(r"\r\n|\n|\r")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_HEX4 = re.compile(r"[0-9A-Fa-f]{4}")


class Property(NamedTuple):
    """One entry of a properties file; ``line`` is the line, counted from 1, on which the key stands."""

    line: int
    key: str
    value: str


def parse_properties(text: str) -> list[Property]:
    """The entries of a properties file in their order, duplicates included.

    Any text is accepted. ``\\uXXXX`` gives the character; where fewer than four hex digits follow, the backslash is
    dropped like before any other character (Java throws there, which would name no line).
    """
    entries = []
    for number, line in _logical_lines(text):
        key, value = _split(line)
        entries.append(Property(number, _unescape(key), _unescape(value)))
    return entries


def decode_properties(content: bytes) -> str:
    """The text of a properties file: UTF-8 (with or without a byte order mark), else ISO 8859-1.

    Java before 9 wrote ISO 8859-1, later ones UTF-8 for resource bundles; a text that is valid UTF-8 is hardly ever
    meant as the other.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("iso-8859-1")


def escape_value(value: str) -> str:
    """The value written so that `parse_properties` gives it back, on one line."""
    out = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\f", "\\f")
    return "\\" + out if out[:1] in (" ", "\t") else out


def escape_key(key: str) -> str:
    """The key written so that `parse_properties` gives it back, on one line."""
    out = escape_value(key) if key[:1] not in (" ", "\t") else escape_value(key)[1:]
    return re.sub(r"[ \t=:#!]", lambda match: "\\" + match[0], out)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    begun: list[str] = []
    start = 0
    for number, natural in enumerate(_LINE_END.split(text), 1):
        line = natural.lstrip(_BLANK)
        if not begun:
            # Only the first line of a run can be a comment or blank; after a continuation "#" is content.
            if not line or line[0] in "#!":
                continue
            start = number
        if _ends_with_continuation(line):
            begun.append(line[:-1])
            continue
        begun.append(line)
        lines.append((start, "".join(begun)))
        begun = []
    if begun:
        lines.append((start, "".join(begun)))
    return lines


def _ends_with_continuation(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str) -> tuple[str, str]:
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANK:
        end += 2 if line[end] == "\\" else 1
    key, rest = line[:end], line[end:].lstrip(_BLANK)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANK)
    return key, rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            out.append(character)
            continue
        if position == len(text):
            break
        character = text[position]
        position += 1
        digits = _HEX4.match(text, position) if character == "u" else None
        if digits:
            out.append(chr(int(digits[0], 16)))
            position += 4
        else:
            out.append(_ESCAPES.get(character, character))
    # Java characters outside the basic plane are written as two \u escapes: join the surrogates.
    return "".join(out).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
