"""The authorisation file (security.md §3): one rule or quota a line, and every fault with its line and column.

    allow  User:alice      read,describe  topic:orders
    deny   Role:interns    all            topic:audit.*
    allow  User:*          all            topic:home.${name}.*
    quota  User:alice      produce.bytes.per.sec=1000000

Words are separated by blanks; one with blanks in it stands in double quotes, where ``\\"`` and ``\\\\`` are a quotation
mark and a backslash. ``#`` at the beginning of a word begins a comment. This module knows the form only: what rules
decide is in gateway/authorizers/policy.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

from kafka_gateway.rights import OPERATIONS, PARTS, RESOURCES, kind_meant

QUOTAS: Final = (
    "requests.per.sec",
    "produce.bytes.per.sec",
    "consume.bytes.per.sec",
    "connections",
    "streams",
    "consumer.instances",
)

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_CLAIM = re.compile(r"claim:(.+)")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""Bytes that are no text, as ``surrogateescape`` shows them."""
_TOPIC = re.compile(r"[a-zA-Z0-9._-]*")
_NUMBER = re.compile(r"[0-9]{1,15}")
_LINE_MAX: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class RuleFault:
    """What is wrong with a line, and where: line and column count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


@dataclasses.dataclass(frozen=True, slots=True)
class PrincipalPattern:
    """``User:alice``, ``User:al*``, ``User:*``, ``Role:analytics``, or a lone ``*`` for everybody."""

    kind: str
    """"" for everybody."""
    name: str
    """Without the star."""
    is_prefix: bool

    def matches(self, kind: str, name: str, roles: frozenset[str]) -> bool:
        """Whether a principal of this kind and name, with these roles, is meant."""
        if not self.kind:
            return True
        if self.kind == "Role":
            return any(role.startswith(self.name) for role in roles) if self.is_prefix else self.name in roles
        return kind == self.kind and (name.startswith(self.name) if self.is_prefix else name == self.name)


@dataclasses.dataclass(frozen=True, slots=True)
class NamePattern:
    """The name of a resource: literal texts, with placeholders between, and perhaps a star at the end."""

    parts: tuple[tuple[str, str], ...]
    """("text", TEXT), ("name", "") for ``${name}``, ("claim", PATH) for ``${claim:PATH}``."""
    is_prefix: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One line that allows or denies."""

    allows: bool
    principal: PrincipalPattern
    operations: frozenset[str]
    resource: str
    """One of `RESOURCES`; "" for all of them."""
    name: NamePattern
    line: int
    text: str
    """The line as it stands in the file, without its comment."""

    @property
    def said(self) -> str:
        """The rule as operators are told it."""
        return f"line {self.line}: {self.text}"


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaLine:
    """Limits of a principal that differ from the configuration's; 0 is none."""

    principal: PrincipalPattern
    limits: Mapping[str, int]
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class RulesFile:
    rules: tuple[Rule, ...]
    quotas: tuple[QuotaLine, ...]


def read_rules(text: str) -> tuple[RulesFile, list[RuleFault]]:
    """What the file says, and all that is wrong with it. Faulty lines are left out of the first; a file with faults
    should be refused as a whole.

    Args:
        text: the file, decoded with ``surrogateescape``, so that a byte which is not UTF-8 is a fault of its line.
    """
    rules: list[Rule] = []
    quotas: list[QuotaLine] = []
    faults: list[RuleFault] = []
    # Not splitlines(): that breaks lines at characters which an editor shows within one.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        try:
            read = _LineReader(number, line.removesuffix("\r")).read()
        except _Faulty as error:
            faults.append(error.fault)
            continue
        if isinstance(read, Rule):
            rules.append(read)
        elif read is not None:
            quotas.append(read)
    return RulesFile(tuple(rules), tuple(quotas)), faults


def read_principal(text: str) -> PrincipalPattern:
    """``KIND:NAME`` as a rule names it. ValueError says what is wrong."""
    try:
        return _LineReader(1, text).principal(_Word(text, 1))
    except _Faulty as error:
        raise ValueError(error.fault.message) from None


# --- one line --------------------------------------------------------------------------------------------------------


