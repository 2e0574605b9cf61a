"""What there is to tell the operator of a configuration that is good: the log has it at start, and ``--check`` too."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.kafka.clients.properties import client_notes
from kafka_gateway.principal_prefixes import prefix_notes


def start_notes(config: Config) -> list[str]:
    """One line for each. ConfigError: as `client_notes`."""
    notes = [*config.warnings, *prefix_notes(config), *client_notes(config)]
    if config.flag("cluster.enable"):
        from kafka_gateway.workers.peer_settings import reach_notes  # nothing of it is loaded without a cluster

        notes += reach_notes(config)
    return notes
