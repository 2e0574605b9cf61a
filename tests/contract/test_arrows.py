"""Which group of modules may import which: the room plan of docs/architecture.md, as a table.

A group is a folder; ``gateway`` and ``gateway.kafka`` stand for the modules directly in them. Imports for the type
checker count like all others.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("gateway", "services", "transports")
PACKAGE = "kafka_gateway"
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

COMMON = ("gateway", "services.common")
PORTS = "gateway.kafka.ports"
"""All that services see of Kafka."""
KAFKA = ("gateway", "gateway.kafka", "gateway.metrics.numbers", PORTS)
UNFINISHED = "gateway.kafka.unfinished"
"""The tracker of records that are not done, for whoever sends some: offsets and nothing of Kafka's library."""

SETTINGS_BELOW = tuple(
    f"gateway.settings.{name}"
    for name in ("client_names", "declaration", "key_table", "listeners", "properties", "sources")
)
"""What `gateway.config` puts together; the keys themselves stand above it."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "gateway": (
        *SETTINGS_BELOW,
        PORTS,
        # What gateway.core, the kernel, has of the door, and the request that transports get.
        "gateway.door.access_log",
        "gateway.door.admission",
        "gateway.door.bounded_content",
        "gateway.door.client_writer",
        "gateway.door.counters",
        "gateway.door.proofs",
        "gateway.door.request",
        "gateway.metrics.registry",
    ),
    "gateway.settings": ("gateway", "gateway.registry.keys"),
    "gateway.tracing": ("gateway", PORTS),
    "gateway.logs": ("gateway", "gateway.door.access_log"),
    "gateway.metrics": ("gateway",),
    "gateway.door": ("gateway", "gateway.metrics", "gateway.settings"),
    "gateway.wire": ("gateway",),
    "gateway.authenticators": ("gateway", "gateway.settings.authentication_keys", "gateway.door.key_files"),
    "gateway.authorizers": ("gateway",),
    "gateway.codecs": ("gateway",),
    "gateway.registry": (
        "gateway",
        "gateway.metrics",
    ),
    "gateway.kafka.ports": (
        "gateway.definitions",
        "gateway.errors",
        "gateway.kafka_errors",
        "gateway.records",
        "gateway.rights",
        "gateway.session",
    ),
    "gateway.kafka": (
        "gateway",
        "gateway.metrics.numbers",
        PORTS,
        "gateway.kafka.clients",
        "gateway.kafka.credentials",
        "gateway.kafka.admin",
        "gateway.kafka.producing",
        "gateway.kafka.consuming",
        "gateway.kafka.tails",
    ),
    "gateway.kafka.clients": KAFKA,
    "gateway.kafka.credentials": (*KAFKA, "gateway.kafka.clients", "gateway.wire"),
    "gateway.kafka.admin": (*KAFKA, "gateway.kafka.clients", "gateway.kafka.consuming.offset_queries", "gateway.wire"),
    "gateway.kafka.producing": (*KAFKA, "gateway.kafka.clients"),
    "gateway.kafka.consuming": (*KAFKA, "gateway.kafka.clients"),
    "gateway.kafka.tails": (*KAFKA, "gateway.kafka.clients", "gateway.kafka.consuming"),
    "gateway.assembly": (
        "gateway",
        "gateway.authenticators",
        "gateway.authorizers",
        "gateway.codecs",
        "gateway.door",
        "gateway.kafka",
        PORTS,
        "gateway.kafka.clients",
        "gateway.metrics",
        "gateway.registry",
        "gateway.settings",
        "gateway.tracing",
        "gateway.workers",
        "gateway.cluster",
    ),
    "gateway.cluster": ("gateway", "gateway.metrics", PORTS),
    "gateway.workers": ("gateway", "gateway.metrics", "gateway.cluster.ports", "gateway.door.listening"),
    "gateway.commands": (
        "gateway",
        "gateway.cluster",
        "gateway.workers",
        "gateway.assembly",
        "gateway.door",
        "gateway.kafka.clients",
        "gateway.kafka.credentials",
        "gateway.logs",
        "gateway.settings",
    ),
    "gateway.testing": ("gateway", "gateway.assembly"),
    "services.common": ("gateway", PORTS),
    "services.operation": (*COMMON, "gateway.logs", "gateway.metrics"),
    "services.streams": (*COMMON, PORTS, UNFINISHED),
    "services.instances": (*COMMON, "gateway.metrics", PORTS, "services.streams"),
    "services.rest": (*COMMON, "gateway.metrics", PORTS, "gateway.codecs", "services.instances", "services.streams"),
    "services.bridges": (*COMMON, PORTS, UNFINISHED, "gateway.metrics"),
    "services.push_pull": (*COMMON, PORTS, "gateway.metrics"),
    "services.websocket_proxy": (*COMMON, PORTS, UNFINISHED, "gateway.metrics"),
    "services.v3": (*COMMON, PORTS, "gateway.codecs", "services.rest.base_uri"),
    "transports.records": ("gateway", "gateway.door"),
    "transports.http": ("gateway", "gateway.door", "transports.records"),
    "transports.envelope": ("gateway", "gateway.door", "transports.records", "transports.http"),
    "transports.atmosphere": ("gateway", "gateway.door", "transports.http", "transports.envelope"),
    "transports.websocket": (
        "gateway",
        "gateway.door",
        "transports.records",
        "transports.http",
        "transports.envelope",
        "transports.atmosphere.protocol",
    ),
    "transports.websocket_proxy": (
        "gateway",
        "gateway.door",
        "gateway.metrics",
        PORTS,
        "services.websocket_proxy",
        "transports.http",
        "transports.websocket",
    ),
    "transports.push_pull": (
        "gateway",
        "gateway.door",
        "gateway.metrics",
        PORTS,
        "services.push_pull",
        "transports.http",
    ),
    # Assembly: services and sinks meet here, and nowhere else.
    "transports.bridges": ("gateway", "gateway.door", "gateway.metrics", PORTS, "services.bridges", *COMMON),
    "transports.console": ("gateway", "gateway.door", PORTS, "services.common"),
    "transports.docs": ("gateway", "gateway.door"),
    "transports.tunnel": (
        "gateway",
        "gateway.metrics",
        "gateway.commands.output",
        "gateway.door",
        "gateway.wire",
        "transports.http",
        "transports.records",
        "transports.websocket",
    ),
}
"""Group → groups and single modules that its modules may import, beside their own group."""

EXCEPT: dict[str, tuple[str, ...]] = {
    "gateway.__main__": ("gateway.commands",),
}
"""Single modules that may import more than their group."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "confluent_kafka": ("gateway.kafka",),
    "aiohttp": (
        "gateway.testing.client",
        "gateway.registry.client",
        "gateway.door",
        "gateway.authenticators",
        "gateway.assembly",
        "gateway.kafka.admin.own_token",
        "gateway.transport",
        "transports",
    ),
    "fastavro": ("gateway.codecs", "gateway.avro_reading", "transports.websocket_proxy.avro_messages"),
    "google": ("gateway.codecs",),
    "jsonschema": ("gateway.codecs", "gateway", "services"),
    "jsonschema_rs": ("gateway.codecs",),
    "msgspec": ("gateway.at_once", "gateway.jsonio", "gateway.kafka.producing", "gateway.messages", "transports"),
    "opentelemetry": ("gateway.tracing",),
    "prometheus_client": ("gateway.metrics",),
}
"""Library → the only folders and modules that import it."""

