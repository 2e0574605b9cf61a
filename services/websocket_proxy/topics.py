"""Which topics sockets of the proxy protocol may name (websocket-proxy.md §1.2, §5.6)."""

from __future__ import annotations

from collections.abc import Collection

from kafka_gateway.errors import BadRequest, KafkaRefused, NotFound, NotSupported, ServiceError
from kafka_gateway.kafka.ports.kafka import Kafka

_NO_CREDENTIALS = (
    "The Kafka behind this gateway wants credentials, and sockets of this kind must bring their own (X-Kafka-Auth), "
    "which this release does not support."
)


class TopicMissing(BadRequest):
    def __init__(self, topic: str) -> None:
        super().__init__(f"Topic {topic} does not exist")


async def needs_keys(kafka: Kafka, topic: str) -> bool:
    """Whether the broker refuses records of the topic that have no key: it is compacted.

    It refuses them with all that shares their batch, records of other sockets included, so they must not get there.
    False where Kafka does not tell, for want of permission, say.
    """
    try:
        entries = await kafka.admin.topic_configs(topic)
    except ServiceError:
        return False
    return any(each.name == "cleanup.policy" and "compact" in (each.value or "") for each in entries)


async def partitions_of(kafka: Kafka, topic: str, hidden: Collection[str]) -> int:
    """How many partitions the topic has. TopicMissing for one that does not exist, or that clients must not see.

    Raises NotSupported where Kafka wants credentials: the gateway's own are not for its clients (§1.3.4).
    """
    if kafka.secured:
        raise NotSupported(_NO_CREDENTIALS)
    if topic in hidden:
        raise TopicMissing(topic)
    try:
        info = await kafka.admin.topic(topic)
    except (NotFound, KafkaRefused):  # unknown, or a name that no topic can have
        raise TopicMissing(topic) from None
    if info.internal or not info.partitions:
        raise TopicMissing(topic)
    return len(info.partitions)
