"""Instances of one group against a model, on librdkafka's mock brokers: what nobody can simulate for certain.

Rebalances take seconds there, so there are few examples by default; `--hypothesis-profile=thorough` for many. Here only
what Kafka promises is asked for: every record of every partition comes, in order, behind the last position that was
committed or sought, and nothing stands still.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.consuming import consumer_thread
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from tests.kafka.conftest import Topic, limits, open_cluster, places, places_of
from tests.mock_cluster import MOVED, OFFSET_FETCH, MockCluster

PARTITIONS = range(4)


class Machine(RuleBasedStateMachine):
    """Two instances; the first assigns partitions by itself or shares them with the second."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pause_after, self.idle_s = consumer_thread.PAUSE_AFTER_S, consumer_thread.IDLE_S
        consumer_thread.PAUSE_AFTER_S, consumer_thread.IDLE_S = 0.05, 0.02
        self.mock = MockCluster()
        self.mock.form_groups_at_once()
        self.topic = Topic(self.mock.bootstrap, f"topic-{uuid.uuid4().hex[:8]}")
        self.written = dict.fromkeys(PARTITIONS, 0)
        self.write(0)
        self.opening = open_cluster(self.mock.bootstrap)
        self.cluster: KafkaCluster = self.run(self.opening.__aenter__())
        self.first = self.open()
        self.second: KafkaConsumer | None = None
        self.mode = ""
        self.seen: dict[int, int] = {}
        """The next offset of every partition that is assigned by hand."""
        self.arrived: dict[int, set[int]] = {partition: set() for partition in PARTITIONS}

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def open(self) -> KafkaConsumer:
        chosen = ConsumerSettings("group", "test", auto_offset_reset="earliest", auto_commit=True)
        opened: KafkaConsumer = self.run(self.cluster.consumer(chosen))
        return opened

    @rule(partition=st.sampled_from(PARTITIONS))
    def write(self, partition: int) -> None:
        self.topic.write([b"x"] * 3, partition)
        self.written[partition] += 3

    @rule(code=st.sampled_from(MOVED))
    def lose_coordinator(self, code: int) -> None:
        self.mock.fail_next(OFFSET_FETCH, code, code)

    @rule()
    def nobody_reads(self) -> None:
        self.run(asyncio.sleep(0.2))  # time itself: partitions pause

    @precondition(lambda self: self.mode != "group")
    @rule(chosen=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def assign(self, chosen: set[int]) -> None:
        self.run(self.first.assign([TopicPartition(self.topic.name, each) for each in chosen]))
        for each in chosen:
            self.run(self.first.seek([PartitionOffset(self.topic.name, each, 0)]))
        self.mode, self.seen = "manual", dict.fromkeys(chosen, 0)

    @precondition(lambda self: self.mode == "manual")
    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(sorted(self.seen)))
        target = data.draw(st.integers(0, self.written[partition]))
        self.run(self.first.seek([PartitionOffset(self.topic.name, partition, target)]))
        self.seen[partition] = target

    @rule()
    def leave(self) -> None:
        self.run(self.first.unsubscribe())
        self.mode, self.seen = "", {}

    @precondition(lambda self: self.mode == "")
    @rule()
    def subscribe(self) -> None:
        self.run(self.first.subscribe([self.topic.name]))
        self.mode = "group"

    @precondition(lambda self: self.second is None)
    @rule()
    def another_member_comes(self) -> None:
        self.second = self.open()
        self.run(self.second.subscribe([self.topic.name]))

    @precondition(lambda self: self.second is not None)
    @rule()
    def another_member_goes(self) -> None:
        second, self.second = self.second, None
        if second is not None:
            self.run(second.close())

    @precondition(lambda self: self.mode != "")
    @rule(max_bytes=st.sampled_from([1, 3, 2**30]))
    def read(self, max_bytes: int) -> None:
        found = places_of(self.run(self.first.read(limits(0.1, max_bytes=max_bytes), places)).records)
        for partition, offset in found:
            self.arrived[partition].add(offset)
            if self.mode == "manual":
                assert offset == self.seen[partition]
                self.seen[partition] += 1

    def everything_arrives(self) -> None:
        """Whoever has a partition now reads it to its end."""
        until = time.monotonic() + 40
        self.mock.clear(OFFSET_FETCH)
        if self.mode == "manual":
            while any(at < self.written[partition] for partition, at in self.seen.items()):
                assert time.monotonic() < until, f"{self.seen} of {self.written}"
                self.read(2**30)
            return
        if self.mode == "":
            self.subscribe()
        for partition in PARTITIONS:  # what is committed counts as read: seeking and reading by hand commit, too
            found = self.run(self.first.committed([TopicPartition(self.topic.name, partition)]))
            self.arrived[partition] |= set(range(found[0].offset)) if found else set()
        readers = [each for each in (self.first, self.second) if each is not None]
        while missing := {
            partition: rest
            for partition in PARTITIONS
            if (rest := set(range(self.written[partition])) - self.arrived[partition])
        }:
            assert time.monotonic() < until, f"{missing} did not arrive"
            for reader in readers:
                for partition, offset in places_of(self.run(reader.read(limits(0.1), places)).records):
                    self.arrived[partition].add(offset)

    def teardown(self) -> None:
        if not hasattr(self, "first"):
            return
        try:
            self.everything_arrives()
        finally:
            self.run(self.opening.__aexit__(None, None, None))
            self.loop.close()
            consumer_thread.PAUSE_AFTER_S, consumer_thread.IDLE_S = self.pause_after, self.idle_s


TestMockBrokers = Machine.TestCase
TestMockBrokers.settings = settings(
    max_examples=max(3, settings.default.max_examples // 100) if settings.default else 3,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink takes a minute a try
    database=None,
)
# librdkafka asks the mock brokers within time-outs of its own, which a machine that was busy for some seconds misses.
TestMockBrokers = pytest.mark.timing(TestMockBrokers)
