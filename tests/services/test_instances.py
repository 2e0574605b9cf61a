"""The registry of consumer instances: names, owners, expiry, closing (services/instances/registry.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.kafka_errors import KafkaError
from kafka_gateway.services.instances.instance import InstanceKey
from kafka_gateway.session import Session
from tests.services.conftest import V2, Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled

REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/records", b""),
    ("GET", "/subscription", b""),
    ("POST", "/subscription", {"topics": ["t"]}),
    ("GET", "/assignments", b""),
    ("POST", "/offsets", b""),
    ("DELETE", "", b""),
]


async def test_the_instance_of_somebody_else_is_not_there(rest: Rest) -> None:
    """reliability.md S6: the same answer as for an instance that never was."""
    alice, bob = rest.as_principal("alice"), rest.as_principal("bob")
    instance = await alice.instance()
    for method, path, body in REQUESTS:
        theirs = await bob.send(method, instance + path, body)
        unknown = await bob.send(method, "/consumers/g/instances/never" + path, body)
        assert theirs == unknown
        assert (theirs.status, theirs.code) == (404, 40403)
    assert (await alice.delete(instance)).status == 204


async def test_the_name_is_taken_while_the_consumer_is_being_made(rest: Rest, fake: FakeKafka) -> None:
    fake.create_gate = asyncio.Event()
    creating = asyncio.create_task(rest.instance())
    await settled()
    assert (await rest.post("/consumers/g", {"name": "c"}, V2)).code == 40902
    assert (await rest.get("/consumers/g/instances/c/subscription")).code == 40403
    assert (await rest.delete("/consumers/g/instances/c", V2)).code == 40403
    fake.create_gate.set()
    assert (await rest.get(f"{await creating}/subscription")).status == 200


async def test_a_failed_creation_frees_the_name(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("consumer", KafkaError("no"))
    assert (await rest.post("/consumers/g", {"name": "c"}, V2)).code == 50002
    await rest.instance()


async def test_a_client_that_leaves_during_creation_leaves_nothing_behind(rest: Rest, fake: FakeKafka) -> None:
    fake.create_gate = asyncio.Event()
    creating = asyncio.create_task(rest.instance())
    await settled()
    creating.cancel()
    await settled()
    assert (await rest.post("/consumers/g", {"name": "c"}, V2)).code == 40902  # Kafka is still at work on it
    fake.create_gate.set()
    await settled()
    assert fake.consumers[0].closed
    assert len(rest.services.registry) == 0
    await rest.instance()


async def test_the_number_of_instances_is_limited(start: Start) -> None:
    rest = start(consumer_instances_max=2)
    first = await rest.instance("g", "1")
    await rest.instance("g", "2")
    answer = await rest.post("/consumers/g", {"name": "3"}, V2)
    assert (answer.status, answer.code) == (429, 429)
    assert "Retry-After" in answer.headers
    await rest.delete(first)
    await rest.instance("g", "3")


async def test_expiry(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_instance_timeout_ms=100, consumer_request_timeout_ms=250)
    registry = rest.services.registry
    idle, used, reading = [await rest.instance("g", name) for name in ("idle", "used", "reading")]
    await rest.post(f"{reading}/assignments", {"partitions": [{"topic": "t", "partition": 0}]}, V2)
    read = asyncio.create_task(rest.read(reading))
    for _ in range(3):
        await asyncio.sleep(0.05)  # time itself: what is used does not expire, what is not does
        registry.expire()
        # Every operation counts, also one that is refused.
        assert (await rest.get(f"{used}/records", accept=embedded("binary"))).code == 40601
    assert (await rest.get(f"{idle}/subscription")).code == 40403
    assert (await read).status == 200  # it lasted longer than the time after which instances expire
    registry.expire()
    assert (await rest.get(f"{reading}/subscription")).status == 200
    await asyncio.sleep(0.12)  # time itself: it expires
    registry.expire()
    await asyncio.sleep(0)
    assert len(registry) == 0
    assert all(consumer.closed for consumer in fake.consumers)


async def test_the_lifespan_expires_and_closes(start: Start, fake: FakeKafka) -> None:
    rest = start()
    async with rest.services.lifespan():
        instance = await rest.instance()
        await rest.instance("g", "other")
        fake.consumers[0].close_gate = asyncio.Event()
        deleting = asyncio.create_task(rest.delete(instance))
        await settled()
        asyncio.get_running_loop().call_later(0.05, fake.consumers[0].close_gate.set)
    assert all(consumer.closed for consumer in fake.consumers)
    assert (await deleting).status == 204
    answer = await rest.post("/consumers/g", {"name": "late"}, V2)
    assert (answer.status, answer.code) == (503, 50301)


async def test_a_creation_that_ends_after_the_shutdown_is_undone(rest: Rest, fake: FakeKafka) -> None:
    fake.create_gate = asyncio.Event()
    creating = asyncio.create_task(rest.post("/consumers/g", {"name": "c"}, V2))
    await settled()
    await rest.services.registry.close_all()
    fake.create_gate.set()
    assert (await creating).status == 503
    await settled()
    assert fake.consumers[0].closed


async def test_a_consumer_that_does_not_close_is_logged(
    rest: Rest, fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await rest.instance()
    fake.fail("close", KafkaError("stuck"))
    assert (await rest.delete(instance)).status == 204
    assert "did not close cleanly: stuck" in caplog.text


async def test_generation_of(rest: Rest) -> None:
    registry = rest.services.registry
    await rest.instance("g", "c")
    assert rest.services.generation_of("g", "c") == "v2"
    assert rest.services.generation_of("g", "d") is None
    assert registry.find(InstanceKey("v2", "g", "c"), Session("test")).key.name == "c"
