"""``kafka-gateway tunnel`` as a child process, and ports for it."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.kafka_cluster import HOST, TEST_PORTS
from tests.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]


def free_range(count: int) -> int:
    """The first of so many ports in a row that nobody listens on now."""
    while True:
        first = random.randrange(TEST_PORTS.start, TEST_PORTS.stop - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex((HOST, port)) != 0


class LocalProcess:
    """Listens when the block is entered; ``output`` has the lines printed so far."""

    def __init__(self, gateway_url: str, *flags: str, nodes: int = 3, port: int | None = None) -> None:
        self.port = port if port is not None else free_range(nodes + 2)
        self.broker = gateway_url.partition("://")[2]
        self._flags = (f"-port={self.port}", f"-broker={self.broker}", *flags)
        self._nodes = nodes
        self.output: list[str] = []

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def port_of(self, node: int) -> int:
        return self.port + 1 + node

    def __enter__(self) -> LocalProcess:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kafka_gateway", "tunnel", *self._flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for(rf"listening on port {self.port}$")
        for node in range(1, self._nodes + 1):
            self.wait_for(rf"for broker {node}$")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of output in which the pattern is found."""

        def found() -> re.Match[str] | None:
            return next((hit for line in list(self.output) if (hit := re.search(pattern, line))), None)

        wait_until(lambda: found() or self.process.poll() is not None, what=lambda: "\n".join(self.output))
        if hit := found():
            return hit
        raise AssertionError(f"no line with {pattern!r} in:\n" + "\n".join(self.output))

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
