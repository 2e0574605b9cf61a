"""Two nodes that both hear Kafka and not each other: their certificates are of two authorities (cluster.md §7)."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.gateway_process import GatewayProcess
from tests.integration.nodes import PATIENCE_S, SLOTS, Nodes, ask
from tests.kafka_cluster import KafkaCluster
from tests.transports.authority import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HOST = "127.0.0.1"


class Apart(Nodes):
    """Nodes that meet by TLS alone."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        super().__init__(bootstrap, directory, "cluster.hold.ms=3000")

    def start(self, number: int, authority: Authority) -> GatewayProcess:
        folder = self.files(number)
        folder.mkdir(mode=0o700)
        self.certify(number, authority)
        with socket.create_server((HOST, 0)) as free:
            address = f"tls://{HOST}:{free.getsockname()[1]}"
        node = self.make(
            number,
            f"cluster.peer.dir={folder}",
            f"cluster.peer.listener={address}",
            f"cluster.peer.tls.cert={folder / 'peer.pem'}",
            f"cluster.peer.tls.key={folder / 'peer.pem'}",
            f"cluster.peer.tls.ca={folder / 'ca.pem'}",
        )
        self._nodes.append(node)
        return node

    def files(self, number: int) -> Path:
        return self._directory / str(number)

    def certify(self, number: int, authority: Authority) -> None:
        """Gives that node files of the authority."""
        folder = self.files(number)
        (folder / "ca.pem").write_bytes(authority.path.read_bytes())
        authority.sign("CN=peer", hosts=[HOST]).write(folder / "peer.pem")

    def served(self, number: int) -> int:
        """How many slots that node serves."""
        return list(ask(self[number], "GET", "/cluster").body["slots"].values()).count("serving")


def test_the_younger_of_two_takes_no_slots_until_they_reach_each_other(kafka: KafkaCluster, tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    nodes = Apart(kafka.bootstrap, tmp_path)
    with nodes._stack:
        nodes.start(0, ours).wait_for(f"serving {SLOTS} of", PATIENCE_S)
        younger = nodes.start(1, others)
        younger.wait_for("This process takes no slots: 1 of 2 processes", PATIENCE_S)
        assert ask(younger, "GET", "/health/ready").status == 503
        assert (nodes.served(0), nodes.served(1)) == (SLOTS, 0)
        assert ask(nodes[0], "GET", "/health/ready").status == 200
        nodes.certify(1, ours)
        younger.wait_for("this process takes slots again", PATIENCE_S)
        nodes.shared_out()
        until = time.monotonic() + PATIENCE_S
        while ask(younger, "GET", "/health/ready").status != 200:
            assert time.monotonic() < until
            time.sleep(0.1)  # time itself: no event tells that a process is ready
