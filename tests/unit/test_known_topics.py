"""Topics that are written to for the first time, while Kafka is slow (kafka/producing/known_topics.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from kafka_gateway.errors import UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import TopicInfo
from kafka_gateway.kafka.producing import known_topics
from kafka_gateway.kafka.producing.known_topics import KnownTopics
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
    waiting = topics.ready("new")
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
    waiting = topics.ready("new")
    assert waiting is not None
    await waiting
    topics.close()
    admin.answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert admin.made.empty()
