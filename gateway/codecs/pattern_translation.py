"""Patterns of ECMA-262 in the words of the engine that judges data, ``fancy-regex`` inside of ``jsonschema-rs``.

That library translates patterns, too, but refuses much of what ECMA-262 takes (``[^]``, ``[\\w-.]``, ``\\k<name>``),
and its ``\\b`` knows letters beyond ASCII. So it is given patterns that leave it no choice: ranges of characters by
their numbers, groups by theirs.
"""

from __future__ import annotations

from typing import NamedTuple

from kafka_gateway.codecs.ecma_pattern import (
    LAST,
    LINE_ENDS,
    WORD,
    WORD_ANY_CASE,
    Back,
    Chars,
    Choice,
    Group,
    Look,
    Mark,
    Node,
    Range,
    Repeat,
    Row,
    read_pattern,
)

_SYNTAX = frozenset("^$\\.*+?()[]{}|")
_CLASS_SYNTAX = frozenset("[]^-\\")
_HALVES = (0xD800, 0xDFFF)
"""Of surrogate pairs: no text that has become UTF-8 holds one alone."""
_ANY = f"\\u{{0}}-\\u{{{LAST:X}}}"
_STATES_OF_PROPERTY = 3
_SIZE_OF_PROPERTY = 100
_COUNT_MAX = 10**9


class Translation(NamedTuple):
    text: str
    backtracks: bool
    """Whether it is judged by trying, and not by one pass over the text."""
    states: int
    """In how many places of the pattern a pass may be at the same time, about."""
    size: int
    """About how large it becomes when it is compiled, in places of one character."""


def translate(pattern: str) -> Translation:
    """The pattern for ``jsonschema-rs``. ValueError says why there is none."""
    node = read_pattern(pattern)
    _check_references(node, frozenset())
    return Translation(_text(node), _backtracks(node), _states(node), _size(node))


# --- the text ---------------------------------------------------------------------------------------------------------


def _text(node: Node) -> str:
    if isinstance(node, Chars):
        return _chars(node)
    if isinstance(node, Mark):
        return _MARKS[node.kind]
    if isinstance(node, Back):
        return f"(?:\\{node.group})"
    if isinstance(node, Look):
        return f"(?{'' if node.ahead else '<'}{'!' if node.negated else '='}{_text(node.body)})"
    if isinstance(node, Group):
        return f"({'' if node.number else '?:'}{_text(node.body)})"
    if isinstance(node, Repeat):
        if _is_place(node.body):  # the engine does not repeat what takes no character
            return f"(?:{_text(node.body)}{'' if node.least else '|'})"
        return _text(node.body) + _quantifier(node) + ("?" if node.lazy else "")
    if isinstance(node, Choice):
        return "|".join(_text(branch) for branch in node.branches)
    return "".join(_text(part) for part in node.parts)


def _quantifier(node: Repeat) -> str:
    if node.most is None:
        return "*" if node.least == 0 else "+" if node.least == 1 else f"{{{node.least},}}"
    if node.most == node.least:
        return f"{{{node.least}}}"
    return "?" if (node.least, node.most) == (0, 1) else f"{{{node.least},{node.most}}}"


def _chars(node: Chars) -> str:
    ranges = [piece for each in node.ranges for piece in _without_halves(each)]
    if not ranges and not node.properties:
        return f"[{_ANY}]" if node.negated else f"[^{_ANY}]"
    if not node.negated:
        if not node.properties and len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
            return _char(ranges[0][0], _SYNTAX)
        if not ranges and len(node.properties) == 1:
            return node.properties[0]
    members = "".join(_range(each) for each in ranges) + "".join(node.properties)
    return f"[{'^' if node.negated else ''}{members}]"


def _without_halves(each: Range) -> list[Range]:
    first, last = each
    pieces = [(first, min(last, _HALVES[0] - 1)), (max(first, _HALVES[1] + 1), last)]
    return [piece for piece in pieces if piece[0] <= piece[1]]


