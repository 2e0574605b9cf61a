"""The administration of a Kafka in memory: one broker or more, settings, ACLs, groups, as tests set them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kafka_gateway.errors import GroupActive, NotFound, ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.administration import (
    Acl,
    AclFilter,
    ClusterInfo,
    ConfigChange,
    ConfigOf,
    Created,
    GroupDetails,
    Reassignment,
    Setting,
    TopicDetails,
    TopicToCreate,
)
from kafka_gateway.kafka.ports.topics import BrokerNode, PartitionInfo, PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import KafkaRefused

if TYPE_CHECKING:
    from tests.services.fake_kafka import FakeKafka

CLUSTER = "fake-cluster"


class FakeAdministration:
    """Failures are injected with ``FakeKafka.fail``, by the name of the method."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.nodes = [BrokerNode(1, "kafka-1", 9092, None)]
        self.controller: int | None = 1
        self.replicas: dict[TopicPartition, PartitionInfo] = {}
        """Partitions that are not just on broker 1."""
        self.settings: dict[ConfigOf, dict[str, Setting]] = {}
        self.rights: list[Acl] = []
        self.known_groups: dict[str, GroupDetails] = {}
        self.moving: list[Reassignment] = []

    async def cluster(self) -> ClusterInfo:
        self._kafka.called("cluster")
        return ClusterInfo(CLUSTER, self.controller, tuple(self.nodes))

    async def topics(self, operations: bool = False) -> list[TopicDetails]:
        self._kafka.called("v3-topics", operations)
        return [self._details(name, operations) for name in sorted(self._kafka.logs)]

    async def topic(self, name: str, operations: bool = False) -> TopicDetails:
        self._kafka.called("v3-topic", name)
        if name not in self._kafka.logs:
            raise UnknownTopicOrPartition()
        return self._details(name, operations)

    def _details(self, name: str, operations: bool) -> TopicDetails:
        places = (TopicPartition(name, number) for number in range(len(self._kafka.logs[name])))
        partitions = tuple(
            self.replicas.get(place) or PartitionInfo(place.partition, 1, (1,), (1,)) for place in places
        )
        return TopicDetails(name, name in self._kafka.internal, partitions, ("READ", "WRITE") if operations else ())

    async def create_topic(self, topic: TopicToCreate, validate_only: bool = False) -> Created:
        self._kafka.called("create_topic", (topic, validate_only))
        if topic.name in self._kafka.logs:
            raise KafkaRefused(f"Topic '{topic.name}' already exists.")
        count = len(topic.assignments) or (1 if topic.partitions < 0 else topic.partitions)
        if not validate_only:
            self._kafka.add_topic(topic.name, count)
        return Created(count, 1)

    async def add_partitions(self, topic: str, total: int) -> None:
        self._kafka.called("add_partitions", (topic, total))
        log = self._kafka.logs[topic]
        if total <= len(log):
            raise KafkaRefused(f"Topic currently has {len(log)} partitions, which is not less than {total}.")
        log += ([] for _ in range(total - len(log)))

    async def delete_topic(self, topic: str) -> None:
        self._kafka.called("delete_topic", topic)
        if self._kafka.logs.pop(topic, None) is None:
            raise UnknownTopicOrPartition()

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: str = "latest", time_ms: int = 0, committed: bool = False
    ) -> dict[TopicPartition, int]:
        self._kafka.called("offsets", (tuple(partitions), at, time_ms))
        found = {}
        for place in partitions:
            logs = self._kafka.logs.get(place.topic, [])
            if place.partition >= len(logs):
                continue
            log = logs[place.partition]
            if at == "time":
                found[place] = next((one.offset() for one in log if one.timestamp()[1] >= time_ms), -1)
            else:
                found[place] = 0 if at == "earliest" else len(log)
        return found

    async def reassignments(self, topic: str | None = None, partitions: Sequence[int] = ()) -> list[Reassignment]:
        return sorted(self.moving)

    async def configs(self, of: Sequence[ConfigOf]) -> dict[ConfigOf, list[Setting] | ServiceError]:
        self._kafka.called("configs", tuple(of))
        found: dict[ConfigOf, list[Setting] | ServiceError] = {}
        for each in of:
            if each.kind == "TOPIC" and each.name not in self._kafka.logs:
                found[each] = UnknownTopicOrPartition()
            elif each.kind == "BROKER" and each.name and int(each.name) not in [node.id for node in self.nodes]:
                found[each] = NotFound(f"Broker {each.name} cannot be found.")
            else:
                known = self.settings.setdefault(each, {})
                found[each] = [known[name] for name in sorted(known)]
        return found

    async def alter_configs(
        self, changes: Mapping[ConfigOf, Sequence[ConfigChange]], validate_only: bool = False
    ) -> dict[ConfigOf, ServiceError | None]:
        self._kafka.called("alter_configs", (dict(changes), validate_only))
        outcomes: dict[ConfigOf, ServiceError | None] = {}
        for of, wanted in changes.items():
            refused = next((one for one in wanted if one.value == "refused"), None)
            outcomes[of] = KafkaRefused(f"Invalid value refused for {refused.name}") if refused else None
            if refused is None and not validate_only:
                for one in wanted:
                    source = "DYNAMIC_TOPIC_CONFIG" if one.operation == "SET" else "DEFAULT_CONFIG"
                    self.settings.setdefault(of, {})[one.name] = Setting(one.name, one.value, source)
        return outcomes

    async def acls(self, matching: AclFilter) -> list[Acl]:
        self._kafka.called("acls", matching)
        return [acl for acl in self.rights if _fits(acl, matching)]

    async def create_acls(self, acls: Sequence[Acl]) -> None:
        self._kafka.called("create_acls", tuple(acls))
        self.rights += (acl for acl in acls if acl not in self.rights)

    async def delete_acls(self, matching: AclFilter) -> list[Acl]:
        self._kafka.called("delete_acls", matching)
        gone = [acl for acl in self.rights if _fits(acl, matching)]
        self.rights = [acl for acl in self.rights if acl not in gone]
        return gone

    async def groups(self) -> list[GroupDetails]:
        self._kafka.called("v3-groups")
        return [self.known_groups[name] for name in sorted(self.known_groups)]

    async def group(self, name: str) -> GroupDetails:
        self._kafka.called("v3-group", name)
        return self.known_groups.get(name) or GroupDetails(name, "DEAD", "CLASSIC", True, "", 1)

    async def committed(self, group: str) -> list[PartitionOffset]:
        found = (
            PartitionOffset(topic, partition, offset, metadata)
            for (name, topic, partition), (offset, metadata) in self._kafka.committed.items()
            if name == group
        )
        return sorted(found)

    async def commit(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        self._kafka.called("v3-commit", (group, tuple(offsets)))
        if group in self.known_groups and self.known_groups[group].members:
            raise GroupActive()
        for each in offsets:
            self._kafka.committed[group, each.topic, each.partition] = (each.offset, each.metadata)


def _fits(acl: Acl, matching: AclFilter) -> bool:
    return all(wanted in (None, "ANY", have) for have, wanted in zip(acl, matching, strict=True))
