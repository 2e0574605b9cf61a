"""How these tests talk to the push and pull endpoints, and to the Kafka behind them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import aiohttp
import yarl
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.gateway_process import GatewayProcess

EXPECTED = b'expected format: {"messages": ["message1", ...]}'


class Served(GatewayProcess):
    """``python -m kafka_gateway flasfka-serve -p 0 …``"""

    def __init__(self, *words: str, environment: dict[str, str] | None = None) -> None:
        super().__init__(environment=environment)
        self.command = [sys.executable, "-P", "-m", "kafka_gateway", "flasfka-serve", "-p", "0", *words]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    payload: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def messages(self) -> list[Any]:
        assert self.status == 200, self
        messages: list[Any] = self.json["messages"]
        return messages


class PushPull:
    """A client. Every answer must have the header with the version."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(40)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        data = None if raw is None else io.BytesIO(raw)
        url = yarl.URL(self.url + path, encoded=True)
        headers.setdefault("Content-Type", "application/octet-stream")
        async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            answer = Answer(response.status, response.headers, await response.read())
        assert answer.headers.getall("X-Flasfka-Version") == ["1.1.6"], answer  # type: ignore[attr-defined]
        return answer

    async def push(self, topic: str, *messages: Any, key: str = "") -> Answer:
        answer = await self.request("POST", f"/{topic}/{key}/" if key else f"/{topic}/", {"messages": list(messages)})
        assert answer.status != 204 or answer.payload == b""
        return answer

    async def store(self, topic: str, *messages: str, key: str = "") -> None:
        answer = await self.push(topic, *messages, key=key)
        assert answer.status == 204, answer

    async def pull(self, topic: str, group: str = "", query: str = "") -> Answer:
        return await self.request("GET", f"/{topic}/{group}/{query}" if group else f"/{topic}/{query}")


def stored(bootstrap: str, topic: str, partitions: int = 1) -> list[tuple[int, bytes | None, bytes | None]]:
    """Partition, key and value of all records, partition by partition."""
    settings = {
        "group.id": "stored",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "enable.auto.commit": False, **settings})
    found: list[tuple[int, bytes | None, bytes | None]] = []
    try:
        for partition in range(partitions):
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                (message,) = consumer.consume(1, 20)
                if message.error():
                    break
                found.append((partition, message.key(), message.value()))
            consumer.unassign()
    finally:
        consumer.close()
    return found


def write(bootstrap: str, topic: str, *values: bytes | None, partition: int = 0) -> None:
    """Stores records as they are."""
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors == [None] * len(values)


def committed(bootstrap: str, group: str, topic: str, partitions: int = 1) -> list[int]:
    """The group's offset in each partition; -1001 where it has none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        return [one.offset for one in consumer.committed([TopicPartition(topic, p) for p in range(partitions)], 20)]
    finally:
        consumer.close()
