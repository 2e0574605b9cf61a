"""The administration of a real Kafka: a broker with an authorizer, groups of both protocols (kafka-rest-http.md §7)."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest

from kafka_gateway.errors import NotFound, UnknownTopicOrPartition
from kafka_gateway.kafka.admin.administration import KafkaAdministration
from kafka_gateway.kafka.ports.administration import (
    CLUSTER_WIDE,
    Acl,
    AclFilter,
    ConfigChange,
    ConfigOf,
    Created,
    Setting,
    TopicToCreate,
)
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.wire.apis import DESCRIBE_ACLS, DESCRIBE_CONFIGS, Api
from tests.kafka.conftest import open_cluster
from tests.kafka_cluster import KafkaCluster as Kafka
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Kafka]:
    """One broker with StandardAuthorizer, which lets us do everything."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with Kafka(settings=settings) as cluster:
        yield cluster


@pytest.fixture
async def administration(guarded: Kafka) -> AsyncIterator[KafkaAdministration]:
    async with open_cluster(guarded.bootstrap) as cluster:
        yield cluster.administration


async def described(administration: KafkaAdministration, name: str, partitions: int) -> None:
    """Returns when the broker knows the topic: a moment after the controller does."""

    async def known() -> bool:
        return len((await administration.topic(name)).partitions) == partitions

    await until(known, but=UnknownTopicOrPartition)


async def test_topics(administration: KafkaAdministration, unique: Callable[..., str]) -> None:
    name = unique()
    assert await administration.create_topic(TopicToCreate(name), validate_only=True) == Created(1, 1)
    with pytest.raises(UnknownTopicOrPartition):
        await administration.topic(name)
    made = await administration.create_topic(TopicToCreate(name, assignments={0: [1], 1: [1]}))
    assert made == Created(2, 1)
    assert len((await administration.topic(name)).partitions) == 2  # at once, though brokers hear of it later
    with pytest.raises(KafkaRefused) as raised:
        await administration.create_topic(TopicToCreate(name))
    assert raised.value.message == f"Topic '{name}' already exists."
    assert "READ" in (await administration.topic(name, operations=True)).operations
    await administration.add_partitions(name, 3)
    assert len((await administration.topic(name)).partitions) == 3
    with pytest.raises(KafkaRefused):
        await administration.add_partitions(name, 3)
    with pytest.raises(KafkaRefused, match="at least 1"):
        await administration.add_partitions(name, 0)
    # A broker closes the connection on which it comes: that was asked again, and called a broker that is away.
    with pytest.raises(KafkaRefused, match="40000 bytes is too long"):
        await administration.create_acls([Acl("TOPIC", "x" * 40_000, "LITERAL", "User:a", "*", "READ", "ALLOW")])
    assert await administration.reassignments() == []
    await administration.delete_topic(name)
    with pytest.raises(UnknownTopicOrPartition):
        await administration.topic(name)
    await administration.create_topic(TopicToCreate(name))
    await administration.delete_topic(name)