BARE = {"gateway.errors", "gateway.messages", "gateway.records", "gateway.stream", "gateway.session"}
"""The core types, which import no library but msgspec, for what every request makes."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_of(path: Path) -> str:
    """The name by which it is imported."""
    name = name_of(path)
    return f"kafka_{name}" if name.partition(".")[0] == "gateway" else f"{PACKAGE}.{name}"


@functools.cache
def group_of(module: str) -> str:
    parts = module.split(".")
    depth = 3 if parts[:2] == ["gateway", "kafka"] else 2
    group = parts[:depth]
    while len(group) > 1 and not (ROOT / "/".join(group)).is_dir():
        group.pop()
    return ".".join(group)


def place_of(module: str) -> str:
    """A module by its place in the repository: kafka_gateway.core is gateway.core."""
    first, _, rest = module.partition(".")
    if first != PACKAGE:
        return module
    return rest if rest.partition(".")[0] in ("services", "transports") else f"gateway.{rest}".rstrip(".")


def places_in(node: ast.AST) -> set[str]:
    """The modules that this import statement names, by their places; none if it is no import."""
    if isinstance(node, ast.Import):
        return {place_of(alias.name) for alias in node.names}
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return set()
    module = place_of(node.module)
    inside = ROOT / module.replace(".", "/")
    names = [alias.name for alias in node.names]
    are_modules = {name for name in names if (inside / name).is_dir() or (inside / f"{name}.py").is_file()}
    return {f"{module}.{name}" if name in are_modules else module for name in names}


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that the module imports, by its place."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        found |= places_in(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        bare = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        # By their places the modules could be imported, too, where the current directory is on the path: twice, then.
        assert not {name.partition(".")[0] for name in bare} & set(ROOMS), f"{path}: import {PACKAGE}, not {bare}"
    return frozenset(found)


def covers(allowed: str, module: str) -> bool:
    """Whether a group or a module of the table stands for this module."""
    return module == allowed or group_of(module) == allowed


def arrows_from(path: Path) -> set[str]:
    """What the module imports and must not."""
    name = name_of(path)
    group = group_of(name)
    allowed = (group, *ALLOWED[group], *EXCEPT.get(name, ()))
    ours = {module for module in imports_of(path) if module.split(".")[0] in ROOMS}
    return {module for module in ours if not any(covers(each, module) for each in allowed)}


def test_arrows_point_one_way() -> None:
    modules = [path for path in MODULES if path.name != "__init__.py"]
    assert len(modules) > 100
    assert {name_of(path): wrong for path in modules if (wrong := arrows_from(path))} == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    wrong = [
        name_of(path)
        for path in MODULES
        if any(module.split(".")[0] == library for module in imports_of(path))
        and not any(name_of(path) == room or name_of(path).startswith(f"{room}.") for room in LIBRARIES[library])
    ]
    assert wrong == []
    ports = [path for path in MODULES if name_of(path).startswith(f"{PORTS}.")]
    assert ports
    assert not any(module.startswith("confluent_kafka") for path in ports for module in imports_of(path))


def test_the_table_has_no_circle() -> None:
    """But for single modules: what is imported from a group's lower end does not import back."""
    groups = {group: {each for each in allowed if each in ALLOWED} for group, allowed in ALLOWED.items()}
    groups["gateway.kafka"] = set()  # cluster.py puts the rooms below it together
    while free := [group for group, below in groups.items() if not below & groups.keys() - {group}]:
        for group in free:
            del groups[group]
    assert groups == {}


@pytest.mark.parametrize("name", sorted(BARE))
def test_core_types_import_no_library(name: str) -> None:
    words = {module.split(".")[0] for module in imports_of(ROOT / f"{name.replace('.', '/')}.py")}
    assert words <= {"gateway", "msgspec", *sys.stdlib_module_names}


def test_init_files_are_empty() -> None:
    assert [name_of(path) for path in MODULES if path.name == "__init__.py" and path.read_text().strip()] == []


def test_no_modules_import_each_other() -> None:
    """Neither when they are loaded, nor for the type checker, nor in a function: each can be imported alone, and be
    understood without those that use it."""
    below = {name_of(path): {each for each in imports_of(path) if each.split(".")[0] in ROOMS} for path in MODULES}
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_folder_is_in_the_distribution() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert declared == sorted(module_of(path) for path in MODULES if path.name == "__init__.py")
