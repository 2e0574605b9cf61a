"""F6: a fatal error ends a producer of librdkafka for good; it comes out of poll() and nobody else hears of it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from tests.acceptance.rest import Rest, timed, until
from tests.kafka_cluster import KafkaCluster
from tests.librdkafka_properties import library

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(60)]

REQUESTS = 500


@pytest.fixture
async def app(own_kafka: KafkaCluster) -> AsyncIterator[App]:
    """In this process, so that its producer can be reached."""
    plugins = Plugins(installed=False)
    values = {"port": 0, "access.log.enable": False, "errors.help": False, "bootstrap.servers": own_kafka.bootstrap}
    async with serve(load(plugins.config_keys()).with_values(values), plugins) as running:
        yield running


def break_producer(app: App) -> None:
    """Raises a fatal error inside librdkafka, by the function that it has for tests."""
    librdkafka = library()
    librdkafka.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    producer: Any = app.kafka.producer._wide.producer  # type: ignore[attr-defined]
    # struct Handle of the binding begins with PyObject_HEAD and then has the rd_kafka_t*.
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)
    fenced = 47  # RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
    assert librdkafka.rd_kafka_test_fatal_error(handle, fenced, b"provoked by a test") == 0


@pytest.mark.timing
async def test_f6_fatal_error_with_many_open_requests(own_kafka: KafkaCluster, app: App) -> None:
    topic = own_kafka.create_topic()
    async with Rest(app.addresses[0]) as rest:
        await rest.store(topic, 0)
        old = app.kafka.producer._wide.producer  # type: ignore[attr-defined]
        own_kafka.pause(1)
        try:
            requests = [asyncio.create_task(rest.produce(topic, {"value": n})) for n in range(REQUESTS)]
            await until(lambda: len(old) == REQUESTS)  # librdkafka has them: what waits before it is refused by itself
            assert not any(request.done() for request in requests)
            began = time.monotonic()
            break_producer(app)
            answers = await asyncio.wait_for(asyncio.gather(*requests), 10)
            took = time.monotonic() - began
        finally:
            own_kafka.resume(1)
        print(f"F6: {REQUESTS} answered {took:.2f} s after the fatal error, e.g. {answers[0]}")
        assert {(answer.status, answer.error_code) for answer in answers} == {(503, 503)}
        assert "may be stored" in answers[0].message
        assert took <= 1
        assert app.kafka.producer.waiting == (0, 0)  # type: ignore[attr-defined]

        answer, took = await timed(rest.produce(topic, {"value": "next"}))
        print(f"F6: the next one {took:.2f} s")
        assert answer.json["offsets"][0]["error_code"] is None, answer
        assert took <= 2
        assert app.kafka.producer._wide.producer is not old  # type: ignore[attr-defined]
        assert "kafka-producer" in {thread.name for thread in threading.enumerate()}


@pytest.mark.timing
async def test_f6_again_and_again(own_kafka: KafkaCluster, app: App) -> None:
    """Without anything open, and while the broker is away: the newest producer works."""
    topic = own_kafka.create_topic()
    async with Rest(app.addresses[0]) as rest:
        for turn in range(3):
            old = app.kafka.producer._wide.producer  # type: ignore[attr-defined]
            break_producer(app)
            await until(lambda old=old: app.kafka.producer._wide.producer is not old, 5)  # type: ignore[attr-defined]
            answer, took = await timed(rest.produce(topic, {"value": turn}))
            assert answer.status == 200, answer
            assert json.loads(answer.payload)["offsets"][0]["error_code"] is None, answer
            assert took <= 2
