"""Which topics can be produced to: asked before a record is handed to librdkafka.

A librdkafka producer keeps every name that it was ever given and asks for it for ever, and it learns of new partitions
after five minutes. So unknown names stay here, and a topic that was written to within the last second is looked at once
a second (with all others in one request): its new partitions are known within two seconds, and its end is, too.

Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import TopicInfo
from kafka_gateway.kafka.producing.first_connections import Lazily
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.rights import Rights

_log = logging.getLogger("gateway.kafka.producer")

KNOWN_FOR_S = 4.0
"""How long a topic counts as existing after Kafka said so (F10: a deleted topic answers 404 within 5 s)."""
ABSENT_FOR_S = 0.5
"""How long a topic that the broker would not make counts as unknown."""
_PATIENCE_S = 0.5
"""How long a record waits for word of its topic where unknown topics are made: if Kafka is away, it is librdkafka that
keeps the record and knows its deadline."""
_SLOW_FOR_S = 2.0
"""How long no record waits any more after one has waited in vain."""
_KEPT = 100_000


class KnownTopics:
    """What is known of topics that are written to."""

    def __init__(self, admin: Admin, create: bool, learn: Callable[[str], Awaitable[None]]) -> None:
        """``create``: unknown topics are to be made. ``learn`` has librdkafka ask for a topic that has changed."""
        self._admin = admin
        self._create = create
        self._learn = learn
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, float] = {}
        """Until when a topic counts as known."""
        self.absent: dict[str, float] = {}
        """Until when the broker, which would not make a topic, is not asked for it again."""
        self._partitions: dict[str, int] = {}
        """How many a topic had when librdkafka was told of it last."""
        self._used: set[str] = set()
        """Since they were looked at last."""
        self._asking: dict[tuple[str, bool], asyncio.Task[None]] = {}
        """Questions for topics, those for whoever may have it made, too, and those for others."""
        self._slow_until = 0.0
        self._reached = False
        """Whether a broker has ever answered. Until then records are refused: there is no outage to be waited out."""
        self._late: dict[str, asyncio.Task[None]] = {}
        """Questions that took longer than a record waits, by their topics."""
        self._end_watch = admin.watch_topics(self._take_used, self._looked_at)

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        """None if records for this topic can be sent at once; else what to await first. See `Producer.ready`."""
        self._used.add(topic)
        now = time.monotonic()
        if self._known.get(topic, 0.0) > now:
            return None
        makes = self._create and rights.making(topic).allowed
        if self._slow_until > now and self._reached and self._is_kept(topic, makes):
            # Kafka has just not answered in time: librdkafka keeps the record, or a full queue refuses it at once.
            self._question(topic, makes)
            return None
        # All waiters share one task and are woken in the order in which they came.
        if makes or not self._create:
            return asyncio.shield(self._question(topic, makes))
        return Lazily(lambda: self._find(topic, rights))

    def _is_kept(self, topic: str, makes: bool) -> bool:
        """Whether librdkafka gets a record while nobody knows of its topic: that may be made, or was there before."""
        return self._create and (makes or topic in self._partitions)

    def _question(self, topic: str, makes: bool) -> asyncio.Task[None]:
        asking = self._asking.get((topic, makes))
        return asking or self._start(topic, makes, self._ask(topic, makes))

    async def _find(self, topic: str, rights: Rights) -> None:
        """Returns when the topic is there, for whoever may not have it made. NotAuthorized if it is not."""
        making = self._asking.get((topic, True))
        if making is not None:  # by somebody who may
            await asyncio.shield(making)
            if self.knows(topic):
                return
        try:
            await asyncio.shield(self._question(topic, False))
        except UnknownTopicOrPartition:
            rights.require("create", "topic", topic)
            raise

    def knows(self, topic: str) -> bool:
        """Whether the topic was there just now."""
        return self._known.get(topic, 0.0) > time.monotonic()

    def is_absent(self, topic: str) -> bool:
        """Whether Kafka has just said that there is no such topic, and would not make it."""
        return self.absent.get(topic, 0.0) > time.monotonic()

    async def asked(self, topic: str) -> None:
        """Returns when the topic is not looked for, or made, any more."""
        questions = (self._asking.get((topic, True)), self._asking.get((topic, False)), self._late.get(topic))
        if asking := [each for each in questions if each is not None]:
            await asyncio.wait(asking)

    def close(self) -> None:
        self._end_watch()
        for asking in [*self._asking.values(), *self._late.values()]:
            asking.cancel()

    def _start(self, topic: str, makes: bool, question: Awaitable[None]) -> asyncio.Task[None]:
        asking = self._asking[topic, makes] = self._loop.create_task(_run(question))
        asking.add_done_callback(lambda task: self._answered((topic, makes), task))
        return asking

    def _answered(self, key: tuple[str, bool], task: asyncio.Task[None]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]
        if not task.cancelled():
            task.exception()  # those who waited for it may have gone

    async def _ask(self, topic: str, makes: bool) -> None:
        if not self._reached:
            await self._admin.reach()
            self._reached = True
        try:
            async with asyncio.timeout(_PATIENCE_S if self._is_kept(topic, makes) else None):
                found = await self._admin.topic(topic)
        except UnknownTopicOrPartition:
            self._known.pop(topic, None)
            if not makes:
                raise
            await self._make(topic)
        except KafkaAuthorization:
            if not self._create:
                raise
            self._note(self._known, topic, KNOWN_FOR_S)  # who may write to a topic need not be allowed to see it
        except TimeoutError:
            if not self._is_kept(topic, makes):
                raise
            self._slow_until = time.monotonic() + _SLOW_FOR_S
            # The record goes to librdkafka, which waits for its topic for `topic.metadata.propagation.max.ms`. A Kafka
            # that is slow, and not away, still has to be asked for a topic that is missing.
            if makes and topic not in self._late:
                self._late[topic] = late = self._loop.create_task(self._make_if_missing(topic))
                late.add_done_callback(lambda _: self._late.pop(topic, None))
        except ServiceError as error:
            if not self._is_kept(topic, makes):
                raise
            _log.debug("whether there is a topic %s is not known: %s", topic, error.message)
        else:
            await self._found(topic, found)

    async def _make_if_missing(self, topic: str) -> None:
        try:
            found = await self._admin.topic(topic)
        except UnknownTopicOrPartition:
            await self._make(topic)
        except ServiceError as error:
            _log.debug("whether there is a topic %s is not known: %s", topic, error.message)
        else:
            await self._found(topic, found)

    async def _make(self, topic: str) -> None:
        try:
            found = await self._admin.make_topic(topic)
        except UnknownTopicOrPartition:
            self._note(self.absent, topic, ABSENT_FOR_S)
        except ServiceError as error:
            _log.debug("whether there is a topic %s now is not known: %s", topic, error.message)
        else:
            await self._found(topic, found)

    async def _found(self, topic: str, found: TopicInfo) -> None:
        self.absent.pop(topic, None)
        count = len(found.partitions)
        before = self._partitions.pop(topic, count)
        if len(self._partitions) >= _KEPT:
            del self._partitions[next(iter(self._partitions))]
        self._partitions[topic] = count
        if before != count:
            _log.info("Topic %s has %d partitions now, %d before", topic, count, before)
            await self._learn(topic)
        self._note(self._known, topic, KNOWN_FOR_S)

    @staticmethod
    def _note(notes: dict[str, float], topic: str, for_s: float) -> None:
        if len(notes) >= _KEPT:
            notes.clear()
        notes[topic] = time.monotonic() + for_s

    # --- looking, once a second ---------------------------------------------------------------------------------------

    def _take_used(self) -> Iterable[str]:
        used, self._used = self._used, set()
        return used

    def _looked_at(self, topic: str, found: TopicInfo | ServiceError) -> None:
        if isinstance(found, UnknownTopicOrPartition):
            self._known.pop(topic, None)
        elif isinstance(found, TopicInfo) and (topic, self._create) not in self._asking:
            if self._partitions.get(topic, len(found.partitions)) == len(found.partitions):
                self._note(self._known, topic, KNOWN_FOR_S)
            else:
                self._known.pop(topic, None)  # records wait until librdkafka knows its partitions
                self._start(topic, self._create, self._found(topic, found))


async def _run(question: Awaitable[None]) -> None:
    await question
