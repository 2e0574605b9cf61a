"""The names in Kafka of what several nodes keep there for themselves (cluster.md §4.1).

A client that could change these topics could become the owner of others' consumer instances, and one that deletes them
takes all instances from all nodes. So no gateway, of whatever cluster or of none, gives a client access to any of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kafka_gateway.kafka_errors import KafkaAuthorization

PREFIX: Final = "_gateway."
"""Of their names."""
_SHOWN_MAX: Final = 300


def group_of(cluster: str) -> str:
    """The group of the nodes of that cluster (``cluster.id``); their topics have its name and another word."""
    return PREFIX + cluster


def is_own(name: str) -> bool:
    """Whether a topic or a group is one of a gateway's own, of which clients see and change nothing."""
    return name.startswith(PREFIX)


def own_refusal(resource: str, names: Iterable[str], operation: str = "describe") -> KafkaAuthorization | None:
    """Why nobody may use these (``topic`` or ``group``); None if none of them is a gateway's own. ``operation``: what
    was asked for, for the audit log."""
    own = [name for name in names if is_own(name)] if resource in ("topic", "group") else []
    if not own:
        return None
    listed = ", ".join(own)[:_SHOWN_MAX]
    refusal = KafkaAuthorization(
        f"Not authorized to access {resource}s: [{listed}]: the gateway keeps its own state there."
    )
    refusal.need = (operation, resource, own[0])
    return refusal
