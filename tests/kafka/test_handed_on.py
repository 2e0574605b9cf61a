"""What a client gets whose consumer is handed on from process to process, whatever its group does meanwhile.

The consumers are real, librdkafka is simulated; a hand-over carries what a definition does (cluster.md §4.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from kafka_gateway.definitions import Anchor, anchors_of
from kafka_gateway.kafka.consuming.auto_commit import AutoCommit
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.fed_partitions import FedPartitions
from kafka_gateway.kafka.consuming.questions import Questions
from kafka_gateway.kafka.consuming.read_queue import ReadQueue
from kafka_gateway.kafka.consuming.standing import Standing
from tests.kafka.simulated_consumer import Name, SimulatedConsumer, SimulatedKafka

NAMES = [("topic", 0), ("topic", 1)]
some = st.sets(st.sampled_from(NAMES))


class Step(NamedTuple):
    """What happens to a consumer."""

    share: set[Name]
    """What its group gives it."""
    reads: bool
    """Whether its client reads then."""
    commits: int | None = None
    """What another member commits of partition 0 before."""


class Holder:
    """The consumer in one process. ``revoked`` are the partitions of which something was read and taken away."""

    def __init__(self, kafka: SimulatedKafka, anchors: dict[Name, Anchor], cooperative: bool) -> None:
        self.revoked_after_reading: set[Name] = set()
        self._read: set[Name] = set()
        self._kafka = kafka

        def build(on_commit: Any) -> Any:
            self.consumer = SimulatedConsumer(kafka, "earliest", cooperative, on_commit)
            return self.consumer

        self.client = GroupClient(build, self, cooperative=cooperative, reset="earliest", anchors=anchors)
        self.auto = AutoCommit(self.client, None)
        reads = ReadQueue(Questions(None), 100, self.auto.move)  # type: ignore[arg-type]  # nobody waits here
        fed = FedPartitions(self.client, reads, self.auto, lambda told: None)
        self.standing = Standing(self.client, fed, lambda: self.client.starts | self.auto.positions, self.auto.stop)
        self.client.open()
        self.client.subscribe(["topic"])

    def assigned(self, partitions: Collection[Name]) -> None:
        self.auto.start_at(partitions)

    placed = assigned

    def revoked(self, partitions: Collection[Name]) -> None:
        self.auto.forget(partitions)
        self.revoked_after_reading |= self._read.intersection(partitions)

    lost = revoked

    def read(self) -> Iterable[tuple[Name, int]]:
        """What comes, which its client has then."""
        for record in self.client.poll(100, 0):
            place = (record.topic() or "", record.partition() or 0)
            self.auto.move({place: (record.offset() or 0) + 1})
            self._read.add(place)
            yield place, record.offset() or 0

    def hand_over(self, silent: bool) -> dict[Name, Anchor]:
        """``silent``: Kafka tells nothing of what is committed then."""
        self._kafka.coordinator_lost = int(silent)
        found = anchors_of(*self.standing.for_good())
        self._kafka.coordinator_lost = 0  # nobody asked: the next process is not to meet it
        return {(topic, int(number)): each for topic, own in found.items() for number, each in own.items()}


class Life(NamedTuple):
    """What happens to a consumer in one process."""

    steps: list[Step]
    silent_end: bool = False
    """Whether Kafka does not tell at the hand-over what is committed."""


steps = st.builds(Step, some, st.booleans(), st.none() | st.integers(0, 20))
NOTHING, ONE, ALL = Step(set(), True), Step({NAMES[0]}, True), Step(set(NAMES), True)
UNREAD = Step(set(NAMES), False)


@given(
    lives=st.lists(st.builds(Life, st.lists(steps, max_size=4), st.booleans()), min_size=1, max_size=4),
    cooperative=st.booleans(),
)
@example(lives=[Life([ALL]), Life([]), Life([ALL])], cooperative=False)
@example(lives=[Life([ALL]), Life([NOTHING]), Life([ALL])], cooperative=False)
@example(lives=[Life([ALL]), Life([ONE]), Life([NOTHING]), Life([ALL])], cooperative=True)
@example(lives=[Life([ALL]), Life([UNREAD, Step(set(), False), UNREAD]), Life([ALL])], cooperative=False)
@example(
    lives=[Life([ALL]), Life([Step({NAMES[1]}, False), Step({NAMES[1]}, False, 4)]), Life([ALL])], cooperative=False
)
@example(lives=[Life([ALL], True), Life([ALL], True), Life([ALL])], cooperative=False)
@example(lives=[Life([ALL]), Life([Step(set(NAMES), True, 4)], True), Life([ALL], True), Life([ALL])], cooperative=True)
@example(lives=[Life([Step(set(), False, 1), Step({NAMES[0]}, False), Step({NAMES[0]}, True, 0)])], cooperative=True)
def test_nothing_is_missed_and_only_what_another_committed_or_a_rebalance_took_comes_again(
    lives: list[Life], cooperative: bool
) -> None:
    kafka = SimulatedKafka()
    kafka.make("topic", 2)
    kafka.logs |= dict.fromkeys(NAMES, 10)
    due = dict.fromkeys(NAMES, 0)
    """Where the client goes on that gets each record once."""
    had = dict(due)
    """Behind the last record that it has got."""
    again: set[Name] = set()
    """Partitions that may go on earlier, once."""
    skipped = dict(due)
    """The furthest that another member has committed since something came: whoever had the partition began there."""
    anchors: dict[Name, Anchor] = {}
    for life in lives:
        holder = Holder(kafka, anchors, cooperative)
        for step in life.steps:
            if step.commits is not None:
                skipped[NAMES[0]] = max(skipped[NAMES[0]], kafka.committed.get(NAMES[0], 0))
                kafka.committed[NAMES[0]] = step.commits % (kafka.logs[NAMES[0]] + 1)
                again.add(NAMES[0])
            holder.consumer.rebalance(step.share)
            holder.client.poll(0, 0)
            again |= holder.revoked_after_reading
            holder.revoked_after_reading.clear()
            for place in NAMES if step.reads else ():
                kafka.logs[place] += 1
            for _ in range(3 if step.reads else 0):
                for place, offset in holder.read():
                    if place in again:
                        most = max(had[place], skipped[place], kafka.committed.get(place, 0))
                        assert offset <= most, (place, offset, had)
                        again.remove(place)
                    else:
                        assert offset == due[place], (place, offset, due)
                    due[place] = offset + 1
                    skipped[place] = 0
                    had[place] = max(had[place], due[place])
        anchors = holder.hand_over(life.silent_end)
        if life.silent_end and any(step.commits is not None for step in life.steps):
            again.add(NAMES[0])  # this consumer has not heard of that
