"""The names in Kafka of what several nodes keep there for themselves (cluster.md §4.1)."""

from __future__ import annotations

from collections.abc import Callable

from kafka_gateway.config import Config


def group_of(cluster: str) -> str:
    """The group of the nodes of that cluster (``cluster.id``); their topics have its name and another word."""
    return f"_gateway.{cluster}"


def own_names(config: Config) -> Callable[[str], bool]:
    """Whether a topic or a group is one of the gateway's own, of which clients see and change nothing."""
    if not config.flag("cluster.enable"):
        return lambda name: False
    group = group_of(config.text("cluster.id"))
    own = frozenset({group, f"{group}.instances", f"{group}.processes"})
    return own.__contains__
