"""Every reference to a specification finds its section: docs/spec/README.md says how references are written."""

from __future__ import annotations

import functools
import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "docs" / "spec"
OTHERS = {"CONFIGURATION.md", "INTRODUCTION.md", "docs/errors.md"}
"""Documents of librdkafka; and a page that is yet to be written."""
CHECKLISTS = {"atmosphere-binding.md": ("7",), "websocket-proxy.md": ("8",), "bridges.md": ("A4", "B4", "C8")}

FOLDERS = ("gateway", "services", "transports", "tests", "share", "bin", "etc")
SKIPPED = {"node_modules", "cases", "transcripts", "__pycache__"}
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tests" / "conformance").rglob("*.md")),
]
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".js", ".ts", ".go", ".sh", ".properties", ".toml", ""}
    and path.is_file()
    and path not in (Path(__file__), Path(__file__).with_name("test_links.py"))  # they hold wrong ones on purpose
    and not SKIPPED & set(path.parts)
)

DOCSTRING = re.compile(r'(?:#[^\n]*\n|\s)*[rR]?"""(.*?)"""', re.DOTALL)
"""Of a module. To take the whole module apart for it was half of the work."""
NUMBERS = r"\d+(?:(?:,\ |\ and\ |\ to\ |–|-)\d+)*"
TOKEN = re.compile(
    rf"""
      (?P<foreign> (?:RFC\ \d+|(?:HTML|Fetch)\ standard)(?:,?\ (?:and\ |to\ )?§[\d.]*\d)+ )
    | (?P<document> (?<![\w…./-])(?:[\w./-]+/)?[\w-]+\.md\b )
    | (?P<observed> observed\b )
    | (?:§|(?<=\.md\ )section\ )(?P<section> [ABC]-\d+ | [ABC]?\d+(?:\.\d+)*[a-h]?\b )
    | \b(?P<requirement> [ABC]-\d+ | [BC][1-9](?:\.\d+)? | A\d+(?:\.\d+)? | D\d+ | [FSLH]\d{{1,2}} )\b
    | (?P<items> (?:\bnos?\.|\brows?|\bchecklist)\ (?P<numbers>{NUMBERS}) )
    """,
    re.VERBOSE,
)


@dataclass
class Document:
    """What can be referred to in one page or contract."""

    name: str
    sections: dict[str, str] = field(default_factory=dict)
    """Number to title; a paragraph "**b. …**" of section 3 is "3b"."""
    items: dict[str, set[int]] = field(default_factory=dict)
    """The numbers of rows and list items, for each section."""
    ids: set[str] = field(default_factory=set)
    """Requirements (A-19), tests (F8), decisions (D6)."""


@functools.cache
def document(path: Path) -> Document:
    found = Document(path.name)
    section = ""
    fenced = False
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            continue
        elif heading := re.match(r"#+ ((?:[ABC](?=\d))?\d+(?:\.\d+)*)\.? (.*)", line):
            section = heading[1]
            found.sections[section] = heading[2]
        elif paragraph := re.match(r"\*\*([a-z])\. (.*)", line):
            found.sections[section + paragraph[1]] = paragraph[2]
        elif item := re.match(r"(?:\| )?(\d+)(?:\.| \|) ", line):
            found.items.setdefault(section, set()).add(int(item[1]))
        elif row := re.match(r"\| ([FSLHAD]\d+) \|", line):
            found.ids.add(row[1])
        elif path.name.endswith("-observed.md") and (row := re.match(r"\| (\d[^|]*) \|", line)):
            found.sections.update(dict.fromkeys(re.findall(r"\d+(?:\.\d+)*", row[1]), "observed"))
        found.ids.update(re.findall(r"\*\*([ABC]-\d+)\*\*", line))
    return found


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each comment, docstring or paragraph that may refer to something."""
    text = path.read_text(errors="replace")
    if path.suffix == ".py":
        if TOKEN.search(text):  # most have none, and to take them apart is the work
            yield from _python_blocks(text)
    elif path.suffix == ".md":
        text = re.sub(r"^```.*?^```", lambda fence: "\n" * fence[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
        for paragraph in re.finditer(r"(?:.+\n?)+", text):
            yield text.count("\n", 0, paragraph.start()) + 1, paragraph[0]
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*(#|//|\*|/\*)", line):
                yield number, line


def _python_blocks(text: str) -> Iterator[tuple[int, str]]:
    at_start, comment, first = True, "", 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            first = first if comment else token.start[0]
            comment += token.string.lstrip("#") + "\n"
        elif comment and token.type != tokenize.NL:
            yield first, comment
            comment = ""
        if token.type == tokenize.STRING and (at_start or re.search(r"docs/[\w/-]+\.md", token.string)):
            yield token.start[0], token.string
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    if comment:
        yield first, comment


def spec_path(name: str) -> Path | None:
    """The file that a document's name means in code; None if there is none."""
    candidates = [ROOT / name] if "/" in name else [SPEC / name, ROOT / name]
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def default_document(path: Path) -> Document | None:
    """The document that a bare § of this file means."""
    if path.suffix == ".md":
        return document(path)
    if path.suffix != ".py":
        return None
    docstring = DOCSTRING.match(path.read_text())
    for name in re.findall(r"(?<!/)\b[\w-]+\.md", docstring[1] if docstring else ""):
        if (SPEC / name).is_file():
            return document(SPEC / _main(name))
    return None


def _main(name: str) -> str:
    return name.replace("-observed", "")


