"""Topics that change while they are read: new partitions, and topics that were deleted and made again.

librdkafka learns of new partitions after five minutes. Of a new topic under an old name it says nothing at all: it goes
on at the old offset as soon as the new log has one (reliability.md §3c).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.topics import TopicInfo

_log = logging.getLogger("gateway.kafka.consumer")


class Reader(Protocol):
    """Something that reads topics."""

    def topics(self) -> Collection[str]: ...
    async def topic_changed(self, topic: str, anew: bool) -> None:
        """The topic has other partitions, or is another one under its name (``anew``)."""

    async def topic_gone(self, topic: str) -> None:
        """Kafka does not know the topic any more."""


class TopicWatch:
    """Compares what Kafka says of topics that are read. Belongs to the event loop; asked as a watcher of topics."""

    def __init__(self, readers: Callable[[], Iterable[Reader]]) -> None:
        self._readers = readers
        self._known: dict[str, tuple[str, int]] = {}
        """Id and number of partitions of each topic that is read."""
        self._tasks: set[asyncio.Task[None]] = set()

    def topics(self) -> Collection[str]:
        """All that are read now."""
        read = {topic for reader in self._readers() for topic in reader.topics()}
        self._known = {topic: each for topic, each in self._known.items() if topic in read}
        return read

    def found(self, name: str, found: TopicInfo | ServiceError) -> None:
        """What Kafka says of a topic."""
        if not isinstance(found, TopicInfo):
            if isinstance(found, UnknownTopicOrPartition) and name in self._known:
                self._tell(name, lambda reader: reader.topic_gone(name))
            return
        now = (found.topic_id, len(found.partitions))
        before = self._known.get(name, now)
        self._known[name] = now
        if before == now:
            return
        anew = bool(before[0] and now[0] and before[0] != now[0])
        self._tell(name, lambda reader: reader.topic_changed(name, anew))

    def _tell(self, topic: str, call: Callable[[Reader], Coroutine[Any, Any, None]]) -> None:
        for reader in self._readers():
            if topic in reader.topics():
                task = asyncio.get_running_loop().create_task(self._told(call(reader), topic))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _told(telling: Coroutine[Any, Any, None], topic: str) -> None:
        try:
            await telling
        except ServiceError as error:
            _log.debug("a reader of topic %s did not hear that it changed: %s", topic, error.message)
        except Exception:
            _log.exception("a reader of topic %s could not be told that it changed", topic)
