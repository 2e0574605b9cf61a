"""The `Administration` port: librdkafka's admin client for what it can ask, the gateway's own requests for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import IsolationLevel, TopicCollection
from confluent_kafka.admin import OffsetSpec

from kafka_gateway.errors import LeaderNotAvailable, NotSupported, ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.admin.acls import Acls
from kafka_gateway.kafka.admin.admin import KafkaAdmin
from kafka_gateway.kafka.admin.broker_questions import DEADLINE_S, BrokerQuestions
from kafka_gateway.kafka.admin.configs import Configs
from kafka_gateway.kafka.admin.consumer_groups import ConsumerGroups
from kafka_gateway.kafka.admin.single_flight import SingleFlight
from kafka_gateway.kafka.admin.topic_changes import TopicChanges
from kafka_gateway.kafka.admin.topic_directory import INTERNAL_TOPICS
from kafka_gateway.kafka.errors import kafka_error, to_service_error
from kafka_gateway.kafka.names import check_topic_name
from kafka_gateway.kafka.ports.administration import (
    Acl,
    AclFilter,
    ClusterInfo,
    ConfigChange,
    ConfigOf,
    Created,
    GroupDetails,
    Reassignment,
    Setting,
    TopicDetails,
    TopicToCreate,
)
from kafka_gateway.kafka.ports.topics import BrokerNode, PartitionInfo, PartitionOffset, TopicInfo, TopicPartition
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.upstream import Upstream

_log = logging.getLogger("gateway.kafka.admin")

_DESCRIBED_AT_ONCE = 1000
_OFFSETS_AT_ONCE = 500
"""Partitions of one question: librdkafka's binding takes 10 to 20 µs for each, on the event loop."""
_RETRY_S = 0.05
_SHOWN_S = 2.0
"""How long the answer to a change waits for brokers to tell of it."""
_SHOWN_EVERY_S = 0.02
_GRACE_S = 0.5
"""Behind the time-out that Kafka's client itself has."""


