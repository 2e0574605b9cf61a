"""The JavaScript client's own tests: alone, and against a live gateway on the embedded Kafka."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import subprocess
from pathlib import Path

import pytest

from tests.cache import node_packages
from tests.gateway_process import GatewayProcess

CLIENT = Path(__file__).parents[2] / "share" / "js-client"
TESTS = sorted(path.name for path in (CLIENT / "tests").glob("*.test.js"))
LIVE = [*(f"^live, {transport}:" for transport in ("websocket", "sse", "long-polling")), "^(?!live, )"]
"""The names of its tests against a gateway, as patterns of Node, in parts that run at the same time: they wait."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.fetches(what=functools.partial(node_packages, CLIENT)),
]


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    """TypeScript's compiler, without which the client's tests leave out that its types are up to date."""
    node_packages(CLIENT)


def run_node(*names: str, only: str = "", **environment: str) -> None:
    """Runs test files of the client, or those of their tests whose names match; fails with their output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    result = subprocess.run(
        ["node", "--test", *([f"--test-name-pattern={only}"] if only else []), *(f"tests/{name}" for name in names)],
        cwd=CLIENT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout


def test_alone() -> None:
    run_node(*(name for name in TESTS if name != "integration.test.js"))


def test_against_a_live_gateway() -> None:
    with GatewayProcess() as gateway, concurrent.futures.ThreadPoolExecutor(len(LIVE)) as pool:
        run = functools.partial(run_node, "integration.test.js", GATEWAY_URL=gateway.url)
        for each in [pool.submit(run, only=names) for names in LIVE]:
            each.result()
