"""One place calls librdkafka's consumers: gateway/kafka/consuming/client.py and what it is made of."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
KAFKA = ROOT / "gateway" / "kafka"
CLIENT = {"client.py", "assigned_partitions.py", "flow.py", "offset_queries.py", "commits.py"}
"""In consuming/. They pass a consumer to each other, and to nobody else."""
FACTORY = KAFKA / "clients" / "factory.py"
"""Builds consumers, and does nothing with them."""
COUNTED = KAFKA / "clients" / "fetched_ahead.py"
"""What it builds: consumers with an account in the memory budget."""
PROBE = KAFKA / "clients" / "probe.py"
"""`--check` builds one of each kind of client, to see whether librdkafka takes the settings."""
CLASSES = {"Consumer", "DeserializingConsumer"}
ONLY_CONSUMERS = {
    "consume",
    "incremental_assign",
    "incremental_unassign",
    "get_watermark_offsets",
    "offsets_for_times",
    "store_offsets",
    "memberid",
}
"""Methods that nothing but a consumer of confluent_kafka has."""
MODULES = sorted(
    path
    for room in ("gateway", "services", "transports")
    for path in (ROOT / room).rglob("*.py")
    if not (path.parent == KAFKA / "consuming" and path.name in CLIENT)
)


def consumers_in(tree: ast.AST) -> list[str]:
    """What in a module names, builds or calls a consumer of confluent_kafka."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_class = node.attr in CLASSES and ast.unparse(node.value) == "confluent_kafka"
            if is_class or node.attr in ONLY_CONSUMERS:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("confluent_kafka"):
            found += [f"line {node.lineno}: {each.name}" for each in node.names if each.name.endswith("Consumer")]
        elif isinstance(node, ast.Call) and _name(node.func).endswith("clients.consumer"):
            # It may be handed to a GroupClient as what builds (partial(clients.consumer, …)), but not called.
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}(…)")
    return found


def _name(node: ast.expr) -> str:
    """The last two parts of a dotted name."""
    if not isinstance(node, ast.Attribute):
        return ""
    return f"{getattr(node.value, 'attr', getattr(node.value, 'id', ''))}.{node.attr}"


def test_only_the_client_calls_consumers() -> None:
    others = [path for path in MODULES if path not in (FACTORY, COUNTED, PROBE)]
    assert len(others) > 100
    found = {str(path.relative_to(ROOT)): consumers_in(ast.parse(path.read_text())) for path in others}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_what_is_looked_for() -> None:
    assert len(consumers_in(ast.parse(FACTORY.read_text()))) == 1  # the annotation
    assert len(consumers_in(ast.parse(COUNTED.read_text()))) == 1
    assert len(consumers_in(ast.parse("self._clients.consumer(settings)\nx.consume(1)"))) == 2
    assert consumers_in(ast.parse("GroupClient(partial(clients.consumer, settings))")) == []
