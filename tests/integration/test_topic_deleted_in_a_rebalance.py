"""The topic of instances is deleted at the very time when the group shares out the slots of a node that leaves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.nodes import PATIENCE_S, SLOTS, Nodes, ask
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROUNDS = 3
AFTER_S = 0.15
"""How long after a node is told to stop. It leaves within 0.1 s, and the other one hears that with its next heartbeat,
half a second later at most. What is deleted just before that is missing: about every second time."""


@pytest.fixture
def nodes(kafka: KafkaCluster, tmp_path: Path) -> Iterator[Nodes]:
    os.chmod(tmp_path, 0o700)
    with Nodes(kafka.bootstrap, tmp_path) as started:
        yield started


def test_the_slots_of_the_one_that_left_are_served_when_the_topic_is_back(nodes: Nodes) -> None:
    """Kafka's client shares out what partitions there are, and notices no change when the topic is back with as many
    as before."""
    topic = f"_gateway.{nodes.id}.instances"
    admin = AdminClient({"bootstrap.servers": nodes.bootstrap})
    for _ in range(ROUNDS):
        nodes[1].process.send_signal(signal.SIGTERM)
        time.sleep(AFTER_S)  # time itself: no event tells that a member is about to leave
        admin.delete_topics([topic])[topic].result(PATIENCE_S)
        began = time.monotonic()
        assert nodes[1].process.wait(PATIENCE_S) == 0
        while (served := list(ask(nodes[0], "GET", "/cluster").body["slots"].values()).count("serving")) < SLOTS:
            assert time.monotonic() < began + PATIENCE_S, f"{served} of {SLOTS} slots are served"
            time.sleep(0.1)  # time itself: no event tells what a node has
        print(f"all slots served after {time.monotonic() - began:.1f} s")
        nodes.restart(1)
