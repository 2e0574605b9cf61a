"""Questions about the cluster and direct reads; on the mock cluster and on a real Kafka."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient  # type: ignore[attr-defined]

from kafka_gateway.config import load
from kafka_gateway.errors import NotSupported, PartitionNotFound, SimpleReaderUnavailable, UnknownTopicOrPartition
from kafka_gateway.kafka.clients.factory import ClientFactory, answers_within
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.consuming import reader
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaError, KafkaRefused
from tests.kafka.conftest import Topic, is_mock, open_cluster, places, places_of
from tests.keys import BUILTIN_KEYS


async def test_brokers_and_topics(cluster: KafkaCluster, filled: Topic) -> None:
    assert await cluster.admin.brokers() == [1]
    names = [topic.name for topic in await cluster.admin.topics()]
    assert filled.name in names
    assert names == sorted(names)
    topic = await cluster.admin.topic(filled.name)
    assert (topic.name, topic.internal, len(topic.partitions)) == (filled.name, False, 4)
    assert topic.partitions[3].partition == 3
    assert topic.partitions[3].leader == 1
    await cluster.admin.check(5)


async def test_questions_make_no_topics(bootstrap: str, cluster: KafkaCluster, unique: Callable[..., str]) -> None:
    name = unique("unknown")
    consumer = await cluster.consumer(ConsumerSettings("group", "test"))
    await consumer.subscribe([name])
    for question in (
        cluster.admin.topic(name),
        cluster.admin.offsets(name, 0),
        cluster.reader.fetch(name, 0, 0, 1, places),
    ):
        with pytest.raises(UnknownTopicOrPartition):
            await question
    await asyncio.sleep(0.5)  # time itself: the time in which Kafka would make it
    assert name not in AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5).topics


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a\0b", "^.*", "x" * 250, "é"])
async def test_illegal_names_do_not_reach_kafka(cluster: KafkaCluster, name: str) -> None:
    for question in (cluster.admin.topic(name), cluster.admin.topic_configs(name), cluster.admin.offsets(name, 0)):
        with pytest.raises(KafkaRefused):
            await question


async def test_topic_configs(bootstrap: str, cluster: KafkaCluster, filled: Topic) -> None:
    if is_mock(bootstrap):
        pytest.skip("the mock cluster has no settings")
    entries = {entry.name: entry for entry in await cluster.admin.topic_configs(filled.name)}
    assert list(entries) == sorted(entries)
    assert entries["cleanup.policy"].value == "delete"
    assert not entries["cleanup.policy"].overridden


async def test_offsets(cluster: KafkaCluster, filled: Topic) -> None:
    filled.write([b"a", b"b"], 1)
    assert await cluster.admin.offsets(filled.name, 0) == (0, 0)
    assert await cluster.admin.offsets(filled.name, 1) == (0, 2)
    with pytest.raises(PartitionNotFound):
        await cluster.admin.offsets(filled.name, 4)


async def test_equal_questions_share_a_flight(
    cluster: KafkaCluster, filled: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = cluster.admin._blocking

    async def counting(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return await ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster.admin, "_blocking", counting)
    questions = [asyncio.ensure_future(cluster.admin.topic(filled.name)) for _ in range(50)]
    await asyncio.sleep(0)
    questions[0].cancel()
    answers = await asyncio.gather(*questions, return_exceptions=True)
    assert asked == 1
    assert {answer.name for answer in answers[1:]} == {filled.name}  # type: ignore[union-attr]


@pytest.mark.timing
async def test_no_broker() -> None:
    async with open_kafka(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1"])) as cluster:
        start = time.monotonic()
        with pytest.raises(BrokerNotAvailable):
            await cluster.admin.check(0.3)
        assert time.monotonic() - start < 1


async def test_embedded_topics() -> None:
    async with open_kafka(load(BUILTIN_KEYS, overrides=["embedded.topics=one,two"])) as cluster:
        assert cluster.embedded
        topics = await cluster.admin.topics()
        assert [topic.name for topic in topics] == ["one", "two"]
        assert {len(topic.partitions) for topic in topics} == {4}
        assert await cluster.admin.offsets("one", 0) == (0, 0)
        assert await cluster.admin.topic_configs("one") == []
        assert [node.host for node in await cluster.admin.nodes()] == ["127.0.0.1"]
        with pytest.raises(NotSupported):
            await cluster.admin.groups()


@pytest.mark.timing
async def test_direct_reads(cluster: KafkaCluster, filled: Topic) -> None:
    filled.write([b"%d" % number for number in range(300)], 2)
    fetch = cluster.reader.fetch
    batch = await fetch(filled.name, 2, 10, 5, places)
    assert places_of(batch.records) == [(2, offset) for offset in range(10, 15)]
    assert batch.encode(places) == b"[(2, 10), (2, 11), (2, 12), (2, 13), (2, 14)]"
    start = time.monotonic()
    assert len(await fetch(filled.name, 2, 290, 100, places)) == 10
    assert len(await fetch(filled.name, 2, 300, 100, places)) == 0
    assert len(await fetch(filled.name, 2, 0, 0, places)) == 0
    assert time.monotonic() - start < 2
    for offset in (-1, 301):
        with pytest.raises(KafkaError, match=r"^Kafka error: Fetch response contains an error code: 1$"):
            await fetch(filled.name, 2, offset, 1, places)
    with pytest.raises(PartitionNotFound):
        await fetch(filled.name, 9, 0, 1, places)
    batches = await asyncio.gather(*(fetch(filled.name, 2, offset, 3, places) for offset in range(0, 300, 10)))
    assert [places_of(batch.records)[0][1] for batch in batches] == list(range(0, 300, 10))


async def test_direct_reads_wait_for_their_turn(bootstrap: str, filled: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.write([b"a"])
    monkeypatch.setattr(reader, "POOL_SIZE", 0)
    monkeypatch.setattr(reader, "POOL_WAIT_S", 0.05)
    pool = concurrent.futures.ThreadPoolExecutor
    monkeypatch.setattr(
        concurrent.futures, "ThreadPoolExecutor", lambda most, *name: pool(most, *name) if most else _NoThreads()
    )
    async with open_cluster(bootstrap) as cluster:
        with pytest.raises(SimpleReaderUnavailable):
            await cluster.reader.fetch(filled.name, 0, 0, 1, places)


class _NoThreads:
    def shutdown(self, **_: object) -> None:
        return


def test_clients_belong_to_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1"]))
    clients.producer_config()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="fork"):
        clients.producer_config()
    with pytest.raises(RuntimeError, match="fork"):
        clients.consumer(ConsumerSettings("group", "test"))


def test_what_nobody_may_change() -> None:
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=h:1", "consumer.fetch.min.bytes=2"]))
    settings = clients.consumer_config(ConsumerSettings("g", "c", "none", isolation_level="read_committed"))
    assert settings["enable.auto.commit"] is False
    assert settings["enable.auto.offset.store"] is False
    assert settings["allow.auto.create.topics"] is False
    assert (settings["group.id"], settings["client.id"]) == ("g", "c")
    assert (settings["auto.offset.reset"], settings["isolation.level"]) == ("error", "read_committed")
    assert settings["fetch.min.bytes"] == "2"
    assert clients.producer_config()["enable.idempotence"] is True


@pytest.mark.parametrize(
    ("operator", "answer_ms"),
    [
        ([], 30_000),
        (["consumer.fetch.wait.max.ms=20000"], 30_000),
        (["consumer.fetch.wait.max.ms=40000"], 41_000),
        (["client.socket.timeout.ms=5000", "consumer.fetch.wait.max.ms=40000"], "5000"),
    ],
)
def test_how_long_an_answer_may_take(operator: list[str], answer_ms: object) -> None:
    """At most as long as with Java's clients, unless the operator lets Kafka wait for records longer."""
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=h:1", *operator]))
    settings = clients.consumer_config(ConsumerSettings("g", "c"))
    assert settings["socket.timeout.ms"] == answer_ms
    assert clients.producer_config()["socket.connection.setup.timeout.ms"] == 10_000


