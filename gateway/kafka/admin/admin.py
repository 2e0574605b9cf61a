"""Questions about the cluster: brokers, topics, settings, offsets, groups. A topic is made only by `create_topic`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import confluent_kafka
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
)

from kafka_gateway.errors import (
    LeaderNotAvailable,
    NotSupported,
    PartitionNotFound,
    ServiceError,
    TooManyRequests,
    UnknownTopicOrPartition,
)
from kafka_gateway.kafka.admin.groups import KafkaGroups
from kafka_gateway.kafka.admin.presence import Presence
from kafka_gateway.kafka.admin.topic_directory import TopicDirectory, info_of
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.errors import kafka_error, to_service_error
from kafka_gateway.kafka.names import check_topic_name
from kafka_gateway.kafka.ports.admin import GroupInfo
from kafka_gateway.kafka.ports.topics import BrokerNode, ConfigEntry, PartitionOffset, TopicInfo
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization
from kafka_gateway.upstream import Broker

DEADLINE_S = 5.0
"""After this long a question has failed: a frozen broker holds a call as long as it may (reliability.md §3b)."""

_THREADS = 8
_MAKE_S = 2.0
"""How long a topic may take to appear that the brokers were asked to make."""
_MAKING_MAX = 200
_IN_SYNC_S = 30.0
_IN_SYNC_MAX = 1000
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_RETRY_S = 0.05
_PROBE = "__consumer_offsets"
"""A topic to ask for when only the brokers matter: the list of all topics can be megabytes."""

T = TypeVar("T")


class KafkaAdmin:
    """The `Admin` port over one AdminClient. librdkafka's metadata call blocks, so it runs on a few threads.

    Equal questions at the same time share one request: a page that opens in a hundred browsers asks Kafka once.
    """

    def __init__(
        self,
        clients: ClientFactory,
        embedded: bool = False,
        threads: int = _THREADS,
        hides: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Does not wait for Kafka. Raises KafkaException for a faulty configuration.

        Args:
            hides: which topics and groups no list names: those of the gateway's own.
            threads: how many questions may block at a time.
        """
        self._clients = clients
        self._embedded = embedded
        self.hides = hides
        # Held for as long as futures are open: going out of scope fails them with _DESTROY (reliability.md §3a).
        self._client = clients.admin()
        self._groups = KafkaGroups(clients, self._client, self.topics, DEADLINE_S)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "kafka-admin")
        # A probe must not wait until clients' questions free a thread.
        self._probes = concurrent.futures.ThreadPoolExecutor(1, "kafka-probe")
        self._makers = concurrent.futures.ThreadPoolExecutor(1, "kafka-topic-maker")
        self._making = 0
        self.directory = TopicDirectory(self._client, lambda: self._metadata(None))
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._in_sync: dict[str, tuple[int, float]] = {}
        """min.insync.replicas by topic, and until when it counts."""
        self.presence = Presence(self.check, clients.servers, clients.log)
        """Who thinks that Kafka is away tells this."""

    @property
    def client(self) -> AdminClient:
        """The AdminClient, for questions that this port does not have. It lives as long as this object."""
        return self._client

    async def brokers(self) -> list[int]:
        metadata = await self._metadata(_PROBE)
        return sorted(metadata.brokers)

    async def cluster(self) -> tuple[str, tuple[Broker, ...]]:
        """The cluster's id and its brokers, with the addresses that they advertise."""
        metadata: Any = await self._metadata(_PROBE)  # whose annotations say that all fields are None
        brokers = (Broker(node, each.host, each.port) for node, each in sorted(metadata.brokers.items()))
        return metadata.cluster_id or "", tuple(brokers)

    async def nodes(self) -> list[BrokerNode]:
        if self._embedded:  # it knows metadata only, and nothing of racks
            return [BrokerNode(each.node, each.host, each.port, None) for each in (await self.cluster())[1]]
        return list(await self._shared(("nodes",), self._describe_cluster))

    async def _describe_cluster(self) -> list[BrokerNode]:
        found = await _result(self._client.describe_cluster(request_timeout=DEADLINE_S))
        nodes = (BrokerNode(each.id, each.host, each.port, each.rack or None) for each in found.nodes)
        return sorted(nodes, key=lambda node: node.id)

    async def create_topic(self, name: str, partitions: int, replicas: int, settings: Mapping[str, str]) -> None:
        check_topic_name(name)
        if self._embedded:
            raise NotSupported("The embedded Kafka cannot be asked for topics: one appears when it is first used.")
        topic = NewTopic(name, partitions, replicas, config=dict(settings))
        (made,) = self._client.create_topics([topic], request_timeout=DEADLINE_S).values()
        try:
            await _result(made)
        except confluent_kafka.KafkaException as error:
            cause = kafka_error(error)
            if cause is None or cause.code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise to_service_error(error) from error
        finally:
            self.forget_topic(name)

    async def groups(self) -> list[GroupInfo]:
        found = await self._shared(("groups",), self._about_groups().all)
        return [each for each in found if not self.hides(each.name)]

    async def describe_groups(self, names: Sequence[str]) -> list[GroupInfo]:
        return await _in_time(self._about_groups().describe(names))

    async def group_offsets(self, group: str) -> list[PartitionOffset]:
        return await _in_time(self._about_groups().offsets(group))

    async def alter_group_offsets(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        for each in offsets:
            check_topic_name(each.topic)
        await _in_time(self._about_groups().alter(group, offsets))

    async def delete_group_offsets(self, group: str, topic: str | None) -> None:
        await _in_time(self._about_groups().delete(group, topic))

    def _about_groups(self) -> KafkaGroups:
        if self._embedded:
            raise NotSupported("The embedded Kafka tells nothing of groups; set bootstrap.servers to use a real one.")
        return self._groups

    async def topics(self) -> list[TopicInfo]:
        # The list is made once for all that share the request: with thousands of topics this takes longer than asking.
        return list(await self._shared(("topics",), self._list_topics))

    async def _list_topics(self) -> list[TopicInfo]:
        metadata = await self._metadata(None)
        # The mock cluster lists a topic without a name.
        return [info_of(metadata.topics[name]) for name in sorted(metadata.topics) if name and not self.hides(name)]

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        check_topic_name(name)
        self._clients.check_process()
        return await self.directory.topic(name, fresh)

    async def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicInfo | ServiceError]:
        return await self.directory.describe(names)

    def watch_topics(
        self, interested: Callable[[], Iterable[str]], told: Callable[[str, TopicInfo | ServiceError], object]
    ) -> Callable[[], None]:
        return self.directory.watch(interested, told)

    async def make_topic(self, name: str) -> TopicInfo:
        check_topic_name(name)
        if self._making >= _MAKING_MAX:
            raise TooManyRequests("Too many topics are being created; try again later.")
        self._making += 1
        try:
            return await self._shared(("make", name), lambda: self._make_topic(name))
        finally:
            self._making -= 1

    async def _make_topic(self, name: str) -> TopicInfo:
        def ask() -> None:
            # A client of its own, which is closed at once: it would keep the name, and ask for it for ever.
            self._clients.topic_maker().list_topics(name, timeout=_MAKE_S)

        await asyncio.get_running_loop().run_in_executor(self._makers, ask)
        until = time.monotonic() + _MAKE_S
        wait_s = 0.02
        while True:
            try:
                found = await self.directory.topic(name, fresh=True)
                if found.partitions and all(one.leader >= 0 for one in found.partitions):
                    return found
            except UnknownTopicOrPartition:
                if time.monotonic() >= until:
                    raise
            if time.monotonic() >= until:
                raise LeaderNotAvailable
            await asyncio.sleep(wait_s)
            wait_s = min(0.3, wait_s * 2)

    def forget_topic(self, name: str) -> None:
        self.directory.forget(name)

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        check_topic_name(name)
        if self._embedded:
            return []
        return await self._shared(("configs", name), lambda: self._describe_configs(name))

    async def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        await self.topic(topic)  # librdkafka keeps names that it is asked for
        return await self._shared(("offsets", topic, partition), lambda: self._list_offsets(topic, partition))

    async def all_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        await self.topic(topic)
        return await self._shared(
            ("all-offsets", topic, *partitions), lambda: self._list_all_offsets(topic, partitions)
        )

    async def log_ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        wanted = frozenset(topics)
        return await self._shared(("log-ends", wanted), lambda: self._list_log_ends(wanted))

    async def _list_log_ends(self, topics: Collection[str]) -> dict[str, dict[int, int]]:
        places = [
            confluent_kafka.TopicPartition(info.name, each.partition)
            for info in await self.topics()
            if info.name in topics
            for each in info.partitions
            if each.leader >= 0
        ]
        found: dict[str, dict[int, int]] = {}
        if places:
            asked = self._client.list_offsets(dict.fromkeys(places, _LATEST), request_timeout=DEADLINE_S)
            answers = await asyncio.gather(*map(_result, asked.values()), return_exceptions=True)
            for place, answer in zip(asked, answers, strict=True):
                if not isinstance(answer, BaseException):
                    found.setdefault(place.topic, {})[place.partition] = int(answer.offset)
        return found

    async def trouble(self, topic: str) -> str:
        partitions = (await self.topic(topic)).partitions
        leaderless = [one.partition for one in partitions if one.leader < 0]
        if leaderless:
            return f"LEADER_NOT_AVAILABLE: {_places(topic, leaderless)} no leader"
        fewest = min((len(one.in_sync) for one in partitions), default=0)
        if fewest < max(len(one.replicas) for one in partitions) and fewest < (least := await self._least(topic)):
            short = [one.partition for one in partitions if len(one.in_sync) < least]
            return (
                f"NOT_ENOUGH_REPLICAS: {_places(topic, short)} fewer than min.insync.replicas={least} replicas in sync"
            )
        return ""

    async def _least(self, topic: str) -> int:
        """min.insync.replicas of the topic, which seldom changes; 0 if Kafka does not tell us."""
        found, until = self._in_sync.get(topic, (0, 0.0))
        now = time.monotonic()
        if now >= until:
            try:
                texts = {entry.name: entry.value for entry in await self.topic_configs(topic)}
                found = int(texts.get("min.insync.replicas") or 0)
            except KafkaAuthorization:
                found = 0  # a client that may write to a topic need not be allowed to see its settings
            if len(self._in_sync) >= _IN_SYNC_MAX:
                self._in_sync.clear()
            self._in_sync[topic] = (found, now + _IN_SYNC_S)
        return found

    async def reach(self) -> None:
        await self.presence.reach()

    async def check(self, timeout_s: float) -> None:
        try:
            await self._shared(("check",), lambda: self._ping(timeout_s))
        except Exception as error:
            raise BrokerNotAvailable from error

    async def _ping(self, timeout_s: float) -> ClusterMetadata:
        # The caller may have given up when this fails.
        try:
            return await self._blocking(self._client.list_topics, _PROBE, timeout_s, threads=self._probes)
        except Exception:
            self.presence.suspect()
            raise

    async def aclose(self) -> None:
        """Fails the open questions; a call that Kafka holds ends by its own deadline on its thread."""
        self.presence.close()
        await self.directory.aclose()
        for threads in (self._threads, self._probes, self._makers):
            threads.shutdown(wait=False, cancel_futures=True)
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _metadata(self, topic: str | None) -> Awaitable[ClusterMetadata]:
        # A name that is not None is never "": librdkafka would take that for all topics.
        return self._shared(
            ("metadata", topic), lambda: self._blocking(self._client.list_topics, topic, DEADLINE_S - 0.5)
        )

    async def _describe_configs(self, name: str) -> list[ConfigEntry]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        (future,) = self._client.describe_configs([resource], request_timeout=DEADLINE_S).values()
        entries = (await _result(future)).values()
        return sorted(
            (
                ConfigEntry(
                    name=entry.name,
                    value=None if entry.is_sensitive else entry.value,
                    overridden=entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value,
                )
                for entry in entries
            ),
            key=lambda entry: entry.name,
        )

    async def _list_offsets(self, topic: str, partition: int) -> tuple[int, int]:
        place = confluent_kafka.TopicPartition(topic, partition)
        while True:
            futures = [
                self._client.list_offsets({place: spec}, request_timeout=DEADLINE_S)[place]
                for spec in (_EARLIEST, _LATEST)
            ]
            try:
                earliest, latest = await asyncio.gather(*(_result(future) for future in futures))
                return int(earliest.offset), int(latest.offset)
            except confluent_kafka.KafkaException as error:
                # librdkafka says "no leader found" for an unknown topic as well as for an unknown partition, and for
                # a Kafka that is away: that raises here.
                now = await self.topic(topic, fresh=True)
                found = next((one for one in now.partitions if one.partition == partition), None)
                if found is None:
                    raise PartitionNotFound from None
                if found.leader < 0:
                    raise LeaderNotAvailable from None
                cause = kafka_error(error)
                no_leader = cause is not None and cause.code() == confluent_kafka.KafkaError._NOENT
                if not no_leader and not to_service_error(error).retriable:
                    raise
            # The topic was just made, and its leader does not know yet that it leads. The deadline ends the attempts.
            await asyncio.sleep(_RETRY_S)

    async def _list_all_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        if not partitions:
            return {}
        places = [confluent_kafka.TopicPartition(topic, partition) for partition in partitions]
        try:
            earliest, latest = [
                self._client.list_offsets(dict.fromkeys(places, spec), request_timeout=DEADLINE_S)
                for spec in (_EARLIEST, _LATEST)
            ]
            return {
                place.partition: (
                    int((await _result(earliest[place])).offset),
                    int((await _result(latest[place])).offset),
                )
                for place in places
            }
        except confluent_kafka.KafkaException:
            # One after the other: that tells what is wrong with which, and waits for leaders that are being elected.
            return {partition: await self._list_offsets(topic, partition) for partition in partitions}

    async def _blocking(
        self, call: Callable[..., T], *args: object, threads: concurrent.futures.Executor | None = None
    ) -> T:
        def run() -> T:
            try:
                answer = call(*args)
                self.presence.answered()
                return answer
            finally:
                self._client.poll(0)  # hands librdkafka's log lines out; nothing else does

        return await asyncio.get_running_loop().run_in_executor(threads or self._threads, run)

    async def _shared(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of the flight under this key; starts it if there is none. Cancelling leaves it to the others."""
        self._clients.check_process()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_task(_in_time(ask()))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return cast(T, await asyncio.shield(flight))

    def _landed(self, key: Hashable, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # all callers may have gone; then nobody else retrieves it


async def _in_time(answer: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await answer
    except TimeoutError as error:
        raise BrokerNotAvailable(f"No Kafka broker has answered within {DEADLINE_S:g} s.") from error
    except confluent_kafka.KafkaException as error:
        raise to_service_error(error) from error


async def _result(future: concurrent.futures.Future[Any]) -> Any:
    return await asyncio.wrap_future(future)


def _places(topic: str, partitions: list[int]) -> str:
    listed = ", ".join(map(str, partitions[:5])) + (", …" if len(partitions) > 5 else "")
    return f"partition {listed} of {topic} has" if len(partitions) == 1 else f"partitions {listed} of {topic} have"
