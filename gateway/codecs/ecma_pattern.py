"""Regular expressions of ECMA-262, which JSON Schema's ``pattern`` is written in, read into a tree.

What a browser takes with the flag ``u`` is taken, and what it takes without it (ECMA-262 Annex B.1.2): a ``{`` or ``]``
that stands for itself, escapes that mean nothing, ``[\\w-.]``. Where the two differ, the flag counts: characters are
code points. So are the modifiers of its 16th edition, ``(?i:…)``. Letters behind a backslash that mean something in
other languages only (``\\A``, ``\\Z``, ``\\h``, ``\\Q``) are refused, as the flag has it: taken for themselves they
would let nothing pass. One habit of Java and Python is taken, which ECMA-262 gives no other sense: ``(?i)`` at the
beginning (letters of ASCII).
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Range = tuple[int, int]
"""The first and the last character."""

LAST = 0x10FFFF
_CASED = ((0, 0x3000), (0xA640, 0xAC00), (0xFB00, 0xFB20), (0xFF00, 0x10000), (0x10400, 0x11000), (0x11800, 0x11900),
          (0x16E00, 0x16F00), (0x1E900, 0x1EA00))  # fmt: skip
"""From and to: where Unicode has letters of two cases."""
_DEEPEST = 100
_QUANTIFIER = re.compile(r"(?:([*+?])|\{([0-9]{1,9})(?:(,)([0-9]{1,9})?)?\})(\?)?")
_NAME = re.compile(r"<([A-Za-z_$\u0080-\uffff][\w$]*)>")
_PROPERTY = re.compile(r"([pP])\{([A-Za-z_]+(?:=[A-Za-z0-9_]+)?|[A-Za-z0-9_]+)\}")
_HEX = re.compile(r"u\{0*([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})")
_OCTAL = re.compile(r"[0-3][0-7]{0,2}|[4-7][0-7]?")
_MODIFIERS = re.compile(r"\?([ims]*)(?:(-)([ims]*))?:")
_FOREIGN = frozenset("aeghijlmoqyzACEFGHIJKLMNOQRTUVXYZ")
"""Letters that have no meaning behind a backslash, though other languages may give them one."""
_INSTEAD = {"A": "^", "Z": "$", "z": "$"}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_SETS: dict[str, tuple[Range, ...]] = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
          (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
}  # fmt: skip
LINE_ENDS: tuple[Range, ...] = ((10, 10), (13, 13), (0x2028, 0x2029))
WORD = _SETS["w"]
WORD_ANY_CASE: tuple[Range, ...] = (*WORD, (0x17F, 0x17F), (0x212A, 0x212A))
"""With the long s and the sign for Kelvin, which are folded to letters of ASCII."""


class Chars(NamedTuple):
    """One character: of these ranges, or with one of these properties; or, ``negated``, any other."""

    ranges: tuple[Range, ...] = ()
    properties: tuple[str, ...] = ()
    """As they are written: ``\\p{L}``, ``\\P{Script=Greek}``."""
    negated: bool = False


class Mark(NamedTuple):
    """A place between characters: ``^``, ``$``, ``b``, ``B``; ``^m`` and ``$m`` are those of lines, ``bi`` and ``Bi``
    those of words in which case does not matter."""

    kind: str


class Back(NamedTuple):
    """What the group with this number has matched."""

    group: int


class Look(NamedTuple):
    """``(?=``, ``(?!``, ``(?<=``, ``(?<!``: ``ahead``, and ``negated``."""

    body: Node
    ahead: bool
    negated: bool


class Group(NamedTuple):
    """``number`` is 0 for a group that nothing refers to."""

    body: Node
    number: int


class Repeat(NamedTuple):
    body: Node
    least: int
    most: int | None
    lazy: bool


class Row(NamedTuple):
    parts: tuple[Node, ...]


class Choice(NamedTuple):
    branches: tuple[Node, ...]


Node = Chars | Mark | Back | Look | Group | Repeat | Row | Choice


def read_pattern(text: str) -> Node:
    """The tree of a pattern. ValueError says what is wrong with it."""
    return _Reader(text).pattern()


def complement(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """All characters that are in none of the ranges."""
    found, at = [], 0
    for first, last in sorted(ranges):
        if first > at:
            found.append((at, first - 1))
        at = max(at, last + 1)
    if at <= LAST:
        found.append((at, LAST))
    return tuple(found)


def any_case(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """With all characters that are the same but for their case, by Unicode's simple case folding, as the flags ``iu``
    have it."""
    codes, same = _cases()
    found = list(ranges)
    for first, last in ranges:
        for code in codes[bisect.bisect_left(codes, first) : bisect.bisect_right(codes, last)]:
            found += [(each, each) for each in same[code]]
    joined: list[Range] = []
    for first, last in sorted(found):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)


@functools.cache
def _cases() -> tuple[Sequence[int], Mapping[int, Sequence[int]]]:
    """The characters that have another case, in order; and of each all that are the same but for it. 10 ms, once.

    Those whose full folding is the same text are those whose simple folding is, since Unicode 15.1.
    """
    folded: dict[str, list[int]] = {}
    for code in itertools.chain(*(range(first, last) for first, last in _CASED)):
        folded.setdefault(chr(code).casefold(), []).append(code)
    same = {code: codes for codes in folded.values() if len(codes) > 1 for code in codes}
    return sorted(same), same


@dataclass(slots=True)
class _Class:
    ranges: list[Range] = field(default_factory=list)
    properties: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, text: str) -> None:
        self._ascii_any_case = text.startswith("(?i)")
        self._text = text[4:] if self._ascii_any_case else text
        self._modifiers: frozenset[str] = frozenset()
        """Those of the groups around: i, m, s."""
        self._at = 0
        self._depth = 0
        self._groups = 0
        self._names: dict[str, int] = {}
        self._group_count, self._group_names = _groups_of(self._text)

    def pattern(self) -> Node:
        node = self._choice()
        if self._at < len(self._text):
            raise ValueError("a ) closes nothing")
        return node

    # --- text ---------------------------------------------------------------------------------------------------------

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        match = expression.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    @property
    def _rest(self) -> str:
        return self._text[self._at : self._at + 20]

    # --- terms --------------------------------------------------------------------------------------------------------

    def _choice(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"it has more than {_DEEPEST} groups inside each other")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._quantified(self._term()))
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _quantified(self, node: Node) -> Node:
        match = self._match(_QUANTIFIER)
        if match is None:
            return node
        if isinstance(node, Mark) or (isinstance(node, Look) and not node.ahead):
            raise ValueError(f"nothing can be repeated before {match[0]}")
        if match[1]:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[match[1]]
        else:
            least = int(match[2])
            most = int(match[4]) if match[4] else None if match[3] else least
            if most is not None and most < least:
                raise ValueError(f"the numbers of {match[0]} are out of order")
        return Repeat(node, least, most, bool(match[5]))

    def _term(self) -> Node:
        found = self._match(_QUANTIFIER)
        if found is not None:
            raise ValueError(f"nothing can be repeated before {found[0]}")
        char = self._text[self._at]
        self._at += 1
        if char == "^" or char == "$":
            return Mark(f"{char}m" if "m" in self._modifiers else char)
        if char == ".":
            return Chars(() if "s" in self._modifiers else LINE_ENDS, negated=True)
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        return self._char(ord(char))

    def _char(self, code: int) -> Chars:
        return self._chars([(code, code)])

    def _chars(self, ranges: list[Range], properties: Sequence[str] = (), negated: bool = False) -> Chars:
        if "i" in self._modifiers:
            if properties:
                raise ValueError(f"{properties[0]} stands where case does not matter, in (?i:…)")
            return Chars(any_case(ranges), (), negated)
        if self._ascii_any_case:
            ranges = ranges + [
                (max(first, low) + shift, min(last, low + 25) + shift)
                for first, last in ranges
                for low, shift in ((65, 32), (97, -32))
                if max(first, low) <= min(last, low + 25)
            ]
        return Chars(tuple(ranges), tuple(properties), negated)

    def _group(self) -> Node:
        if (modified := self._match(_MODIFIERS)) is not None:
            return self._modified(modified[1], modified[3] or "", bool(modified[2]))
        for sign, ahead, negated in (("=", True, False), ("!", True, True), ("<=", False, False), ("<!", False, True)):
            if self._take(f"?{sign}"):
                return self._closed(Look(self._choice(), ahead, negated))
        if self._take("?") and self._match(_NAME) is None:
            raise ValueError(f"a group cannot begin with (?{self._rest[:3]}")
        self._groups += 1
        number = self._groups
        return self._closed(Group(self._choice(), number))

    def _modified(self, added: str, removed: str, minus: bool) -> Node:
        """A group that nothing refers to, with its modifiers."""
        named = added + removed
        if len(set(named)) < len(named) or (minus and not named):
            raise ValueError(f"a group cannot begin with (?{added}-{removed}:")
        around = self._modifiers
        self._modifiers = (around | set(added)) - set(removed)
        node = self._closed(Group(self._choice(), 0))
        self._modifiers = around
        return node

    def _closed(self, node: Node) -> Node:
        if not self._take(")"):
            raise ValueError("a group is not closed")
        return node

    # --- escapes ------------------------------------------------------------------------------------------------------

    def _escape(self) -> Node:
        if self._at == len(self._text):
            raise ValueError("it ends with a \\")
        char = self._text[self._at]
        if char in "bB":
            self._at += 1
            return Mark(f"{char}i" if "i" in self._modifiers else char)
        if char == "k" and self._group_names:
            self._at += 1
            name = self._match(_NAME)
            if name is None or name[1] not in self._group_names:
                raise ValueError(f"there is no group {self._rest!r}")
            return self._back(self._group_names[name[1]])
        if char in "123456789":
            digits = re.match("[0-9]{1,9}", self._text[self._at :])
            if digits is not None and int(digits[0]) <= self._group_count:
                self._at += digits.end()
                return self._back(int(digits[0]))
        found = self._set_or_char()
        return self._char(found) if isinstance(found, int) else self._chars(found.ranges, found.properties)

    def _back(self, group: int) -> Back:
        if "i" in self._modifiers:
            raise ValueError(f"it refers to the group {group} where case does not matter")
        return Back(group)

    def _set_or_char(self) -> int | _Class:
        """What stands behind a backslash, in a class or not."""
        prop = self._match(_PROPERTY)
        if prop is not None:
            return _Class(properties=[f"\\{prop[0]}"])
        char = self._text[self._at]
        if char in "dwsDWS":
            self._at += 1
            ranges: Sequence[Range] = _SETS[char.lower()]
            if char in "wW" and "i" in self._modifiers:
                ranges = WORD_ANY_CASE
            return _Class(list(complement(ranges) if char in "DWS" else ranges))
        return self._escaped_char()

    def _escaped_char(self) -> int:
        code = self._match(_HEX)
        if code is not None:
            number = int(code[1] or code[2] or code[3], 16)
            if number > LAST:
                raise ValueError(f"there is no character \\{code[0]}")
            if code[2] and 0xD800 <= number < 0xDC00:  # the two halves of one character
                second = re.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", self._text[self._at :])
                if second is not None:
                    self._at += second.end()
                    return 0x10000 + ((number - 0xD800) << 10) + int(second[1], 16) - 0xDC00
            return number
        octal = self._match(_OCTAL)
        if octal is not None:
            return int(octal[0], 8)
        control = re.match("c([A-Za-z])", self._text[self._at :])
        if control is not None:
            self._at += 2
            return ord(control[1]) % 32
        char = self._text[self._at]
        if char == "c":
            return ord("\\")  # and the c stands for itself
        if char in _FOREIGN:
            instead = f": write {_INSTEAD[char]}" if char in _INSTEAD else ""
            raise ValueError(f"\\{char} means nothing in ECMA-262{instead}")
        self._at += 1
        return _CONTROLS.get(char, ord(char))

    # --- classes ------------------------------------------------------------------------------------------------------

    def _class(self) -> Node:
        negated = self._take("^")
        found = _Class()
        while not self._take("]"):
            first = self._member()
            if self._text.startswith("-", self._at) and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                second = self._member()
                if isinstance(first, int) and isinstance(second, int):
                    if first > second:
                        raise ValueError(f"the range {chr(first)}-{chr(second)} is out of order")
                    found.ranges.append((first, second))
                    continue
                found.ranges.append((45, 45))
                self._add(found, second)
            self._add(found, first)
        return self._chars(found.ranges, found.properties, negated)

    def _member(self) -> int | _Class:
        if self._at >= len(self._text):
            raise ValueError("a [ is not closed")
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return ord(char)
        if self._at == len(self._text):
            raise ValueError("it ends with a \\")
        if self._take("b"):
            return 8
        return self._set_or_char()

    @staticmethod
    def _add(found: _Class, member: int | _Class) -> None:
        if isinstance(member, int):
            found.ranges.append((member, member))
        else:
            found.ranges += member.ranges
            found.properties += member.properties


def _groups_of(text: str) -> tuple[int, dict[str, int]]:
    """How many groups there are, and the numbers of those with names; references may stand before them."""
    count, names = 0, dict[str, int]()
    for token in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]?|\((\?<(?![=!])|(?!\?))", text, re.DOTALL):
        if token[1] is None:
            continue
        count += 1
        name = _NAME.match(text, token.end() - 1) if token[1] else None
        if name is not None:
            if name[1] in names:
                raise ValueError(f"two groups have the name {name[1]}")
            names[name[1]] = count
    return count, names
