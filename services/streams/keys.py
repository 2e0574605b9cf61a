"""Configuration keys of record streams (docs/streaming.md)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

_MIB = 1024 * 1024

STREAMS: tuple[ConfigKey, ...] = section(
    "Streams",
    ConfigKey(
        name="stream.max.topics",
        type="int",
        default=100,
        minimum=1,
        doc="How many topics one stream may name.",
    ),
    ConfigKey(
        name="stream.max.per.session",
        type="int",
        default=100,
        minimum=1,
        doc="How many streams one client session, such as a socket with envelopes, may have open at a time.",
    ),
    ConfigKey(
        name="stream.buffer.bytes",
        type="size",
        default=_MIB,
        unit="bytes",
        minimum=16 * 1024,
        maximum=1024 * _MIB,
        doc="What one stream may have waiting for its client, and how much of each topic's end is kept for new ones.",
    ),
    ConfigKey(
        name="stream.max.catchup.readers",
        type="int",
        default=16,
        minimum=1,
        maximum=1000,
        doc="Kafka consumers that read the past for streams at a time; further streams wait for their turn.",
    ),
    ConfigKey(
        name="stream.linger.ms",
        type="duration",
        default=5000,
        unit="ms",
        doc="How long the Kafka consumer of a topic is kept after the last stream has left.",
    ),
    ConfigKey(
        name="stream.write.timeout.ms",
        type="duration",
        default=60000,
        unit="ms",
        minimum=1,
        doc="A stream whose client accepts no byte for so long is closed.",
    ),
    ConfigKey(
        name="stream.max.unacked.records",
        type="int",
        default=1000,
        minimum=1,
        doc="With ack=client: records that are sent and not acknowledged yet; then the stream waits.",
    ),
)
