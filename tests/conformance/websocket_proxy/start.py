#!/usr/bin/env python3
"""Starts and stops the gateway as the kit's server: ``start.py start --bootstrap HOST:PORT``, ``start.py stop``.

    replay.py compare --bootstrap B --start "start.py start --bootstrap B" --stop "start.py stop"

The settings come as the kit gives them: ``PORT`` (the plain listener), ``KIT_PROPERTIES`` (a file of properties) and
the ``WSPROXY_*`` variables. The process id and the log stand beside that file.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def state() -> Path:
    """What the files of this run begin with."""
    return Path(os.environ["KIT_PROPERTIES"]).with_suffix("")


def start(bootstrap: str, more: list[str]) -> None:
    """Returns at once; the kit waits for the health check."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    properties = [
        f"kafka.ws.proxy.server.port={os.environ['PORT']}",
        "kafka.ws.proxy.server.bind-interface=127.0.0.1",
        f"bootstrap.servers={bootstrap}",
        *more,
    ]
    with state().with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kafka_gateway", os.environ["KIT_PROPERTIES"], *properties],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    state().with_suffix(".pid").write_text(str(process.pid))


def stop() -> None:
    """Returns when the gateway is gone."""
    file = state().with_suffix(".pid")
    pid = int(file.read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
    file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "stop"])
    parser.add_argument("--bootstrap", default="127.0.0.1:19092")
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.what == "start":
        start(options.bootstrap, options.more)
    else:
        stop()


if __name__ == "__main__":
    main()
