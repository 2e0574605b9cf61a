"""docs/plugins.md says what is: its code is that of tests/plugin, and its table of public names is the contract."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import aiohttp
import pytest

from kafka_gateway import hookspecs
from kafka_gateway.assembly.app import serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
HOOKS = [name for name in vars(hookspecs) if name.startswith("gateway_")]

BLOCKS = re.findall(r"(?:<!-- from (\S+) -->\n)?```\w*\n(.*?)```", PAGE, re.DOTALL)
PUBLIC = {
    module: set(re.findall(r"`(\w+)`", names))
    for module, names in re.findall(
        r"^\| `((?:kafka_gateway|prometheus_client)(?:\.\w+)*)` \|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE
    )
}
MODULES = sorted(PLUGIN.rglob("*.py"))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield importlib.import_module("kafka_gateway_lines")
    for name in [name for name in sys.modules if name.startswith("kafka_gateway_lines")]:
        del sys.modules[name]


async def test_the_plugin_without_installing_it(plugin: ModuleType) -> None:
    plugins = Plugins(extra=[plugin], installed=False)
    config = load(plugins.config_keys()).with_values({"port": 0, "transport.lines.port": 0})
    async with (
        serve(config, plugins) as app,
        aiohttp.ClientSession(app.addresses[0]) as http,
        http.get("/plugin/echo") as response,
    ):
        assert (await response.json())["transport"] == "http"


@pytest.mark.parametrize(("source", "block"), BLOCKS, ids=[block.split("\n")[0] for _, block in BLOCKS])
def test_every_block_is_taken_from_a_file(source: str, block: str) -> None:
    assert source, "the block does not say where it is from"
    assert f"\n{block}" in (ROOT / source).read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_explained_with_its_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"| `{hook}({arguments})` |" in PAGE
    assert re.search(rf"^## .*`{hook}`$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_called_public_exists(module: str) -> None:
    assert PUBLIC[module]
    assert [name for name in PUBLIC[module] if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_plugin_imports_nothing_but_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    foreign = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign += [each.name for each in node.names if each.name.split(".")[0] not in sys.stdlib_module_names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.split(".")[0] in ("kafka_gateway_lines", *sys.stdlib_module_names):
                continue
            foreign += [f"{module}.{each.name}" for each in node.names if each.name not in PUBLIC.get(module, ())]
    assert foreign == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_plugin_uses_nobody_elses_private_attributes(path: Path) -> None:
    private = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and ast.unparse(node.value) != "self"
    ]
    assert private == []


def test_the_plugin_uses_every_hook(plugin: ModuleType) -> None:
    assert [hook for hook in HOOKS if not hasattr(getattr(plugin, hook, None), "kafka_gateway_impl")] == []


def test_the_page_has_what_the_test_reads() -> None:
    """The patterns above must not be what makes the tests pass."""
    assert len(BLOCKS) >= 10
    assert len(PUBLIC) >= 12
    assert dedent(BLOCKS[0][1]).startswith("[project]")
