"""The words of a .proto file (Protocol Buffers language specification, "Lexical Elements")."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+|//[^\n]*|/\*.*?\*/)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<float>(?:[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)[fF]?)
    |(?P<integer>0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<sign>[;{}()\[\]<>=,.:+\-/])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    rb"\\(x[0-9a-fA-F]{1,2}|X[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL
)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


_CLOSING = frozenset({";", ",", ")", "]", ">", "."})
"""Before these stands no blank."""
_OPENING = frozenset({"", "(", "[", "<", "."})
"""After these stands no blank."""


class Token(NamedTuple):
    kind: str
    """word, float, integer, text, sign, or end."""
    text: str
    line: int


def tokens(text: str) -> list[Token]:
    """All words of a file, with one of the kind ``end`` behind them. ValueError names the line."""
    found = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {line}: {text[at : at + 20]!r} is not understood")
        kind, word = str(match.lastgroup), match[0]
        if kind != "space":
            found.append(Token(kind, word, line))
        line += word.count("\n")
        at = match.end()
    found.append(Token("end", "", line))
    return found


def formatted(words: list[Token]) -> str:
    """The same file without comments, one statement a line: equal for files that differ in nothing else."""
    lines: list[str] = []
    line: list[str] = []  # joined when it ends: a statement may have ten thousand ranges
    depth = 0
    last = ""
    for token in words:
        text = token.text
        if text == "}" and token.kind == "sign":
            depth -= 1
        tight = text in _CLOSING or last in _OPENING or (text == "<" and last == "map")
        if line and not tight:
            line.append(" ")
        if text:
            line.append(text)
        last = text if token.kind in ("sign", "word") else " "
        if token.kind == "end" or (token.kind == "sign" and text in (";", "{", "}")):
            if line:
                lines.append("  " * (depth if text != "}" else max(depth, 0)) + "".join(line))
            line, last = [], ""
        if text == "{" and token.kind == "sign":
            depth += 1
    return "\n".join(lines) + "\n"


def unquote(token: Token) -> bytes:
    """The bytes of a text in quotes."""

    def one(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code[:1] in b"xX" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        if code[:1].isdigit():
            return bytes([int(code, 8) & 0xFF])
        if code[:1] in b"uU" and len(code) > 1:
            return chr(int(code[1:], 16)).encode()
        return _ESCAPES.get(code, code)

    try:
        return _ESCAPE.sub(one, token.text[1:-1].encode())
    except ValueError:
        raise ValueError(f"line {token.line}: the text {token.text} has an escape that is no character") from None
