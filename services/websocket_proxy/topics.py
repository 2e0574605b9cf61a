"""Which topics sockets of the proxy protocol may name (websocket-proxy.md §1.2, §5.6)."""

from __future__ import annotations

from collections.abc import Collection

from kafka_gateway.errors import BadRequest, NotFound, ServiceError, TopicNotFound
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.session import Session


class TopicMissing(BadRequest):
    help = TopicNotFound.help

    def __init__(self, topic: str) -> None:
        super().__init__(f"Topic {topic} does not exist")


async def needs_keys(kafka: Kafka, topic: str) -> bool:
    """Whether the broker refuses records of the topic that have no key: it is compacted.

    It refuses them with all that shares their batch, records of other sockets included, so they must not get there.
    False if Kafka does not say, for lack of permission for example.
    """
    try:
        entries = await kafka.own.admin.topic_configs(topic)
    except ServiceError:
        return False
    return any(each.name == "cleanup.policy" and "compact" in (each.value or "") for each in entries)


async def partitions_of(kafka: Kafka, topic: str, hidden: Collection[str]) -> int:
    """How many partitions the topic has. TopicMissing for one that does not exist, or that clients must not see.

    The gateway asks with its own credentials, whoever's socket it is (§5.6).
    """
    if topic in hidden:
        raise TopicMissing(topic)
    try:
        info = await kafka.own.admin.topic(topic)
    except (NotFound, KafkaRefused):  # unknown, or a name that no topic can have
        raise TopicMissing(topic) from None
    if info.internal or not info.partitions:
        raise TopicMissing(topic)
    return len(info.partitions)


async def log_in(kafka: Kafka, session: Session, topic: str) -> Kafka:
    """The Kafka clients for a socket of this session's client, whose credentials have been tried (§1.2).

    Unauthorized if Kafka wants some and the client brings none, or wrong ones; KafkaAuthorization if they are good, and
    Kafka does not show it the topic.
    """
    clients = await kafka.for_socket(session)
    if clients is not kafka.own:
        await clients.admin.topic(topic)
    return clients
