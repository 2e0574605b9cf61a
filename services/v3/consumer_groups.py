"""Consumer groups, their consumers, what these are assigned, and how far behind they are (kafka-rest-http.md §7.9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from kafka_gateway import jsonio
from kafka_gateway.errors import NotFound
from kafka_gateway.kafka.ports.administration import Administration, GroupDetails, GroupMember
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.common.names import check_group
from kafka_gateway.services.v3.links import ClusterLinks, Link, Links, Metadata, segment

_CLUSTER = "Cluster {} could not be found."
_GROUPS = "GET /v3/clusters/ID/consumer-groups lists the groups."
_MEMBERS = "GET …/consumer-groups/GROUP/consumers lists the members; a member has another id when it joins again."
_NO_OFFSETS = "Consumer group offsets could not be found."


class Group(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    consumer_group_id: str
    is_simple: bool
    partition_assignor: str
    state: str
    type: str
    is_mixed_consumer_group: bool
    coordinator: Link
    consumers: Link
    lag_summary: Link


class Consumer(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    consumer_group_id: str
    consumer_id: str
    instance_id: str | None
    client_id: str
    assignments: Link


class Assignment(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    consumer_group_id: str
    consumer_id: str
    topic_name: str
    partition_id: int
    partition: Link
    lag: Link


class Lag(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    consumer_group_id: str
    topic_name: str
    partition_id: int
    consumer_id: str
    instance_id: str | None
    client_id: str
    current_offset: int
    log_end_offset: int
    lag: int


class LagSummary(jsonio.Struct):
    kind: str
    metadata: Metadata
    cluster_id: str
    consumer_group_id: str
    max_lag_consumer_id: str
    max_lag_instance_id: str | None
    max_lag_client_id: str
    max_lag_topic_name: str
    max_lag_partition_id: int
    max_lag: int
    total_lag: int
    max_lag_consumer: Link
    max_lag_partition: Link


@dataclasses.dataclass(frozen=True, slots=True)
class Behind:
    """How far behind the end of one partition a group is, and who reads it ("" for nobody)."""

    topic: str
    partition: int
    current: int
    end: int
    member: GroupMember

    @property
    def lag(self) -> int:
        return max(0, self.end - self.current)


_NOBODY = GroupMember("", "")


class ConsumerGroupsService:
    """The handlers of ``…/consumer-groups`` and below."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    # --- groups -----------------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Response:
        """``GET …/consumer-groups``: those that may be described, by name."""
        links = await self._links.of(call, _CLUSTER)
        found = await self._administration.groups()
        shown = set(call.session.rights.filter("describe", "group", [each.name for each in found]))
        groups = [each for each in found if each.name in shown]
        elements = (_group(each, links) for each in groups)
        return await links.listed("KafkaConsumerGroup", "/consumer-groups", len(groups), elements)

    async def get(self, call: Call) -> Response:
        """``GET …/consumer-groups/{consumer_group_id}``"""
        links = await self._links.of(call, _CLUSTER)
        return Response(_group(await self._find(call, None), links))

    async def _find(self, call: Call, text: str | None) -> GroupDetails:
        name = str(call.params["consumer_group_id"])
        check_group(name)
        group = await self._administration.group(name)
        if not group.exists:
            raise NotFound(text.format(name) if text else None).with_help(_GROUPS)
        return group

    # --- consumers --------------------------------------------------------------------------------------------------

    async def consumers(self, call: Call) -> Response:
        """``GET …/consumers``: by id."""
        links = await self._links.of(call, _CLUSTER)
        group = await self._find(call, "Consumer Group {} does not exist.")
        members = sorted(group.members, key=lambda one: one.id)
        elements = (_consumer(group.name, each, links) for each in members)
        return await links.listed("KafkaConsumer", f"{_path(group.name)}/consumers", len(members), elements)

    async def consumer(self, call: Call) -> Response:
        """``GET …/consumers/{consumer_id}``"""
        links = await self._links.of(call, _CLUSTER)
        group, member = await self._find_member(call, None)
        return Response(_consumer(group.name, member, links))

    async def assignments(self, call: Call) -> Response:
        """``GET …/consumers/{consumer_id}/assignments``: by topic and partition."""
        links = await self._links.of(call, _CLUSTER)
        group, member = await self._find_member(call, "Consumer {} does not exist.")
        path = f"{_path(group.name)}/consumers/{segment(member.id)}/assignments"
        shown = _shown(call, member.assignment)
        places = [each for each in member.assignment if each.topic in shown]
        elements = (_assignment(group.name, member, each, links) for each in places)
        return await links.listed("KafkaConsumerAssignment", path, len(places), elements)

    async def assignment(self, call: Call) -> Response:
        """``GET …/assignments/{topic_name}/partitions/{partition_id}``"""
        links = await self._links.of(call, _CLUSTER)
        group, member = await self._find_member(call, None)
        place = TopicPartition(str(call.params["topic_name"]), int(call.params["partition_id"]))
        if place not in member.assignment:
            raise NotFound()
        return Response(_assignment(group.name, member, place, links))

    async def _find_member(self, call: Call, text: str | None) -> tuple[GroupDetails, GroupMember]:
        group = await self._find(call, "Consumer Group {} does not exist.")
        wanted = str(call.params["consumer_id"])
        for member in group.members:
            if member.id == wanted:
                return group, member
        raise NotFound(text.format(wanted) if text else None).with_help(_MEMBERS)

    # --- lags -------------------------------------------------------------------------------------------------------

    async def lags(self, call: Call) -> Response:
        """``GET …/lags``: the greatest first, then by topic and partition."""
        links = await self._links.of(call, _CLUSTER)
        group, behind = await self._behind(call)
        elements = (_lag(group.name, each, links) for each in behind)
        return await links.listed("KafkaConsumerLag", f"{_path(group.name)}/lags", len(behind), elements)

    async def lag(self, call: Call) -> Response:
        """``GET …/lags/{topic_name}/partitions/{partition_id}``"""
        links = await self._links.of(call, _CLUSTER)
        group, behind = await self._behind(call)
        place = (call.params["topic_name"], call.params["partition_id"])
        for each in behind:
            if (each.topic, each.partition) == place:
                return Response(_lag(group.name, each, links))
        raise NotFound()

    async def lag_summary(self, call: Call) -> Response:
        """``GET …/lag-summary``"""
        links = await self._links.of(call, _CLUSTER)
        group, behind = await self._behind(call)
        greatest, path = behind[0], _path(group.name)
        consumer = f"{path}/consumers" + (f"/{segment(greatest.member.id)}" if greatest.member.id else "")
        return Response(
            LagSummary(
                "KafkaConsumerGroupLagSummary",
                links.metadata(f"{path}/lag-summary", f"/consumer-group={group.name}/lag-summary"),
                links.cluster,
                group.name,
                greatest.member.id,
                greatest.member.instance_id,
                greatest.member.client_id,
                greatest.topic,
                greatest.partition,
                greatest.lag,
                sum(each.lag for each in behind),
                links.to(consumer),
                links.to(f"/topics/{greatest.topic}/partitions/{greatest.partition}"),
            )
        )

    async def _behind(self, call: Call) -> tuple[GroupDetails, Sequence[Behind]]:
        """One element for each partition with a committed offset, the greatest lag first; at least one."""
        group = await self._find(call, "Consumer Group {} could not be found.")
        committed = await self._administration.committed(group.name)
        shown = _shown(call, committed)
        offsets = [each for each in committed if each.topic in shown]
        places = [TopicPartition(each.topic, each.partition) for each in offsets]
        ends = await self._administration.offsets(places, committed=True)
        readers = {place: member for member in group.members for place in member.assignment}
        behind = [
            Behind(each.topic, each.partition, each.offset, ends[place], readers.get(place, _NOBODY))
            for each, place in zip(offsets, places, strict=True)
            if place in ends
        ]
        if not behind:
            raise NotFound(_NO_OFFSETS).with_help("The group has committed nothing, or nothing that you may see.")
        return group, sorted(behind, key=lambda one: (-one.lag, one.topic, one.partition))


