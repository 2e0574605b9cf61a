"""Configuration keys of the v3 API (kafka-rest-http.md §9.2, §9.3)."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section

V3: tuple[ConfigKey, ...] = section(
    "API v3",
    ConfigKey(name="api.v3.enable", type="bool", default=True, doc="Serve the v3 API (docs/rest-v3.md)."),
    ConfigKey(
        name="confluent.resource.name.authority",
        doc="Authority of the resource names in v3 replies: crn://AUTHORITY/kafka=….",
    ),
    ConfigKey(
        name="streaming.connection.max.duration.ms",
        type="duration",
        default=86_400_000,
        unit="ms",
        minimum=1,
        doc="How long one streaming produce request may last; each further record is answered with 408.",
    ),
    ConfigKey(
        name="streaming.connection.max.duration.grace.period.ms",
        type="duration",
        default=500,
        unit="ms",
        minimum=0,
        doc="How much later such a request is ended.",
    ),
    ConfigKey(
        name="api.v3.produce.batch.maximum.entries",
        type="int",
        default=10,
        minimum=1,
        maximum=50,
        doc="Most records of one records:batch request.",
    ),
    ConfigKey(
        name="api.v3.produce.request.size.limit.max.bytes",
        type="size",
        default=0,
        minimum=0,
        unit="bytes",
        doc="Longest JSON of one record in a streaming produce request; 0: request.max.bytes.",
    ),
    ConfigKey(
        name="api.v3.produce.rate.limit.enabled",
        type="bool",
        default=False,
        doc="Limit the records that v3 takes a second; those above get a report with 429.",
    ),
    ConfigKey(
        name="api.v3.produce.rate.limit.max.requests.per.sec",
        type="int",
        default=10_000,
        minimum=1,
        doc="Records a second for the cluster.",
    ),
    ConfigKey(
        name="api.v3.produce.rate.limit.max.requests.global.per.sec",
        type="int",
        default=10_000,
        minimum=1,
        doc="Records a second for the process.",
    ),
    ConfigKey(
        name="api.v3.produce.rate.limit.max.bytes.per.sec",
        type="int",
        default=10_000_000,
        minimum=1,
        doc="Bytes of JSON a second for the cluster.",
    ),
    ConfigKey(
        name="api.v3.produce.rate.limit.max.bytes.global.per.sec",
        type="int",
        default=10_000_000,
        minimum=1,
        doc="Bytes of JSON a second for the process.",
    ),
)
