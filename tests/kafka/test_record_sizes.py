"""A record that fits alone is stored, whatever its neighbours in a batch (gateway/kafka/producing)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka_errors import KafkaAuthorization, RecordTooLarge
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from tests.kafka.conftest import open_cluster
from tests.kafka_cluster import KafkaCluster as Brokers
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.broker

Limited = Callable[[int], str]


@pytest.fixture
def limited(kafka: Brokers, topic: str) -> Limited:
    """Makes a topic of one partition, or changes how large its batches may be."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def make(most: int) -> str:
        if topic in admin.list_topics(timeout=5).topics:
            change = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
            admin.incremental_alter_configs([resource])[resource].result()
        else:
            settings = {"max.message.bytes": str(most)}
            admin.create_topics([NewTopic(topic, 1, 1, config=settings)], request_timeout=10)[topic].result()
        return topic

    return make


def stored(kafka: Brokers, topic: str) -> Iterator[Any]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "enable.auto.commit": False})
    try:
        end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
        consumer.assign([TopicPartition(topic, 0, 0)])
        while end:
            for record in consumer.consume(1000, 5):
                yield record
                if record.offset() == end - 1:
                    return
    finally:
        consumer.close()


def numbers(kafka: Brokers, topic: str) -> list[int]:
    """What is stored, by the numbers at the front of the values."""
    return [int(record.value()[:10]) for record in stored(kafka, topic)]


def record(number: int, size: int = 0, **more: Any) -> OutgoingRecord:
    return OutgoingRecord(more.pop("key", None), b"%010d" % number + b"x" * (size - 10), 0, **more)


async def send(cluster: KafkaCluster, topic: str, records: Sequence[OutgoingRecord]) -> list[Delivery]:
    ready = cluster.producer.ready(topic, EVERYTHING)
    if ready is not None:
        await ready
    return await cluster.producer.send(topic, records)


def errors(rows: Sequence[Delivery]) -> list[type]:
    return [type(row) for row in rows if isinstance(row, ServiceError)]


async def test_records_that_together_exceed_the_limit(kafka: Brokers, limited: Limited) -> None:
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        rows = await send(cluster, topic, [record(number, 10_000) for number in range(12)])
        assert errors(rows) == []
        assert [row.offset() for row in rows] == list(range(12))  # type: ignore[union-attr]
    assert numbers(kafka, topic) == list(range(12))


async def test_one_that_is_too_large_is_refused_alone(kafka: Brokers, limited: Limited) -> None:
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        sizes = [10, 40_000, 60_000, 10, 30_000, 49_000, 70_000, 10]
        rows = await send(cluster, topic, [record(number, size) for number, size in enumerate(sizes)])
        assert [place for place, row in enumerate(rows) if isinstance(row, RecordTooLarge)] == [2, 6]
        assert errors(rows) == [RecordTooLarge] * 2
    assert numbers(kafka, topic) == [0, 1, 3, 4, 5, 7]


