"""Transactional sockets and producer sessions (websocket-proxy.md §8, rows 36 to 40)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest
from confluent_kafka import Producer

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import until
from tests.websocket_proxy.conftest import Log, Refused, Sockets

NewTopic = Callable[..., str]
Unique = Callable[..., str]


@pytest.fixture(scope="module")
def transactional(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    keys = ("sessions-enabled", "exactly-once-enabled")
    with GatewayProcess(
        *(f"kafka.ws.proxy.producer.{key}=true" for key in keys),
        "kafka.ws.proxy.session-handler.topic-name=transactional-sessions",
        bootstrap=kafka.bootstrap,
    ) as gateway:
        yield gateway


@pytest.fixture
async def sockets(transactional: GatewayProcess) -> AsyncIterator[Sockets]:
    async with aiohttp.ClientSession() as session:
        opened = Sockets(session, transactional.url)
        yield opened
        await opened.aclose()


async def test_every_record_is_a_transaction(sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique) -> None:
    topic, client = new_topic(partitions=2), unique("p")
    for query in ({"transactional": "true"}, {}):
        with pytest.raises(Refused, match="instanceId"):
            await sockets.producer(topic, client, **query)
    peer = await sockets.producer(topic, client, instanceId="i", transactional="true", keyType="string")
    for number in range(5):
        key = {"value": f"k{number}", "format": "string"}
        await peer.produce(f"v{number}", key=key, messageId=str(number), headers=[{"key": "h", "value": "1"}])
    results = await peer.hear(5)
    assert [each["messageId"] for each in results] == list("01234")
    stored = {
        (each.partition(), each.offset()): each for each in log.read(topic, 2, **{"isolation.level": "read_committed"})
    }
    assert sorted(each.value() for each in stored.values()) == [b"v%d" % number for number in range(5)]
    for number, result in enumerate(results):
        record = stored[result["partition"], result["offset"]]
        assert (record.value(), record.headers()) == (b"v%d" % number, [("h", b"1")])
    # A marker stands behind every record: the next offset but one.
    offsets = sorted(offset for partition, offset in stored if partition == results[0]["partition"])
    assert all(later - earlier == 2 for earlier, later in itertools.pairwise(offsets))


async def test_one_more_is_refused_and_the_first_goes_on(sockets: Sockets, new_topic: NewTopic, unique: Unique) -> None:
    topic, client = new_topic(), unique("p")
    first = await sockets.producer(topic, client, instanceId="i", transactional="true")
    for _ in range(2):
        with pytest.raises(Refused, match="Limit is 1"):
            await sockets.producer(topic, client, instanceId="j", transactional="true")
    await first.produce("still there")
    await first.hear()
    await first.socket.close()
    again = await until(lambda: sockets.producer(topic, client, instanceId="i", transactional="true"), but=Refused)
    await again.produce("v")
    await again.hear()


async def test_a_producer_elsewhere_fences_the_socket(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, client = new_topic(), unique("p")
    peer = await sockets.producer(topic, client, instanceId="i", transactional="true")
    await peer.produce("one")
    await peer.hear()
    other = Producer({"bootstrap.servers": log._bootstrap, "transactional.id": f"{client}-i"})
    await asyncio.to_thread(other.init_transactions, 20)
    await peer.produce("two")
    assert await peer.end() == 1011
    assert [each.value() for each in log.read(topic, **{"isolation.level": "read_committed"})] == [b"one"]
