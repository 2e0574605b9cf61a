"""What ``/openapi.json`` says of the resources of v1 and v2, of health and of record streams, by resource name.

Examples are those of docs/rest.md and docs/streaming.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway import media
from kafka_gateway.description import Description, Named, Parameter, Shape
from kafka_gateway.errors import (
    AlreadySubscribed,
    BadRequest,
    ConversionError,
    FormatMismatch,
    IllegalState,
    InstanceExists,
    InstanceNotFound,
    InvalidConsumerConfig,
    InvalidSchema,
    InvalidSettings,
    KeySchemaMissing,
    LeaderNotAvailable,
    NotSubscribed,
    PartitionNotFound,
    PayloadError,
    RecordTooLarge,
    RegistryFailure,
    SchemasUnavailable,
    SerializationError,
    ServiceError,
    SimpleReaderUnavailable,
    TooManyRequests,
    TopicNotFound,
    UndecodableRecord,
    UnknownTopicOrPartition,
    Unprocessable,
    UpgradeRequired,
    ValueSchemaMissing,
)
from kafka_gateway.services.common.health import HealthReply
from kafka_gateway.services.common.rows import RowV1, WideRowV2
from kafka_gateway.services.rest.bodies import (
    Assignments,
    Brokers,
    CommittedOffsets,
    CommittedV1,
    InstanceReply,
    Partition,
    PartitionOffsets,
    ProduceReply,
    Topic,
    Topics,
)
from kafka_gateway.services.streams.channels import OF_INSTANCE, of_pushes, of_topics

PATH: Final = {
    "topic": "Name of a topic.",
    "topics": "Names of topics, with commas between.",
    "partition": "Number of a partition.",
    "group": "Name of a consumer group.",
    "instance": "Name of a consumer instance, as its creation answered it.",
}

_TEXT: Final = {"type": "string"}
_INT32: Final = {"type": "integer", "format": "int32"}
_INT64: Final = {"type": "integer", "format": "int64"}
_PARTITION: Final = {**_INT32, "minimum": 0}


def _object(required: tuple[str, ...] = (), /, **members: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _array(items: Shape, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


# --- bodies ----------------------------------------------------------------------------------------------------------

_HEADERS: Final = _array(
    Named(
        "HeaderToSend", _object(("name",), name=_TEXT, value={"type": ["string", "null"], "contentEncoding": "base64"})
    )
)
_PLACE: Final = {"topic": {**_TEXT, "minLength": 1}, "partition": _PARTITION}
_PARTITIONS: Final = Named(
    "PartitionsRequest",
    _object(
        ("partitions",),
        partitions=_array(Named("PartitionPlace", _object(("topic", "partition"), **_PLACE))),
    ),
)
_BASE64: Final = {"type": ["string", "null"], "contentEncoding": "base64"}


def _records(generation: str, with_partition: bool = True) -> Any:
    """The body of a produce request, by embedded format."""

    def of(format: str) -> Shape:
        datum: dict[str, Any] = dict(_BASE64) if format == "binary" else {}
        record = {"key": datum, "value": datum, "timestamp": {"type": ["integer", "string"]}, "headers": _HEADERS}
        name = f"{format.title()}{generation.title()}" + ("" if with_partition else "OfPartition")
        if with_partition:
            record["partition"] = _or_null(_PARTITION)
        body = {"records": _array(Named(f"{name}Record", _object(**record)), minItems=1)}
        if format not in ("binary", "json"):
            for part in ("key", "value"):
                body[f"{part}_schema"] = _or_null(_TEXT)
                body[f"{part}_schema_id"] = _or_null(_INT32)
        return Named(f"{name}Records", _object(("records",), **body))

    return of


_EXAMPLE_BY_FORMAT: Final[Mapping[str, Any]] = {
    "binary": {"records": [{"key": "YQ==", "value": "eyJhbW91bnQiOjF9"}]},
    "json": {"records": [{"key": "a", "value": {"amount": 1}}, {"value": {"amount": 2}}]},
    "avro": {"value_schema": '"long"', "records": [{"value": 1}]},
    "jsonschema": {"value_schema": '{"type":"number"}', "records": [{"value": 1}]},
    "protobuf": {
        "value_schema": 'syntax = "proto3"; message Order { int64 amount = 1; }',
        "records": [{"value": {"amount": 1}}],
    },
}

_INSTANCE_V1: Final = Named(
    "InstanceRequestV1",
    _object(
        name=_or_null(_TEXT),
        id=_or_null(_TEXT),
        format={"type": ["string", "null"]},
        **{
            "auto.offset.reset": {"type": ["string", "null"]},
            "auto.commit.enable": {"type": ["string", "boolean", "null"]},
            "session.timeout.ms": _or_null(_INT32),
        },
    ),
)
_INSTANCE_V2: Final = Named(
    "InstanceRequest",
    _object(
        **_INSTANCE_V1.schema["properties"],
        **{
            "fetch.min.bytes": _or_null(_INT32),
            "responseMinBytes": _or_null(_INT32),
            "consumer.request.timeout.ms": _or_null(_INT32),
            "requestWaitMs": _or_null(_INT32),
            "isolation.level": {"type": ["string", "null"]},
        },
    ),
)
_SUBSCRIPTION: Final = Named(
    "SubscriptionRequest",
    _object(topics={"type": ["array", "null"], "items": {**_TEXT, "minLength": 1}}, topic_pattern=_or_null(_TEXT)),
)
_POSITIONS: Final = Named(
    "PositionsRequest",
    _object(
        offsets=_array(
            Named(
                "OffsetPlace",
                _object(("topic",), **_PLACE, offset={**_INT64, "minimum": 0}, metadata={"type": ["string", "null"]}),
            )
        ),
        timestamps=_array(
            _object(
                ("topic", "timestamp"),
                **_PLACE,
                timestamp={"type": ["string", "number"]},
                metadata={"type": ["string", "null"]},
            )
        ),
    ),
)
_COMMIT: Final = Named(
    "CommitRequest",
    _object(
        ("offsets",),
        offsets=_array(
            _object(
                ("topic", "partition", "offset"),
                **_PLACE,
                offset={**_INT64, "minimum": 0, "maximum": 2**63 - 2},
                metadata={"type": ["string", "null"]},
            )
        ),
    ),
)
_FREE_MAP: Final = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}

# --- parameters ------------------------------------------------------------------------------------------------------

_MAX_BYTES: Final = Parameter("max_bytes", "Bytes of keys and values that a reply holds at most.", _INT64)
_DRY_RUN: Final = Parameter(
    "dry_run", "true: say what would become of the records, and write nothing.", {"enum": ["true", "false"]}
)
_STREAM: Final = (
    Parameter("offset", "latest, earliest, an offset, or -N for the last N records.", example="earliest"),
    Parameter("since", "Begin with the first record of a time: epoch milliseconds, or ISO 8601 with its zone."),
    Parameter("format", "Embedded format of keys and values; also string and auto.", example="json"),
    Parameter("key_format", "The same, for keys alone."),
    Parameter("value_format", "The same, for values alone."),
    Parameter("partitions", "These partitions only, with commas between.", example="0,3"),
    Parameter(
        "until", "end: the stream ends when all that was there at its beginning has been sent.", {"enum": ["end"]}
    ),
    Parameter("limit", "End after so many records.", {**_INT64, "minimum": 1}),
    Parameter("heartbeat", "Seconds between signs of life.", {**_INT32, "minimum": 1, "maximum": 120}),
    Parameter("group", "Read as a member of this consumer group."),
    Parameter("ack", "With group: what is committed, sent or client.", {"enum": ["sent", "client"]}),
    Parameter("last_event_id", "Go on behind this token."),
    Parameter("Last-Event-ID", "As last_event_id, which it beats; EventSource sends it.", place="header"),
)

# --- errors ----------------------------------------------------------------------------------------------------------

_Errors = tuple[type[ServiceError], ...]
_SCHEMA_ERRORS_V2: Final[_Errors] = (
    KeySchemaMissing,
    ValueSchemaMissing,
    InvalidSchema,
    SchemasUnavailable,
    SerializationError,
)
_SCHEMA_ERRORS_V1: Final[_Errors] = (
    KeySchemaMissing,
    ValueSchemaMissing,
    ConversionError,
    InvalidSchema,
    SchemasUnavailable,
    RegistryFailure,
)
_OF_INSTANCE: Final[_Errors] = (InstanceNotFound, IllegalState)
_READS: Final[_Errors] = (*_OF_INSTANCE, FormatMismatch, UndecodableRecord, NotSubscribed, TooManyRequests)


def _described(generation: str) -> dict[str, Description]:
    """What the two generations have in common."""
    v1 = generation == "v1"
    topic = (TopicNotFound,) if v1 else (UnknownTopicOrPartition,)
    schemas = _SCHEMA_ERRORS_V1 if v1 else _SCHEMA_ERRORS_V2
    row: Shape = {"type": "array", "items": RowV1 if v1 else WideRowV2}
    of_consumers = f"Consumers ({generation})"
    produce = Description(
        "Produce records to a topic",
        "The media type says how keys and values are embedded. Each record has its row, in the order of the request: "
        "where it is stored, or why not.",
        tag="Records",
        replies={200: ProduceReply} if v1 else {200: ProduceReply, 401: ProduceReply, 403: ProduceReply},
        body=_records(generation),
        body_example=_EXAMPLE_BY_FORMAT,
        reply_example={
            "offsets": [{"partition": 0, "offset": 4, "error_code": None, "error": None}],
            "key_schema_id": None,
            "value_schema_id": None,
        },
        parameters=(_DRY_RUN,),
        errors=(BadRequest, Unprocessable, RecordTooLarge, *schemas, *((PartitionNotFound, *topic) if v1 else ())),
    )
    root = Description("The root, an empty object", tag="Topics", replies={200: {"type": "object"}}, kafka=False)
    return {
        "root.get": root,
        "root.post": Description(
            "The root, an empty object", tag="Topics", replies={200: {"type": "object"}}, body=_FREE_MAP, kafka=False,
            errors=(BadRequest,),
        ),
        "brokers.list": Description("Ids of the brokers", tag="Topics", replies={200: Brokers}),
        "topics.list": Description(
            "Names of the topics", tag="Topics", replies={200: _array(_TEXT)}, reply_example=["orders"]
        ),
        "topics.get": Description("A topic: partitions and settings", tag="Topics", replies={200: Topic}, errors=topic),
        "partitions.list": Description(
            "Partitions of a topic", tag="Topics", replies={200: {"type": "array", "items": Partition}}, errors=topic
        ),
        "partitions.get": Description(
            "One partition", tag="Topics", replies={200: Partition}, errors=(PartitionNotFound, *topic)
        ),
        "produce-to-topic": produce,
        "produce-to-partition": Description(
            "Produce records to a partition",
            produce.text,
            tag="Records",
            replies=produce.replies,
            body=_records(generation, with_partition=not v1),
            body_example=_EXAMPLE_BY_FORMAT,
            reply_example=produce.reply_example,
            parameters=(_DRY_RUN,),
            errors=(*produce.errors, Unprocessable),
        ),
        "consumers.create": Description(
            "Create a consumer instance",
            "It is gone when it was not used for consumer.instance.timeout.ms.",
            tag=of_consumers,
            replies={200: InstanceReply},
            body=_INSTANCE_V1 if v1 else _INSTANCE_V2,
            body_example={"name": "one", "format": "json", "auto.offset.reset": "smallest" if v1 else "earliest"},
            reply_example={
                "instance_id": "one",
                "base_uri": "http://127.0.0.1:8082/consumers/billing/instances/one",
            },
            errors=(BadRequest, Unprocessable, InstanceExists, InvalidSettings, InvalidConsumerConfig, TooManyRequests),
        ),
        "consumers.delete": Description(
            "Delete a consumer instance", tag=of_consumers, replies={204: None}, errors=_OF_INSTANCE
        ),
        "consumers.consume": Description(
            "Read records",
            "Answers as soon as there is a record, and with an empty list when its time is up. The first read joins "
            "the group.",
            tag=of_consumers,
            replies={200: row},
            parameters=(
                _MAX_BYTES,
                *(
                    ()
                    if v1
                    else (
                        Parameter("timeout", "Milliseconds that it waits; 0: what is there now.", _INT64),
                        Parameter(
                            "include", "What rows show beside: headers, timestamp, with commas between.",
                            example="headers,timestamp",
                        ),
                        Parameter("heartbeat", "Of an event stream: seconds between signs of life."),
                    )
                ),
            ),
            errors=(*_READS, BadRequest, *((TopicNotFound, AlreadySubscribed, SimpleReaderUnavailable) if v1 else ())),
            channels=() if v1 else OF_INSTANCE,
        ),
        "consumers.push": Description(
            "Subscribe to pushed records",
            "Over a WebSocket, or another connection that can carry several replies; plain HTTP is answered 426"
            + (", unless it accepts text/event-stream." if v1 else "."),
            tag=of_consumers,
            replies={200: row},
            parameters=(_MAX_BYTES,),
            errors=(*_READS, BadRequest, UpgradeRequired, *((TopicNotFound, AlreadySubscribed) if v1 else ())),
            channels=of_pushes(
                generation,
                "/ws/consumers/{group}/instances/{instance}/" + ("topics/{topic}" if v1 else "records"),
                RowV1 if v1 else WideRowV2,
            ),
        ),
        "consumers.end-push": Description(
            "End a subscription to pushed records",
            tag=of_consumers,
            replies={204: None},
            errors=(*_OF_INSTANCE, AlreadySubscribed),
        ),
    }  # fmt: skip


_OF_V2: Final = "Consumers (v2)"


def _managing(summary: str, reply: Shape = None, *errors: type[ServiceError], **more: Any) -> Description:
    replies = {204: None} if reply is None else {200: reply}
    return Description(summary, tag=_OF_V2, replies=replies, errors=(*_OF_INSTANCE, *errors), **more)


_ONLY_V2: Final = {
    "partitions.get-offsets": Description(
        "First and next offset of a partition",
        tag="Topics",
        replies={200: PartitionOffsets},
        errors=(PartitionNotFound, UnknownTopicOrPartition, LeaderNotAvailable),
    ),
    "consumers.subscribe": _managing(
        "Subscribe to topics, or to a pattern",
        None,
        Unprocessable,
        BadRequest,
        body=_SUBSCRIPTION,
        body_example={"topics": ["orders"]},
    ),
    "consumers.get-subscription": _managing("Topics subscribed to", Topics),
    "consumers.unsubscribe": _managing("End the subscription"),
    "consumers.assign": _managing(
        "Assign partitions",
        None,
        Unprocessable,
        BadRequest,
        UnknownTopicOrPartition,
        body=_PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.get-assignments": _managing("Partitions assigned", Assignments),
    "consumers.seek-to-offset": _managing(
        "Go on at offsets, or at times",
        None,
        Unprocessable,
        BadRequest,
        body=_POSITIONS,
        body_example={"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]},
    ),
    "consumers.seek-to-beginning": _managing(
        "Go back to the first records",
        None,
        Unprocessable,
        BadRequest,
        body=_PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.seek-to-end": _managing(
        "Go to the end",
        None,
        Unprocessable,
        BadRequest,
        body=_PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.commit-offsets": _managing(
        "Commit offsets",
        {"type": "array", "maxItems": 0, "items": {}},
        Unprocessable,
        BadRequest,
        text="Without a body: of all that was returned so far. With one: one more than each offset given.",
        body=_COMMIT,
        body_example={"offsets": [{"topic": "orders", "partition": 0, "offset": 20}]},
        parameters=(Parameter("async", "true: answer before Kafka does.", {"enum": ["true", "false"]}),),
    ),
    "consumers.get-committed-offsets": _managing(
        "Committed offsets",
        CommittedOffsets,
        Unprocessable,
        BadRequest,
        PartitionNotFound,
        text="The partitions stand in the body, though it is a GET.",
        body=_PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
}

_ONLY_V1: Final = {
    "partitions.consume": Description(
        "Read a partition directly",
        "No group, no instance, nothing committed.",
        tag="Records",
        replies={200: {"type": "array", "items": RowV1}},
        parameters=(
            Parameter("offset", "Where to begin.", _INT64, example=0),
            Parameter("count", "How many records at most.", _INT64, example=1),
        ),
        errors=(
            TopicNotFound,
            PartitionNotFound,
            LeaderNotAvailable,
            SimpleReaderUnavailable,
            UndecodableRecord,
            TooManyRequests,
        ),
    ),
    "consumers.commit-offsets": Description(
        "Commit what was returned so far",
        tag="Consumers (v1)",
        replies={200: {"type": "array", "items": CommittedV1}},
        errors=(*_OF_INSTANCE, BadRequest),
        body=Named("CommitRequestV1", {"type": "object"}),
    ),
}

_HEALTH: Final = {
    "health.live": Description(
        "Whether the process answers", tag="Health", replies={200: HealthReply}, kafka=False,
    ),
    "health.ready": Description(
        "Whether Kafka answers, so that requests can be served",
        tag="Health",
        replies={200: HealthReply, 503: HealthReply},
        reply_example={"status": "ready"},
        kafka=False,
    ),
}  # fmt: skip

_STREAMS: Final = {
    "streams.topics": Description(
        "A stream of the records of topics",
        "One JSON object a line, or server-sent events for who accepts text/event-stream; docs/streaming.md has more.",
        tag="Streams",
        replies={200: _TEXT},
        reply_types={200: (media.NDJSON, media.EVENTS)},
        parameters=_STREAM,
        errors=(BadRequest, TopicNotFound, PartitionNotFound, Unprocessable, TooManyRequests, PayloadError),
        channels=of_topics(_STREAM),
    ),
}

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    **{f"api.v1.{name}": each for name, each in (_described("v1") | _ONLY_V1).items()},
    **{f"api.v2.{name}": each for name, each in (_described("v2") | _ONLY_V2).items()},
    **_HEALTH,
    **_STREAMS,
}