def _shown(call: Call, places: Iterable[TopicPartition | PartitionOffset]) -> set[str]:
    """The topics of these that the client may see."""
    return set(call.session.rights.filter("describe", "topic", dict.fromkeys(each.topic for each in places)))


def _path(group: str) -> str:
    return f"/consumer-groups/{segment(group)}"


def _group(group: GroupDetails, links: Links) -> Group:
    path = _path(group.name)
    return Group(
        "KafkaConsumerGroup",
        links.metadata(path, f"/consumer-group={group.name}"),
        links.cluster,
        group.name,
        group.simple,
        group.assignor,
        group.state,
        group.type,
        group.mixed,
        links.to(f"/brokers/{group.coordinator}"),
        links.to(path + "/consumers"),
        links.to(path + "/lag-summary"),
    )


def _consumer(group: str, member: GroupMember, links: Links) -> Consumer:
    path = f"{_path(group)}/consumers/{segment(member.id)}"
    return Consumer(
        "KafkaConsumer",
        links.metadata(path, f"/consumer-group={group}/consumer={member.id}"),
        links.cluster,
        group,
        member.id,
        member.instance_id,
        member.client_id,
        links.to(path + "/assignments"),
    )


def _assignment(group: str, member: GroupMember, place: TopicPartition, links: Links) -> Assignment:
    topic, partition = place
    path = f"{_path(group)}/consumers/{segment(member.id)}/assignments/{topic}/partitions/{partition}"
    name = f"/consumer-group={group}/consumer={member.id}/assignment={topic}/partition={partition}"
    return Assignment(
        "KafkaConsumerAssignment",
        links.metadata(path, name),
        links.cluster,
        group,
        member.id,
        topic,
        partition,
        links.to(f"/topics/{topic}/partitions/{partition}"),
        links.to(f"{_path(group)}/lags/{topic}/partitions/{partition}"),
    )


def _lag(group: str, behind: Behind, links: Links) -> Lag:
    return Lag(
        "KafkaConsumerLag",
        links.metadata(
            f"{_path(group)}/lags/{behind.topic}/partitions/{behind.partition}",
            f"/consumer-group={group}/lag={behind.topic}/partition={behind.partition}",
        ),
        links.cluster,
        group,
        behind.topic,
        behind.partition,
        behind.member.id,
        behind.member.instance_id,
        behind.member.client_id,
        behind.current,
        behind.end,
        behind.lag,
    )
