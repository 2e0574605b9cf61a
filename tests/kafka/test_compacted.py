"""Compacted topics that gateways share: made, read from the start, followed, lost and made again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from kafka_gateway.config import load
from kafka_gateway.errors import GroupActive
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka_errors import KafkaError
from tests import kafka_cluster
from tests.keys import BUILTIN_KEYS
from tests.waiting import until

Unique = Callable[..., str]


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None, int]] = []
        self.caught_up_with = -1
        self.restarts = 0

    def record(self, key: bytes, value: bytes | None, offset: int) -> None:
        self.records.append((key, value, offset))

    def caught_up(self) -> None:
        self.caught_up_with = len(self.records)

    def restarted(self) -> None:
        self.restarts += 1
        self.records.clear()


@pytest.fixture
async def cluster(kafka: kafka_cluster.KafkaCluster) -> AsyncIterator[KafkaCluster]:
    async with open_kafka(load(BUILTIN_KEYS, overrides=[f"bootstrap.servers={kafka.bootstrap}"])) as opened:
        yield opened


@contextlib.asynccontextmanager
async def following(
    cluster: KafkaCluster, topic: CompactedTopic, reader: str = "reader"
) -> AsyncIterator[tuple[CompactedLog, Heard]]:
    heard = Heard()
    log = await cluster.compacted_log(topic, reader, heard)
    try:
        yield log, heard
    finally:
        await log.close()


async def caught_up(heard: Heard) -> None:
    async def done() -> bool:
        return heard.caught_up_with >= 0

    await until(done)


async def heard_all(heard: Heard, count: int) -> None:
    async def done() -> bool:
        return len(heard.records) >= count

    await until(done)


async def test_made_written_and_read_again(cluster: KafkaCluster, unique: Unique) -> None:
    topic = CompactedTopic(unique("made"), replicas=3, retention_ms=86_400_000)
    async with following(cluster, topic) as (log, heard):
        await caught_up(heard)
        assert heard.caught_up_with == 0
        assert log.trouble == ""
        assert await log.write([(b"a", b"1"), (b"b", b"2")]) == 1
        assert await log.write([(b"a", None)]) == 2
        await heard_all(heard, 3)
        async with following(cluster, topic) as (_, second):  # a reader of the same name sees everything, too
            await caught_up(second)
            assert second.records == heard.records == [(b"a", b"1", 0), (b"b", b"2", 1), (b"a", None, 2)]
    settings = {each.name: each.value for each in await cluster.admin.topic_configs(topic.name)}
    assert (settings["cleanup.policy"], settings["retention.ms"]) == ("compact", "86400000")
    assert settings["segment.ms"] == "3600000"
    assert len((await cluster.admin.topic(topic.name)).partitions) == 1


async def test_the_end_may_be_no_record(
    cluster: KafkaCluster, kafka: kafka_cluster.KafkaCluster, create_topic: Callable[..., str], unique: Unique
) -> None:
    """The position counts, never the last record's offset: compaction leaves gaps (websocket-proxy.md §4.4)."""
    name = create_topic()

    def transaction() -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": unique("tx")})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(name, b"1", b"a")
        producer.commit_transaction(20)
        producer.begin_transaction()
        producer.produce(name, b"2", b"a")
        producer.flush(20)
        producer.abort_transaction(20)

    await asyncio.to_thread(transaction)
    async with following(cluster, CompactedTopic(name)) as (_, heard):
        await caught_up(heard)
        assert heard.records == [(b"a", b"1", 0)]


async def test_presence(cluster: KafkaCluster, unique: Unique) -> None:
    topic, reader = CompactedTopic(unique("presence"), presence_s=6.0), unique("ws-proxy")

    async def members(count: int) -> bool:
        (found,) = await cluster.admin.describe_groups([reader])
        return len(found.members) == count

    async with following(cluster, topic, reader) as (log, heard), following(cluster, topic, reader) as (_, second):
        await until(lambda: members(2))
        await log.write([(b"a", b"1")])
        await heard_all(heard, 1)
        await heard_all(second, 1)
    await until(lambda: members(0))
    (found,) = await cluster.admin.describe_groups([reader])
    assert found.state in ("EMPTY", "DEAD")


async def test_lost_and_made_again(
    cluster: KafkaCluster, kafka: kafka_cluster.KafkaCluster, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.kafka.consuming.compacted_topics._LOOK_S", 0.2)
    topic = CompactedTopic(unique("lost"))
    async with following(cluster, topic) as (log, heard):
        await caught_up(heard)
        await log.write([(b"a", b"1"), (b"a", b"2")])
        await heard_all(heard, 2)
        heard.caught_up_with = -1
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        await asyncio.to_thread(admin.delete_topics([topic.name])[topic.name].result, 10)
        await caught_up(heard)
        assert heard.restarts >= 1
        assert heard.records == []
        assert await log.write([(b"a", b"3")]) == 0
        await heard_all(heard, 1)
    settings = {each.name: each.value for each in await cluster.admin.topic_configs(topic.name)}
    assert settings["cleanup.policy"] == "compact"


async def test_offsets_of_a_group(cluster: KafkaCluster, create_topic: Callable[..., str], unique: Unique) -> None:
    admin, group = cluster.admin, unique("g")
    one, other = create_topic(partitions=2), create_topic()
    assert await admin.group_offsets(group) == []
    with pytest.raises(KafkaError):
        await admin.delete_group_offsets(group, None)
    offsets = [PartitionOffset(one, 0, 5, "note"), PartitionOffset(one, 1, 6), PartitionOffset(other, 0, 7)]
    await admin.alter_group_offsets(group, offsets)
    assert await admin.group_offsets(group) == sorted(offsets)
    assert group in [each.name for each in await admin.groups()]
    await admin.delete_group_offsets(group, one)
    assert await admin.group_offsets(group) == offsets[2:]
    async with following(cluster, CompactedTopic(other, presence_s=6.0), group):

        async def active() -> bool:
            return bool((await admin.describe_groups([group]))[0].members)

        await until(active)
        with pytest.raises(GroupActive):
            await admin.alter_group_offsets(group, offsets)
        with pytest.raises(GroupActive):
            await admin.delete_group_offsets(group, other)


async def test_brokers_with_addresses(cluster: KafkaCluster, kafka: kafka_cluster.KafkaCluster) -> None:
    (node,) = await cluster.admin.nodes()
    assert (node.id, f"{node.host}:{node.port}", node.rack) == (1, kafka.bootstrap, None)
