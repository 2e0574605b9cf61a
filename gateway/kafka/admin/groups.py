"""Consumer groups from outside: which there are, who is in them, and what they have committed."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import confluent_kafka
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from kafka_gateway.errors import GroupActive, ServiceError
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.offset_queries import offsets_of_a_group
from kafka_gateway.kafka.errors import kafka_error, to_service_error
from kafka_gateway.kafka.ports.admin import GroupInfo
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicInfo

Code = confluent_kafka.KafkaError

_STATES = {
    ConsumerGroupState.PREPARING_REBALANCING: "PREPARING_REBALANCE",
    ConsumerGroupState.COMPLETING_REBALANCING: "COMPLETING_REBALANCE",
}
"""Java's names where the binding has others (websocket-proxy.md §1.8.3)."""

_NO_GROUP = (Code.GROUP_ID_NOT_FOUND,)
_ACTIVE = (Code.NON_EMPTY_GROUP, Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS)
"""What brokers answer who are asked to change the offsets of a group that has members."""


class KafkaGroups:
    """The group questions of the `Admin` port. Each answers within ``deadline_s``, or as Kafka fails it."""

    def __init__(
        self,
        clients: ClientFactory,
        client: AdminClient,
        topics: Callable[[], Awaitable[Sequence[TopicInfo]]],
        deadline_s: float,
    ) -> None:
        """``topics`` gives all topics, as they were a moment ago."""
        self._clients = clients
        self._client = client
        self._topics = topics
        self._deadline_s = deadline_s

    async def all(self) -> list[GroupInfo]:
        found = await _answer(self._client.list_consumer_groups(request_timeout=self._deadline_s))
        return sorted(
            (GroupInfo(each.group_id, _state(each), simple=each.is_simple_consumer_group) for each in found.valid),
            key=lambda group: group.name,
        )

    async def describe(self, names: Sequence[str]) -> list[GroupInfo]:
        if not names:
            return []
        futures = self._client.describe_consumer_groups(list(names), request_timeout=self._deadline_s)
        return list(await asyncio.gather(*(self._described(name, futures[name]) for name in names)))

    async def _described(self, name: str, future: concurrent.futures.Future[Any]) -> GroupInfo:
        try:
            found = await asyncio.wrap_future(future)
        except confluent_kafka.KafkaException as error:
            cause = kafka_error(error)
            if cause is not None and cause.code() in _NO_GROUP:
                return GroupInfo(name, "DEAD")
            raise to_service_error(error) from error
        # A group that only has offsets is simple; brokers say so by an empty protocol type, the binding by the flag.
        return GroupInfo(
            name,
            _state(found),
            found.is_simple_consumer_group,
            found.partition_assignor or "",
            tuple(member.client_id for member in found.members),
        )

    async def offsets(self, group: str) -> list[PartitionOffset]:
        """What it has committed of the topics that there are. InvalidConsumerConfig for an empty name.

        A consumer of the group that never joins it asks, once for all partitions. The question of librdkafka's admin
        client (2.16) ends the whole process when the broker is not, or not yet, the group's coordinator.
        """
        topics = await self._topics()
        places = [(each.name, one.partition) for each in topics for one in each.partitions]
        return await asyncio.to_thread(self._committed, group, places) if places else []

    def _committed(self, group: str, places: list[tuple[str, int]]) -> list[PartitionOffset]:
        build = partial(self._clients.consumer, ConsumerSettings(group, ""))
        try:
            return sorted(offsets_of_a_group(build, places, self._deadline_s))
        except confluent_kafka.KafkaException as error:
            raise to_service_error(error) from error

    async def alter(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        await self._check_idle(group)
        places = [
            confluent_kafka.TopicPartition(each.topic, each.partition, each.offset, each.metadata) for each in offsets
        ]
        asked = self._client.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, places)], request_timeout=self._deadline_s
        )
        altered = await _answer(asked[group])
        for each in altered.topic_partitions or ():
            if each.error is not None:
                raise to_service_error(each.error)

    async def delete(self, group: str, topic: str | None) -> None:
        """librdkafka's binding can only delete a whole group: offsets that are to stay are committed again."""
        await self._check_idle(group)
        kept = [] if topic is None else [each for each in await self.offsets(group) if each.topic != topic]
        await _answer(self._client.delete_consumer_groups([group], request_timeout=self._deadline_s)[group])
        if kept:
            await self.alter(group, kept)

    async def _check_idle(self, group: str) -> None:
        (found,) = await self.describe([group])
        if found.members or found.state not in ("EMPTY", "DEAD"):
            raise GroupActive()


def _state(found: Any) -> str:
    return _STATES.get(found.state, str(found.state.name))


async def _answer(future: concurrent.futures.Future[Any]) -> Any:
    try:
        return await asyncio.wrap_future(future)
    except confluent_kafka.KafkaException as error:
        cause = kafka_error(error)
        failure: ServiceError = to_service_error(error)
        raise GroupActive() if cause is not None and cause.code() in _ACTIVE else failure from error
