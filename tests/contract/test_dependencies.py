"""What the distribution depends on is what its code imports: nothing is installed for nothing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {_normal(re.split(r"[<>=!;\[ ]", each, maxsplit=1)[0]) for each in dependencies}


def _imported(*left_out: str) -> set[str]:
    """The distributions of all that the code imports."""
    names = set()
    for room in ("gateway", "services", "transports"):
        for path in (ROOT / room).rglob("*.py"):
            if path.relative_to(ROOT).as_posix().startswith(left_out):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add(node.module or "")
    owners = packages_distributions()
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"kafka_gateway"}
    found = set()
    for name in others:
        by = {_normal(each) for each in owners[name]}
        # Several distributions share a namespace such as `google`: those that are declared are meant.
        found |= by & _declared() or by
    return found


def test_every_dependency_is_imported() -> None:
    assert _declared() - _imported() == set()


def test_every_import_is_a_dependency() -> None:
    """pytest is that of `kafka-gateway[testing]`, OpenTelemetry that of `kafka-gateway[otel]`."""
    others = _imported("gateway/testing/", "gateway/tracing/") - _declared()
    # What the own interfaces of aiohttp and jsonschema are made of.
    assert others <= {"multidict", "yarl", "referencing"}, others