def numbers_of(text: str) -> set[int]:
    numbers: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:(?: to |–|-)(\d+))?", text):
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def faults(path: Path, line: int, text: str, seen: list[str] | None = None) -> Iterator[str]:
    """What is wrong with the references of one block; what each leads to is appended to ``seen``."""
    default = here = default_document(path)
    section, end, observed = "", -1, False
    for token in TOKEN.finditer(text):
        where = f"{path.relative_to(ROOT)}:{line + text.count(chr(10), 0, token.start())}"
        kind, word = token.lastgroup, token[0]
        if kind in ("numbers", "items"):
            kind, word = "items", token["numbers"]
        if kind == "document":
            name = (path.parent / word).resolve().relative_to(ROOT).as_posix() if path.suffix == ".md" else word
            target = spec_path(word) or spec_path(name)
            if target is None and word not in OTHERS:
                yield f"{where}: there is no {word}"
            elif target:
                here, section, observed, end = document(target), "", False, token.end()
        elif kind == "observed":
            observed, end = True, token.end()
            continue
        elif kind == "section":
            word = token["section"]
            between = text[end : token.start()].strip(" ,;)to–and\n")
            if between and path.suffix == ".md":  # in a page a name counts for the § behind it only
                here = default
            place = here
            if here and observed and not between:
                other = SPEC / here.name.replace(".md", "-observed.md")
                place = document(other) if other.is_file() else here
            else:
                observed = False
            if place is None:
                yield f"{where}: §{word}: of which document? Write its name before it"
            elif word not in place.sections and word not in place.ids:
                yield f"{where}: {place.name} has no §{word}"
            else:
                section = word
                if seen is not None:
                    seen.append(f"{where}: {place.name} §{word}: {place.sections.get(word)}: {text.strip()[:160]!r}")
            end = token.end()
        elif kind == "requirement":
            if not _is_known(word, here, default):
                yield f"{where}: nothing is called {word}"
            elif "-" not in word:
                section = word
        elif kind == "items":
            yield from (f"{where}: {fault}" for fault in _item_faults(token[0], word, text, here, section))


def _is_known(word: str, *documents: Document | None) -> bool:
    if word[0] in "FSLH":
        return word in document(SPEC / "reliability.md").ids
    if word[0] in "BC":
        bridges = document(SPEC / "bridges.md")
        return word in bridges.ids or word in bridges.sections
    places = [document(SPEC / _main(each.name)) if "-observed" in each.name else each for each in documents if each]
    return any(word in each.ids or word in each.sections for each in places)


def _item_faults(whole: str, numbers: str, text: str, here: Document | None, section: str) -> Iterator[str]:
    if here is None or (not section and "checklist" not in text):
        return  # an ordinary "row 3" of something else
    sections = (section, *CHECKLISTS.get(_main(here.name), ())) if "checklist" in text else (section,)
    main = document(SPEC / _main(here.name)) if "checklist" in text else here
    known = set().union(*(main.items.get(each, set()) for each in sections))
    if missing := numbers_of(numbers) - known:
        yield f"{here.name} §{'/'.join(sections)} has no {whole} ({missing})"


@pytest.mark.parametrize("folder", [*FOLDERS, "docs", "README.md"])
def test_references_lead_somewhere(folder: str) -> None:
    paths = [path for path in (*SOURCES, *PAGES) if path.relative_to(ROOT).parts[0] == folder]
    assert paths
    assert [fault for path in paths for line, text in blocks(path) for fault in faults(path, line, text)] == []


def test_recorded_conversations_name_a_section() -> None:
    sections = document(SPEC / "kafka-rest-http.md").sections
    for path in (ROOT / "tests" / "conformance" / "cases").glob("*.json"):
        cases = json.loads(path.read_text())
        assert {case["name"]: case["spec"] for case in cases if case["spec"] not in sections} == {}, path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kafka-rest-http.md §3.3, §6.8", None),
        ("kafka-rest-http.md §3.3, §6.99", "has no §6.99"),
        ("kafka-rest.md §3.3", "there is no kafka-rest.md"),
        ("§3.3", "of which document?"),
        ("kafka-rest-http.md §13 no. 2", None),
        ("kafka-rest-http.md §13 no. 99", "has no no. 99"),
        ("kafka-rest-http.md §3 (observed §3.4)", None),
        ("kafka-rest-http.md §3 (observed §5.4)", "kafka-rest-http-observed.md has no §5.4"),
        ("websocket-proxy.md §8, rows 1 to 4 and 50", None),
        ("websocket-proxy.md §8, rows 1 to 4 and 99", "has no rows 1 to 4 and 99"),
        ("atmosphere-binding.md §1 and rows 1 to 24 of its checklist", None),
        ("RFC 9110 §77.7, §78; HTML standard §99", None),
        ("reliability.md §3b, F8, A1; bridges.md A2.4, A-19; C-13", None),
        ("reliability.md F99", "nothing is called F99"),
        ("bridges.md C-99", "nothing is called C-99"),
        ("docs/bridges.md, CHANGELOG.md", None),
        ("docs/nothing.md", "there is no docs/nothing.md"),
    ],
)
def test_a_wrong_reference_is_found(text: str, fault: str | None) -> None:
    found = list(faults(ROOT / "gateway" / "__init__.py", 1, text))
    assert found == [] if fault is None else fault in found[0]


if __name__ == "__main__":  # prints where each reference leads, for a look by eye
    led: list[str] = []
    for one in [*SOURCES, *PAGES]:
        for at, content in blocks(one):
            for problem in faults(one, at, content, led):
                print("FAULT", problem)
    print(*led, sep="\n")
