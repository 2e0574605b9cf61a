"""Topics, v1 and v2 (kafka-rest-http.md §5.2, §6.2)."""

from __future__ import annotations

from kafka_gateway.errors import TopicNotFound, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import ConfigEntry, TopicInfo
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.common.names import check_topic, is_topic
from kafka_gateway.services.rest.bodies import Partition, Topic
from kafka_gateway.services.rest.v1_errors import v1_errors


class TopicsService:
    """The handlers of ``GET /topics`` and ``GET /topics/{topic}``."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def list(self, call: Call) -> Response:
        """``GET /topics`` of v2: without internal topics."""
        names = [topic.name for topic in await self._admin.topics() if not topic.internal]
        return Response(sorted(call.session.rights.filter("describe", "topic", names)))

    async def list_v1(self, call: Call) -> Response:
        """``GET /topics`` of v1: with internal topics."""
        with v1_errors():
            names = [topic.name for topic in await self._admin.topics()]
            return Response(sorted(call.session.rights.filter("describe", "topic", names)))

    async def get(self, call: Call) -> Response:
        """``GET /topics/{topic}`` of v2: with all effective settings."""
        info = await find_topic(self._admin, str(call.params["topic"]))
        return Response(_topic(info, await self._admin.topic_configs(info.name)))

    async def get_v1(self, call: Call) -> Response:
        """``GET /topics/{topic}`` of v1: with the settings made for this topic."""
        with v1_errors():
            info = await find_topic_v1(self._admin, str(call.params["topic"]))
            configs = await self._admin.topic_configs(info.name)
            return Response(_topic(info, [entry for entry in configs if entry.overridden]))


async def find_topic(admin: Admin, name: str) -> TopicInfo:
    """The topic, as v2 looks for it: KafkaRefused (40002) for an illegal name, UnknownTopicOrPartition (40403)."""
    check_topic(name)
    info = await admin.topic(name)
    if not info.partitions:  # it is being created or deleted
        raise UnknownTopicOrPartition()
    return info


async def find_topic_v1(admin: Admin, name: str) -> TopicInfo:
    """The topic, as v1 looks for it: TopicNotFound (40401), also for an illegal name."""
    if not is_topic(name):
        raise TopicNotFound()
    try:
        return await find_topic(admin, name)
    except UnknownTopicOrPartition:
        raise TopicNotFound() from None


def _topic(info: TopicInfo, configs: list[ConfigEntry]) -> Topic:
    return Topic(
        info.name,
        {entry.name: entry.value for entry in configs},
        [Partition.of(partition) for partition in info.partitions],
    )
