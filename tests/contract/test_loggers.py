"""The loggers are one tree, ``gateway``, whatever the package is called: ``log.level.<logger>`` reaches all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "logging.md"
OTHERS = {"asyncio", "aiohttp.websocket"}
"""Of libraries."""
ANY_NAME = {"gateway/logs/levels.py"}
"""Sets levels of loggers that it is told."""


def _names() -> Iterator[tuple[str, str]]:
    """Where a logger is asked for, and its name: "" for one that is computed."""
    for room in ("gateway", "services", "transports"):
        for path in sorted((ROOT / room).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("getLogger") or not node.args:
                    continue
                name = node.args[0]
                text = name.value if isinstance(name, ast.Constant) else ""
                if text or place not in ANY_NAME:
                    yield f"{place}:{node.lineno}", str(text)


def test_every_logger_is_in_the_tree_of_the_gateway_and_on_its_page() -> None:
    found = {place: name for place, name in _names() if name not in OTHERS}
    strange = {place: name for place, name in found.items() if not re.fullmatch(r"gateway(\.[a-z0-9_]+)*", name)}
    assert not strange, "give it a name below gateway, not that of its module"
    listed = re.findall(r"^\| `(gateway[a-z0-9_.]*)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(set(found.values())) == sorted(listed)
