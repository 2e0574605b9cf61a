"""Recorded conversations of a live kafka-websocket-proxy, repeated with the gateway on a real Kafka.

``deviations.json`` lists what the gateway answers otherwise on purpose, each with its reason.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka_cluster import KafkaCluster

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", json.loads((HERE / "profiles.json").read_text()))
def test_conversations_are_those_of_the_recorded_server(profile: str, kafka: KafkaCluster, tmp_path: Path) -> None:
    server = f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'start.py'))}"
    replay = subprocess.run(
        [
            sys.executable,
            HERE / "replay.py",
            "compare",
            *("--start", f"{server} start --bootstrap {kafka.bootstrap}"),
            *("--stop", f"{server} stop"),
            *("--target", f"127.0.0.1:{free_port()}"),
            *("--admin", f"127.0.0.1:{free_port()}"),
            *("--bootstrap", kafka.bootstrap),
            *("--profile", profile),
            *("--jobs", "24"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert replay.returncode == 0, replay.stdout[-20_000:] + replay.stderr[-2_000:] + log[-2_000:]
    assert "Traceback" not in log
