"""Records that are followed on their way: what is known of each, as soon as it is."""

from __future__ import annotations

import asyncio

from kafka_gateway.config import load
from kafka_gateway.kafka.cluster import KafkaCluster, open_kafka
from kafka_gateway.kafka.ports.producing import Sending
from kafka_gateway.kafka_errors import RecordTooLarge
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from tests.kafka.conftest import open_cluster
from tests.keys import BUILTIN_KEYS
from tests.waiting import PATIENCE_S


async def confirmed(sending: Sending, news: asyncio.Event, within_s: float = PATIENCE_S) -> None:
    """Returns when all is known."""
    async with asyncio.timeout(within_s):
        while any(row is None for row in sending.deliveries):
            news.clear()
            await news.wait()


async def test_all_are_confirmed_in_order(cluster: KafkaCluster, topic: str) -> None:
    news = asyncio.Event()
    if (waiting := cluster.producer.ready(topic, EVERYTHING)) is not None:
        await waiting
    sendings = [
        cluster.producer.follow(topic, [OutgoingRecord(None, b"%d" % n, 0) for n in range(size)], news.set)
        for size in (1, 500, 1, 2)
    ]
    offsets = []
    for sending in sendings:
        await confirmed(sending, news)
        offsets += [row.offset() for row in sending.deliveries if row is not None and not isinstance(row, Exception)]
    assert offsets == list(range(504))
    assert cluster.producer.waiting == (0, 0)


async def test_a_record_that_is_refused_says_so_and_the_others_are_stored(bootstrap: str, topic: str) -> None:
    async with open_cluster(bootstrap, "producer.message.max.bytes=2000") as cluster:
        news = asyncio.Event()
        if (waiting := cluster.producer.ready(topic, EVERYTHING)) is not None:
            await waiting
        records = [OutgoingRecord(None, b"x" * size, 0) for size in (10, 5000, 10)]
        sending = cluster.producer.follow(topic, records, news.set)
        await confirmed(sending, news)
        assert [isinstance(row, RecordTooLarge) for row in sending.deliveries] == [False, True, False]
        alone = cluster.producer.follow(topic, records[1:2], news.set)
        await confirmed(alone, news)
        assert isinstance(alone.deliveries[0], RecordTooLarge)
        assert cluster.producer.waiting == (0, 0)


async def test_a_producer_that_ends_tells_what_nobody_knows(topic: str) -> None:
    async with open_kafka(load(BUILTIN_KEYS, overrides=["bootstrap.servers=127.0.0.1:1"])) as cluster:
        news = asyncio.Event()
        sending = cluster.producer.follow(topic, [OutgoingRecord(None, b"x")] * 2, news.set)
        assert list(sending.deliveries) == [None, None]
        await cluster.producer.close(0.1)
        await confirmed(sending, news)
        assert all(isinstance(row, Exception) for row in sending.deliveries)
