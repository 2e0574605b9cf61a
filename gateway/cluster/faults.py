"""What a configuration must not say where several nodes serve as one (cluster.md §3)."""

from __future__ import annotations

from kafka_gateway.config import Config, Fault


def faults(config: Config) -> list[Fault]:
    """Settings that a node of a cluster cannot have."""
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
    return found
