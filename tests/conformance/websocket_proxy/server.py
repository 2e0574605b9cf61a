"""Starts and stops a gateway for replay.py: ``server.py start|stop <folder> <bootstrap>``.

The settings come as replay.py gives them: ``PORT``, the variables ``WSPROXY_*``, and a file with properties.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def start(folder: Path, bootstrap: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WSPROXY_PORT": os.environ["PORT"],
        "WSPROXY_BIND_INTERFACE": "127.0.0.1",
        "WSPROXY_KAFKA_BOOTSTRAP_HOSTS": bootstrap,
    }
    command = [sys.executable, "-P", "-m", "gateway", os.environ["KIT_PROPERTIES"]]
    with (folder / "gateway.log").open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    (folder / "gateway.pid").write_text(str(process.pid))


def stop(folder: Path) -> None:
    pid = int((folder / "gateway.pid").read_text())
    until = time.monotonic() + 15
    try:
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < until:
            time.sleep(0.05)
            os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(Path(sys.argv[2]), sys.argv[3])
    else:
        stop(Path(sys.argv[2]))
