"""The keys of several processes, on one machine or on many (cluster.md §3)."""

from __future__ import annotations

import re

from kafka_gateway.config import ConfigKey, section
from kafka_gateway.node_names import read_node_name

_ID = re.compile(r"[a-z0-9-]{1,40}")


def _read_id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise ValueError("1 to 40 of a-z, 0-9 and -")
    return text


def _read_directory(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a path has no control characters")
    return text


WORKERS = section(
    "Workers",
    ConfigKey(
        name="workers",
        type="int",
        default=1,
        minimum=0,
        maximum=256,
        doc="Processes that serve together on this machine; 0: one for each core that the gateway may use.",
    ),
    ConfigKey(
        name="cluster.hold.ms",
        type="duration",
        default=10000,
        unit="ms",
        doc="How long a request for a consumer instance waits for the process that has it, while that starts again, is"
        " replaced, or gives no sign of life; then 503. 0: it does not wait.",
    ),
    ConfigKey(
        name="cluster.hold.max.bytes",
        type="size",
        default=67_108_864,
        unit="bytes",
        doc="Bytes of the bodies of requests that wait so in one process; a request whose body would be beyond that is"
        " answered with 503 at once.",
    ),
    ConfigKey(
        name="cluster.session.timeout.ms",
        type="duration",
        default=6000,
        minimum=1000,
        maximum=3_600_000,
        unit="ms",
        doc="How long a worker may give no sign of life before it is started again, and a node before others get its"
        " consumer instances: at least group.min.session.timeout.ms of the brokers (6000).",
    ),
    ConfigKey(
        name="cluster.enable",
        type="bool",
        default=False,
        doc="Whether this gateway is one of several nodes that serve together, with Kafka between them; each of its"
        " workers is a member then, and consumer instances outlive their worker.",
    ),
    ConfigKey(
        name="cluster.suspend.ms",
        type="duration",
        default=60_000,
        maximum=3_600_000,
        unit="ms",
        doc="How long a process that Kafka has not heard for cluster.session.timeout.ms keeps its consumer instances"
        " unserved; those that nobody else had meanwhile go on where they were. 0: they are closed.",
    ),
    ConfigKey(
        name="cluster.id",
        default="default",
        reads=_read_id,
        doc="Names the nodes that belong together, of all that use one Kafka: 1 to 40 of a-z, 0-9 and -.",
    ),
    ConfigKey(
        name="cluster.node.id",
        default="",
        reads=read_node_name,
        doc="Name of this node, unlike all others' and the same after a restart: 1 to 80 of A-Z, a-z, 0-9, '.', '_' and"
        " -, the first one no '.'; empty: the host name.",
        example="gw-1",
    ),
    ConfigKey(
        name="cluster.slots",
        type="int",
        default=64,
        minimum=4,
        maximum=10_000,
        doc="Partitions of the topic of consumer instances, if the gateway makes it: at least four for each process.",
    ),
    ConfigKey(
        name="cluster.replication.factor",
        type="int",
        default=3,
        minimum=1,
        maximum=100,
        doc="Replicas of the cluster's topics when the gateway makes them, as far as there are brokers.",
    ),
    ConfigKey(
        name="cluster.heartbeat.interval.ms",
        type="duration",
        default=500,
        minimum=100,
        maximum=60_000,
        unit="ms",
        doc="How often a process tells Kafka that it is alive; at most a third of cluster.session.timeout.ms.",
    ),
    ConfigKey(
        name="cluster.handover.timeout.ms",
        type="duration",
        default=3000,
        minimum=100,
        maximum=60_000,
        unit="ms",
        doc="How long requests about consumer instances may take to end when another node is to have them.",
    ),
    ConfigKey(
        name="cluster.drain.wait.ms",
        type="duration",
        default=0,
        maximum=600_000,
        unit="ms",
        doc="How long a node that stops, and says that it is not ready, goes on serving: as long as balancers take to"
        " notice.",
    ),
    ConfigKey(
        name="cluster.leave.on.stop",
        type="bool",
        default=True,
        doc="Whether a node that stops gives its consumer instances to others at once; false: they wait for its"
        " restart, for cluster.session.timeout.ms.",
    ),
    ConfigKey(
        name="cluster.peer.dir",
        default="",
        reads=_read_directory,
        doc="Directory for the sockets between workers, and between nodes of one machine, of mode 0700; empty: a new"
        " one among the temporary files, for workers.",
        example="/run/kafka-gateway/workers",
    ),
)
