"""``kafka-gateway tunnel`` as a child process, and ports for it."""

from __future__ import annotations

import random
import socket
import sys

from tests.gateway_process import ROOT
from tests.kafka_cluster import HOST, TEST_PORTS
from tests.processes import OutputProcess


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


class LocalProcess(OutputProcess):
    """Listens when the block is entered."""

    def __init__(self, gateway_url: str, *flags: str, nodes: int = 3, port: int | None = None) -> None:
        self.port = port if port is not None else free_range(nodes + 2)
        self.broker = gateway_url.partition("://")[2]
        self._nodes = nodes
        super().__init__(
            [
                *(sys.executable, "-P", "-m", "kafka_gateway", "tunnel"),
                *(f"-port={self.port}", f"-broker={self.broker}", *flags),
            ],
            {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def port_of(self, node: int) -> int:
        return self.port + 1 + node

    def started(self) -> None:
        self.wait_for(rf"listening on port {self.port}$")
        for node in range(1, self._nodes + 1):
            self.wait_for(rf"for broker {node}$")
