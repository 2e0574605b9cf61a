"""The keys of several processes on one machine (cluster.md §3)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

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
        doc="How long a request for a consumer instance waits for the worker that has it, while that is started again;"
        " then 503. 0: it does not wait. So long it waits, too, for a worker that gives no sign of life.",
    ),
    ConfigKey(
        name="cluster.session.timeout.ms",
        type="duration",
        default=6000,
        minimum=1000,
        maximum=3_600_000,
        unit="ms",
        doc="How long a worker may give no sign of life before it is killed and started again.",
    ),
    ConfigKey(
        name="cluster.peer.dir",
        default="",
        doc="Directory for the sockets between workers, of mode 0700; empty: a new one among the temporary files.",
        example="/run/kafka-gateway/workers",
    ),
)