def _range(each: Range) -> str:
    first, last = each
    begin = _char(first, _CLASS_SYNTAX)
    return begin if first == last else f"{begin}-{_char(last, _CLASS_SYNTAX)}"


def _char(code: int, syntax: frozenset[str]) -> str:
    char = chr(code)
    if char in syntax:
        return f"\\{char}"
    plain = char.isalnum() or char in " _!\"#%',/:;<=>@`.*+?()$|{}" or (char in "-&~" and syntax is _SYNTAX)
    return char if plain else f"\\u{{{code:X}}}"


def _marks() -> dict[str, str]:
    line_end = _chars(Chars(LINE_ENDS))
    marks = {"^": "^", "$": "$", "^m": f"(?:^|(?<={line_end}))", "$m": f"(?:$|(?={line_end}))"}
    for case, ranges in (("", WORD), ("i", WORD_ANY_CASE)):
        word = _chars(Chars(ranges))
        marks[f"b{case}"] = f"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"
        marks[f"B{case}"] = f"(?:(?<={word})(?={word})|(?<!{word})(?!{word}))"
    return marks


_MARKS = _marks()


# --- what it takes ----------------------------------------------------------------------------------------------------


def _parts(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Choice):
        return node.branches
    if isinstance(node, Row):
        return node.parts
    return () if isinstance(node, (Chars, Mark, Back)) else (node.body,)


def _is_place(node: Node) -> bool:
    """Whether it takes no character."""
    if isinstance(node, (Chars, Back)):
        return False
    return isinstance(node, Look) or all(_is_place(part) for part in _parts(node))


def _backtracks(node: Node) -> bool:
    if isinstance(node, (Back, Look)) or (isinstance(node, Mark) and node.kind not in ("^", "$")):
        return True
    return any(_backtracks(part) for part in _parts(node))


def _states(node: Node) -> int:
    if isinstance(node, Chars):
        return 1 + _STATES_OF_PROPERTY * len(node.properties)
    return _with_repeats(node, sum(_states(part) for part in _parts(node)))


def _size(node: Node) -> int:
    if isinstance(node, Chars):
        return 1 + len(node.ranges) + _SIZE_OF_PROPERTY * len(node.properties)
    return _with_repeats(node, sum(_size(part) for part in _parts(node)))


def _with_repeats(node: Node, inner: int) -> int:
    if not isinstance(node, Repeat):
        return inner + 1
    times = max(node.least, 1) if node.most is None else max(node.most, 1)
    return min(inner * times, _COUNT_MAX)


def _check_references(node: Node, sure: frozenset[int]) -> frozenset[int]:
    """The groups that have matched after this, given those before. ValueError for a reference to another group.

    Such a reference matches the empty text in ECMA-262, and nothing in the engine.
    """
    if isinstance(node, Back):
        if node.group not in sure:
            raise ValueError(f"it refers to the group {node.group} where that need not have matched")
        return sure
    if isinstance(node, Choice):
        return frozenset.intersection(*(_check_references(branch, sure) for branch in node.branches))
    if isinstance(node, Row):
        for part in node.parts:
            sure = _check_references(part, sure)
        return sure
    if isinstance(node, Repeat):
        after = _check_references(node.body, sure)
        return after if node.least else sure
    if isinstance(node, Look):
        # Behind, ECMA-262 goes from right to left: nothing in there has matched before anything else.
        after = _check_references(node.body, sure)
        if not node.ahead and _refers(node.body):
            raise ValueError("it refers to a group inside of (?<=…) or (?<!…)")
        return sure if node.negated else after
    if isinstance(node, Group):
        after = _check_references(node.body, sure)
        return after | {node.number}
    return sure


def _refers(node: Node) -> bool:
    return isinstance(node, Back) or any(_refers(part) for part in _parts(node))
