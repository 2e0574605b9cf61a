"""One gateway on the real Kafka for all tests of the proxy protocol, and clients for its sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import WSMsgType
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="session")
def proxy(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    with GatewayProcess(bootstrap=kafka.bootstrap) as gateway:
        yield gateway


class Refused(Exception):
    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body = status, body


class Peer:
    """A client of one socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *messages: Any) -> None:
        for message in messages:
            await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def produce(self, value: Any, **more: Any) -> None:
        await self.say({"value": {"value": value, "format": "string"}, **more})

    async def hear(self, count: int = 1, within_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """That many messages, however they come."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(within_s):
            while len(found) < count:
                message = await self.socket.receive()
                assert message.type is WSMsgType.TEXT, (message, found)
                found.append(json.loads(message.data))
        return found

    async def silence(self, for_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            message = await self.socket.receive(timeout=for_s)
            pytest.fail(f"unexpected {message}")

    async def end(self, within_s: float = PATIENCE_S) -> int | None:
        """The code with which the gateway closes."""
        message = await self.socket.receive(timeout=within_s)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING), message
        return self.socket.close_code


class Sockets:
    """Opens sockets; all are closed at the end."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self._open: list[Peer] = []

    async def open(self, path: str, **query: object) -> Peer:
        url = f"{self._url}{path}?{urlencode(query)}"
        try:
            socket = await self._session.ws_connect(url, max_msg_size=0)
        except aiohttp.WSServerHandshakeError:
            async with self._session.get(url, headers=HANDSHAKE) as response:
                raise Refused(response.status, await response.text()) from None
        self._open.append(Peer(socket))
        return self._open[-1]

    async def producer(self, topic: str, client: str = "p", **query: object) -> Peer:
        return await self.open("/socket/in", clientId=client, topic=topic, **query)

    async def consumer(self, topic: str, client: str = "c", **query: object) -> Peer:
        return await self.open("/socket/out", clientId=client, topic=topic, **query)

    async def aclose(self) -> None:
        for peer in self._open:
            with contextlib.suppress(Exception):
                await peer.socket.close()


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture
async def sockets(proxy: GatewayProcess) -> AsyncIterator[Sockets]:
    async with aiohttp.ClientSession() as session:
        opened = Sockets(session, proxy.url)
        yield opened
        await opened.aclose()


class Log:
    """Kafka past the gateway."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def append(self, topic: str, *values: bytes, key: bytes | None = None, partition: int = 0) -> None:
        for value in values:
            self._producer.produce(topic, value, key, partition)
        assert self._producer.flush(10) == 0

    def read(self, topic: str, partitions: int = 1, **settings: object) -> list[Any]:
        """Everything that is in the topic now."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # behind the last record there may be markers of transactions
                **settings,
            }
        )
        found: list[Any] = []
        for partition in range(partitions):
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                message = consumer.poll(10)
                assert message is not None
                if message.error() is not None:
                    assert message.error().code() == KafkaError._PARTITION_EOF
                    break
                found.append(message)
        consumer.close()
        return found

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """The group's offset; -1001 if there is none."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": group})
        offset: int = consumer.committed([TopicPartition(topic, partition)], 10)[0].offset
        consumer.close()
        return offset

    async def committed_becomes(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        async def committed() -> bool:
            found = await asyncio.to_thread(self.committed, group, topic, partition)
            assert found <= offset
            return found == offset

        await until(committed)


@pytest.fixture
def log(kafka: KafkaCluster) -> Log:
    return Log(kafka.bootstrap)


@pytest.fixture
def new_topic(create_topic: Callable[..., str]) -> Callable[..., str]:
    return create_topic
