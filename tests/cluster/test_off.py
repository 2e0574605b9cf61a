"""One gateway alone knows nothing of clusters (cluster.md §12); and what a node of one must not be told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.gateway_process import ROOT

pytestmark = pytest.mark.slow

SERVE = """
import asyncio, sys
from kafka_gateway.assembly.app import serve
from kafka_gateway.assembly.plugins import find_plugins
from kafka_gateway.config import load

async def main():
    plugins = find_plugins(None, [], {})
    config = load(plugins.config_keys(), overrides=["port=0"])
    async with serve(config, plugins) as app:
        assert app.node is None and app.gateway.homes is None
        assert "/cluster" not in {route.template for route in app.gateway.router.routes}

asyncio.run(main())
belongs = ("kafka_gateway.cluster", "kafka_gateway.kafka.consuming.slot_member", "kafka_gateway.workers")
print([name for name in sys.modules if name.startswith(belongs)])
"""


def test_without_a_cluster_nothing_of_it_is_loaded() -> None:
    """And what is not loaded makes no topic and joins no group."""
    done = subprocess.run([sys.executable, "-P", "-c", SERVE], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flag", "property", "told"),
    [
        ("--check", "bootstrap.servers=", "set bootstrap.servers"),
        ("--check", "cluster.peer.dir=/", "chmod 700"),
        ("", "cluster.heartbeat.interval.ms=3000", "a third of cluster.session.timeout.ms"),
        ("", "cluster.id=A b", "1 to 40 of a-z"),
    ],
)
def test_a_node_that_cannot_be_one_is_refused(flag: str, property: str, told: str) -> None:
    """Before anything is connected, and by ``--check``, too."""
    properties = ("cluster.enable=true", "bootstrap.servers=127.0.0.1:9", "port=0", property)
    command = [sys.executable, "-P", "-m", "kafka_gateway", *((flag,) if flag else ()), *properties]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2, done
    assert told in done.stdout + done.stderr
