"""Which topics there are in Kafka, with which partitions. All such questions are asked here.

librdkafka keeps every name that a client was ever asked for with ``list_topics(name)`` and asks for all of them for
ever: after 3,700 unknown names an admin client answered 68 questions a second instead of 821 and used 17 % of a
processor. DescribeTopics keeps nothing. So names that come from clients are asked for with that, here; those that are
asked for at the same time go in one request, and answers count for a moment. Topics in use are looked at once a second,
all in one request, for everybody who reads or writes them.

librdkafka's mock cluster does not know DescribeTopics; it is asked for all of its topics instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ClusterMetadata

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.topics import PartitionInfo, TopicInfo

_log = logging.getLogger("gateway.kafka.admin")

FRESH_S = 1.0
"""How old an answer may be that a topic exists."""
GONE_S = 0.5
"""How old an answer may be that it does not."""
WATCH_S = 1.0
"""How often topics in use are looked at."""
DEADLINE_S = 4.5
_SOON_S = 0.7
"""After this time without an answer the controller may be another one by now."""

INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Kafka's own list (`Topic.INTERNAL_TOPICS`); not every answer carries the mark."""

_KEPT = 10_000
_AT_ONCE = 1000
_MOCK = "mockCluster"
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"

Found = TopicInfo | ServiceError
"""A topic, or why there is none: UnknownTopicOrPartition, or what Kafka refuses."""


