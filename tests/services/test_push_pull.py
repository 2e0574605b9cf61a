"""Push and pull without Kafka: what failures become, and who waits for whom (bridges.md §B2.1, §B3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.auth import NoAuthentication
from kafka_gateway.core import Gateway
from kafka_gateway.definitions import SlotKey
from kafka_gateway.errors import ServiceError, TooManyRequests
from kafka_gateway.homes import Elsewhere
from kafka_gateway.kafka_errors import (
    BrokerNotAvailable,
    KafkaAuthorization,
    KafkaRefused,
    KafkaRetriable,
    KafkaThrottled,
    NotAMember,
    OutcomeUnknown,
    PartitionTrouble,
    RecordTooLarge,
)
from kafka_gateway.messages import Reply, Request
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Router
from kafka_gateway.services.push_pull.service import PushPull
from kafka_gateway.session import Session
from tests.services.conftest import codecs, configuration
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled, until


class Endpoints:
    """A client; ``written`` says what becomes of the replies."""

    def __init__(self, kafka: FakeKafka, **settings: object) -> None:
        config = configuration(push_pull_timeout_ms=20, **settings)
        self.service = PushPull(config, kafka)
        self.gateway = Gateway(config, Router(self.service.routes()), codecs(config), NoAuthentication())
        self.session = Session("test")

    async def ask(self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None) -> Reply:
        raw = b"" if body is None else json.dumps(body).encode()
        path = f"/flasfka/v1/{path}/"
        return await self.gateway.dispatch(Request(self.session, method, path, query or {}, {}, raw, settles=True))

    async def push(self, *messages: str, topic: str = "t") -> tuple[int, Any, dict[str, str]]:
        reply = await self.ask("POST", topic, body={"messages": messages})
        assert isinstance(reply.body, bytes)
        return reply.status, json.loads(reply.body) if reply.body else None, dict(reply.headers)

    async def pull(self, written: bool = True, **query: str) -> list[str]:
        reply = await self.ask("GET", "u/g", query)
        assert reply.status == 200, reply
        if reply.settle is not None:
            reply.settle(written)
        assert isinstance(reply.body, bytes)
        messages: list[str] = json.loads(reply.body)["messages"]
        return messages


@pytest.fixture
async def endpoints(fake: FakeKafka) -> AsyncIterator[Endpoints]:
    endpoints = Endpoints(fake)
    async with endpoints.service.pulls.lifespan():
        yield endpoints


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RecordTooLarge("too large"), 413),
        (OutcomeUnknown(), 504),
        (PartitionTrouble("NOT_ENOUGH_REPLICAS"), 503),
        (KafkaRetriable(), 503),
        (KafkaAuthorization(), 503),
        (BrokerNotAvailable(), 503),
        (KafkaThrottled(), 429),
        (KafkaRefused(), 400),
        (ServiceError("anything else"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_failed_push_answers(
    endpoints: Endpoints, fake: FakeKafka, error: ServiceError, status: int
) -> None:
    fake.fail("delivery", error)
    answer = await endpoints.push("a", "b", "c")
    assert answer[:2] == (status, {"error": error.message, "produced": 2})
    assert (endpoints.service.counts.pushed, endpoints.service.counts.failed_pushes) == (2, 1)
    assert ("Retry-After" in answer[2]) == (status in (503, 429))


async def test_a_queue_without_room(endpoints: Endpoints, fake: FakeKafka) -> None:
    fake.fail("send", TooManyRequests("full"))
    assert (await endpoints.push("a"))[:2] == (503, {"error": "full", "produced": 0})


async def test_no_topic_and_none_may_be_made(endpoints: Endpoints, fake: FakeKafka) -> None:
    fake.auto_create = False
    status, body, _ = await endpoints.push("a", topic="new")
    assert (status, body["produced"]) == (503, 0)


async def test_a_reply_that_was_not_written(endpoints: Endpoints, fake: FakeKafka) -> None:
    fake.put("u", b"a", b"b")
    assert await endpoints.pull(written=False) == ["a", "b"]
    assert fake.committed.get(("g", "u", 0), (0, ""))[0] == 0
    assert await endpoints.pull(limit="1") == ["a"]
    assert await endpoints.pull() == ["b"]
    assert endpoints.service.counts.pulled == 2  # and not those of the reply that nobody got
    told = {family.name: next(iter(family.samples)).value for family in endpoints.service.families()}
    assert told["kafka_gateway_push_pull_pulled_messages"] == 2
    assert told["kafka_gateway_push_pull_consumers"] == 1


async def test_pulls_wait_until_the_reply_before_is_written(endpoints: Endpoints, fake: FakeKafka) -> None:
    fake.put("u", b"a", b"b")
    first = await endpoints.ask("GET", "u/g", {"limit": "1"})
    second = asyncio.create_task(endpoints.pull(limit="1"))
    cancelled = asyncio.create_task(endpoints.pull(limit="1"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    cancelled.cancel()
    assert first.settle is not None
    first.settle(True)
    assert await second == ["b"]
    assert await endpoints.pull() == []


async def test_another_node_pulls_when_this_one_has_committed(endpoints: Endpoints, fake: FakeKafka) -> None:
    """The slot of the group and topic moves while a reply is being written; a pull of another slot stays."""

    class Moving:
        def check_here(self, place: SlotKey) -> None:
            if place == SlotKey("g", "u"):
                raise Elsewhere(0)

    definitions: Any = Moving()
    holder = endpoints.service.pulls.share(definitions, Metrics())
    fake.put("u", b"a")
    fake.put("t", b"b")
    moving = await endpoints.ask("GET", "u/g")
    staying = await endpoints.ask("GET", "t/g")
    handing = asyncio.ensure_future(holder.hand_over([]))
    await settled()
    assert not handing.done()
    assert moving.settle is not None
    moving.settle(True)
    await handing
    assert fake.committed["g", "u", 0][0] == 1
    assert staying.settle is not None
    staying.settle(True)


async def test_a_commit_that_fails_repeats_and_loses_nothing(endpoints: Endpoints, fake: FakeKafka) -> None:
    fake.put("u", b"a")
    reply = await endpoints.ask("GET", "u/g")
    fake.fail("commit", NotAMember("UNKNOWN_MEMBER_ID"))
    assert reply.settle is not None
    reply.settle(True)
    fake.failures["commit"] += [NotAMember("UNKNOWN_MEMBER_ID")]
    assert (await endpoints.ask("GET", "u/g")).status == 409
    assert endpoints.service.counts.failed_commits == 1
    assert await endpoints.pull() == ["a"]


async def test_a_failed_pull_leaves_its_place_to_the_next(
    endpoints: Endpoints, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.services.push_pull.group_pull._PATIENCE_S", -1.0)  # one failure is enough
    fake.put("u", b"a")
    for method in ("topic", "consumer", "committed", "read"):
        fake.fail(method, BrokerNotAvailable())
        assert (await endpoints.ask("GET", "u/g")).status == 503, method
    assert await endpoints.pull() == ["a"]
    assert [consumer.closed for consumer in fake.consumers] == [True, True, False]


async def test_more_places_than_consumers(fake: FakeKafka) -> None:
    endpoints = Endpoints(fake, push_pull_consumers_max=1)
    async with endpoints.service.pulls.lifespan():
        reply = await endpoints.ask("GET", "u/g")
        assert (await endpoints.ask("GET", "u/other")).status == 503
        assert reply.settle is not None
        reply.settle(True)
        assert (await endpoints.ask("GET", "u/other")).status == 200
        await until(lambda: [consumer.closed for consumer in fake.consumers] == [True, False])
    assert [consumer.closed for consumer in fake.consumers] == [True, True]
