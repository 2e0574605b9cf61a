"""The requests that the gateway itself sends to brokers: number, version, and what is in them.

They are what librdkafka cannot ask, or answers without what we need: what was created, the cluster-wide settings of
brokers, reassignments, which kind of members a group has, and many groups in one request.

Source: Kafka's protocol guide (4.1). An API has one version here where every broker since 2.4 has that; else several,
newest first, and the first one that the broker offers is used.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from kafka_gateway.wire.schema import Fields, Layout


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """One version of an API."""

    number: int
    flexible: bool
    request: Layout
    response: Layout


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """One kind of request. ``versions`` are those that the gateway speaks, newest first."""

    name: str
    key: int
    versions: tuple[Version, ...]
    changes: bool = False
    """Whether it must not be sent twice when nobody knows what became of the first one."""


def _version(number: int, flexible: bool, request: Fields, response: Fields) -> Version:
    return Version(number, flexible, Layout(request, flexible), Layout(response, flexible))


API_VERSIONS: Final = Api(
    "ApiVersions",
    18,
    (
        _version(
            0,
            False,
            (),
            (("error_code", "int16"), ("api_keys", [("key", "int16"), ("least", "int16"), ("most", "int16")])),
        ),
    ),
)

CREATE_TOPICS: Final = Api(
    "CreateTopics",
    19,
    (
        _version(
            5,
            True,
            (
                (
                    "topics",
                    [
                        ("name", "string"),
                        ("num_partitions", "int32"),
                        ("replication_factor", "int16"),
                        ("assignments", [("partition", "int32"), ("brokers", ["int32"])]),
                        ("configs", [("name", "string"), ("value", "string")]),
                    ],
                ),
                ("timeout_ms", "int32"),
                ("validate_only", "bool"),
            ),
            (
                ("throttle_ms", "int32"),
                (
                    "topics",
                    [
                        ("name", "string"),
                        ("error_code", "int16"),
                        ("error_message", "string"),
                        ("num_partitions", "int32"),
                        ("replication_factor", "int16"),
                        (
                            "configs",
                            [
                                ("name", "string"),
                                ("value", "string"),
                                ("read_only", "bool"),
                                ("source", "int8"),
                                ("sensitive", "bool"),
                            ],
                        ),
                    ],
                ),
            ),
        ),
    ),
    changes=True,
)

_CONFIG_RESOURCE: Fields = (("type", "int8"), ("name", "string"))

DESCRIBE_CONFIGS: Final = Api(
    "DescribeConfigs",
    32,
    (
        _version(
            2,
            False,
            (
                ("resources", [*_CONFIG_RESOURCE, ("keys", ["string"])]),
                ("include_synonyms", "bool"),
            ),
            (
                ("throttle_ms", "int32"),
                (
                    "results",
                    [
                        ("error_code", "int16"),
                        ("error_message", "string"),
                        *_CONFIG_RESOURCE,
                        (
                            "configs",
                            [
                                ("name", "string"),
                                ("value", "string"),
                                ("read_only", "bool"),
                                ("source", "int8"),
                                ("sensitive", "bool"),
                                ("synonyms", [("name", "string"), ("value", "string"), ("source", "int8")]),
                            ],
                        ),
                    ],
                ),
            ),
        ),
    ),
)

INCREMENTAL_ALTER_CONFIGS: Final = Api(
    "IncrementalAlterConfigs",
    44,
    (
        _version(
            0,
            False,
            (
                (
                    "resources",
                    [*_CONFIG_RESOURCE, ("configs", [("name", "string"), ("operation", "int8"), ("value", "string")])],
                ),
                ("validate_only", "bool"),
            ),
            (
                ("throttle_ms", "int32"),
                ("responses", [("error_code", "int16"), ("error_message", "string"), *_CONFIG_RESOURCE]),
            ),
        ),
    ),
)

LIST_PARTITION_REASSIGNMENTS: Final = Api(
    "ListPartitionReassignments",
    46,
    (
        _version(
            0,
            True,
            (
                ("timeout_ms", "int32"),
                ("topics", [("name", "string"), ("partitions", ["int32"])]),
            ),
            (
                ("throttle_ms", "int32"),
                ("error_code", "int16"),
                ("error_message", "string"),
                (
                    "topics",
                    [
                        ("name", "string"),
                        (
                            "partitions",
                            [
                                ("partition", "int32"),
                                ("replicas", ["int32"]),
                                ("adding", ["int32"]),
                                ("removing", ["int32"]),
                            ],
                        ),
                    ],
                ),
            ),
        ),
    ),
)

_ACL_FILTER: Fields = (
    ("resource_type", "int8"),
    ("resource_name", "string"),
    ("pattern_type", "int8"),
    ("principal", "string"),
    ("host", "string"),
    ("operation", "int8"),
    ("permission", "int8"),
)
_ACL: Fields = _ACL_FILTER
"""One right, and a filter of them, which may leave out the texts."""
_ERROR: Fields = (("error_code", "int16"), ("error_message", "string"))

DESCRIBE_ACLS: Final = Api(
    "DescribeAcls",
    29,
    (
        _version(
            2,
            True,
            _ACL_FILTER,
            (
                ("throttle_ms", "int32"),
                *_ERROR,
                (
                    "resources",
                    [
                        *_ACL[:3],
                        ("acls", [*_ACL[3:]]),
                    ],
                ),
            ),
        ),
    ),
)

CREATE_ACLS: Final = Api(
    "CreateAcls",
    30,
    (_version(2, True, (("creations", [*_ACL]),), (("throttle_ms", "int32"), ("results", [*_ERROR]))),),
)

DELETE_ACLS: Final = Api(
    "DeleteAcls",
    31,
    (
        _version(
            2,
            True,
            (("filters", [*_ACL_FILTER]),),
            (
                ("throttle_ms", "int32"),
                ("results", [*_ERROR, ("matching", [*_ERROR, *_ACL])]),
            ),
        ),
    ),
)

FIND_COORDINATOR: Final = Api(
    "FindCoordinator",
    10,
    (
        _version(
            3,
            True,
            (("key", "string"), ("key_type", "int8")),
            (
                ("throttle_ms", "int32"),
                ("error_code", "int16"),
                ("error_message", "string"),
                ("node_id", "int32"),
                ("host", "string"),
                ("port", "int32"),
            ),
        ),
    ),
)


def _list_groups(number: int) -> Version:
    request: list[tuple[str, Any]] = [("states", ["string"])] if number >= 4 else []
    group: list[tuple[str, Any]] = [("group_id", "string"), ("protocol_type", "string")]
    if number >= 4:
        group.append(("state", "string"))
    if number >= 5:
        request.append(("types", ["string"]))
        group.append(("type", "string"))
    return _version(number, True, request, (("throttle_ms", "int32"), ("error_code", "int16"), ("groups", group)))


LIST_GROUPS: Final = Api("ListGroups", 16, (_list_groups(5), _list_groups(4), _list_groups(3)))
"""States come with version 4 (Kafka 2.6), types with version 5 (3.8)."""

DESCRIBE_GROUPS: Final = Api(
    "DescribeGroups",
    15,
    (
        _version(
            5,
            True,
            (("groups", ["string"]), ("include_operations", "bool")),
            (
                ("throttle_ms", "int32"),
                (
                    "groups",
                    [
                        ("error_code", "int16"),
                        ("group_id", "string"),
                        ("state", "string"),
                        ("protocol_type", "string"),
                        ("protocol", "string"),
                        (
                            "members",
                            [
                                ("member_id", "string"),
                                ("instance_id", "string"),
                                ("client_id", "string"),
                                ("client_host", "string"),
                                ("metadata", "bytes"),
                                ("assignment", "bytes"),
                            ],
                        ),
                        ("operations", "int32"),
                    ],
                ),
            ),
        ),
    ),
)

_ASSIGNMENT: Fields = (("topics", [("topic_id", "uuid"), ("topic_name", "string"), ("partitions", ["int32"])]),)


def _consumer_group_describe(number: int) -> Version:
    member: list[tuple[str, Any]] = [
        ("member_id", "string"),
        ("instance_id", "string"),
        ("rack_id", "string"),
        ("member_epoch", "int32"),
        ("client_id", "string"),
        ("client_host", "string"),
        ("subscribed", ["string"]),
        ("pattern", "string"),
        ("assignment", _ASSIGNMENT),
        ("target_assignment", _ASSIGNMENT),
    ]
    if number >= 1:
        member.append(("member_type", "int8"))
    return _version(
        number,
        True,
        (("groups", ["string"]), ("include_operations", "bool")),
        (
            ("throttle_ms", "int32"),
            (
                "groups",
                [
                    ("error_code", "int16"),
                    ("error_message", "string"),
                    ("group_id", "string"),
                    ("state", "string"),
                    ("group_epoch", "int32"),
                    ("assignment_epoch", "int32"),
                    ("assignor", "string"),
                    ("members", member),
                    ("operations", "int32"),
                ],
            ),
        ),
    )


CONSUMER_GROUP_DESCRIBE: Final = Api(
    "ConsumerGroupDescribe", 69, (_consumer_group_describe(1), _consumer_group_describe(0))
)
"""The kind of each member comes with version 1 (Kafka 4.0)."""

CONSUMER_ASSIGNMENT: Final = Layout(
    (("version", "int16"), ("topics", [("topic", "string"), ("partitions", ["int32"])])), False
)
"""`ConsumerProtocolAssignment`: the bytes of a classic member's assignment."""
