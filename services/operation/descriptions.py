"""What ``/openapi.json`` says of the operator's resources (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.description import Description, Parameter
from kafka_gateway.errors import Unprocessable


class Level(jsonio.Struct, frozen=True):
    """The level of a logger."""

    level: str


class Loggers(jsonio.Struct, frozen=True):
    """Loggers by name, with their levels."""

    loggers: Mapping[str, str]


class Node(jsonio.Struct, frozen=True):
    """A process of the cluster, as it has told of itself last."""

    boot: str
    """Another one after each start."""
    state: str
    """serving, draining, or gone"""
    slots: str
    """Those that it claims, as 0-3,17"""
    peers: list[str]
    """Where it listens for the others."""
    reachable: bool | None = None
    """Whether the node that answers could reach it when it tried last, some seconds ago; null: not tried yet"""
    heard_ago_s: float | None = None
    """For how many seconds nothing was heard of it; null: never heard"""
    error: str = ""
    """Why it cannot be reached"""


class Cluster(jsonio.Struct, frozen=True, omit_defaults=True):
    """One node's view of the cluster that it belongs to (docs/cluster.md)."""

    cluster: str
    process: str
    boot: str
    slots_total: int
    """0: not known yet"""
    slots: Mapping[str, str]
    """State of each slot that is held here: replaying, serving, handing-over"""
    instances: Mapping[str, int]
    """Consumer instances by slot, of those slots"""
    owners: Mapping[str, str]
    """Who serves each slot, as this node believes"""
    nodes: Mapping[str, Node]
    trouble: str = ""
    """Why no slot is served here"""
    slot: int | None = None
    """Of the instance that was asked for"""
    owner: str | None = None
    """Who has that instance"""


DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "operation.metrics": Description(
        "All metrics, for Prometheus",
        "Text 0.0.4, or OpenMetrics 1.0 with exemplars where `Accept` names `application/openmetrics-text`.",
        tag="Operation",
        replies={200: {"type": "string"}},
        reply_types={200: ("text/plain", "application/openmetrics-text")},
        kafka=False,
    ),
    "operation.loggers": Description("Loggers and their levels", tag="Operation", replies={200: Loggers}, kafka=False),
    "operation.cluster": Description(
        "How this node sees its cluster",
        "With `group` and `instance` also who has that consumer instance.",
        tag="Operation",
        parameters=(
            Parameter("group", "Group of a consumer instance."),
            Parameter("instance", "Name of that instance."),
        ),
        replies={200: Cluster},
        kafka=False,
    ),
    "operation.set-level": Description(
        "Change the level of a logger",
        "`DEBUG`, `INFO`, `WARNING` or `ERROR`, until the next start or SIGHUP.",
        tag="Operation",
        replies={204: None},
        body=Level,
        body_example={"level": "DEBUG"},
        errors=(Unprocessable,),
        kafka=False,
    ),
}
