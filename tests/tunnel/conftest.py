"""A three-broker Kafka behind a gateway with a tunnel, and the local ports of that tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.tunnel.local_process import LocalProcess


@dataclass
class Tunnel:
    kafka: KafkaCluster
    gateway: GatewayProcess
    local: LocalProcess

    @property
    def bootstrap(self) -> str:
        """What every client of these tests gets, and nothing else."""
        return self.local.bootstrap

    @property
    def ports(self) -> dict[int, int]:
        """The ports that clients must be told, by node id."""
        return {node: self.local.port_of(node) for node in self.kafka.nodes}


@pytest.fixture(scope="module")
def tunnel(kafka3: KafkaCluster) -> Iterator[Tunnel]:
    properties = ("tunnel.enable=true", "tunnel.refresh.ms=1000")
    with (
        GatewayProcess(*properties, bootstrap=kafka3.bootstrap) as gateway,
        LocalProcess(gateway.url, "-refresh=1s") as local,
    ):
        yield Tunnel(kafka3, gateway, local)