@pytest.mark.parametrize(
    ("most_ms", "answer_ms", "connect_ms"), [(500, 1000, 1000), (6000, 6000, 6000), (45_000, 30_000, 10_000)]
)
def test_clients_of_the_gateways_own_wait_for_less(most_ms: int, answer_ms: int, connect_ms: int) -> None:
    found = answers_within(most_ms)
    assert found == {"socket.timeout.ms": answer_ms, "socket.connection.setup.timeout.ms": connect_ms}
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1"]))
    clients.consumer(ConsumerSettings("g", "c"), **found).close()  # librdkafka takes them


@pytest.mark.parametrize(
    ("operator", "pushes"),
    [([], False), (["consumer.enable.metrics.push=true"], "true"), (["client.enable.metrics.push=true"], "true")],
)
def test_consumers_push_metrics_to_kafka_only_where_that_is_wanted(operator: list[str], pushes: object) -> None:
    """There are many of them, and what they keep for it is more than all else of them."""
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1", *operator]))
    settings = ConsumerSettings("g", "c")
    assert clients.consumer_config(settings)["enable.metrics.push"] == pushes
    clients.consumer(settings).close()  # librdkafka takes it


@pytest.mark.parametrize(
    ("operator", "chosen_ms", "session_ms"),
    [
        ([], 0, 8000),
        ([], 30000, 30000),
        (["consumer.session.timeout.ms=45000"], 0, "45000"),
        (["consumer.heartbeat.interval.ms=10000"], 0, 30000),
        (["consumer.heartbeat.interval.ms=10000", "consumer.max.poll.interval.ms=20000"], 0, 20000),
    ],
)
def test_how_long_a_dead_member_keeps_its_partitions(operator: list[str], chosen_ms: int, session_ms: object) -> None:
    clients = ClientFactory(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1", *operator]))
    settings = ConsumerSettings("g", "c", session_timeout_ms=chosen_ms)
    assert clients.consumer_config(settings)["session.timeout.ms"] == session_ms
    clients.consumer(settings).close()  # librdkafka compares it with the others