class _Faulty(Exception):
    def __init__(self, fault: RuleFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclasses.dataclass(frozen=True, slots=True)
class _Word:
    text: str
    column: int
    """Of its first character; within quotation marks the one behind the mark."""


class _LineReader:
    def __init__(self, number: int, line: str) -> None:
        self._number = number
        self._line = line
        self._end = len(line)
        """Where the comment begins."""

    def read(self) -> Rule | QuotaLine | None:
        """None for a line that says nothing."""
        if len(self._line) > _LINE_MAX:
            self._fail(_LINE_MAX, f"a line has {_LINE_MAX} characters at most")
        if (found := _NOT_UTF8.search(self._line)) is not None:
            self._fail(found.start() + 1, f"the byte {ord(found[0]) - 0xDC00:#04x} is not UTF-8")
        words = list(self._words())
        if not words:
            return None
        effect = words[0]
        if effect.text not in ("allow", "deny", "quota"):
            self._fail(
                effect.column, f"{_shown(effect.text)} is not allow, deny or quota{_near(effect.text, _EFFECTS)}"
            )
        if len(words) < 2:
            self._fail(self._end + 1, "a principal is expected here, such as User:alice")
        principal = self.principal(words[1])
        if effect.text == "quota":
            return QuotaLine(principal, self._limits(words[2:]), self._number)
        if len(words) < 3:
            self._fail(self._end + 1, "operations are expected here, such as read,describe")
        if len(words) < 4:
            self._fail(self._end + 1, "a resource is expected here, such as topic:orders")
        if len(words) > 4:
            self._fail(words[4].column, "nothing is expected here: a name with a blank needs quotation marks")
        kind, column = self._resource_kind(words[3])
        operations = self._operations(words[2], kind)
        name = self._name(_Word(words[3].text[column - words[3].column :], column), kind)
        text = self._line[: self._end].strip()
        return Rule(effect.text == "allow", principal, operations, kind, name, self._number, text)

    def _words(self) -> Iterator[_Word]:
        line, at = self._line, 0
        while at < len(line):
            if line[at].isspace():
                at += 1
            elif line[at] == "#":
                self._end = at
                return
            elif line[at] == '"':
                text, end = self._quoted(at)
                yield _Word(text, at + 2)
                at = end
            else:
                end = at
                while end < len(line) and not line[end].isspace():
                    if not line[end].isprintable():
                        self._fail(end + 1, f"{line[end]!r} cannot be printed, and is probably not meant")
                    end += 1
                yield _Word(line[at:end], at + 1)
                at = end
        self._end = len(line.rstrip())

    def _quoted(self, start: int) -> tuple[str, int]:
        """The text between quotation marks, and the place behind them."""
        line, at, found = self._line, start + 1, ""
        while at < len(line) and line[at] != '"':
            if line[at] == "\\" and line[at + 1 : at + 2] in ('"', "\\"):
                at += 1
            if not line[at].isprintable():
                self._fail(at + 1, f"{line[at]!r} cannot be printed, and is probably not meant")
            found += line[at]
            at += 1
        if at == len(line):
            self._fail(start + 1, "the quotation mark has no end")
        if at + 1 < len(line) and not line[at + 1].isspace():
            self._fail(at + 2, "a blank is expected behind the quotation mark")
        return found, at + 1

    def principal(self, word: _Word) -> PrincipalPattern:
        text = word.text
        if text == "*":
            return PrincipalPattern("", "", True)
        kind, colon, name = text.partition(":")
        if not colon or not _KIND.fullmatch(kind) or not name:
            self._fail(word.column, f"{_shown(text)} is not KIND:NAME, such as User:alice or Role:analytics")
        if meant := kind_meant(kind):
            self._fail(word.column, f"{_shown(kind)} is not a kind of principal (did you mean {meant}?)")
        place = word.column + len(kind) + 1
        if "${" in name:
            self._fail(place + name.index("${"), "a placeholder can stand in the name of a resource only")
        return PrincipalPattern(kind, *self._starred(name, place))

    def _operations(self, word: _Word, resource: str) -> frozenset[str]:
        known = RESOURCES[resource] if resource else OPERATIONS
        if word.text == "all":
            return frozenset(known)
        found, column = [], word.column
        for each in word.text.split(","):
            if each not in OPERATIONS:
                near = _near(each, (*OPERATIONS, "all"))
                self._fail(column, f"{_shown(each)} is not an operation{near}: {', '.join(OPERATIONS)}, all")
            if each not in known:
                self._fail(column, f"nobody can {each} a {resource}; its operations are {', '.join(known)}, all")
            found.append(each)
            column += len(each) + 1
        return frozenset(found)

    def _resource_kind(self, word: _Word) -> tuple[str, int]:
        """The kind, "" for all, and the column where the name begins."""
        if word.text == "*":
            return "", word.column
        kind, colon, _ = word.text.partition(":")
        if kind not in RESOURCES:
            near = _near(kind, tuple(RESOURCES))
            self._fail(word.column, f"{_shown(kind)} is not a kind of resource{near}: {', '.join(RESOURCES)}")
        if not colon and kind != "cluster":
            self._fail(word.column + len(kind), f"a colon and a name are expected here, such as {kind}:*")
        return kind, word.column + len(kind) + len(colon)

    def _name(self, word: _Word, resource: str) -> NamePattern:
        text, column = word.text, word.column
        if resource == "":
            return NamePattern((), True)
        if resource == "cluster":
            if text and text != "*":
                self._fail(column, "the cluster has no name: write cluster")
            return NamePattern((), False)
        if not text:
            self._fail(column, f"the name of a {resource} is expected here, or * for all")
        parts: list[tuple[str, str]] = []
        at = 0
        for match in _PLACEHOLDER.finditer(text):
            self._literal(parts, text[at : match.start()], column + at, resource, last=False)
            word_inside = match[1]
            claim = _CLAIM.fullmatch(word_inside)
            if word_inside == "name":
                parts.append(("name", ""))
            elif claim is not None:
                parts.append(("claim", claim[1]))
            else:
                self._fail(column + match.start(), f"{_shown(match[0])} is not ${{name}} or ${{claim:NAME}}")
            at = match.end()
        rest = text[at:]
        if "${" in rest:
            self._fail(column + at + rest.index("${"), "the placeholder has no end")
        is_prefix = self._literal(parts, rest, column + at, resource, last=True)
        if resource == "gateway":
            self._check_part(parts, is_prefix, column)
        return NamePattern(tuple(parts), is_prefix)

    def _check_part(self, parts: list[tuple[str, str]], is_prefix: bool, column: int) -> None:
        """Plugins may have parts of their own; a name that is nearly one of the gateway's is meant to be that."""
        if any(kind != "text" for kind, _ in parts):
            return
        name = "".join(text for _, text in parts)
        if name in PARTS or (is_prefix and any(part.startswith(name) for part in PARTS)):
            return
        if near := _near(name, PARTS, _NEARLY):
            self._fail(column, f"{_shown(name)} is not a part of the gateway{near}: {', '.join(PARTS)}")

    def _literal(self, parts: list[tuple[str, str]], text: str, column: int, resource: str, *, last: bool) -> bool:
        """Adds a literal part; whether it ended with a star."""
        is_prefix = False
        if last:
            text, is_prefix = self._starred(text, column)
        elif "*" in text:
            self._fail(column + text.index("*"), "a * can stand at the end only")
        if resource == "topic" and not _TOPIC.fullmatch(text):
            wrong = next(place for place in range(len(text)) if not _TOPIC.fullmatch(text[place]))
            self._fail(column + wrong, f"no topic has {text[wrong]!r} in its name")
        if text:
            parts.append(("text", text))
        return is_prefix

    def _starred(self, text: str, column: int) -> tuple[str, bool]:
        star = text.find("*")
        if star < 0:
            return text, False
        if star != len(text) - 1:
            self._fail(column + star, "a * can stand at the end only")
        return text[:-1], True

    def _limits(self, words: list[_Word]) -> Mapping[str, int]:
        if not words:
            self._fail(self._end + 1, "a limit is expected here, such as requests.per.sec=100")
        limits: dict[str, int] = {}
        for word in words:
            key, equals, number = word.text.partition("=")
            if key not in QUOTAS:
                self._fail(word.column, f"{_shown(key)} is not a quota{_near(key, QUOTAS)}: {', '.join(QUOTAS)}")
            if not equals or not _NUMBER.fullmatch(number):
                place = word.column + len(key) + len(equals)
                self._fail(place, f"a whole number is expected here: {key}=NUMBER, 0 for no limit")
            if key in limits:
                self._fail(word.column, f"{key} stands twice")
            limits[key] = int(number)
        return limits

    def _fail(self, column: int, message: str) -> NoReturn:
        raise _Faulty(RuleFault(self._number, column, message))


_EFFECTS = ("allow", "deny", "quota")
_NEARLY: Final = 0.76
"""How alike two names are of which one is a misspelling of the other: about one letter in five is wrong."""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _near(text: str, known: tuple[str, ...], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(text.lower(), known, 1, cutoff)
    return f" (did you mean {near[0]}?)" if near else ""
