"""Partitions, their replicas, offsets and reassignments (kafka-rest-http.md §7.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest, LeaderNotAvailable, NotFound, PartitionNotFound
from kafka_gateway.kafka.ports.administration import Administration, Reassignment, TopicDetails
from kafka_gateway.kafka.ports.topics import PartitionInfo, TopicPartition
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.v3.links import ClusterLinks, Link, Links, Metadata, segment

OFFSETS = "earliest_and_latest"
"""The one value of ``offset_type``."""


class Partition(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    leader: Link | None
    replicas: Link
    reassignment: Link


class Replica(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    broker_id: int
    is_leader: bool
    is_in_sync: bool
    broker: Link


class PartitionWithOffsets(jsonio.Struct):
    kind: str
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    earliest_offset: int
    latest_offset: int


class MovingPartition(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    topic_name: str
    partition_id: int
    adding_replicas: tuple[int, ...]
    removing_replicas: tuple[int, ...]
    replicas: Link


class PartitionsService:
    """The handlers of ``…/topics/{topic_name}/partitions`` and below."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    async def list(self, call: Call) -> Response:
        """``GET …/partitions``"""
        links = await self._links.of(call)
        topic = await self._administration.topic(call.params["topic_name"])
        elements = (_partition(topic.name, one, links) for one in topic.partitions)
        return await links.listed("KafkaPartition", f"/topics/{topic.name}/partitions", len(topic.partitions), elements)

    async def get(self, call: Call) -> Response:
        """``GET …/partitions/{partition_id}``"""
        links = await self._links.of(call, "")
        topic, partition = await self._find(call)
        return Response(_partition(topic.name, partition, links))

    async def offsets(self, call: Call) -> Response:
        """``GET …/partitions/{partition_id}/offset``"""
        kind = call.query.get("offset_type", OFFSETS)
        if kind != OFFSETS:
            raise BadRequest(f"Bad Request: offset_type:{kind[:100]} is invalid")
        links = await self._links.of(call, "")
        topic = await self._administration.topic(call.params["topic_name"])
        number = int(call.params["partition_id"])
        partition = next((one for one in topic.partitions if one.partition == number), None)
        if partition is None:
            raise PartitionNotFound()
        if partition.leader < 0:
            raise LeaderNotAvailable()
        place = TopicPartition(topic.name, number)
        earliest = await self._administration.offsets([place], "earliest")
        latest = await self._administration.offsets([place], "latest")
        if place not in earliest or place not in latest:  # deleted meanwhile
            raise PartitionNotFound()
        path = f"/topics/{topic.name}/partitions/{number}/offset"
        name = f"/topic={topic.name}/partition={number}/offset_type={OFFSETS}"
        return Response(
            PartitionWithOffsets(
                "KafkaPartitionWithOffsets",
                links.metadata(path, name),
                links.cluster,
                topic.name,
                number,
                earliest[place],
                latest[place],
            )
        )

    # --- replicas ---------------------------------------------------------------------------------------------------

    async def replicas(self, call: Call) -> Response:
        """``GET …/partitions/{partition_id}/replicas``; the preferred one stands first."""
        links = await self._links.of(call, "")
        topic, partition = await self._find(call)
        data: list[Any] = [replica(topic.name, partition, broker, links) for broker in partition.replicas]
        path = f"/topics/{topic.name}/partitions/{partition.partition}/replicas"
        return Response(links.listing("KafkaReplica", path, data))

    async def replica(self, call: Call) -> Response:
        """``GET …/partitions/{partition_id}/replicas/{broker_id}``"""
        links = await self._links.of(call, "")
        topic, partition = await self._find(call)
        broker = int(call.params["broker_id"])
        if broker not in partition.replicas:
            raise NotFound()
        return Response(replica(topic.name, partition, broker, links))

    async def _find(self, call: Call) -> tuple[TopicDetails, PartitionInfo]:
        topic = await self._administration.topic(call.params["topic_name"])
        for partition in topic.partitions:
            if partition.partition == call.params["partition_id"]:
                return topic, partition
        raise NotFound().with_help(PartitionNotFound.help)

    # --- reassignments ----------------------------------------------------------------------------------------------

    async def reassignment(self, call: Call) -> Response:
        """``GET …/partitions/{partition_id}/reassignment``; 404 for a partition that stays where it is."""
        links = await self._links.of(call)
        name, number = str(call.params["topic_name"]), int(call.params["partition_id"])
        for moving in await self._moving(name):
            if moving.partition == number:
                return Response(_reassignment(moving, links))
        raise NotFound().with_help("It is not being moved: …/partitions/-/reassignment lists those that are.")

    async def reassignments_of_topic(self, call: Call) -> Response:
        """``GET …/partitions/-/reassignment``; of an unknown topic there are none."""
        links = await self._links.of(call)
        name = str(call.params["topic_name"])
        path = f"/topics/{segment(name)}/partitions/-/reassignment"
        return await _reassignments(await self._moving(name), path, links)

    async def reassignments(self, call: Call) -> Response:
        """``GET …/topics/-/partitions/-/reassignment``"""
        links = await self._links.of(call)
        path = "/topics/-/partitions/-/reassignment"
        return await _reassignments(await self._administration.reassignments(), path, links)

    async def _moving(self, topic: str) -> Sequence[Reassignment]:
        # All partitions are asked for: the brokers refuse a question about one that they do not know.
        return [each for each in await self._administration.reassignments() if each.topic == topic]


async def _reassignments(moving: Sequence[Reassignment], path: str, links: Links) -> Response:
    elements = (_reassignment(each, links) for each in moving)
    return await links.listed("KafkaReassignment", path, len(moving), elements)


def _partition(topic: str, info: PartitionInfo, links: Links) -> Partition:
    path = f"/topics/{topic}/partitions/{info.partition}"
    return Partition(
        "KafkaPartition",
        links.metadata(path, f"/topic={topic}/partition={info.partition}"),
        links.cluster,
        topic,
        info.partition,
        None if info.leader < 0 else links.to(f"{path}/replicas/{info.leader}"),
        links.to(path + "/replicas"),
        links.to(path + "/reassignment"),
    )


def replica(topic: str, info: PartitionInfo, broker: int, links: Links) -> Replica:
    """One replica of a partition."""
    return Replica(
        "KafkaReplica",
        links.metadata(
            f"/topics/{topic}/partitions/{info.partition}/replicas/{broker}",
            f"/topic={topic}/partition={info.partition}/replica={broker}",
        ),
        links.cluster,
        topic,
        info.partition,
        broker,
        broker == info.leader,
        broker in info.in_sync,
        links.to(f"/brokers/{broker}"),
    )


def _reassignment(moving: Reassignment, links: Links) -> MovingPartition:
    path = f"/topics/{moving.topic}/partitions/{moving.partition}"
    return MovingPartition(
        "KafkaReassignment",
        links.metadata(f"{path}/reassignment", f"/topic={moving.topic}/partition={moving.partition}/reassignment"),
        links.cluster,
        moving.topic,
        moving.partition,
        moving.adding,
        moving.removing,
        links.to(path + "/replicas"),
    )
