"""Tests wait for events (tests/waiting.py): a pause of some length has to say why time itself is what is needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
REASON = "# time itself: "
PLACES = {"tests/waiting.py"}
"""Where pauses need no reason."""
OTHERS = {"bench", "conformance", "faults"}
"""Folders of programs that are no tests: they measure, play scripts that name their pauses, and make faults of some
length while clients come again and again."""


def pauses(source: str) -> list[int]:
    """The lines of calls of ``sleep`` that wait for longer than a turn of the event loop, and give no reason: behind
    the call, or as a comment above."""
    if "sleep" not in source:  # to take a file apart is the work
        return []
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        turn = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
        if name == "sleep" and not turn and REASON not in lines[node.lineno - 1] and not above.startswith(REASON):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("await asyncio.sleep(0.1)", [2]),
        ("time.sleep(PAUSE_S)", [2]),
        ("sleep(1)  # it takes a moment", [2]),
        ("await asyncio.sleep(0)", []),
        ("time.sleep(1)  # time itself: it expires", []),
        ("# time itself: it expires\n    time.sleep(1)", []),
    ],
)
def test_a_pause_without_a_reason_is_seen(line: str, seen: list[int]) -> None:
    assert pauses(f"async def test() -> None:\n    {line}") == seen


def test_tests_wait_for_events() -> None:
    bare = [
        f"{name}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if OTHERS.isdisjoint(path.relative_to(TESTS).parts)
        and (name := path.relative_to(TESTS.parent).as_posix()) not in PLACES
        for line in pauses(path.read_text())
    ]
    assert bare == [], f"wait with tests/waiting.py, or say behind the call why not: {REASON}…"
