"""Questions about topics and consumer groups, and their simple changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import BrokerNode, ConfigEntry, PartitionOffset, TopicInfo


@dataclasses.dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group. ``state`` is Java's name (STABLE, EMPTY, DEAD, …); ``members`` are client ids."""

    name: str
    state: str
    simple: bool = False
    """Without members that Kafka assigns partitions to: somebody commits offsets under this name, nothing more."""
    assignor: str = ""
    members: tuple[str, ...] = ()


class Admin(Protocol):
    async def brokers(self) -> list[int]: ...
    async def nodes(self) -> list[BrokerNode]:
        """All brokers by id, with their addresses for clients."""

    async def create_topic(self, name: str, partitions: int, replicas: int, settings: Mapping[str, str]) -> None:
        """Makes a topic, or leaves the one that is there as it is. Raises KafkaRefused, KafkaAuthorization.

        NotSupported on the embedded Kafka.
        """

    async def groups(self) -> list[GroupInfo]:
        """All consumer groups, by name, without their members."""

    async def describe_groups(self, names: Sequence[str]) -> list[GroupInfo]:
        """In this order. Groups that Kafka does not know have the state DEAD."""

    async def group_offsets(self, group: str) -> list[PartitionOffset]:
        """What the group has committed, by topic and partition; nothing for an unknown group."""

    async def alter_group_offsets(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        """Commits for a group without members, which it makes if need be. GroupActive while it has members."""

    async def delete_group_offsets(self, group: str, topic: str | None) -> None:
        """Drops what the group has committed for the topic, or for all. GroupActive while it has members;
        KafkaError for a group that Kafka does not know.
        """

    async def topics(self) -> list[TopicInfo]:
        """All topics, internal ones included, by name."""

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        """The topic as it was within the last second, or as it is now. Never creates the topic.

        Raises UnknownTopicOrPartition, which counts for half a second unless ``fresh``.
        """

    async def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicInfo | ServiceError]:
        """All of these as they are now, with one question; where there is no answer, the error that says why."""

    def watch_topics(
        self, interested: Callable[[], Iterable[str]], told: Callable[[str, TopicInfo | ServiceError], object]
    ) -> Callable[[], None]:
        """Looks at the topics that ``interested`` names, once a second, and tells what was found of each. Until what
        this returns is called."""

    async def make_topic(self, name: str) -> TopicInfo:
        """Asks for a topic in such a way that the brokers make it, if auto.create.topics.enable says so there.

        Raises UnknownTopicOrPartition if they do not; TooManyRequests if too many topics are being made.
        """

    def forget_topic(self, name: str) -> None:
        """The topic was created, deleted or changed just now: the next answer is a new one."""

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        """All effective settings, by name. An empty list on the embedded Kafka, which keeps none."""

    async def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """Log start and high watermark. Raises UnknownTopicOrPartition or PartitionNotFound."""

    async def all_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Log start and high watermark of these partitions, with two questions for all. Raises as ``offsets`` does,
        and LeaderNotAvailable, if one of them has none."""

    async def log_ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        """The high watermark of each partition of these topics, with one question to each broker. What is unknown, or
        has no leader, is left out."""

    async def trouble(self, topic: str) -> str:
        """Why some partition of the topic takes no records at present, beginning with the name of Kafka's error; "" if
        all take them. Raises UnknownTopicOrPartition.
        """

    async def reach(self) -> None:
        """Returns at once if a broker has answered since the start, even if none does now; else waits for an answer.

        Raises BrokerNotAvailable when none comes: within 1.5 s, and at once while Kafka is known to be away.
        """

    async def check(self, timeout_s: float) -> None:
        """Asks Kafka for its metadata; raises BrokerNotAvailable when no broker answers in time."""
