"""Configuration keys of the header-preserving HTTP bridges (docs/bridges.md)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

_IN = "bridge.producer.<name>."
_OUT = "bridge.consumer.<name>."
_DECISIONS = ("auto", "dlq", "block", "stop", "drop")

BRIDGES: tuple[ConfigKey, ...] = section(
    "HTTP bridges",
    ConfigKey(
        name=_IN + "path",
        type="list",
        default=("/api/v1/write", "/v1/write"),
        doc="Paths of this bridge: what is posted there becomes a record, body and header as they are.",
    ),
    ConfigKey(name=_IN + "topic", doc="Topic of the records; a bridge must have one.", example="metrics"),
    ConfigKey(name=_IN + "key.header", doc="Field of the request whose value is the record's key; empty: no key."),
    ConfigKey(
        name=_IN + "multi.value",
        type="enum",
        default="join",
        choices=("join", "repeat"),
        doc="Several fields of one name: joined with commas (Cookie: with '; '), or a record header each.",
    ),
    ConfigKey(
        name=_IN + "header.allow",
        type="list",
        default=(),
        doc="Patterns (*, ?) of the fields that become record headers; empty: all, but those of the connection.",
    ),
    ConfigKey(
        name=_IN + "header.deny", type="list", default=(), doc="Patterns of fields to leave out; beats header.allow."
    ),
    ConfigKey(
        name=_IN + "max.body.bytes",
        type="size",
        default=1_000_000,
        unit="bytes",
        doc="Longest body, 413 above; the record's whole size is also bounded by producer.max.request.size.",
    ),
    ConfigKey(
        name=_IN + "max.inflight",
        type="int",
        default=1000,
        minimum=1,
        doc="Requests of this bridge on their way to Kafka, 503 above.",
    ),
    ConfigKey(name=_OUT + "topic", type="list", default=(), doc="Topics to read; a bridge must have one."),
    ConfigKey(
        name=_OUT + "sink",
        doc="URL that every record is posted to; a bridge must have one.",
        example="https://metrics.example.com/api/v1/push",
    ),
    ConfigKey(name=_OUT + "group", doc="Consumer group; empty: kafka-gateway-bridge-<name>."),
    ConfigKey(
        name=_OUT + "offset.reset",
        type="enum",
        default="earliest",
        choices=("earliest", "latest", "error"),
        doc="Where a group without stored offsets begins; error: nowhere, until it has some.",
    ),
    ConfigKey(
        name=_OUT + "ordering",
        type="enum",
        default="partition",
        choices=("partition", "key", "none"),
        doc="Which records never overtake each other: those of a partition, those of a key, or none.",
    ),
    ConfigKey(
        name=_OUT + "max.concurrency", type="int", default=16, minimum=1, maximum=1000, doc="Posts at the same time."
    ),
    ConfigKey(
        name=_OUT + "max.buffered.records",
        type="int",
        default=1000,
        minimum=1,
        doc="Records read and not done; at this number reading pauses.",
    ),
    ConfigKey(
        name=_OUT + "max.buffered.bytes",
        type="size",
        default=64 * 1024 * 1024,
        unit="bytes",
        minimum=1,
        doc="The same in bytes.",
    ),
    ConfigKey(
        name=_OUT + "sink.timeout.ms",
        type="duration",
        default=10_000,
        unit="ms",
        minimum=1,
        doc="How long one attempt may take.",
    ),
    ConfigKey(name=_OUT + "sink.ca.location", type="file", doc="PEM file of the CA of an https sink; empty: system's."),
    ConfigKey(name=_OUT + "sink.certificate.location", type="file", doc="PEM file with the client's certificate."),
    ConfigKey(name=_OUT + "sink.key.location", type="file", doc="PEM file with its key, if that stands elsewhere."),
    ConfigKey(
        name=_OUT + "sink.token.location",
        type="file",
        doc="File with a bearer token for the sink, read again when it changes; beats a record's Authorization.",
    ),
    ConfigKey(
        name=_OUT + "retry.initial.ms",
        type="duration",
        default=2000,
        unit="ms",
        minimum=1,
        doc="Pause after the first failed attempt.",
    ),
    ConfigKey(
        name=_OUT + "retry.factor",
        type="float",
        default=2.0,
        minimum=1,
        maximum=100,
        doc="By how much each pause is longer than the one before.",
    ),
    ConfigKey(
        name=_OUT + "retry.max.ms", type="duration", default=120_000, unit="ms", minimum=1, doc="The longest pause."
    ),
    ConfigKey(
        name=_OUT + "retry.jitter.ms",
        type="duration",
        default=5000,
        unit="ms",
        doc="A pause is longer by a random time up to this.",
    ),
    ConfigKey(
        name=_OUT + "max.attempts",
        type="int",
        default=10,
        minimum=1,
        doc="Attempts for one record before on.exhausted decides.",
    ),
    ConfigKey(
        name=_OUT + "on.exhausted",
        type="enum",
        default="auto",
        choices=_DECISIONS,
        doc="What happens to a record after max.attempts; auto: dlq if there is a dlq.topic, else block.",
    ),
    ConfigKey(
        name=_OUT + "on.permanent",
        type="enum",
        default="auto",
        choices=_DECISIONS,
        doc="What happens to a record that the sink refuses for good (3xx, 4xx, 501, 505); auto: as for on.exhausted.",
    ),
    ConfigKey(name=_OUT + "dlq.topic", doc="Topic for records that the sink does not take."),
    ConfigKey(
        name=_OUT + "commit.interval.ms",
        type="duration",
        default=1000,
        unit="ms",
        minimum=10,
        doc="How often the offsets of what the sink has taken are stored.",
    ),
    ConfigKey(
        name=_OUT + "revoke.timeout.ms",
        type="duration",
        default=20_000,
        unit="ms",
        doc="How long a partition that goes to another member waits for posts that were sent.",
    ),
    ConfigKey(
        name=_OUT + "split.commas",
        type="bool",
        default=False,
        doc="Split record headers at commas into fields of their own, as Bytehoops did.",
    ),
    ConfigKey(
        name=_OUT + "metadata.headers",
        type="bool",
        default=False,
        doc="Add X-Kafka-Topic, -Partition, -Offset, -Timestamp and -Key (base64) to each post.",
    ),
    ConfigKey(
        name="bridge.sink.allow",
        type="list",
        default=(),
        doc="Networks, addresses and names of hosts that sinks may be at although they are not public.",
        example="10.0.0.0/8,mimir.monitoring.svc",
    ),
    live=True,
)
