"""What is asked of Kafka about topics, and how long answers count; and who hears that a topic has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kafka_gateway.errors import UnknownTopicOrPartition
from kafka_gateway.kafka.admin import topic_directory
from kafka_gateway.kafka.admin.topic_directory import TopicDirectory
from kafka_gateway.kafka.consuming.topic_watch import TopicWatch
from kafka_gateway.kafka.ports.topics import PartitionInfo, TopicInfo


class Cluster:
    """Lists its topics, and counts how often it is asked."""

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}
        self.asked = 0

    async def list_all(self) -> Any:
        self.asked += 1
        topics = {}
        for name, count in self.topics.items():
            partitions = {n: SimpleNamespace(id=n, leader=1, replicas=[1], isrs=[1]) for n in range(count)}
            topics[name] = SimpleNamespace(topic=name, error=None, partitions=partitions)
        return SimpleNamespace(cluster_id="mockCluster1", topics=topics)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(s=100.0)
    monkeypatch.setattr(topic_directory, "time", SimpleNamespace(monotonic=lambda: clock.s))
    return clock


async def test_no_counts_for_half_a_second_and_yes_for_a_whole_one(now: SimpleNamespace) -> None:
    cluster = Cluster()
    directory = TopicDirectory(cast(Any, None), cluster.list_all)

    async def unknown() -> None:
        with pytest.raises(UnknownTopicOrPartition):
            await directory.topic("t")

    await unknown()
    now.s += 0.4
    await unknown()
    assert cluster.asked == 1  # whoever asks in a loop for what is not there costs Kafka two questions a second
    cluster.topics["t"] = 1
    now.s += 0.2
    assert len((await directory.topic("t")).partitions) == 1
    cluster.topics["t"] = 3
    now.s += 0.9
    assert len((await directory.topic("t")).partitions) == 1
    assert len((await directory.topic("t", fresh=True)).partitions) == 3
    assert cluster.asked == 3
    del cluster.topics["t"]
    now.s += 1.1
    await unknown()
    cluster.topics["t"] = 2
    directory.forget("t")
    assert len((await directory.topic("t")).partitions) == 2


class Reader:
    def __init__(self, *topics: str) -> None:
        self.reads = topics
        self.heard: list[tuple[str, bool | None]] = []

    def topics(self) -> Collection[str]:
        return self.reads

    async def topic_changed(self, topic: str, anew: bool) -> None:
        self.heard.append((topic, anew))

    async def topic_gone(self, topic: str) -> None:
        self.heard.append((topic, None))


def topic(partitions: int, life: str = "a") -> TopicInfo:
    found = tuple(PartitionInfo(number, 1, (1,), (1,)) for number in range(partitions))
    return TopicInfo("t", False, found, topic_id=life)


async def test_readers_hear_of_new_partitions_and_of_a_topic_that_was_made_again() -> None:
    mine, other = Reader("t"), Reader("u")
    changes = TopicWatch(lambda: [mine, other])
    changes.topics()
    for found, heard in [
        (topic(1), []),
        (topic(1), []),
        (topic(2), [("t", False)]),
        (UnknownTopicOrPartition(), [("t", None)]),
        (topic(2, "b"), [("t", True)]),
        (topic(2, "b"), []),
        (topic(3, ""), [("t", False)]),  # brokers that tell no ids
    ]:
        changes.found("t", found)
        await asyncio.sleep(0)
        assert mine.heard == heard
        mine.heard = []
    assert other.heard == []
