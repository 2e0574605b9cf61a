"""The end of a group's member: what is committed last, whatever the group does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from kafka_gateway.config import load
from kafka_gateway.kafka.consuming import group
from kafka_gateway.kafka.consuming.group import KafkaGroupReader
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.group_work import Work
from tests.kafka.simulated_consumer import SimulatedConsumer, SimulatedKafka
from tests.keys import BUILTIN_KEYS
from tests.waiting import until

ONE, TWO = TopicPartition("topic", 0), TopicPartition("topic", 1)
ENDS = [PartitionOffset(*ONE, 3), PartitionOffset(*TWO, 4)]


class Setting:
    """A reader that has both partitions of a topic, and the simulated client below it."""

    def __init__(self) -> None:
        self.kafka = SimulatedKafka()
        self.kafka.make("topic", 2)
        self.work = Work()
        self.consumer: SimulatedConsumer
        self.reader: KafkaGroupReader

    async def open(self) -> None:
        def consumer(settings: ConsumerSettings, on_commit: Any, **more: object) -> Any:
            self.consumer = SimulatedConsumer(self.kafka, "earliest", True, on_commit)
            return self.consumer

        clients: Any = SimpleNamespace(
            consumer=consumer, consumer_config=lambda settings: {"auto.offset.reset": "earliest"}
        )
        settings = ConsumerSettings("group", "test")
        self.reader = await KafkaGroupReader.open(clients, load(BUILTIN_KEYS), settings, ["topic"], self.work)
        self.consumer.rebalance({ONE, TWO})
        await until(lambda: self.work.mine == {ONE, TWO})


@pytest.fixture
async def it() -> Setting:
    found = Setting()
    await found.open()
    return found


def refusals(*codes: int) -> list[KafkaError]:
    return [KafkaError(code) for code in codes]


async def test_the_last_commit_is_sent_again_when_the_rebalance_is_over(it: Setting) -> None:
    it.consumer.refusals += refusals(KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
    await it.reader.close(ENDS, 60)
    assert it.consumer.closed
    assert it.kafka.committed == {ONE: 3, TWO: 4}


async def test_what_the_group_takes_away_meanwhile_is_committed_then_and_not_behind_its_next_owner(
    it: Setting,
) -> None:
    it.consumer.refusals += refusals(KafkaError.ILLEGAL_GENERATION)
    commit = it.consumer.commit
    sent: list[Sequence[Any]] = []

    def noting(offsets: Sequence[Any], asynchronous: bool) -> None:
        if not sent:
            it.consumer.rebalance({ONE})
        sent.append([(one.partition, one.offset) for one in offsets])
        commit(offsets, asynchronous)

    it.consumer.commit = noting  # type: ignore[method-assign]
    await it.reader.close(ENDS, 60)
    assert sent == [[(0, 3), (1, 4)], [(1, 4)], [(0, 3)]]
    assert it.kafka.committed == {ONE: 3, TWO: 4}


async def test_what_was_lost_is_not_committed_when_it_comes_back(it: Setting) -> None:
    it.consumer.refusals += refusals(KafkaError.UNKNOWN_MEMBER_ID)
    commit = it.consumer.commit

    def losing(offsets: Sequence[Any], asynchronous: bool) -> None:
        it.consumer.commit = commit  # type: ignore[method-assign]
        it.consumer.rebalance(set(), lost=True)
        it.consumer.rebalance({ONE, TWO})
        commit(offsets, asynchronous)

    it.consumer.commit = losing  # type: ignore[method-assign]
    await it.reader.close(ENDS, 60)
    assert it.consumer.closed
    assert it.kafka.committed == {}


async def test_nobody_waits_for_a_slow_group_and_the_commit_comes_all_the_same(
    it: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(group, "CLOSE_S", 0.05)
    it.consumer.frozen = True
    it.consumer.refusals += refusals(KafkaError.ILLEGAL_GENERATION)
    await it.reader.close(ENDS)
    assert "its thread goes on alone" in caplog.text
    assert not it.consumer.closed
    it.consumer.frozen = False
    await until(lambda: it.consumer.closed)
    assert it.kafka.committed == {ONE: 3, TWO: 4}
