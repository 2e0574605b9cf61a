"""The administration of a cluster as the services see it: settings, topics, reassignments, ACLs, groups.

What `gateway.kafka.ports.admin.Admin` has already is asked there. All methods belong to the event loop; failures are
ServiceErrors whose message is Kafka's own text. Descriptions are shared by all who ask for the same within 100 ms,
until something is changed through this object; offsets never are: whoever has produced or committed wants to see it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import BrokerNode, PartitionInfo, PartitionOffset, TopicPartition

# --- brokers and topics ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterInfo:
    """One cluster. ``controller`` is the broker that takes changes, None if Kafka names none."""

    id: str
    controller: int | None
    nodes: tuple[BrokerNode, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class TopicDetails:
    """A topic. ``operations`` are what the gateway's own user may do with it, in Kafka's words; () if not asked for."""

    name: str
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    operations: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TopicToCreate:
    """A topic to be made. Counts of -1 are the broker's choice; ``assignments``, if there are any, win over both.

    ``configs`` may name a setting twice, which Kafka refuses.
    """

    name: str
    partitions: int = -1
    replicas: int = -1
    assignments: Mapping[int, Sequence[int]] = dataclasses.field(default_factory=dict)
    configs: Sequence[tuple[str, str | None]] = ()


class Created(NamedTuple):
    """What the broker decided; -1 for what it does not tell."""

    partitions: int
    replicas: int


class Reassignment(NamedTuple):
    """A partition whose replicas are on their way to other brokers."""

    topic: str
    partition: int
    adding: tuple[int, ...]
    removing: tuple[int, ...]


# --- settings --------------------------------------------------------------------------------------------------------


class ConfigOf(NamedTuple):
    """What has settings: ``TOPIC`` and a name, ``BROKER`` and an id; ``BROKER`` and "" are the cluster's defaults."""

    kind: str
    name: str


CLUSTER_WIDE = ConfigOf("BROKER", "")


class ConfigSynonym(NamedTuple):
    name: str
    value: str | None
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``value`` is None where it is sensitive or unset; ``synonyms`` stand in order of precedence."""

    name: str
    value: str | None
    source: str
    """Kafka's word, e.g. ``DYNAMIC_TOPIC_CONFIG``; UNKNOWN for those that this gateway does not know."""
    read_only: bool = False
    sensitive: bool = False
    synonyms: tuple[ConfigSynonym, ...] = ()

    @property
    def is_default(self) -> bool:
        return self.source == "DEFAULT_CONFIG"


class ConfigChange(NamedTuple):
    """``operation`` is SET or DELETE, which goes back to the default."""

    name: str
    value: str | None = None
    operation: str = "SET"


# --- ACLs ------------------------------------------------------------------------------------------------------------


class Acl(NamedTuple):
    """One right. The four enumerations are Kafka's words: TOPIC, LITERAL, READ, ALLOW, …"""

    resource_type: str
    resource_name: str
    pattern_type: str
    principal: str
    host: str
    operation: str
    permission: str


class AclFilter(NamedTuple):
    """Which ACLs; None for a text and ANY for an enumeration take all."""

    resource_type: str = "ANY"
    resource_name: str | None = None
    pattern_type: str = "ANY"
    principal: str | None = None
    host: str | None = None
    operation: str = "ANY"
    permission: str = "ANY"


# --- groups ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class GroupMember:
    """One consumer of a group; ``instance_id`` is that of a static member (KIP-345)."""

    id: str
    client_id: str
    instance_id: str | None = None
    host: str = ""
    assignment: tuple[TopicPartition, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class GroupDetails:
    """A consumer group. ``state`` and ``type`` are Java's names: STABLE, EMPTY, …; CLASSIC, CONSUMER."""

    name: str
    state: str
    type: str
    simple: bool
    """Without membership: somebody commits offsets under this name, nothing more."""
    assignor: str
    coordinator: int
    mixed: bool = False
    """Members of both protocols at once, while it is being moved to KIP-848."""
    members: tuple[GroupMember, ...] = ()

    @property
    def exists(self) -> bool:
        return not (self.simple and self.state == "DEAD")


class Administration(Protocol):
    async def cluster(self) -> ClusterInfo: ...
    async def topics(self, operations: bool = False) -> list[TopicDetails]:
        """All topics, internal ones included, by name; those that are being deleted are left out."""

    async def topic(self, name: str, operations: bool = False) -> TopicDetails:
        """Raises UnknownTopicOrPartition, KafkaRefused for an illegal name."""

    async def create_topic(self, topic: TopicToCreate, validate_only: bool = False) -> Created:
        """Raises KafkaRefused for what Kafka does not like. A controller that moves meanwhile is asked once more."""

    async def add_partitions(self, topic: str, total: int) -> None:
        """The topic has ``total`` partitions from now on; KafkaRefused unless that is more than before."""

    async def delete_topic(self, topic: str) -> None: ...
    async def offsets(
        self, partitions: Sequence[TopicPartition], at: str = "latest", time_ms: int = 0, committed: bool = False
    ) -> dict[TopicPartition, int]:
        """The offset of each partition: ``earliest``, ``latest``, or ``time``: of the first record at or after
        ``time_ms``, -1 if there is none. ``committed``: the last stable offset in place of the high watermark.
        Partitions that are not there are left out.
        """

    async def reassignments(self, topic: str | None = None, partitions: Sequence[int] = ()) -> list[Reassignment]:
        """Those under way, by topic and partition: of all topics, or of these partitions."""

    async def configs(self, of: Sequence[ConfigOf]) -> dict[ConfigOf, list[Setting] | ServiceError]:
        """All effective settings of each, by name, or why there are none. Of CLUSTER_WIDE only those that are set."""

    async def alter_configs(
        self, changes: Mapping[ConfigOf, Sequence[ConfigChange]], validate_only: bool = False
    ) -> dict[ConfigOf, ServiceError | None]:
        """Changes these settings and leaves the others; each ConfigOf as a whole or not at all."""

    async def acls(self, matching: AclFilter) -> list[Acl]:
        """Raises KafkaRefused if the brokers have no authorizer."""

    async def create_acls(self, acls: Sequence[Acl]) -> None:
        """In one request, up to a thousand. Those that are there already stay. Raises the first failure."""

    async def delete_acls(self, matching: AclFilter) -> list[Acl]:
        """The ACLs that were deleted."""

    async def groups(self) -> list[GroupDetails]:
        """All consumer groups that may be described, by name, with their members."""

    async def group(self, name: str) -> GroupDetails:
        """One group; ``exists`` tells whether it does."""

    async def committed(self, group: str) -> list[PartitionOffset]:
        """What the group has committed, by topic and partition."""

    async def commit(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        """Commits for a group without members. GroupActive while it has some."""
