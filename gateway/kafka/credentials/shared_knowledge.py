"""What a producer of a client's credentials has to know of topics, mostly as the gateway itself knows it.

Whether a topic exists, how large its batches may be and why its records wait is no secret that a client's rights guard
here: who writes to a topic is judged by the brokers, by each record. So a set of clients that only produces needs one
client and not two. What the gateway may not see, or does not find, is asked with the client's own credentials, so that
the answer about a topic that is not there is Kafka's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import ConfigEntry, TopicInfo
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization


class SharedKnowledge:
    """The part of the `Admin` port that producers and consumers use."""

    def __init__(self, own: Admin, clients: Callable[[], Admin], is_doubted: Callable[[], bool]) -> None:
        """
        Args:
            own: asks with the gateway's credentials.
            clients: makes what asks with the client's, if it is not there yet.
            is_doubted: whether a broker has just refused the client's credentials, though Kafka takes them.
        """
        self._own = own
        self._clients = clients
        self._is_doubted = is_doubted

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        try:
            return await self._own.topic(name, fresh)
        except (UnknownTopicOrPartition, KafkaAuthorization):
            return await self._clients().topic(name, fresh)

    async def reach(self) -> None:
        try:
            await self._own.reach()
        except BrokerNotAvailable:
            await self._clients().reach()  # the gateway's own credentials may be of no use here

    async def make_topic(self, name: str) -> TopicInfo:
        return await self._clients().make_topic(name)

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        return await self._own.topic_configs(name)

    async def trouble(self, topic: str) -> str:
        if self._is_doubted():
            return "A broker refuses the credentials that Kafka has taken; it may not know of a change of them yet"
        return await self._own.trouble(topic)

    def watch_topics(
        self, interested: Callable[[], Iterable[str]], told: Callable[[str, TopicInfo | ServiceError], object]
    ) -> Callable[[], None]:
        return self._own.watch_topics(interested, told)
