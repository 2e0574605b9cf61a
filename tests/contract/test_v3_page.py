"""The examples of docs/rest-v3.md."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.contract.test_docs import BLOCK
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.broker]

PAGE = ROOT / "docs" / "rest-v3.md"


def test_the_examples(kafka: KafkaCluster) -> None:
    # Those with a schema run beside a registry: tests/registry/test_other_clients.py.
    scripts = [each for each in BLOCK.findall(PAGE.read_text()) if '"schema' not in each]
    with GatewayProcess(bootstrap=kafka.bootstrap) as gateway:

        def run(script: str) -> str:
            here = script.replace("http://127.0.0.1:8082", gateway.url).replace("curl ", "curl -sS --fail-with-body ")
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", here], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (here, done.stdout, done.stderr)
            return done.stdout

        assert '"cluster_id"' in run(scripts[0])
        outputs = [run(scripts[0] + script) for script in scripts[1:]]
    reports = [each for text in outputs for each in re.findall(r'"error_code":(\d+)', text)]
    assert reports.count("200") == 3
    assert reports.count("400") == 1  # the batch shows a failure
    assert any('"latest_offset":' in text for text in outputs)
    assert any('"value":"delete"' in text for text in outputs)
