"""The examples of docs/push-pull.md."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.contract.test_docs import commands
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.push_pull.service import Served

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "push-pull.md"


def run(arguments: list[str], address: str, url: str) -> str:
    here = [each.replace(address, url) for each in arguments]
    done = subprocess.run([*here, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (here, done.stdout, done.stderr)
    return done.stdout


def test_the_examples(kafka: KafkaCluster) -> None:
    push, pull, pull_some, alone = commands(PAGE, "curl")
    with GatewayProcess(bootstrap=kafka.bootstrap) as gateway:
        address = "http://127.0.0.1:8082"
        assert run(push, address, gateway.url) == ""
        everything = run(pull, address, gateway.url)
        assert f"`{everything}`" in PAGE.read_text()
        assert json.loads(run(pull_some, address, gateway.url)) == {
            "group": "another-group",
            "messages": ["one", "two"],
        }
    with Served(f"bootstrap.servers={kafka.bootstrap}") as gateway:
        assert run(alone, "http://127.0.0.1:5000", gateway.url) == ""
    (serve,) = commands(PAGE, "FLASFKA_CONFIG")
    assert serve[1:] == ["flasfka-serve", "--port", "5000"]
