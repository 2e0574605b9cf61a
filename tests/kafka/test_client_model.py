"""What a consumer delivers against a model, whatever happens to it and in any order.

The client is real, librdkafka is simulated with its traps (simulated_consumer.py). `test_client_on_mock_brokers` does
some of it with real ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kafka_gateway.errors import IllegalState, ServiceError
from kafka_gateway.kafka.consuming import client as client_module
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.ports.topics import PartitionOffset
from tests.kafka.simulated_consumer import Name, SimulatedConsumer, SimulatedKafka

TOPIC = "topic"
NAMES = [(TOPIC, number) for number in range(2)]
some_names = st.sets(st.sampled_from(NAMES), min_size=1)


class Clock:
    """Stands in for the module ``time``: it goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


class Machine(RuleBasedStateMachine):
    """One client, its group and its Kafka. ``expected`` is the model: the next offset of every partition it has."""

    @initialize(
        cooperative=st.booleans(),
        reset=st.sampled_from(["earliest", "latest", "error"]),
        blocking=st.booleans(),
        partitions=st.integers(1, 2),
    )
    def begin(self, cooperative: bool, reset: str, blocking: bool, partitions: int) -> None:
        self.clock = Clock()
        self.time = client_module.time  # type: ignore[attr-defined]
        client_module.time = self.clock  # type: ignore[attr-defined]
        self.kafka = SimulatedKafka()
        self.kafka.make(TOPIC, partitions)
        self.reset = reset
        self.consumer: SimulatedConsumer

        def build(on_commit: Any) -> Any:
            self.consumer = SimulatedConsumer(self.kafka, reset, cooperative, on_commit)
            return self.consumer

        self.client = GroupClient(build, self, cooperative=cooperative, reset=reset, blocking=blocking)
        self.client.open()
        self.mode = ""
        self.expected: dict[Name, int | None] = {}
        """None: Kafka has no position for it, and says so."""
        self.held: set[Name] = set()
        self.all_held = False
        self.hands: list[tuple[str, set[Name]]] = []
        """What the group has said to the owner, to be looked at behind the poll."""
        self.commits: list[ServiceError | None] = []
        self.sent = 0

    # --- the owner --------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Collection[Name]) -> None:
        for name in partitions:
            self.expected[name] = self.start(name)

    def placed(self, partitions: Collection[Name]) -> None: ...

    def revoked(self, partitions: Collection[Name]) -> None:
        for name in partitions:
            del self.expected[name]

    lost = revoked

    def start(self, name: Name) -> int | None:
        at = self.kafka.committed.get(name)
        end = self.kafka.logs.get(name, 0)
        if at is not None and at <= end:
            return at
        return {"earliest": 0, "latest": end, "error": None}[self.reset]

    # --- what happens in Kafka --------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 5))
    def write(self, name: Name, count: int) -> None:
        if name in self.kafka.logs and not self.start_is_open(name):
            self.kafka.logs[name] += count

    def start_is_open(self, name: Name) -> bool:
        """Whether librdkafka is still to find the end of the log by itself: records may come before or behind it."""
        return name in self.expected and self.reset == "latest" and self.client.positions([name])[name] < 0

    @rule(times=st.integers(1, 3))
    def lose_coordinator(self, times: int) -> None:
        self.kafka.coordinator_lost = times

    @precondition(lambda self: len(self.kafka.logs) < len(NAMES))
    @rule()
    def add_a_partition(self) -> None:
        self.kafka.logs[NAMES[len(self.kafka.logs)]] = 0

    @rule(count=st.integers(0, 8))
    def make_the_topic_again(self, count: int) -> None:
        partitions = len(self.kafka.logs)
        self.kafka.make(TOPIC, partitions)
        for name in self.kafka.logs:
            self.kafka.logs[name] = count
        assert set(self.client.begin_again(TOPIC)) == set(self.expected)
        for name in self.expected:
            self.expected[name] = 0
        if not self.expected and self.mode == "group":
            self.anew = True

    anew = False

    @precondition(lambda self: self.mode == "group")
    @rule(share=st.sets(st.sampled_from(NAMES)), lost=st.booleans())
    def rebalance(self, share: set[Name], lost: bool) -> None:
        self.consumer.rebalance(share & set(self.kafka.logs), lost)
        self.poll(1)
        if self.anew and self.expected:
            for name in self.expected:
                self.expected[name] = 0
            self.anew = False

    # --- what the owner does ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.mode == "")
    @rule()
    def subscribe(self) -> None:
        self.client.subscribe([TOPIC])
        self.mode = "group"
        self.anew = False

    @precondition(lambda self: self.mode != "group")
    @rule(names=some_names)
    def assign(self, names: set[Name]) -> None:
        here = names & set(self.kafka.logs)
        self.client.assign(here)
        self.mode = "manual" if here else ""
        self.expected = {name: self.start(name) for name in here}
        self.anew = False

    @precondition(lambda self: self.mode != "")
    @rule()
    def unsubscribe(self) -> None:
        group = self.mode == "group"
        self.client.unsubscribe()
        if group:
            self.poll(1)
        assert self.client.assigned == set()
        self.expected = {}
        self.mode = ""

    @rule(names=some_names)
    def hold(self, names: set[Name]) -> None:
        self.client.hold(names)
        self.held |= names

    @rule(names=some_names)
    def flow(self, names: set[Name]) -> None:
        self.client.flow(names)
        self.held -= names

    @rule(names=some_names, times=st.integers(1, 3))
    def hold_and_flow(self, names: set[Name], times: int) -> None:
        """At once, so that no record tells librdkafka's position in between."""
        for _ in range(times):
            self.hold(names)
            self.flow(names)

    @precondition(lambda self: self.mode != "group")
    @rule(names=some_names)
    def hold_and_assign(self, names: set[Name]) -> None:
        self.hold(names)
        self.assign(names)

    @precondition(lambda self: self.expected)
    @rule(count=st.integers(1, 5))
    def read_a_little(self, count: int) -> None:
        """So that librdkafka's position is somewhere."""
        name = min(self.expected)
        self.write(name, count)
        self.poll(count)

    @rule(name=st.sampled_from(NAMES), share=st.floats(0, 1))
    def hold_and_seek(self, name: Name, share: float) -> None:
        self.hold({name})
        self.seek(name, share)

    @precondition(lambda self: self.mode == "manual")
    @rule(share=st.floats(0, 1))
    def assign_again_and_seek(self, share: float) -> None:
        self.assign(set(self.expected))
        self.seek(min(self.expected), share)

    @precondition(lambda self: self.mode == "group")
    @rule(names=some_names, share=st.floats(0, 1))
    def rebalance_and_seek(self, names: set[Name], share: float) -> None:
        self.rebalance(names, False)
        if self.expected:
            self.seek(min(self.expected), share)

    @rule(held=st.booleans())
    def idle(self, held: bool) -> None:
        self.client.hold_all(held)
        self.all_held = held

    @rule(name=st.sampled_from(NAMES), share=st.floats(0, 1))
    def seek(self, name: Name, share: float) -> None:
        target = int(share * self.kafka.logs.get(name, 0))
        if name not in self.expected:
            with pytest.raises(IllegalState):
                self.client.seek({name: target})
            return
        self.client.seek({name: target})
        self.expected[name] = target

    @rule(most=st.integers(1, 4), wait=st.booleans())
    def poll(self, most: int, wait: bool = False) -> None:
        before = {name: at for name, at in self.expected.items() if not self.flows(name)}
        self.clock.now += 0.3
        self.client.tend(self.clock.now)
        records = self.client.poll(most, 0.1 if wait else 0)
        assert len(records) <= most
        for record in records:
            name = (record.topic() or "", record.partition() or 0)
            assert name in self.expected, f"{name} is not ours"
            assert self.flows(name) or name not in before, f"{name} is held"
            assert record.offset() == self.expected[name], f"{name} goes on at {self.expected[name]}"
            self.expected[name] = (record.offset() or 0) + 1

    def flows(self, name: Name) -> bool:
        return not self.all_held and name not in self.held

    @precondition(lambda self: any(at is not None for at in self.expected.values()))
    @rule()
    def commit(self) -> None:
        offsets = [PartitionOffset(*name, at) for name, at in self.expected.items() if at is not None]
        self.client.commit(offsets, self.commits.append)
        self.sent += 1

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def it_has_what_it_was_given(self) -> None:
        assert self.client.assigned == set(self.expected)
        assert set(self.client.stopped) <= set(self.expected)
        assert set(self.client.silent()) <= set(self.expected)

    @rule()
    def everything_that_flows_arrives(self) -> None:
        """Within a few polls, whatever was before."""
        self.kafka.coordinator_lost = 0
        for _ in range(60):
            self.poll(4)
        for name, at in self.expected.items():
            if at is None:
                assert not self.flows(name) or name in self.client.stopped, f"{name} has no position, and says nothing"
            elif self.flows(name):
                assert at >= self.kafka.logs[name], f"{name} stands still at {at} of {self.kafka.logs[name]}"
                assert name not in self.client.silent()
        assert len(self.commits) == self.sent

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        try:
            self.idle(False)
            self.flow(set(NAMES))
            self.everything_that_flows_arrives()
            if any(at is not None for at in self.expected.values()):
                self.commit()
            self.client.close()
            assert self.consumer.closed
            assert len(self.commits) == self.sent
        finally:
            client_module.time = self.time  # type: ignore[attr-defined]


TestClient = Machine.TestCase
TestClient.settings = settings(
    stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
