"""Bridges in this process on the real Kafka, what is in its topics, and the command as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import PATIENCE_S, until, wait_until

Start = Callable[..., Awaitable[App]]

RETRY_SOON = {"retry.initial.ms": 50, "retry.max.ms": 100, "retry.jitter.ms": 0, "commit.interval.ms": 50}


@contextlib.asynccontextmanager
async def running(bootstrap: str, **settings: object) -> AsyncIterator[App]:
    """A gateway with these properties, ``_`` in their names standing for a dot."""
    plugins = Plugins(installed=False)
    values = {
        "port": 0, "access.log.enable": False, "errors.help": False,
        "bootstrap.servers": bootstrap, "embedded.enable": True,
        "bridge.sink.allow": "127.0.0.1",
        "consumer.heartbeat.interval.ms": 500,
    } | {name.replace("_", "."): value for name, value in settings.items()}  # fmt: skip
    async with serve(load(plugins.config_keys()).with_values(values), plugins) as app:
        yield app


@pytest.fixture
async def start(kafka: KafkaCluster) -> AsyncIterator[Start]:
    """``await start(**properties)``: a gateway on ``kafka`` that ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: object) -> App:
            return await stack.enter_async_context(running(kafka.bootstrap, **settings))

        yield start


def producer(topic: str, **more: object) -> dict[str, Any]:
    """The properties of a bridge into a topic."""
    return {"bridge.producer.in.topic": topic} | {f"bridge.producer.in.{k}": v for k, v in more.items()}


def consumer(topic: str, group: str, sink: str, **more: object) -> dict[str, Any]:
    """The properties of a bridge from a topic to a sink, which tries again soon."""
    settings = {
        "topic": topic,
        "group": group,
        "sink": sink,
        **RETRY_SOON,
        **{k.replace("_", "."): v for k, v in more.items()},
    }
    return {f"bridge.consumer.out.{name}": value for name, value in settings.items()}


def stored(bootstrap: str, topic: str, count: int | None = None, timeout_s: float = PATIENCE_S) -> list[Message]:
    """The records of a topic's partition 0, in order: all there are, or the first ``count`` when they are there."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "enable.auto.commit": False})
    partition = TopicPartition(topic, 0, 0)
    end = client.get_watermark_offsets(partition, timeout=10)[1] if count is None else count
    client.assign([partition])
    found: list[Message] = []
    while len(found) < end:
        batch = client.consume(end - len(found), timeout_s)
        assert batch, f"{len(found)} of {end} records in {topic}"
        found += [message for message in batch if message.error() is None]
    client.close()
    return found


def fill(bootstrap: str, topic: str, *records: Any, partition: int = 0) -> None:
    """Produces values, or (key, value, headers)."""
    client = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for record in records:
        key, value, headers = record if isinstance(record, tuple) else (None, record, None)
        client.produce(topic, value, key, partition, headers=headers)
    assert client.flush(20) == 0


def committed(bootstrap: str, topic: str, group: str, partition: int = 0) -> int | None:
    """The group's offset, or None."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    asked = [TopicPartition(topic, partition)]
    try:
        # KafkaException: the broker has just begun to be the coordinator.
        (found,) = wait_until(lambda: client.committed(asked, timeout=10), but=KafkaException)
        return None if found.offset < 0 else int(found.offset)
    finally:
        client.close()


async def until_committed(bootstrap: str, topic: str, group: str, offset: int) -> None:
    """Returns when the group has committed exactly this offset."""

    async def has_it() -> bool:
        return await asyncio.to_thread(committed, bootstrap, topic, group) == offset

    await until(has_it)


class Bytehoops(GatewayProcess):
    """``bytehoops WORDS …`` as a process."""

    def __init__(self, *words: str, environment: dict[str, str] | None = None) -> None:
        super().__init__(environment=environment)
        self.command = [sys.executable, "-P", "-m", "kafka_gateway.commands.bytehoops", *words]


@contextlib.asynccontextmanager
async def bytehoops(*words: str) -> AsyncIterator[Bytehoops]:
    """The running process, for a test that has an event loop of its own to keep turning."""
    process = Bytehoops(*words)
    await asyncio.to_thread(process.__enter__)
    try:
        yield process
    finally:
        process.__exit__(None, None, None)
