"""The keys of the REST generations, of producing and of consuming."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

_MIB = 1024 * 1024


APIS = section(
    "APIs",
    ConfigKey(
        name="id",
        doc="Name of this server; part of the names of the consumers it creates.",
        example="kafka-rest-test-server",
    ),
    ConfigKey(name="api.v1.enable", type="bool", default=True, doc="Serve the v1 API."),
    ConfigKey(name="api.v2.enable", type="bool", default=True, doc="Serve the v2 API."),
    ConfigKey(
        name="api.default.generation",
        type="enum",
        default="v2",
        choices=("v1", "v2"),
        doc="API of a request whose media types and path do not tell.",
    ),
    ConfigKey(
        name="api.v2.accept.json",
        type="bool",
        default=False,
        doc="Let application/json choose v2 where v1 is off; otherwise the answer is 406.",
    ),
    ConfigKey(
        name="api.endpoints.allowlist",
        live=True,
        type="list",
        default=(),
        doc="Resources to serve, by name (api.v2.produce-to-topic, or a class with .*); empty: all.",
    ),
    ConfigKey(
        name="api.endpoints.blocklist", live=True, type="list", default=(), doc="Resources not to serve, by name."
    ),
    ConfigKey(
        name="response.mediatype.preferred",
        type="list",
        default=("application/json", "application/vnd.kafka.v2+json"),
        doc="Media types of answers in the order in which they are preferred.",
    ),
    ConfigKey(
        name="response.mediatype.default",
        default="application/json",
        doc="Media type of an answer when the request names none.",
    ),
    ConfigKey(
        name="debug",
        type="bool",
        default=False,
        doc="Put the details of unexpected errors into answers; they may show internals.",
    ),
)

PRODUCE = section(
    "Produce",
    ConfigKey(
        name="produce.timeout.ms",
        type="duration",
        default=30000,
        unit="ms",
        minimum=1,
        maximum=900000,
        doc="The answer to a produce comes within this time; records that Kafka has not confirmed by then are failed.",
    ),
    ConfigKey(
        name="produce.records.max",
        type="int",
        default=10_000,
        unit="records",
        minimum=1,
        doc="Most records of one produce request; while 25,000 are taken in, all other requests wait for 45 ms.",
    ),
    ConfigKey(
        name="producer.linger.ms",
        type="float",
        default=2,
        unit="ms",
        minimum=0,
        maximum=900000,
        doc="How long a record may wait for others to share its batch; up to 5, only while others are under way, and "
        "for half of the time that these take, up to 20 ms.",
    ),
    ConfigKey(
        name="producer.queue.bytes",
        type="size",
        default=64 * _MIB,
        unit="bytes",
        minimum=1024,
        maximum=(2**31 - 1) * 1024,
        doc="Keys and values waiting in one producer; what exceeds it is answered with a retriable error.",
    ),
    ConfigKey(
        name="producer.queue.records",
        type="int",
        default=500000,
        unit="records",
        minimum=1,
        doc="Records waiting in one producer; each costs about 120 bytes besides its content.",
    ),
)

CONSUME = section(
    "Consume",
    ConfigKey(
        name="consumer.request.timeout.ms",
        type="duration",
        default=1000,
        unit="ms",
        maximum=2**31 - 1,
        doc="Longest duration of one read.",
    ),
    ConfigKey(
        name="consumer.request.max.bytes",
        type="size",
        default=64 * _MIB,
        unit="bytes",
        minimum=1,
        doc="Most keys and values in one read.",
    ),
    ConfigKey(
        name="consumer.records.max",
        type="int",
        default=5000,
        unit="records",
        minimum=1,
        maximum=1000000,
        doc="Most records in one read.",
    ),
    ConfigKey(
        name="fetch.min.bytes",
        type="int",
        default=-1,
        unit="bytes",
        minimum=-1,
        maximum=10000000,
        doc="A v2 read answers before its time is over once it holds more than this; -1: as soon as there is a record.",
    ),
    ConfigKey(
        name="consumer.instance.timeout.ms",
        type="duration",
        default=300000,
        unit="ms",
        minimum=1,
        maximum=2**31 - 1,
        doc="A consumer instance that is not used for this long is closed.",
    ),
    ConfigKey(
        name="consumer.enable.auto.commit",
        type="bool",
        default=True,
        doc="Whether a v2 instance whose creator does not say commits by itself what it has returned.",
    ),
    ConfigKey(
        name="consumer.auto.commit.interval.ms",
        type="duration",
        default=5000,
        unit="ms",
        minimum=1,
        maximum=86400000,
        doc="How often an instance with auto.commit.enable commits what it has returned.",
    ),
    ConfigKey(
        name="consumer.instances.max",
        type="int",
        default=1000,
        minimum=1,
        doc="Most consumer instances; each costs four threads and its buffer.",
    ),
    ConfigKey(
        name="consumer.buffer.bytes",
        type="size",
        default=_MIB,
        unit="bytes",
        minimum=1024,
        maximum=2097151 * 1024,
        doc="Records that one consumer instance fetches ahead.",
    ),
)