def hears_late(administration: KafkaAdministration, of: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has brokers tell three times more what they told first, as they do when the controller is ahead of them."""
    questions, first, asks = administration._questions, [], 0
    ask = questions.ask

    async def late(api: Api, body: dict[str, Any], node: int | None = None) -> dict[str, Any]:
        nonlocal asks
        answer = await ask(api, body, node)
        if api is of:
            asks += 1
            first.append(answer)
        return first[0] if api is of and asks <= 4 else answer

    monkeypatch.setattr(questions, "ask", late)


async def test_settings(
    administration: KafkaAdministration, unique: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = unique()
    await administration.create_topic(TopicToCreate(name, configs=[("retention.ms", "3600000")]))
    await described(administration, name, 1)
    topic, broker, unknown = ConfigOf("TOPIC", name), ConfigOf("BROKER", "1"), ConfigOf("BROKER", "987")

    async def setting(of: ConfigOf, wanted: str) -> Setting | None:
        found = (await administration.configs([of]))[of]
        assert isinstance(found, list), found
        return next((each for each in found if each.name == wanted), None)

    retention = await setting(topic, "retention.ms")
    assert retention is not None
    assert (retention.value, retention.source) == ("3600000", "DYNAMIC_TOPIC_CONFIG")
    hears_late(administration, DESCRIBE_CONFIGS, monkeypatch)
    assert (await setting(topic, "retention.ms")) == retention
    for number in range(2):  # shown at once
        assert await administration.alter_configs({topic: [ConfigChange("retention.ms", f"{number + 1}000")]}) == {
            topic: None
        }
        retention = await setting(topic, "retention.ms")
        assert retention is not None
        assert retention.value == f"{number + 1}000"
    await administration.alter_configs({topic: [ConfigChange("retention.ms", None, "DELETE")]})
    retention = await setting(topic, "retention.ms")
    assert retention is not None
    assert retention.source == "DEFAULT_CONFIG"
    outcome = await administration.alter_configs({topic: [ConfigChange("retention.ms", "x")]})
    assert isinstance(outcome[topic], KafkaRefused)
    change = {CLUSTER_WIDE: [ConfigChange("log.cleaner.backoff.ms", "20000")]}
    assert await administration.alter_configs(change) == {CLUSTER_WIDE: None}
    found = await until(lambda: setting(CLUSTER_WIDE, "log.cleaner.backoff.ms"))
    assert (found.value, found.source) == ("20000", "DYNAMIC_DEFAULT_BROKER_CONFIG")
    roles = await setting(broker, "process.roles")
    assert roles is not None
    assert roles.read_only
    answers = await administration.configs([topic, broker, unknown, ConfigOf("TOPIC", unique())])
    kinds = [type(answer) for answer in answers.values()]
    assert kinds == [list, list, NotFound, UnknownTopicOrPartition]


async def test_acls(
    administration: KafkaAdministration, unique: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = unique()
    hears_late(administration, DESCRIBE_ACLS, monkeypatch)
    assert await administration.acls(AclFilter("TOPIC", name)) == []
    alice = Acl("TOPIC", name, "LITERAL", "User:alice", "*", "READ", "ALLOW")
    bob = Acl("TOPIC", name, "PREFIXED", "User:bob", "10.0.0.1", "ALL", "DENY")
    await administration.create_acls([alice, bob])
    await administration.create_acls([alice])
    search = AclFilter("TOPIC", name)
    assert sorted(await administration.acls(search)) == sorted([alice, bob])  # at once
    assert await administration.acls(AclFilter("TOPIC", name, "ANY", "User:bob")) == [bob]
    assert await administration.delete_acls(search) in ([alice, bob], [bob, alice])
    assert await administration.acls(search) == []
    assert await administration.delete_acls(search) == []


async def test_thousands_of_acls(administration: KafkaAdministration, unique: Callable[..., str]) -> None:
    name = unique()
    acls = [Acl("TOPIC", name, "LITERAL", f"User:{number}", "*", "READ", "ALLOW") for number in range(2500)]
    await administration.create_acls(acls)
    assert len(await administration.delete_acls(AclFilter("TOPIC", name))) == 2500


async def test_offsets_of_a_topic_that_is_being_made(
    administration: KafkaAdministration, unique: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka says "no leader found" for it; that was a failure of Kafka's, 50002, and is a moment to wait."""
    topic, client = unique(), administration._client
    await administration.create_topic(TopicToCreate(topic))
    ask, refused = client.list_offsets, []

    def list_offsets(places: dict[Any, Any], **more: Any) -> dict[Any, Any]:
        if refused:
            return ask(places, **more)  # type: ignore[no-any-return]
        refused.append(places)
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(
            confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._NOENT))
        )
        return dict.fromkeys(places, future)

    monkeypatch.setattr(administration, "_client", SimpleNamespace(list_offsets=list_offsets))
    assert await administration.offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 0}
    assert refused


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_groups(
    administration: KafkaAdministration, guarded: Kafka, unique: Callable[..., str], protocol: str
) -> None:
    topic, group = unique(), unique()
    await administration.create_topic(TopicToCreate(topic, 2))
    await described(administration, topic, 2)
    assert not (await administration.group(group)).exists
    settings = {
        "bootstrap.servers": guarded.bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "client.id": "member",
        "group.instance.id": "static",
        "enable.auto.commit": False,
    }
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    try:
        async with asyncio.timeout(60):
            while len(consumer.assignment()) < 2:
                await asyncio.to_thread(consumer.poll, 0.2)
        offsets = [confluent_kafka.TopicPartition(topic, 0, 0)]
        await asyncio.to_thread(consumer.commit, offsets=offsets, asynchronous=False)
        found = await administration.group(group)
        assert (found.state, found.type, found.simple) == ("STABLE", protocol.upper(), False)
        (member,) = found.members
        assert (member.client_id, member.instance_id) == ("member", "static")
        assert member.assignment == (TopicPartition(topic, 0), TopicPartition(topic, 1))
        assert group in [each.name for each in await administration.groups()]
        assert await administration.committed(group) == [PartitionOffset(topic, 0, 0)]
    finally:
        await asyncio.to_thread(consumer.close)
    places = [TopicPartition(topic, 0), TopicPartition(topic, 9), TopicPartition(unique(), 0)]
    assert await administration.offsets(places, committed=True) == {places[0]: 0}