class TopicDirectory:
    """Belongs to the event loop."""

    def __init__(self, client: AdminClient, list_all: Callable[[], Awaitable[ClusterMetadata]]) -> None:
        """``list_all`` asks for all topics and brokers; it raises as `AdminClient.list_topics` does."""
        self._client = client
        self._list_all = list_all
        self._describes: bool | None = None
        """Whether the cluster knows DescribeTopics; None until it was asked for the first time."""
        self._known: dict[str, tuple[float, Found]] = {}
        """With the time at which the answer came."""
        self._asked: dict[str, asyncio.Future[Found]] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._gathering: dict[str, asyncio.Future[Found]] = {}
        self._watchers: list[tuple[Callable[[], Iterable[str]], Callable[[str, Found], object]]] = []
        self._watch: asyncio.Task[None] | None = None

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        """The topic as it was at most `FRESH_S` ago, or is now.

        ``name`` is a legal one. Raises UnknownTopicOrPartition (at most `GONE_S` old), KafkaAuthorization, and what
        says that Kafka does not answer.
        """
        known = None if fresh else self._known.get(name)
        if known is not None:
            at, found = known
            if time.monotonic() - at < (FRESH_S if isinstance(found, TopicInfo) else GONE_S):
                return _raised(found)
        asked = self._asked.get(name)
        if asked is None or (fresh and name not in self._gathering):
            asked = self._asked[name] = self._ask(name)
        return _raised(await asyncio.shield(asked))

    async def describe(self, names: Iterable[str]) -> Mapping[str, Found]:
        """All of these as they are now; where Kafka does not answer, with the error that says so."""
        found: dict[str, Found] = {}
        wanted = list(dict.fromkeys(names))
        for start in range(0, len(wanted), _AT_ONCE):
            found |= await self._describe(wanted[start : start + _AT_ONCE])
        now = time.monotonic()
        if len(self._known) + len(found) > _KEPT:
            self._known.clear()
        for name, each in found.items():
            if isinstance(each, TopicInfo | UnknownTopicOrPartition):
                self._known[name] = now, each
        return found

    def forget(self, name: str) -> None:
        """It was created, deleted or changed just now."""
        self._known.pop(name, None)

    def watch(
        self, interested: Callable[[], Iterable[str]], told: Callable[[str, Found], object]
    ) -> Callable[[], None]:
        """Looks at the topics that ``interested`` names, once a second, and tells what was found of each.

        Until what this returns is called.
        """
        watcher = (interested, told)
        self._watchers.append(watcher)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look_on_and_on(), name="watch-topics")

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._watchers.remove(watcher)

        return end

    async def aclose(self) -> None:
        tasks = [*self._flights, *([self._watch] if self._watch is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for asked in [*self._asked.values(), *self._gathering.values()]:
            asked.cancel()

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, name: str) -> asyncio.Future[Found]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        future.add_done_callback(_looked_at)
        if not self._gathering:
            loop.call_soon(self._fly)
        self._gathering[name] = future
        return future

    def _fly(self) -> None:
        """One request for all that were asked for in this round of the loop."""
        gathered, self._gathering = self._gathering, {}
        flight = asyncio.get_running_loop().create_task(self._answer(gathered))
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    async def _answer(self, asked: Mapping[str, asyncio.Future[Found]]) -> None:
        try:
            found = await self.describe(asked)
            for name, future in asked.items():
                if not future.done():
                    future.set_result(found[name])
        except Exception as error:
            for future in asked.values():
                if not future.done():
                    future.set_exception(error)
        finally:
            for name, future in asked.items():
                future.cancel()  # if this was
                if self._asked.get(name) is future:
                    del self._asked[name]

    async def _describe(self, names: Sequence[str]) -> dict[str, Found]:
        if not self._describes:
            try:
                every = await self._every()
            except (KafkaException, ServiceError) as error:
                return dict.fromkeys(names, to_service_error(error))
            if not self._describes:
                return {name: every.get(name) or UnknownTopicOrPartition() for name in names}
        asked: dict[str, Any] = self._client.describe_topics(TopicCollection(list(names)), request_timeout=DEADLINE_S)
        answers = await self.answers(asked.values())
        found: dict[str, Found] = {}
        for name, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                found[name] = to_service_error(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[name] = _described(answer)
        return found

    async def answers(self, asked: Iterable[Any]) -> list[Any]:
        """What the admin client answers to questions about topics, its exceptions among it.

        It sends them to the controller that it knows, and waits for that one if it is gone. It refreshes its metadata
        for the sake of topics, of which it knows none; so it is made to, when it does not answer soon.
        """
        waiting = [asyncio.wrap_future(each) for each in asked]
        if waiting and (await asyncio.wait(waiting, timeout=_SOON_S))[1]:
            try:
                await self._list_all()
            except (KafkaException, ServiceError) as error:
                _log.debug("Kafka does not tell its controller: %s", error)
        return await asyncio.gather(*waiting, return_exceptions=True)

    async def _every(self) -> dict[str, Found]:
        """All topics; also learns what kind of cluster it is."""
        metadata: Any = await self._list_all()  # whose annotations say that all fields are None
        self._describes = not str(metadata.cluster_id).startswith(_MOCK)
        return {name: _listed(topic) for name, topic in metadata.topics.items() if name}

    # --- watching -----------------------------------------------------------------------------------------------------

    async def _look_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.look()
            except Exception:
                _log.exception("Looking after topics in use failed")

    async def look(self) -> None:
        """Looks at the topics in use now, and tells."""
        wanted = [(set(interested()), told) for interested, told in self._watchers]
        names = set[str]().union(*(each for each, _ in wanted))
        if not names:
            return
        found = await self.describe(sorted(names))
        for each, told in wanted:
            for name in sorted(each):
                try:
                    told(name, found[name])
                except Exception:
                    _log.exception("What was found of topic %s could not be told", name)


def _listed(topic: Any) -> Found:
    if topic.error is not None and not topic.partitions:
        failure = to_service_error(topic.error)
        return UnknownTopicOrPartition() if isinstance(failure, UnknownTopicOrPartition) else failure
    return info_of(topic)


def info_of(topic: Any) -> TopicInfo:
    """A topic of the binding's ClusterMetadata, whatever error it has."""
    return TopicInfo(
        name=str(topic.topic),
        internal=topic.topic in INTERNAL_TOPICS,
        partitions=tuple(
            PartitionInfo(
                partition=int(one.id), leader=int(one.leader), replicas=tuple(one.replicas), in_sync=tuple(one.isrs)
            )
            for _, one in sorted(topic.partitions.items())
        ),
    )


def _described(topic: Any) -> TopicInfo:
    topic_id = str(topic.topic_id)
    return TopicInfo(
        name=topic.name,
        internal=topic.is_internal or topic.name in INTERNAL_TOPICS,
        partitions=tuple(
            PartitionInfo(
                partition=one.id,
                leader=-1 if one.leader is None else one.leader.id,
                replicas=tuple(node.id for node in one.replicas),
                in_sync=tuple(node.id for node in one.isr),
            )
            for one in sorted(topic.partitions, key=lambda each: each.id)
        ),
        topic_id="" if topic_id == _NO_ID else topic_id,
    )


def _raised(found: Found) -> TopicInfo:
    if isinstance(found, ServiceError):
        raise found.with_traceback(None)  # it may be raised for many
    return found


def _looked_at(asked: asyncio.Future[Found]) -> None:
    if not asked.cancelled():
        asked.exception()  # all callers may have gone; then nobody else retrieves it
