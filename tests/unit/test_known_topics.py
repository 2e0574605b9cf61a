"""Topics that are written to for the first time, also while Kafka is slow, and by who may not make them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from kafka_gateway.door.authorization import PrincipalRights
from kafka_gateway.errors import NotAuthorized, ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import TopicInfo
from kafka_gateway.kafka.producing import known_topics
from kafka_gateway.kafka.producing.known_topics import KnownTopics
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.rights import EVERYTHING, Authorizer, Decision, Judge
from kafka_gateway.session import ANONYMOUS, Principal
from tests.waiting import PATIENCE_S


class SlowAdmin:
    """Tells that a topic is unknown when it is let; makes every topic."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.made = asyncio.Queue[str]()

    def watch_topics(self, *_: Any) -> Callable[[], None]:
        return lambda: None

    async def reach(self) -> None: ...

    async def topic(self, name: str) -> TopicInfo:
        await self.answers.wait()
        raise UnknownTopicOrPartition

    async def make_topic(self, name: str) -> TopicInfo:
        self.made.put_nowait(name)
        return TopicInfo(name, False, ())


async def learn(topic: str) -> None: ...


async def test_a_topic_is_made_although_word_of_it_came_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_topics, "_PATIENCE_S", 0.01)
    admin = SlowAdmin()
    topics = KnownTopics(cast(Admin, admin), True, learn)
    waiting = topics.ready("new", EVERYTHING)
    assert waiting is not None
    await waiting  # the record is not held up
    assert admin.made.empty()
    admin.answers.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await admin.made.get() == "new"
    topics.close()


async def test_nothing_is_asked_of_kafka_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_topics, "_PATIENCE_S", 0.01)
    admin = SlowAdmin()
    topics = KnownTopics(cast(Admin, admin), True, learn)
    waiting = topics.ready("new", EVERYTHING)
    assert waiting is not None
    await waiting
    topics.close()
    admin.answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert admin.made.empty()


class Writers(Authorizer):
    """Everybody may write, and nobody create."""

    def judge(self, principal: Principal) -> Judge:
        return lambda operation, resource, name: Decision(operation != "create")


class Cluster(SlowAdmin):
    """Answers at once; ``trouble`` is what it answers instead."""

    def __init__(self, *topics: str) -> None:
        super().__init__()
        self.topics = set(topics)
        self.trouble: ServiceError | None = None

    async def topic(self, name: str) -> TopicInfo:
        if self.trouble is not None:
            raise self.trouble
        if name not in self.topics:
            raise UnknownTopicOrPartition
        return TopicInfo(name, False, ())

    async def make_topic(self, name: str) -> TopicInfo:
        self.topics.add(name)
        return await super().make_topic(name)


WRITER = PrincipalRights([Writers()], ANONYMOUS)


async def test_who_may_only_write_makes_no_topic() -> None:
    cluster = Cluster("there")
    topics = KnownTopics(cast(Admin, cluster), True, learn)
    for name, is_there in (("there", True), ("missing", False)):
        waiting = topics.ready(name, WRITER)
        assert waiting is not None
        if is_there:
            await waiting
            assert topics.ready(name, WRITER) is None
        else:
            with pytest.raises(NotAuthorized, match=r"User:anonymous may not create topic missing\.") as refused:
                await waiting
            assert refused.value.need == ("create", "topic", "missing")
            assert topics.ready(name, WRITER) is not None
    assert cluster.made.empty()
    topics.close()


async def test_who_may_only_write_gets_what_another_one_makes() -> None:
    cluster = Cluster()
    topics = KnownTopics(cast(Admin, cluster), True, learn)
    makes, waits = topics.ready("new", EVERYTHING), topics.ready("new", WRITER)
    assert makes is not None
    assert waits is not None
    await asyncio.gather(makes, waits)
    assert topics.ready("new", WRITER) is None
    assert cluster.made.qsize() == 1
    topics.close()


async def test_in_an_outage_who_may_only_write_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a topic that was there: librdkafka keeps the records. For one that nobody has seen Kafka is away."""
    monkeypatch.setattr(known_topics, "KNOWN_FOR_S", 0.0)
    cluster = Cluster("there")
    topics = KnownTopics(cast(Admin, cluster), True, learn)
    for trouble in (None, BrokerNotAvailable()):
        cluster.trouble = trouble
        waiting = topics.ready("there", WRITER)
        assert waiting is not None
        await waiting
    waiting = topics.ready("never seen", WRITER)
    assert waiting is not None
    with pytest.raises(BrokerNotAvailable):
        await waiting
    topics.close()
