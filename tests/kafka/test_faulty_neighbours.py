"""A record that Kafka refuses for what it is takes no other record of its batch with it (gateway/kafka/producing)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.producing.suspects import RecordDemands
from kafka_gateway.records import OutgoingRecord
from tests.kafka.conftest import open_cluster
from tests.kafka.test_record_sizes import errors, numbers, record, send
from tests.kafka_cluster import KafkaCluster as Brokers

pytestmark = pytest.mark.broker

NEVER_MS = 2**62
"""Later than message.timestamp.after.max.ms allows."""

Faulty = Callable[[int], OutgoingRecord]


def from_the_future(number: int) -> OutgoingRecord:
    return record(number, key=b"k", timestamp_ms=NEVER_MS)


def without_a_key(number: int) -> OutgoingRecord:
    return record(number)


@pytest.fixture(params=[from_the_future, without_a_key])
def faulty(request: pytest.FixtureRequest) -> Faulty:
    made: Faulty = request.param
    return made


@pytest.fixture
def compacted(kafka: Brokers, topic: str) -> str:
    """A topic of one partition that takes no record without a key."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    new = NewTopic(topic, 1, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([new], request_timeout=10)[topic].result()
    return topic


def too_large(number: int) -> OutgoingRecord:
    return record(number, 1_048_600, key=b"k")


@pytest.fixture(params=["shown", "not shown"])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether Kafka shows the gateway the settings of topics; where it does not, only refusals tell what is faulty."""
    if request.param == "not shown":
        monkeypatch.setattr(RecordDemands, "refused", lambda *_: ())


async def test_those_beside_it_do_not_wait(kafka: Brokers, compacted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A faulty record in a batch of others, of whichever client, held up all that is sent to its topic."""
    async with open_cluster(kafka.bootstrap, "producer.message.max.bytes=2000000") as cluster:
        await send(cluster, compacted, [record(0, key=b"0")])
        await cluster.producer._limits.ask(compacted)
        moved: list[str] = []
        monkeypatch.setattr(cluster.producer._rerouting, "_begin", moved.append)
        news = asyncio.Event()
        for way in ("send", "follow"):
            batch = [record(n, key=b"%d" % n) for n in range(6)]
            batch[1:1] = [from_the_future(1), without_a_key(2)]
            batch[5:5] = [too_large(3)]
            if way == "send":
                found = await cluster.producer.send(compacted, batch)
            else:
                sending = cluster.producer.follow(compacted, batch, news.set)
                async with asyncio.timeout(60):
                    while None in sending.deliveries:
                        await news.wait()
                        news.clear()
                found = list(sending.deliveries)
            assert [place for place, row in enumerate(found) if isinstance(row, ServiceError)] == [1, 2, 5]
            offsets = [row.offset() for row in found if not isinstance(row, ServiceError)]
            assert offsets == sorted(offsets)
        alone = await cluster.producer.send(compacted, [without_a_key(9)] * 2)
        assert errors(alone) == [type(found[2])] * 2
        assert moved == []
        assert cluster.producer.waiting == (0, 0)


@pytest.mark.usefixtures("settings")
async def test_in_one_request(kafka: Brokers, compacted: str, faulty: Faulty) -> None:
    async with open_cluster(kafka.bootstrap) as cluster:
        batch = [faulty(n) if n in (2, 5) else record(n, key=b"%d" % n) for n in range(8)]
        rows = await send(cluster, compacted, batch)
        assert [place for place, row in enumerate(rows) if isinstance(row, ServiceError)] == [2, 5]
        assert cluster.producer.waiting == (0, 0)
    assert numbers(kafka, compacted) == [0, 1, 3, 4, 6, 7]


@pytest.mark.usefixtures("settings")
async def test_of_other_clients(kafka: Brokers, compacted: str, faulty: Faulty) -> None:
    """Valid records of others failed, two of three, for as long as one client sent faulty ones."""

    async def good(cluster: KafkaCluster, first: int) -> list[type]:
        found = []
        for number in range(first, first + 30):
            found += errors(await send(cluster, compacted, [record(number, key=b"%d" % number)]))
        return found

    async def bad(cluster: KafkaCluster, done: asyncio.Event) -> int:
        stored = 0
        while not done.is_set():
            rows = await send(cluster, compacted, [faulty(9999)] * 3)
            stored += sum(not isinstance(row, ServiceError) for row in rows)
        return stored

    async with open_cluster(kafka.bootstrap) as cluster:
        done = asyncio.Event()
        attack = asyncio.ensure_future(bad(cluster, done))
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(good(cluster, 100 * which) for which in range(4)))
        done.set()
        assert found == [[]] * 4
        assert await attack == 0
    kept = numbers(kafka, compacted)
    for which in range(4):  # each once, and in the order of its client
        assert [each for each in kept if each // 100 == which] == [100 * which + number for number in range(30)]