class KafkaAdministration:
    """See the port. Belongs to the event loop; ``aclose`` ends its connections and questions."""

    def __init__(self, admin: KafkaAdmin, upstream: Callable[[], Upstream], embedded: bool) -> None:
        self._admin = admin
        self._embedded = embedded
        self._client = admin.client
        self._questions = BrokerQuestions(upstream)
        self._shared = SingleFlight()
        self._changes = TopicChanges(admin.client, self._questions)
        self._configs = Configs(self._questions)
        self._acls = Acls(self._questions)
        self._groups = ConsumerGroups(self._questions)

    async def aclose(self) -> None:
        await self._shared.close()
        await self._questions.close()

    # --- brokers and topics -----------------------------------------------------------------------------------------

    async def cluster(self) -> ClusterInfo:
        return await self._shared.get("cluster", self._cluster)

    async def _cluster(self) -> ClusterInfo:
        if self._embedded:  # it knows metadata only, and nothing of racks
            name, brokers = await self._admin.cluster()
            nodes = tuple(BrokerNode(each.node, each.host, each.port, None) for each in brokers)
            return ClusterInfo(name, nodes[0].id if nodes else None, nodes)
        found = await _in_time(self._client.describe_cluster(request_timeout=DEADLINE_S))
        described = (BrokerNode(each.id, each.host, each.port, each.rack or None) for each in found.nodes)
        controller = found.controller.id if found.controller is not None else -1
        ordered = tuple(sorted(described, key=lambda node: node.id))
        return ClusterInfo(found.cluster_id or "", controller if controller >= 0 else None, ordered)

    async def topics(self, operations: bool = False) -> list[TopicDetails]:
        return list(await self._shared.get(("topics", operations), lambda: self._topics(operations)))

    async def _topics(self, operations: bool) -> list[TopicDetails]:
        listed = await self._admin.topics()
        if not operations or self._embedded:
            return [TopicDetails(each.name, each.internal, each.partitions) for each in listed if each.partitions]
        names = [each.name for each in listed]
        found: list[TopicDetails] = []
        for start in range(0, len(names), _DESCRIBED_AT_ONCE):
            for each in await self._describe(names[start : start + _DESCRIBED_AT_ONCE]):
                if isinstance(each, TopicDetails):
                    found.append(each)
                elif not isinstance(each, (UnknownTopicOrPartition, KafkaAuthorization)):
                    raise each
        return found

    async def topic(self, name: str, operations: bool = False) -> TopicDetails:
        check_topic_name(name)
        return await self._shared.get(("topic", name, operations), lambda: self._topic(name, operations))

    async def _topic(self, name: str, operations: bool) -> TopicDetails:
        if operations and not self._embedded:
            (found,) = await self._describe([name])
            if isinstance(found, ServiceError):
                raise found
            return found
        info = await self._admin.topic(name)
        if not info.partitions:  # it is being made, or deleted
            raise UnknownTopicOrPartition()
        return TopicDetails(info.name, info.internal, info.partitions)

    async def _describe(self, names: Sequence[str]) -> list[TopicDetails | ServiceError]:
        if not names:
            return []
        futures = self._client.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=DEADLINE_S
        )
        found: list[TopicDetails | ServiceError] = []
        for answer in await self._admin.directory.answers(futures[name] for name in names):
            if isinstance(answer, confluent_kafka.KafkaException):
                found.append(to_service_error(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.append(_topic_details(answer))
        return found

    async def create_topic(self, topic: TopicToCreate, validate_only: bool = False) -> Created:
        self._check_real("cannot be asked for topics: one appears when it is first used")
        check_topic_name(topic.name)
        try:
            made = await self._changes.create(topic, validate_only, self._controller)
            if not validate_only:
                await self._shown(topic.name, max(1, made.partitions))
            return made
        finally:
            self._shared.forget()
            self._admin.forget_topic(topic.name)

    async def add_partitions(self, topic: str, total: int) -> None:
        self._check_real("has as many partitions a topic as embedded.topics says")
        check_topic_name(topic)
        try:
            await self._changes.enlarge(topic, total)
            await self._shown(topic, total)
        finally:
            self._shared.forget()
            self._admin.forget_topic(topic)

    async def delete_topic(self, topic: str) -> None:
        self._check_real("deletes no topics")
        check_topic_name(topic)
        try:
            await self._changes.delete(topic)
            await self._shown(topic, 0)
        finally:
            self._shared.forget()
            self._admin.forget_topic(topic)

    async def _shown(self, topic: str, partitions: int) -> None:
        """Returns when brokers tell of the topic with that many partitions, or of no such topic where that is 0."""

        async def look() -> bool:
            try:
                count = len((await self._admin.topic(topic, fresh=True)).partitions)
            except UnknownTopicOrPartition:
                count = 0
            return count >= partitions if partitions else not count

        await _until_shown(look)

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: str = "latest", time_ms: int = 0, committed: bool = False
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        spec: Any = OffsetSpec.for_timestamp(time_ms) if at == "time" else getattr(OffsetSpec, at)()
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        found: dict[TopicPartition, int] = {}
        until = asyncio.get_running_loop().time() + DEADLINE_S
        while True:
            failed = await self._ask_offsets(partitions, spec, isolation, found)
            for place in await self._missing(list(failed)):
                del failed[place]
            if not failed:
                return found
            # The leader of the partition is being elected, or does not know yet that it leads.
            late = asyncio.get_running_loop().time() >= until
            for error in failed.values():
                if late or not error.retriable:
                    raise error
            partitions = list(failed)
            await asyncio.sleep(_RETRY_S)

    async def _ask_offsets(
        self, partitions: Sequence[TopicPartition], spec: Any, isolation: Any, found: dict[TopicPartition, int]
    ) -> dict[TopicPartition, ServiceError]:
        """Puts into ``found`` what Kafka answers, and returns why it does not for the others."""
        futures: dict[TopicPartition, Any] = {}
        for start in range(0, len(partitions), _OFFSETS_AT_ONCE):
            places = {each: confluent_kafka.TopicPartition(*each) for each in partitions[start:][:_OFFSETS_AT_ONCE]}
            asked = self._client.list_offsets(
                dict.fromkeys(places.values(), spec), isolation_level=isolation, request_timeout=DEADLINE_S
            )
            futures |= {each: asked[place] for each, place in places.items()}
            await asyncio.sleep(0)
        await _all_done(list(futures.values()))
        failed: dict[TopicPartition, ServiceError] = {}
        for each, future in futures.items():
            if not future.done():
                failed[each] = to_service_error(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))
            elif (error := future.exception()) is not None:
                cause = kafka_error(error)
                no_leader = cause is not None and cause.code() == confluent_kafka.KafkaError._NOENT
                failed[each] = LeaderNotAvailable() if no_leader else to_service_error(error)
            else:
                found[each] = int(future.result().offset)
        return failed

    async def _missing(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Those that do not exist: librdkafka says "no leader found" for unknown topics and partitions as well."""
        if not places:
            return []
        topics = await self._admin.describe_topics({place.topic for place in places})
        return [place for place in places if not _has(topics[place.topic], place.partition)]

    async def reassignments(self, topic: str | None = None, partitions: Sequence[int] = ()) -> list[Reassignment]:
        if self._embedded:
            return []
        key = ("reassignments", topic, tuple(partitions))
        return list(await self._shared.get(key, lambda: self._reassignments(topic, partitions)))

    async def _reassignments(self, topic: str | None, partitions: Sequence[int]) -> list[Reassignment]:
        return await self._changes.reassignments(topic, partitions, self._controller)

    async def _controller(self) -> int | None:
        return (await self.cluster()).controller

    # --- settings ---------------------------------------------------------------------------------------------------

    async def configs(self, of: Sequence[ConfigOf]) -> dict[ConfigOf, list[Setting] | ServiceError]:
        if self._embedded:
            return {each: [] for each in of}
        return dict(await self._shared.get(("configs", tuple(of)), lambda: self._configs.describe(of)))

    async def alter_configs(
        self, changes: Mapping[ConfigOf, Sequence[ConfigChange]], validate_only: bool = False
    ) -> dict[ConfigOf, ServiceError | None]:
        self._check_real("keeps no settings")
        try:
            outcomes = await self._configs.alter(changes, validate_only)
            done = [of for of, error in outcomes.items() if error is None and changes[of]]
            if done and not validate_only:  # they are shown in the order in which they were made
                await _until_shown(lambda: self._configs.shows(done[-1], changes[done[-1]]))
            return outcomes
        finally:
            self._shared.forget()

    # --- ACLs -------------------------------------------------------------------------------------------------------

    async def acls(self, matching: AclFilter) -> list[Acl]:
        self._check_real("has no ACLs")
        return list(await self._shared.get(("acls", matching), lambda: self._acls.search(matching)))

    async def create_acls(self, acls: Sequence[Acl]) -> None:
        self._check_real("has no ACLs")
        try:
            await self._acls.create(acls, self._controller)
            if acls:
                await _until_shown(lambda: self._acls.shows(acls[-1], True))
        finally:
            self._shared.forget()

    async def delete_acls(self, matching: AclFilter) -> list[Acl]:
        self._check_real("has no ACLs")
        try:
            deleted = await self._acls.delete(matching, self._controller)
            if deleted:
                await _until_shown(lambda: self._acls.shows(deleted[-1], False))
            return deleted
        finally:
            self._shared.forget()

    # --- groups -----------------------------------------------------------------------------------------------------

    async def groups(self) -> list[GroupDetails]:
        self._check_real("tells nothing of groups")
        found = await self._shared.get("groups", self._groups.all)
        return [each for each in found if not self._admin.hides(each.name)]

    async def group(self, name: str) -> GroupDetails:
        self._check_real("tells nothing of groups")
        return await self._shared.get(("group", name), lambda: self._groups.one(name))

    async def committed(self, group: str) -> list[PartitionOffset]:
        self._check_real("tells nothing of groups")
        return await self._admin.group_offsets(group)

    async def commit(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        try:
            await self._admin.alter_group_offsets(group, offsets)
        finally:
            self._shared.forget()

    def _check_real(self, what: str) -> None:
        if self._embedded:
            raise NotSupported(f"The embedded Kafka {what}; set bootstrap.servers to use a real one.")


async def _all_done(futures: Sequence[Any]) -> None:
    """Returns when Kafka's client has answered all of them, or the time is up. One wake-up for thousands of answers."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    answers = itertools.count(1)

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def answered(_: object) -> None:
        if next(answers) == len(futures):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish)

    for future in futures:
        future.add_done_callback(answered)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S + _GRACE_S):
            await done


