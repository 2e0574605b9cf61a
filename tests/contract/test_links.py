"""Links between the documents lead somewhere, to the very heading; and the index has every page."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "share").glob("*/README.md")),
    *sorted((ROOT / "tests" / "conformance").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@functools.cache
def anchors(page: Path) -> set[str]:
    """The names of the headings, made as GitHub makes them."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        name = base = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        again = 0
        while name in found:
            again += 1
            name = f"{base}-{again}"
        found.add(name)
    return found


def broken(page: Path, text: str) -> list[str]:
    missing = []
    for path, anchor in LINK.findall(CODE.sub("", text)):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{path}#{anchor}" if anchor else path)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("[a](docs/rest.md)", True),
        ("[a](docs/rest.md#errors)", True),
        ("[a](docs/push-pull.md#pull-get-topic-and-get-topicgroup)", True),
        ("[a](#start)", True),
        ("[a](https://example.org/x)", True),
        ("[a](docs/rest.md#no-such-heading)", False),
        ("[a](docs/no-such-page.md)", False),
        ("[a](#no-such-heading)", False),
    ],
)
def test_a_broken_link_is_found(link: str, leads: bool) -> None:
    assert (broken(ROOT / "README.md", link) == []) is leads


@pytest.mark.parametrize("folder", ["docs", "docs/spec"])
def test_the_index_has_every_page(folder: str) -> None:
    index = (ROOT / folder / "README.md").read_text()
    linked = {path for path, _ in LINK.findall(index)}
    assert {page.name for page in (ROOT / folder).glob("*.md")} - linked == {"README.md"}
