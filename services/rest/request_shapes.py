"""JSON schemas, examples and parameters of the requests of v1, of v2 and of record streams, for `descriptions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway.description import Named, Parameter, Shape
from kafka_gateway.services.common.shapes import INT32, INT64, TEXT, array_of, object_of, or_null

PARTITION: Final = {**INT32, "minimum": 0}

# --- bodies ----------------------------------------------------------------------------------------------------------

HEADERS: Final = array_of(
    Named(
        "HeaderToSend", object_of(("name",), name=TEXT, value={"type": ["string", "null"], "contentEncoding": "base64"})
    )
)
PARTITION_OF_TOPIC: Final = {"topic": {**TEXT, "minLength": 1}, "partition": PARTITION}
PARTITIONS: Final = Named(
    "PartitionsRequest",
    object_of(
        ("partitions",),
        partitions=array_of(Named("PartitionPlace", object_of(("topic", "partition"), **PARTITION_OF_TOPIC))),
    ),
)
BASE64: Final = {"type": ["string", "null"], "contentEncoding": "base64"}


def records_of(generation: str, with_partition: bool = True) -> Any:
    """The body of a produce request, by embedded format."""

    def of(format: str) -> Shape:
        datum: dict[str, Any] = dict(BASE64) if format == "binary" else {}
        record = {"key": datum, "value": datum, "timestamp": {"type": ["integer", "string"]}, "headers": HEADERS}
        name = f"{format.title()}{generation.title()}" + ("" if with_partition else "OfPartition")
        if with_partition:
            record["partition"] = or_null(PARTITION)
        body = {"records": array_of(Named(f"{name}Record", object_of(**record)), minItems=1)}
        if format not in ("binary", "json"):
            for part in ("key", "value"):
                body[f"{part}_schema"] = or_null(TEXT)
                body[f"{part}_schema_id"] = or_null(INT32)
        return Named(f"{name}Records", object_of(("records",), **body))

    return of


RECORDS_BY_FORMAT: Final[Mapping[str, Any]] = {
    "binary": {"records": [{"key": "YQ==", "value": "eyJhbW91bnQiOjF9"}]},
    "json": {"records": [{"key": "a", "value": {"amount": 1}}, {"value": {"amount": 2}}]},
    "avro": {"value_schema": '"long"', "records": [{"value": 1}]},
    "jsonschema": {"value_schema": '{"type":"number"}', "records": [{"value": 1}]},
    "protobuf": {
        "value_schema": 'syntax = "proto3"; message Order { int64 amount = 1; }',
        "records": [{"value": {"amount": 1}}],
    },
}

INSTANCE_V1: Final = Named(
    "InstanceRequestV1",
    object_of(
        name=or_null(TEXT),
        id=or_null(TEXT),
        format={"type": ["string", "null"]},
        **{
            "auto.offset.reset": {"type": ["string", "null"]},
            "auto.commit.enable": {"type": ["string", "boolean", "null"]},
            "session.timeout.ms": or_null(INT32),
        },
    ),
)
INSTANCE_V2: Final = Named(
    "InstanceRequest",
    object_of(
        **INSTANCE_V1.schema["properties"],
        **{
            "fetch.min.bytes": or_null(INT32),
            "responseMinBytes": or_null(INT32),
            "consumer.request.timeout.ms": or_null(INT32),
            "requestWaitMs": or_null(INT32),
            "isolation.level": {"type": ["string", "null"]},
        },
    ),
)
SUBSCRIPTION: Final = Named(
    "SubscriptionRequest",
    object_of(topics={"type": ["array", "null"], "items": {**TEXT, "minLength": 1}}, topic_pattern=or_null(TEXT)),
)
POSITIONS: Final = Named(
    "PositionsRequest",
    object_of(
        offsets=array_of(
            Named(
                "OffsetPlace",
                object_of(
                    ("topic",),
                    **PARTITION_OF_TOPIC,
                    offset={**INT64, "minimum": 0},
                    metadata={"type": ["string", "null"]},
                ),
            )
        ),
        timestamps=array_of(
            object_of(
                ("topic", "timestamp"),
                **PARTITION_OF_TOPIC,
                timestamp={"type": ["string", "number"]},
                metadata={"type": ["string", "null"]},
            )
        ),
    ),
)
COMMIT: Final = Named(
    "CommitRequest",
    object_of(
        ("offsets",),
        offsets=array_of(
            object_of(
                ("topic", "partition", "offset"),
                **PARTITION_OF_TOPIC,
                offset={**INT64, "minimum": 0, "maximum": 2**63 - 2},
                metadata={"type": ["string", "null"]},
            )
        ),
    ),
)
FREE_MAP: Final = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}

# --- parameters ------------------------------------------------------------------------------------------------------

MAX_BYTES: Final = Parameter("max_bytes", "Bytes of keys and values that a reply holds at most.", INT64)
DRY_RUN: Final = Parameter(
    "dry_run", "true: say what would become of the records, and write nothing.", {"enum": ["true", "false"]}
)
OF_STREAMS: Final = (
    Parameter("offset", "latest, earliest, an offset, or -N for the last N records.", example="earliest"),
    Parameter("since", "Begin with the first record of a time: epoch milliseconds, or ISO 8601 with its zone."),
    Parameter("format", "Embedded format of keys and values; also string and auto.", example="json"),
    Parameter("key_format", "The same, for keys alone."),
    Parameter("value_format", "The same, for values alone."),
    Parameter("partitions", "These partitions only, with commas between.", example="0,3"),
    Parameter(
        "until", "end: the stream ends when all that was there at its beginning has been sent.", {"enum": ["end"]}
    ),
    Parameter("limit", "End after so many records.", {**INT64, "minimum": 1}),
    Parameter("heartbeat", "Seconds between signs of life.", {**INT32, "minimum": 1, "maximum": 120}),
    Parameter("group", "Read as a member of this consumer group."),
    Parameter("ack", "With group: what is committed, sent or client.", {"enum": ["sent", "client"]}),
    Parameter("last_event_id", "Go on behind this token."),
    Parameter("Last-Event-ID", "As last_event_id, which it beats; EventSource sends it.", place="header"),
)
