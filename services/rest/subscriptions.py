"""What a v2 consumer instance reads: topics, a pattern, or partitions, never two of them (kafka-rest-http.md §6.5).

librdkafka allows to mix them, and takes some names for patterns; this module forbids both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from kafka_gateway.errors import IllegalState, ServiceError
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.services.common.names import TopicRules, is_internal, is_topic
from kafka_gateway.services.common.patterns import TopicPattern
from kafka_gateway.services.instances.instance import ConsumerInstance

log = logging.getLogger("gateway.consumers")

REFRESH_S = 5.0
"""How often topics are looked for that a pattern matches. Java's consumer looks every five minutes
(metadata.max.age.ms), which its users lower as a rule."""

_RIGHTS_S = 1.0
"""How often it is looked whether the rights of somebody with a pattern have changed."""

_EXCLUSIVE = "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive"


class Subscriptions:
    """Changes what instances read, and keeps those with a pattern up to date."""

    def __init__(self, rules: TopicRules, admin: Admin, refresh_s: float = REFRESH_S) -> None:
        self._rules = rules
        self._admin = admin
        self._refresh_s = refresh_s
        self._with_pattern: set[ConsumerInstance] = set()
        self._some_pattern = asyncio.Event()

    async def subscribe(self, instance: ConsumerInstance, topics: Sequence[str]) -> None:
        """Subscribes to exactly these topics, which need not exist; an empty list ends the subscription.

        Raises:
            IllegalState: the instance has a pattern or assigned partitions.
            KafkaAuthorization: internal topics are among them.
        """
        refusal = self._rules.internal_refusal(topics)
        if refusal is not None:
            raise refusal
        async with instance.lock:
            if not topics:
                await self._drop(instance)
                return
            if instance.reads_from not in ("nothing", "topics"):
                raise IllegalState(_EXCLUSIVE)
            legal = [topic for topic in topics if is_topic(topic)]
            if legal:
                await instance.consumer.subscribe(legal)
            elif instance.topics:
                await instance.consumer.unsubscribe()
            self._forget(instance)
            instance.reads_from = "topics"
            instance.topics = tuple(legal)
            instance.illegal = tuple(topic for topic in topics if not is_topic(topic))

    async def subscribe_pattern(self, instance: ConsumerInstance, text: str) -> None:
        """Subscribes to all topics that the pattern matches, now and later; internal ones are never among them.

        Raises:
            Unprocessable: it is no pattern.
            IllegalState: the instance has topics or assigned partitions.
        """
        pattern = TopicPattern(text)
        if instance.reads_from not in ("nothing", "pattern"):
            raise IllegalState(_EXCLUSIVE)  # before Kafka is asked for its topics
        known = await self._topics()
        async with instance.lock:
            if instance.reads_from not in ("nothing", "pattern"):
                raise IllegalState(_EXCLUSIVE)
            matched = await pattern.matches(instance.rights.filter("read", "topic", known))
            await _take_matched(instance, matched)
            instance.reads_from = "pattern"
            instance.pattern = pattern
            instance.was_read = False
            self._with_pattern.add(instance)
            self._some_pattern.set()

    async def assign(self, instance: ConsumerInstance, partitions: Sequence[TopicPartition]) -> None:
        """Assigns exactly these partitions; an empty list unassigns all.

        Raises:
            IllegalState: the instance is subscribed.
            KafkaAuthorization: internal topics are among them.
        """
        refusal = self._rules.internal_refusal(dict.fromkeys(partition.topic for partition in partitions))
        if refusal is not None:
            raise refusal
        async with instance.lock:
            if not partitions:
                await self._drop(instance)
                return
            if instance.reads_from not in ("nothing", "partitions"):
                raise IllegalState(_EXCLUSIVE)
            wanted = tuple(dict.fromkeys(partitions))
            real = [partition for partition in wanted if _is_real(partition)]
            if real:
                await instance.consumer.assign(real)
            elif any(_is_real(partition) for partition in instance.partitions):
                await instance.consumer.unsubscribe()
            self._forget(instance)
            instance.reads_from = "partitions"
            instance.partitions = wanted
            instance.illegal = tuple(dict.fromkeys(each.topic for each in wanted if not is_topic(each.topic)))

    async def unsubscribe(self, instance: ConsumerInstance) -> None:
        """Ends a subscription, or drops an assignment; harmless if there is none."""
        async with instance.lock:
            await self._drop(instance)

    @staticmethod
    def topics(instance: ConsumerInstance) -> list[str]:
        """What ``GET …/subscription`` shows: the topics asked for; of a pattern those matched, once it was read."""
        if instance.reads_from == "pattern":
            return list(instance.topics) if instance.was_read else []
        return [*instance.topics, *instance.illegal] if instance.reads_from == "topics" else []

    @staticmethod
    async def partitions(instance: ConsumerInstance) -> list[TopicPartition]:
        """What ``GET …/assignments`` shows: the manual assignment, or what the group gave to this member."""
        if instance.reads_from in ("topics", "pattern"):
            return await instance.consumer.assignment()
        return list(instance.partitions)

    async def run(self) -> None:
        """Looks for new topics while some instance has a pattern, until it is cancelled."""
        while True:
            await self._some_pattern.wait()
            await self._refresh_due()
            try:
                await self.refresh()
            except Exception:  # a bug; without this task patterns would silently stop following new topics
                log.exception("topics for patterns could not be looked for")

    async def _refresh_due(self) -> None:
        """Returns when topics should be looked for again, or when the rights of somebody with a pattern changed."""
        known = {instance: instance.rights.generation for instance in self._with_pattern}
        until = time.monotonic() + self._refresh_s
        while (left_s := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, _RIGHTS_S))
            if any(instance.rights.generation != known.get(instance, 0) for instance in self._with_pattern):
                return

    async def refresh(self) -> None:
        """Brings all instances with a pattern up to date with the topics there are now."""
        for instance in list(self._with_pattern):
            if instance.closed:
                self._with_pattern.discard(instance)
        if not self._with_pattern:
            self._some_pattern.clear()
            return
        try:
            known = await self._topics()
        except ServiceError as error:
            log.warning("the topics for patterns cannot be listed, trying again: %s", error.message)
            return
        for instance in list(self._with_pattern):
            async with instance.lock:
                if instance.closed or instance.pattern is None:
                    continue
                try:
                    readable = instance.rights.filter("read", "topic", known)
                    await _take_matched(instance, await instance.pattern.matches(readable))
                except ServiceError as error:
                    log.warning("the topics of group %r stay as they are: %s", instance.key.group, error.message)

    async def _topics(self) -> list[str]:
        return [
            topic.name for topic in await self._admin.topics() if not topic.internal and not is_internal(topic.name)
        ]

    async def _drop(self, instance: ConsumerInstance) -> None:
        if instance.reads_from != "nothing":
            await instance.consumer.unsubscribe()
        self._forget(instance)

    def _forget(self, instance: ConsumerInstance) -> None:
        self._with_pattern.discard(instance)
        instance.reads_from = "nothing"
        instance.topics = instance.illegal = ()
        instance.partitions = ()
        instance.pattern = None
        instance.was_read = False
        instance.matched.clear()


async def _take_matched(instance: ConsumerInstance, matched: Sequence[str]) -> None:
    """Subscribes to what a pattern matches, if that is something else than before."""
    topics = tuple(matched)
    if topics == instance.topics:
        return
    if topics:
        await instance.consumer.subscribe(topics)
        instance.matched.set()
    else:
        await instance.consumer.unsubscribe()
        instance.matched.clear()
    instance.topics = topics


def _is_real(partition: TopicPartition) -> bool:
    """Whether Kafka can have such a partition. Others may be assigned, but never have records (observed)."""
    return partition.partition >= 0 and is_topic(partition.topic)


def real_partitions(partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
    """Those that Kafka may be asked about."""
    return [partition for partition in partitions if _is_real(partition)]


def check_seekable(places: Sequence[TopicPartition] | Sequence[PartitionOffset]) -> None:
    """IllegalState if a partition can belong to no consumer. Whether it is this one's, Kafka's client finds out."""
    for place in places:
        if place.partition < 0 or not is_topic(place.topic):
            raise IllegalState(f"Illegal state: No current assignment for partition {place.topic}-{place.partition}")
