"""The program as a child process, where tests/gateway_process.py does not fit: it is meant to fail, or to print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_gateway(
    *arguments: str, environment: dict[str, str] | None = None, timeout_s: float = 30
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m kafka_gateway`` to its end; ``stdout`` has all that it printed."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "kafka_gateway", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        check=False,
    )
