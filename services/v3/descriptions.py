"""What ``/openapi.json`` says of the resources of v3, by resource name. Examples are those of docs/rest-v3.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka_gateway.description import Description, Named, Parameter, Shape
from kafka_gateway.errors import (
    BadRequest,
    GroupActive,
    InvalidBatch,
    LeaderNotAvailable,
    NotFound,
    PartitionNotFound,
    PayloadError,
    ServiceError,
    UnknownTopicOrPartition,
    Unprocessable,
)
from kafka_gateway.services.common.shapes import INT32, TEXT, array_of, object_of, or_null
from kafka_gateway.services.v3.acls import ENUMS, AclResource, Deleted
from kafka_gateway.services.v3.clusters import Broker, Cluster
from kafka_gateway.services.v3.configs import BrokerConfig, ClusterConfig, Failures, TopicConfig
from kafka_gateway.services.v3.consumer_groups import Assignment, Consumer, Group, Lag, LagSummary
from kafka_gateway.services.v3.links import ListMetadata
from kafka_gateway.services.v3.offsets_reset import ResetReply
from kafka_gateway.services.v3.partitions import MovingPartition, Partition, PartitionWithOffsets, Replica
from kafka_gateway.services.v3.records import SCHEMALESS, STRATEGIES, WITH_SCHEMA
from kafka_gateway.services.v3.reports import BatchFailure
from kafka_gateway.services.v3.topics import Topic

PATH: Final = {
    "cluster_id": "Id of the cluster, as GET /v3/clusters answers it.",
    "broker_id": "Id of a broker.",
    "topic_name": "Name of a topic.",
    "partition_id": "Number of a partition.",
    "consumer_group_id": "Name of a consumer group.",
    "consumer_id": "Id of a member of the group.",
    "name": "Name of a setting.",
}


def _list_of(kind: type) -> Shape:
    return {
        "type": "object",
        "required": ["kind", "metadata", "data"],
        "properties": {"kind": TEXT, "metadata": ListMetadata, "data": {"type": "array", "items": kind}},
    }


_FLAG: Final = {"type": ["boolean", "null"]}
_CHANGE: Final = object_of(("name",), name=TEXT, value=or_null(TEXT), operation={"enum": ["SET", "DELETE", None]})
_ALTER: Final = Named("AlterRequest", object_of(("data",), data=array_of(_CHANGE), validate_only=_FLAG))
_ALTER_MANY: Final = Named(
    "AlterManyRequest",
    object_of(
        ("data",),
        data=array_of(object_of(("topic_name", "configs"), topic_name=TEXT, configs=array_of(_CHANGE))),
        validate_only=_FLAG,
    ),
)
_VALUE: Final = object_of(value=or_null(TEXT))
_CREATE_TOPIC: Final = Named(
    "CreateTopicRequest",
    object_of(
        ("topic_name",),
        topic_name={**TEXT, "pattern": "^[A-Za-z0-9._-]+$", "maxLength": 249},
        partitions_count=or_null(INT32),
        replication_factor={"type": ["integer", "null"], "minimum": -(2**15), "maximum": 2**15 - 1},
        replicas_assignments={"type": ["object", "null"], "additionalProperties": array_of(INT32)},
        configs={"type": ["array", "null"], "items": object_of(("name",), name=TEXT, value=or_null(TEXT))},
        validate_only=_FLAG,
    ),
)
_COUNT: Final = object_of(("partitions_count",), partitions_count=INT32)
_OF_A_RIGHT: Final = {
    "resource_type": ["TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN"],
    "pattern_type": ["LITERAL", "PREFIXED"],
    "operation": [word for word in ENUMS["operation"] if word not in ("UNKNOWN", "ANY")],
    "permission": ["DENY", "ALLOW"],
}
_ACL: Final = Named(
    "AclRequest",
    object_of(
        ("resource_type", "resource_name", "pattern_type", "principal", "host", "operation", "permission"),
        **{name: {"enum": words} for name, words in _OF_A_RIGHT.items()},
        resource_name=TEXT,
        principal=TEXT,
        host=TEXT,
    ),
)
_ACL_EXAMPLE: Final = {
    "resource_type": "TOPIC",
    "resource_name": "orders",
    "pattern_type": "LITERAL",
    "principal": "User:alice",
    "host": "*",
    "operation": "READ",
    "permission": "ALLOW",
}
_ACL_QUERY: Final = tuple(
    Parameter(name, f"Only with this {name.replace('_', ' ')}.", {"enum": list(words)}) for name, words in ENUMS.items()
) + tuple(
    Parameter(name, f"Only with this {name.replace('_', ' ')}.") for name in ("resource_name", "principal", "host")
)
_ACL_QUERY_REQUIRED: Final = tuple(
    Parameter(
        each.name,
        each.doc,
        {"enum": [word for word in ENUMS[each.name] if word != "UNKNOWN"]} if each.name in ENUMS else each.schema,
        required=each.name in ENUMS,
    )
    for each in _ACL_QUERY
)
_RESET: Final = Named(
    "OffsetsResetRequest",
    object_of(
        ("to",),
        to={"enum": ["earliest", "latest", "current", "offset", "timestamp", "shift_by"]},
        value={"type": ["integer", "string", "null"]},
        topics={
            "type": ["array", "null"],
            "items": object_of(
                ("topic_name",), topic_name=TEXT, partitions={"type": ["array", "null"], "items": INT32}
            ),
        },
        dry_run=_FLAG,
    ),
)
_OPERATIONS: Final = Parameter(
    "include_authorized_operations", "true: say what the gateway's own user may do.", {"enum": ["true", "false"]}
)

_DRY_RUN: Final = Parameter(
    "dry_run", "true: say what would become of the records, and write nothing.", {"enum": ["true", "false"]}
)
_DATA: Final = object_of(
    type={"enum": [*SCHEMALESS, *WITH_SCHEMA, None]},
    data={},
    subject=or_null(TEXT),
    subject_name_strategy={"enum": [*STRATEGIES, None]},
    schema_id=or_null(INT32),
    schema_version=or_null(INT32),
    schema=or_null(TEXT),
)
_RECORD_MEMBERS: Final[Mapping[str, Any]] = {
    "partition_id": or_null(INT32),
    "headers": {
        "type": ["array", "null"],
        "items": object_of(("name",), name=TEXT, value={"type": ["string", "null"], "contentEncoding": "base64"}),
    },
    "key": {"anyOf": [Named("DataV3", _DATA), {"type": "null"}]},
    "value": {"anyOf": [Named("DataV3", _DATA), {"type": "null"}]},
    "timestamp": {"type": ["string", "number", "null"]},
}
_RECORD: Final = Named("RecordV3", object_of(**_RECORD_MEMBERS))
_PART_SHOWN: Final = {"type": "object", "properties": {"type": TEXT, "size": INT32}}
_STORED: Final = {
    "cluster_id": TEXT,
    "topic_name": TEXT,
    # null in a dry run
    "partition_id": or_null(INT32),
    "offset": {"type": ["integer", "null"], "format": "int64"},
    "timestamp": or_null(TEXT),
    "key": _PART_SHOWN,
    "value": _PART_SHOWN,
}
_REPORT: Final = Named(
    "ProduceReport",
    {
        "type": "object",
        "required": ["error_code"],
        "properties": {"error_code": INT32, "message": TEXT, **_STORED},
    },
)
_BATCH: Final = Named(
    "BatchV3",
    object_of(
        ("entries",),
        entries=array_of(
            object_of(("id",), id={**TEXT, "pattern": "^[0-9A-Za-z_-]{1,80}$"}, **_RECORD_MEMBERS), minItems=1
        ),
    ),
)
_BATCH_REPLY: Final = {
    "type": "object",
    "required": ["successes", "failures"],
    "properties": {
        "successes": array_of({"type": "object", "required": ["id"], "properties": {"id": TEXT, **_STORED}}),
        "failures": array_of(BatchFailure),
    },
}

_NAMED: Final = (NotFound, UnknownTopicOrPartition)


def _get(tag: str, summary: str, reply: Shape, *errors: type[ServiceError], **more: Any) -> Description:
    return Description(summary, tag=tag, replies={200: reply}, errors=(NotFound, *errors), **more)


def _change(tag: str, summary: str, *errors: type[ServiceError], **more: Any) -> Description:
    more = {"replies": {204: None}} | more
    return Description(summary, tag=tag, errors=(NotFound, BadRequest, *errors), **more)


def _configs(name: str, tag: str, of: str, kind: type) -> dict[str, Description]:
    return {
        f"{name}.list": _get(tag, f"Settings of {of}", _list_of(kind), *_NAMED),
        f"{name}.get": _get(tag, f"One setting of {of}", kind, *_NAMED),
        f"{name}.update": _change(
            tag, f"Change a setting of {of}", *_NAMED, Unprocessable, PayloadError, body=_VALUE,
            body_example={"value": "compact"},
        ),
        f"{name}.delete": _change(tag, f"Set a setting of {of} back to its default", *_NAMED),
        f"{name}.alter": _change(
            tag, f"Change several settings of {of}, all or none", *_NAMED, Unprocessable, PayloadError, body=_ALTER,
            body_example={"data": [{"name": "cleanup.policy", "value": "compact"},
                                   {"name": "retention.ms", "operation": "DELETE"}]},
        ),
    }  # fmt: skip


_CLUSTERS, _TOPICS, _GROUPS, _ACLS, _RECORDS = (
    "Clusters (v3)",
    "Topics (v3)",
    "Consumer groups (v3)",
    "ACLs (v3)",
    "Records (v3)",
)

_FOUND: Final[dict[str, Description]] = {
    "clusters.list": _get(_CLUSTERS, "The cluster, in a list", _list_of(Cluster)),
    "clusters.get": _get(_CLUSTERS, "The cluster", Cluster),
    "brokers.list": _get(_CLUSTERS, "The brokers", _list_of(Broker)),
    "brokers.get": _get(_CLUSTERS, "One broker", Broker),
    "replicas.search-by-broker": _get(_CLUSTERS, "Replicas on a broker", _list_of(Replica)),
    "brokers-configs.list": _get(_CLUSTERS, "Settings of all brokers", _list_of(BrokerConfig)),
    **_configs("broker-configs", _CLUSTERS, "a broker", BrokerConfig),
    **_configs("cluster-configs", _CLUSTERS, "all brokers together", ClusterConfig),
    "topics.list": _get(_TOPICS, "The topics, without Kafka's own", _list_of(Topic), parameters=(_OPERATIONS,)),
    "topics.create": _change(
        _TOPICS, "Create a topic", PayloadError, Unprocessable, replies={200: Topic, 201: Topic}, body=_CREATE_TOPIC,
        text="200 for validate_only, which creates nothing.",
        body_example={"topic_name": "orders", "partitions_count": 3, "replication_factor": 1},
    ),
    "topics.get": _get(_TOPICS, "One topic", Topic, *_NAMED, parameters=(_OPERATIONS,)),
    "topics.partitions": _change(
        _TOPICS, "Add partitions", *_NAMED, PayloadError, Unprocessable, replies={200: Topic}, body=_COUNT,
        body_example={"partitions_count": 6},
    ),
    "topics.delete": _change(_TOPICS, "Delete a topic", *_NAMED),
    "topic-configs.list": _get(_TOPICS, "Settings of topics", _list_of(TopicConfig), *_NAMED),
    "topic-configs.alter-multi": _change(
        _TOPICS, "Change settings of several topics", *_NAMED, PayloadError, Unprocessable,
        text="Each topic as a whole or not at all; 207 names those that were refused.",
        replies={204: None, 207: Failures}, body=_ALTER_MANY,
        body_example={"data": [{"topic_name": "orders", "configs": [{"name": "retention.ms", "value": "86400000"}]}]},
    ),
    **_configs("topic-configs", _TOPICS, "a topic", TopicConfig),
    "partitions.list": _get(_TOPICS, "Partitions of a topic", _list_of(Partition), *_NAMED),
    "partitions.get": _get(_TOPICS, "One partition", Partition, *_NAMED),
    "partitions.list.offsets": _get(
        _TOPICS, "First and next offset of a partition", PartitionWithOffsets,
        *_NAMED, BadRequest, PartitionNotFound, LeaderNotAvailable,
        parameters=(Parameter("offset_type", "There is one only.", {"enum": ["earliest_and_latest"]}),),
    ),
    "replicas.list": _get(_TOPICS, "Replicas of a partition", _list_of(Replica), *_NAMED),
    "replicas.get": _get(_TOPICS, "One replica", Replica, *_NAMED),
    "partition-reassignments.get": _get(_TOPICS, "A partition that is being moved", MovingPartition, *_NAMED),
    "partition-reassignments.search-by-topic": _get(
        _TOPICS, "Partitions of a topic that are being moved", _list_of(MovingPartition)
    ),
    "partition-reassignments.list": _get(_TOPICS, "All partitions that are being moved", _list_of(MovingPartition)),
    "acls.list": _get(_ACLS, "Kafka's ACLs that match", _list_of(AclResource), BadRequest, parameters=_ACL_QUERY),
    "acls.create": _change(
        _ACLS, "Create an ACL", PayloadError, Unprocessable, replies={201: None}, body=_ACL, body_example=_ACL_EXAMPLE
    ),
    "acls.delete": _change(
        _ACLS, "Delete the ACLs that match", replies={200: Deleted}, parameters=_ACL_QUERY_REQUIRED
    ),
    "acls.batch-create": _change(
        _ACLS, "Create several ACLs", PayloadError, Unprocessable, body=object_of(("data",), data=array_of(_ACL)),
        body_example={"data": [_ACL_EXAMPLE]},
    ),
    "consumer-groups.list": _get(_GROUPS, "The consumer groups", _list_of(Group)),
    "consumer-groups.get": _get(_GROUPS, "One consumer group", Group, Unprocessable),
    "consumers.list": _get(_GROUPS, "Members of a group", _list_of(Consumer), Unprocessable),
    "consumers.get": _get(_GROUPS, "One member", Consumer, Unprocessable),
    "consumer-assignments.list": _get(_GROUPS, "Partitions of a member", _list_of(Assignment), Unprocessable),
    "consumer-assignments.get": _get(_GROUPS, "One partition of a member", Assignment, Unprocessable),
    "consumer-groups.reset-offsets": _change(
        _GROUPS, "Move a group to other offsets", *_NAMED, GroupActive, PayloadError, PartitionNotFound, Unprocessable,
        replies={200: ResetReply}, body=_RESET,
        body_example={"to": "earliest", "topics": [{"topic_name": "orders"}], "dry_run": True},
    ),
    "consumer-lags.list": _get(_GROUPS, "How far behind a group is, by partition", _list_of(Lag), Unprocessable),
    "consumer-lags.get": _get(_GROUPS, "How far behind a group is on one partition", Lag, Unprocessable),
    "consumer-group-lag-summary.get": _get(_GROUPS, "How far behind a group is", LagSummary, Unprocessable),
    "produce.produce-to-topic": Description(
        "Produce a record, or a stream of them",
        "JSON objects one after the other, each answered with a report while the request goes on. The status is 200 "
        "whatever becomes of the records: `error_code` of each report tells.",
        tag=_RECORDS,
        replies={200: _REPORT},
        body=_RECORD,
        body_example={"value": {"type": "JSON", "data": {"amount": 1}}},
        parameters=(_DRY_RUN,),
        errors=(BadRequest, PayloadError, Unprocessable),
    ),
    "batch-produce.produce-to-topic": Description(
        "Produce a batch of records",
        tag=_RECORDS,
        replies={207: _BATCH_REPLY},
        body=_BATCH,
        body_example={"entries": [{"id": "1", "value": {"type": "JSON", "data": {"amount": 1}}}]},
        parameters=(_DRY_RUN,),
        errors=(BadRequest, PayloadError, Unprocessable, InvalidBatch, PartitionNotFound),
    ),
}  # fmt: skip

DESCRIPTIONS: Final[Mapping[str, Description]] = {f"api.v3.{name}": each for name, each in _FOUND.items()}
