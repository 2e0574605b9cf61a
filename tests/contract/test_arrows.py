"""Which room may import what: the room plan of docs/architecture.md, as a test."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for room in ("gateway", "services", "transports") for path in (ROOT / room).rglob("*.py"))

CORE = {"gateway.errors", "gateway.messages", "gateway.records", "gateway.stream", "gateway.session"}
LIBRARIES = {"aiohttp", "confluent_kafka", "msgspec", "pluggy", "re2", "prometheus_client", "bcrypt", "uvloop"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Everything the module imports at run time; what stands under TYPE_CHECKING is for the type checker only."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.add(child.module)
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def uses(path: Path, *prefixes: str) -> set[str]:
    return {name for name in imports_of(path) for prefix in prefixes if name == prefix or name.startswith(prefix + ".")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_one_way(path: Path) -> None:
    name = name_of(path)
    forbidden: set[str] = set()
    if not name.startswith("gateway.kafka."):
        forbidden |= uses(path, "confluent_kafka")
    if name == "gateway.kafka.ports":
        forbidden |= uses(path, "confluent_kafka")
    if name not in ("gateway.jsonio",) and not name.startswith("transports."):
        forbidden |= uses(path, "msgspec")
    if name in CORE:
        forbidden |= uses(path, *LIBRARIES)
        forbidden |= {each for each in uses(path, "gateway") if each.count(".") == 1 and each not in CORE}
    if name.startswith("gateway."):
        forbidden |= uses(path, "services", "transports")
    if name.startswith("gateway.kafka."):
        forbidden |= uses(path, "aiohttp")
    if name.startswith("services."):
        forbidden |= uses(path, "transports", "aiohttp")
        allowed_kafka = uses(path, "gateway.kafka.ports") | {"gateway.kafka"}
        forbidden |= uses(path, "gateway.kafka") - allowed_kafka
    if name == "transports.bridges":  # assembly: services and sinks meet here, and nowhere else
        forbidden |= uses(path, "gateway.kafka") - uses(path, "gateway.kafka.ports") - {"gateway.kafka"}
        forbidden |= uses(path, "aiohttp")
    elif name.startswith("transports."):
        forbidden |= uses(path, "gateway.kafka")
        forbidden |= {each for each in uses(path, "services") if not each.startswith("services.bodies")}
    assert not forbidden, f"{name} must not import {', '.join(sorted(forbidden))}"


def test_init_files_are_empty() -> None:
    assert [name_of(path) for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []


@pytest.mark.slow
def test_every_module_can_be_imported_alone() -> None:
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    script = (
        "import importlib, os, sys\n"
        "import aiohttp.web, confluent_kafka.admin, cryptography, jwt, msgspec, pluggy, prometheus_client\n"  # once
        "for name in sys.argv[1:]:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, repr(error), flush=True)\n"
        "            os._exit(1)\n"
        "        os._exit(0)\n"
        "    if os.waitpid(pid, 0)[1]:\n"
        "        sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
