"""What a configuration must not say where several nodes serve as one (cluster.md §3)."""

from __future__ import annotations

import socket
from typing import Final

from kafka_gateway.config import Config, Fault
from kafka_gateway.node_names import read_node_name

_SLOTS_EACH: Final = 4
"""Slots for each process, at least: so they have about the same share."""


def faults(config: Config, workers: int) -> list[Fault]:
    """Settings that a node of a cluster, with so many workers, cannot have."""
    found = []

    def fault(key: str, message: str) -> None:
        found.append(Fault(config.place(key) or config.place("cluster.enable"), key, message))

    if not config.items("bootstrap.servers"):
        fault("cluster.enable", "several nodes need a Kafka between them: set bootstrap.servers")
    if config.text("kafka.credentials") == "client":
        fault(
            "kafka.credentials", "a cluster keeps its instances in Kafka in the gateway's own name: choose another way"
        )
    if config.seconds("cluster.heartbeat.interval.ms") * 3 > config.seconds("cluster.session.timeout.ms"):
        fault("cluster.heartbeat.interval.ms", "must be a third of cluster.session.timeout.ms at most")
    hold_ms = config.integer("cluster.hold.ms")
    if 0 < hold_ms < config.integer("cluster.peer.connect.timeout.ms"):
        fault(
            "cluster.peer.connect.timeout.ms",
            f"must be {hold_ms} at most, which is cluster.hold.ms: no request waits longer than that",
        )
    if (least := _SLOTS_EACH * workers) > config.integer("cluster.slots"):
        fault(
            "cluster.slots",
            f"must be at least {_SLOTS_EACH} for each process of the cluster: {least} for this node's {workers}"
            " workers alone",
        )
    if not config.text("cluster.node.id"):
        host = socket.gethostname()
        try:
            read_node_name(host)
        except ValueError as error:
            fault("cluster.node.id", f"must be set, for the host name {host!r} cannot be a node's: {error}")
    return found
