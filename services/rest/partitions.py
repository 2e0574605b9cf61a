"""Partitions of a topic, v1 and v2 (kafka-rest-http.md §5.2, §6.2)."""

from __future__ import annotations

from kafka_gateway.errors import PartitionNotFound
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import PartitionInfo, TopicInfo
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.rest.bodies import Partition, PartitionOffsets
from kafka_gateway.services.rest.topics import find_topic, find_topic_v1
from kafka_gateway.services.rest.v1_errors import v1_errors


class PartitionsService:
    """The handlers of ``GET /topics/{topic}/partitions…``."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def list(self, call: Call) -> Response:
        """``GET …/partitions`` of v2"""
        return _partitions(await find_topic(self._admin, str(call.params["topic"])))

    async def list_v1(self, call: Call) -> Response:
        """``GET …/partitions`` of v1"""
        with v1_errors():
            return _partitions(await find_topic_v1(self._admin, str(call.params["topic"])))

    async def get(self, call: Call) -> Response:
        """``GET …/partitions/{partition}`` of v2"""
        info = await find_topic(self._admin, str(call.params["topic"]))
        return Response(Partition.of(find_partition(info, call.params["partition"])))

    async def get_v1(self, call: Call) -> Response:
        """``GET …/partitions/{partition}`` of v1"""
        with v1_errors():
            info = await find_topic_v1(self._admin, str(call.params["topic"]))
            return Response(Partition.of(find_partition(info, call.params["partition"])))

    async def offsets(self, call: Call) -> Response:
        """``GET …/partitions/{partition}/offsets``: log start and high watermark."""
        info = await find_topic(self._admin, str(call.params["topic"]))
        partition = find_partition(info, call.params["partition"])
        return Response(PartitionOffsets(*await self._admin.offsets(info.name, partition.partition)))


def find_partition(info: TopicInfo, number: int) -> PartitionInfo:
    """The partition of that number; PartitionNotFound (40402)."""
    for partition in info.partitions:
        if partition.partition == number:
            return partition
    raise PartitionNotFound()


def _partitions(info: TopicInfo) -> Response:
    return Response([Partition.of(partition) for partition in info.partitions])
