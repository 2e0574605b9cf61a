"""An outage of Kafka that lasts longer than the session timeout of a node (cluster.md §7): what is the node's own again
goes on where it was."""

from __future__ import annotations

import os
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.gateway_process import GatewayProcess
from tests.integration.nodes import EARLIEST, PATIENCE_S, SLOTS, Client, ask, produce
from tests.kafka_cluster import KafkaCluster
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def until_all_are(node: GatewayProcess, state: str) -> None:
    wait_until(lambda: list(ask(node, "GET", "/cluster").body["slots"].values()) == [state] * SLOTS)


def test_after_an_outage_of_kafka_instances_go_on_where_they_were(own_kafka: KafkaCluster, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    topic = "t"
    properties = (
        "cluster.enable=true",
        "cluster.node.id=gw-0",
        f"cluster.peer.dir={tmp_path}",
        f"cluster.slots={SLOTS}",
        "cluster.hold.ms=60000",
    )
    with GatewayProcess(*properties, bootstrap=own_kafka.bootstrap, start_s=60) as node:
        until_all_are(node, "serving")
        produce(node, topic, range(5))
        clients = []
        for way, body in (
            ("subscription", {"topics": [topic]}),
            ("assignments", {"partitions": [{"topic": topic, "partition": 0}]}),
        ):
            group = f"{way}-{uuid.uuid4().hex[:8]}"
            made = {"name": "c", "auto.commit.enable": "false", **EARLIEST}
            assert ask(node, "POST", f"/consumers/{group}", made).status == 200
            path = f"/consumers/{group}/instances/c"
            assert ask(node, "POST", f"{path}/{way}", body).status == 204
            clients.append(Client(node, path))
        for client in clients:
            client.until(4)
        own_kafka.pause(1)
        until_all_are(node, "suspended")
        own_kafka.resume(1)
        until_all_are(node, "serving")
        produce(node, topic, range(5, 8))
        for client in clients:
            client.until(7)
            assert client.values == list(range(8)), "nothing was committed, and nothing comes again"
        with urllib.request.urlopen(f"{node.url}/metrics", timeout=PATIENCE_S) as page:
            assert f"kafka_gateway_cluster_resumed_total {len(clients)}" in page.read().decode()
