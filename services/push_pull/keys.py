"""Configuration keys of the push and pull endpoints (docs/push-pull.md)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

PUSH_PULL: tuple[ConfigKey, ...] = section(
    "Push and pull",
    ConfigKey(
        name="push.pull.enable",
        type="bool",
        default=True,
        doc="Serve the push and pull endpoints, compatible with flasfka (docs/push-pull.md).",
    ),
    ConfigKey(
        name="push.pull.prefix",
        default="/flasfka/v1",
        doc="Path below which they are; / for all paths, which leaves no room for any other API.",
    ),
    ConfigKey(
        name="push.pull.group.default",
        default="flasfka",
        doc="Group of a pull that names none.",
    ),
    ConfigKey(
        name="push.pull.limit",
        type="int",
        default=100,
        minimum=1,
        doc="Most messages of a pull that names no limit.",
    ),
    ConfigKey(
        name="push.pull.limit.max",
        type="int",
        default=10_000,
        minimum=1,
        doc="Greatest limit that a pull may name.",
    ),
    ConfigKey(
        name="push.pull.timeout.ms",
        type="duration",
        default=100,
        unit="ms",
        minimum=1,
        maximum=60_000,
        doc="A pull that has read all there was ends after this long without a further message.",
    ),
    ConfigKey(
        name="push.pull.wait.max.ms",
        type="duration",
        default=10_000,
        unit="ms",
        minimum=1,
        maximum=300_000,
        doc="Longest duration of a pull; it answers with what it has then.",
    ),
    ConfigKey(
        name="push.pull.response.max.bytes",
        type="size",
        default=8 * 1024 * 1024,
        unit="bytes",
        minimum=1,
        doc="A pull stops early rather than answer with more messages than this; one message always goes.",
    ),
    ConfigKey(
        name="push.pull.consumers.max",
        type="int",
        default=100,
        minimum=1,
        doc="Most pairs of group and topic whose Kafka consumers are kept; the one idle for longest makes room.",
    ),
    ConfigKey(
        name="push.pull.consumers.idle.ms",
        type="duration",
        default=60_000,
        unit="ms",
        minimum=1,
        doc="The consumer of a group and topic that nobody pulls from for this long is closed.",
    ),
    ConfigKey(
        name="push.pull.topics",
        type="list",
        default=(),
        doc="Topics that may be pushed to and pulled from, names or patterns with *; empty: all.",
        example="orders,log-*",
    ),
    ConfigKey(
        name="push.pull.groups",
        type="list",
        default=(),
        doc="Groups that pulls may name, names or patterns with *; empty: all.",
        example="flasfka,report-*",
    ),
)