def _has(topic: TopicInfo | ServiceError, partition: int) -> bool:
    if isinstance(topic, ServiceError):
        return not isinstance(topic, UnknownTopicOrPartition)
    return any(each.partition == partition for each in topic.partitions)


async def _in_time(future: Any) -> Any:
    try:
        async with asyncio.timeout(DEADLINE_S + _GRACE_S):
            return await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise to_service_error(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)) from error
    except confluent_kafka.KafkaException as error:
        raise to_service_error(error) from error


def _topic_details(topic: Any) -> TopicDetails:
    partitions = (
        PartitionInfo(
            each.id,
            each.leader.id if each.leader is not None else -1,
            tuple(node.id for node in each.replicas),
            tuple(node.id for node in each.isr),
        )
        for each in topic.partitions
    )
    operations = tuple(each.name for each in topic.authorized_operations or ())
    return TopicDetails(
        topic.name,
        topic.is_internal or topic.name in INTERNAL_TOPICS,
        tuple(sorted(partitions, key=lambda one: one.partition)),
        operations,
    )


async def _until_shown(look: Callable[[], Awaitable[bool]]) -> None:
    """Returns when ``look`` finds that brokers tell of a change.

    The controller tells them a moment after it has answered: the client's next request would not find what it has
    changed. Waits for `_SHOWN_S` at most; the change is made, whatever is told.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _SHOWN_S
    try:
        while True:
            if await look() or loop.time() >= until:
                return
            await asyncio.sleep(_SHOWN_EVERY_S)
    except ServiceError as error:  # a client that may change a thing need not be allowed to see it
        _log.info("Whether brokers tell of a change already cannot be seen: %s", error.message)