async def test_clients_side_by_side(kafka: Brokers, limited: Limited) -> None:
    topic = limited(50_000)

    async def client(cluster: KafkaCluster, first: int) -> list[type]:
        found = []
        for number in range(first, first + 40):
            found += errors(await send(cluster, topic, [record(number, 30_000)]))
        return found

    async with open_cluster(kafka.bootstrap) as cluster:
        assert await asyncio.gather(*(client(cluster, 100 * which) for which in range(8))) == [[]] * 8
    kept = numbers(kafka, topic)
    assert sorted(kept) == [100 * which + number for which in range(8) for number in range(40)]
    for which in range(8):
        assert [each for each in kept if each // 100 == which] == [100 * which + number for number in range(40)]


async def test_a_limit_that_is_lowered_while_records_come(kafka: Brokers, limited: Limited) -> None:
    """Nobody has told the gateway. Every record is stored, once, with all that belongs to it."""
    topic = limited(1_000_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        assert errors(await send(cluster, topic, [record(0, 10)])) == []
        await asyncio.to_thread(limited, 50_000)
        await asyncio.sleep(1)  # time itself: the broker takes a moment to act on it
        more: Mapping[str, Any] = {
            "key": b"k",
            "timestamp_ms": 1_700_000_000_123,
            "headers": [("h", b"1"), ("h", None)],
        }
        batches = [
            cluster.producer.send(topic, [record(1 + 50 * each + number, 20_000, **more) for number in range(50)])
            for each in range(4)
        ]
        for batch in batches:
            assert errors(await batch) == []
        assert errors(await send(cluster, topic, [record(201, 60_000), record(202, 10)])) == [RecordTooLarge]
        assert cluster.producer.waiting == (0, 0)
    kept = list(stored(kafka, topic))
    assert sorted(int(each.value()[:10]) for each in kept) == [*range(201), 202]
    assert {(each.key(), each.timestamp()[1], str(each.headers())) for each in kept[1:-1]} == {
        (b"k", 1_700_000_000_123, str(more["headers"]))
    }


async def test_a_topic_whose_settings_are_not_shown(
    kafka: Brokers, limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write need not be allowed to describe: refusals teach the limit, and then there are none."""
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:

        async def refuse(name: str) -> Any:
            raise KafkaAuthorization("no")

        monkeypatch.setattr(cluster.admin, "topic_configs", refuse)
        for first in (0, 100):
            rows = await send(cluster, topic, [record(first + number, 10_000) for number in range(100)])
            assert errors(rows) == []
        rows = await send(cluster, topic, [record(200, 60_000), record(201, 10)])
        assert errors(rows) == [RecordTooLarge]
    kept = numbers(kafka, topic)
    assert sorted(kept) == [*range(200), 201]
    assert kept[100:] == [*range(100, 200), 201]  # in order from the second request on, and stored once


async def test_a_limit_that_is_raised_is_noticed(
    kafka: Brokers, limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.kafka.producing.size_limits.ASK_AGAIN_S", 0.0)
    monkeypatch.setattr("kafka_gateway.kafka.producing.known_topics.KNOWN_FOR_S", 0.0)
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        assert errors(await send(cluster, topic, [record(0, 60_000)])) == [RecordTooLarge]
        await asyncio.to_thread(limited, 2_000_000)

        async def is_taken() -> bool:
            return errors(await send(cluster, topic, [record(1, 60_000)])) == []

        await until(is_taken)  # the broker tells nobody
        async with asyncio.timeout(PATIENCE_S):
            while cluster.producer._routes:  # then its batches are as large as any others again
                assert errors(await send(cluster, topic, [record(1, 10)])) == []
        sends = [cluster.producer.send(topic, [record(number, 10)]) for number in range(2, 50)]
        for each in sends:
            assert errors(await each) == []
    assert list(dict.fromkeys(numbers(kafka, topic))) == list(range(1, 50))


@pytest.mark.parametrize("way", ["send", "follow"])
async def test_records_keep_their_order_when_a_topic_begins_to_take_larger_ones(
    kafka: Brokers, limited: Limited, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was remembered of the topic sent the large one apart for half a minute, past those around it."""
    monkeypatch.setattr("kafka_gateway.kafka.producing.size_limits.SURE_S", 0.0)
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        assert errors(await send(cluster, topic, [record(0), record(1, 60_000), record(2)])) == [RecordTooLarge]
        limited(300_000)
        sent = []
        for number in range(3, 12):
            batch = [record(number, 60_000 if number % 3 == 1 else 20)]
            if way == "send":
                sent.append(cluster.producer.send(topic, batch))
            else:
                sent.append(cluster.producer.follow(topic, batch, lambda: None).future)
        offsets = [row.offset() for rows in await asyncio.gather(*sent) for row in rows]  # type: ignore[union-attr]
        assert offsets == list(range(2, 11))
        assert cluster.producer.waiting == (0, 0)
    assert numbers(kafka, topic) == [0, 2, *range(3, 12)]


async def test_what_waits_for_the_demands_of_its_topic_is_sent_before_the_end(kafka: Brokers, limited: Limited) -> None:
    topic = limited(50_000)
    async with open_cluster(kafka.bootstrap) as cluster:
        await send(cluster, topic, [record(0)])
        cluster.producer._limits._answered.clear()
        sent = [cluster.producer.send(topic, [record(1, 60_000)]), cluster.producer.send(topic, [record(2)])]
        assert cluster.producer.waiting[0] == 2
        await cluster.producer.close(10)
        assert errors(await sent[0]) == [RecordTooLarge]
        assert errors(await sent[1]) == []
