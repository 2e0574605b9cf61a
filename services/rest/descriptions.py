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
from kafka_gateway.kafka_errors import RecordTooLarge
from kafka_gateway.services.common.health import HealthReply
from kafka_gateway.services.common.rows import RowV1, WideRowV2
from kafka_gateway.services.common.shapes import INT64, TEXT, array_of
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
from kafka_gateway.services.rest.request_shapes import (
    COMMIT,
    DRY_RUN,
    FREE_MAP,
    INSTANCE_V1,
    INSTANCE_V2,
    MAX_BYTES,
    OF_STREAMS,
    PARTITIONS,
    POSITIONS,
    RECORDS_BY_FORMAT,
    SUBSCRIPTION,
    records_of,
)
from kafka_gateway.services.streams.channels import OF_INSTANCE, of_pushes, of_topics

PATH: Final = {
    "topic": "Name of a topic.",
    "topics": "Names of topics, with commas between.",
    "partition": "Number of a partition.",
    "group": "Name of a consumer group.",
    "instance": "Name of a consumer instance, as its creation answered it.",
}

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
        body=records_of(generation),
        body_example=RECORDS_BY_FORMAT,
        reply_example={
            "offsets": [{"partition": 0, "offset": 4, "error_code": None, "error": None}],
            "key_schema_id": None,
            "value_schema_id": None,
        },
        parameters=(DRY_RUN,),
        errors=(BadRequest, Unprocessable, RecordTooLarge, *schemas, *((PartitionNotFound, *topic) if v1 else ())),
    )
    root = Description("The root, an empty object", tag="Topics", replies={200: {"type": "object"}}, kafka=False)
    return {
        "root.get": root,
        "root.post": Description(
            "The root, an empty object", tag="Topics", replies={200: {"type": "object"}}, body=FREE_MAP, kafka=False,
            errors=(BadRequest,),
        ),
        "brokers.list": Description("Ids of the brokers", tag="Topics", replies={200: Brokers}),
        "topics.list": Description(
            "Names of the topics", tag="Topics", replies={200: array_of(TEXT)}, reply_example=["orders"]
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
            body=records_of(generation, with_partition=not v1),
            body_example=RECORDS_BY_FORMAT,
            reply_example=produce.reply_example,
            parameters=(DRY_RUN,),
            errors=(*produce.errors, Unprocessable),
        ),
        "consumers.create": Description(
            "Create a consumer instance",
            "It is gone when it was not used for consumer.instance.timeout.ms.",
            tag=of_consumers,
            replies={200: InstanceReply},
            body=INSTANCE_V1 if v1 else INSTANCE_V2,
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
                MAX_BYTES,
                *(
                    ()
                    if v1
                    else (
                        Parameter("timeout", "Milliseconds that it waits; 0: what is there now.", INT64),
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
            parameters=(MAX_BYTES,),
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
        body=SUBSCRIPTION,
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
        body=PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.get-assignments": _managing("Partitions assigned", Assignments),
    "consumers.seek-to-offset": _managing(
        "Go on at offsets, or at times",
        None,
        Unprocessable,
        BadRequest,
        body=POSITIONS,
        body_example={"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]},
    ),
    "consumers.seek-to-beginning": _managing(
        "Go back to the first records",
        None,
        Unprocessable,
        BadRequest,
        body=PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.seek-to-end": _managing(
        "Go to the end",
        None,
        Unprocessable,
        BadRequest,
        body=PARTITIONS,
        body_example={"partitions": [{"topic": "orders", "partition": 0}]},
    ),
    "consumers.commit-offsets": _managing(
        "Commit offsets",
        {"type": "array", "maxItems": 0, "items": {}},
        Unprocessable,
        BadRequest,
        text="Without a body: of all that was returned so far. With one: one more than each offset given.",
        body=COMMIT,
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
        body=PARTITIONS,
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
            Parameter("offset", "Where to begin.", INT64, example=0),
            Parameter("count", "How many records at most.", INT64, example=1),
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
        "One JSON object a line; server-sent events where text/event-stream is accepted. More is in docs/streaming.md.",
        tag="Streams",
        replies={200: TEXT},
        reply_types={200: (media.NDJSON, media.EVENTS)},
        parameters=OF_STREAMS,
        errors=(BadRequest, TopicNotFound, PartitionNotFound, Unprocessable, TooManyRequests, PayloadError),
        channels=of_topics(OF_STREAMS),
    ),
}

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    **{f"api.v1.{name}": each for name, each in (_described("v1") | _ONLY_V1).items()},
    **{f"api.v2.{name}": each for name, each in (_described("v2") | _ONLY_V2).items()},
    **_HEALTH,
    **_STREAMS,
}
