"""Each rule of the consumer core by itself, on librdkafka as it is simulated in simulated_consumer.py.

test_client_model.py has them all in any order; here each has a test that always fails when its rule is broken.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, Message

from kafka_gateway.definitions import Anchor
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.clients.fetched_ahead import CountedConsumer
from kafka_gateway.kafka.consuming import commits
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.ports.topics import PartitionOffset
from tests.kafka.simulated_consumer import Name, SimulatedConsumer, SimulatedKafka
from tests.waiting import PATIENCE_S

ONE, TWO = ("topic", 0), ("topic", 1)


class Setting:
    """A client on a topic of two partitions with ten records each, and what its group has told it."""

    def __init__(
        self,
        cooperative: bool = False,
        reset: str = "earliest",
        blocking: bool = True,
        anchors: Mapping[Name, Anchor] = MappingProxyType({}),
    ) -> None:
        self.kafka = SimulatedKafka()
        self.kafka.make("topic", 2)
        self.kafka.logs |= {ONE: 10, TWO: 10}
        self.told: list[tuple[str, set[Name]]] = []
        self.consumer: SimulatedConsumer

        def build(on_commit: Any) -> Any:
            self.consumer = SimulatedConsumer(self.kafka, reset, cooperative, on_commit)
            return self.consumer

        self.client = GroupClient(build, self, cooperative=cooperative, reset=reset, blocking=blocking, anchors=anchors)
        self.client.open()

    def assigned(self, partitions: Collection[Name]) -> None:
        self.told.append(("assigned", set(partitions)))

    def placed(self, partitions: Collection[Name]) -> None:
        self.told.append(("placed", set(partitions)))

    def revoked(self, partitions: Collection[Name]) -> None:
        self.told.append(("revoked", set(partitions)))

    def lost(self, partitions: Collection[Name]) -> None:
        self.told.append(("lost", set(partitions)))

    def read(self, polls: int = 10) -> dict[Name, list[int]]:
        """The offsets that some polls bring, by partition."""
        found: dict[Name, list[int]] = {}
        for _ in range(polls):
            for record in self.client.poll(100, 0):
                found.setdefault((record.topic() or "", record.partition() or 0), []).append(record.offset() or 0)
        return found

    def join(self, *share: Name, lost: bool = False) -> None:
        if self.client.mode != "group":
            self.client.subscribe(["topic"])
        self.consumer.rebalance(set(share), lost)


ALL = list(range(10))


@pytest.mark.parametrize("cooperative", [False, True])
def test_what_is_held_stays_held_when_the_group_assigns_it(cooperative: bool) -> None:
    it = Setting(cooperative)
    it.client.hold([ONE])
    it.join(ONE, TWO)
    assert it.read() == {TWO: ALL}
    it.client.flow([ONE])
    assert it.read() == {ONE: ALL}


def test_what_is_held_stays_held_over_an_assignment_by_hand_and_a_new_start() -> None:
    it = Setting()
    it.client.hold([ONE])
    it.client.assign([ONE, TWO])
    assert it.read() == {TWO: ALL}
    it.client.restart({ONE: 3, TWO: 8})
    assert it.read() == {TWO: [8, 9]}
    it.client.add({("topic", 2): 0})
    it.client.flow([ONE])
    assert it.read() == {ONE: [3, 4, 5, 6, 7, 8, 9]}


def test_all_is_held_while_nobody_reads_whatever_is_assigned() -> None:
    it = Setting()
    it.client.hold_all(True)
    it.join(ONE)
    assert it.read() == {}
    it.client.hold([TWO])
    it.join(ONE, TWO)
    assert it.read() == {}
    it.client.hold_all(False)
    assert it.read() == {ONE: ALL}


def test_a_partition_that_was_held_when_it_was_given_up_flows_when_it_comes_back() -> None:
    """librdkafka keeps a pause over assignments, and yields nothing for a second behind it."""
    it = Setting()
    it.client.hold([ONE])
    it.client.assign([ONE])
    it.read()
    it.client.unsubscribe()
    it.client.release([ONE])
    it.client.assign([ONE])
    assert it.read() == {ONE: ALL}


def test_reading_goes_on_at_once_when_a_partition_flows_again() -> None:
    it = Setting()
    it.client.assign([ONE])
    assert len(it.client.poll(4, 0)) == 4
    it.client.hold([ONE])
    assert it.read() == {}
    it.client.flow([ONE])
    assert it.read(3) == {ONE: [4, 5, 6, 7, 8, 9]}


CODES = {
    KafkaError._ALL_BROKERS_DOWN: "passes",
    KafkaError._TRANSPORT: "passes",
    KafkaError._RESOLVE: "passes",
    KafkaError._TIMED_OUT: "passes",
    KafkaError._MAX_POLL_EXCEEDED: "passes",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "missing",
    KafkaError.UNKNOWN_TOPIC_ID: "missing",
    KafkaError._UNKNOWN_TOPIC: "missing",
    KafkaError._UNKNOWN_PARTITION: "missing",
    KafkaError.NOT_COORDINATOR: "coordinator",
    KafkaError.COORDINATOR_NOT_AVAILABLE: "coordinator",
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: "coordinator",
    KafkaError._WAIT_COORD: "coordinator",
    KafkaError._PARTITION_EOF: "end",
    KafkaError._AUTO_OFFSET_RESET: "no position",
    KafkaError._NO_OFFSET: "no position",
    KafkaError.OFFSET_OUT_OF_RANGE: "no position",
    KafkaError._LOG_TRUNCATION: "no position",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "failure",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "failure",
    KafkaError.UNKNOWN: "failure",
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_of_librdkafka_means_one_thing(code: int) -> None:
    it = Setting()
    it.client.hold([ONE])  # so that no record says where it is
    it.client.assign([ONE])
    it.consumer._events = [Message(topic="topic", partition=0, offset=7, error=KafkaError(code))]
    it.read(1)
    client = it.client
    seen = {
        "missing": client.missing == {"topic"},
        "coordinator": bool(client.silent()) and not client.stopped,
        "end": client.ends == {ONE: 7},
        "no position": set(client.stopped) == {ONE},
        "failure": isinstance(client.failure, ServiceError),
    }
    assert [name for name, is_so in seen.items() if is_so] == [name for name in seen if name == CODES[code]]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_partitions_start_after_the_coordinator_was_lost(blocking: bool, times: int) -> None:
    """librdkafka asks it once, and is silent for good if that was in vain (its issue 5586)."""
    it = Setting(blocking=blocking)
    it.kafka.committed = {ONE: 4}
    it.kafka.coordinator_lost = times
    it.join(ONE)
    found = it.read(2)
    # Who asks by itself finds it answered already when librdkafka does.
    assert set(it.client.silent()) == (set() if blocking and times == 1 else {ONE})
    now = 1e9
    for _ in range(2 * times + 2):
        now += 10
        it.client.tend(now)
        for name, offsets in it.read().items():
            found.setdefault(name, []).extend(offsets)
    assert found == {ONE: [4, 5, 6, 7, 8, 9]}
    assert it.client.silent() == {}
    assert (("placed", {ONE}) in it.told) == (blocking and times > 1)


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize("by", ["group", "hand"])
@pytest.mark.parametrize("times", [1, 3])
def test_where_an_anchor_may_count_nothing_comes_before_that_is_known(cooperative: bool, by: str, times: int) -> None:
    """Its client would get again what it has had from another node, or miss what came behind that."""
    it = Setting(cooperative, anchors={ONE: Anchor(6, 4)})
    it.kafka.committed = {ONE: 4}
    it.kafka.coordinator_lost = times
    if by == "group":
        it.join(ONE)
    else:
        it.client.assign_from_starts([ONE])
    found, now = it.read(2), 1e9
    for _ in range(2 * times + 2):
        now += 10
        it.client.tend(now)
        for name, offsets in it.read().items():
            found.setdefault(name, []).extend(offsets)
    assert found == {ONE: [6, 7, 8, 9]}
    assert it.client.anchored == {ONE: 6}


def test_a_seek_does_not_wait_for_an_anchor() -> None:
    it = Setting(anchors={ONE: Anchor(6, 4)})
    it.kafka.coordinator_lost = 1
    it.join(ONE)
    assert it.read(2) == {}
    it.client.seek({ONE: 8})
    assert it.read() == {ONE: [8, 9]}


@pytest.mark.parametrize("cooperative", [False, True])
def test_an_assignment_by_hand_outlives_the_group_that_was_left_while_it_formed(cooperative: bool) -> None:
    it = Setting(cooperative)
    it.join(ONE, TWO)
    it.client.unsubscribe()
    it.client.assign([TWO], {TWO: 3})
    it.client.seek({TWO: 4})  # before it is fetched: it is given that start
    it.client.hold([TWO])
    assert it.read(3) == {}
    assert it.client.assigned == {TWO}
    it.client.flow([TWO])
    assert it.read() == {TWO: [4, 5, 6, 7, 8, 9]}
    assert it.told == []


def test_partitions_are_sent_to_the_ends_of_their_logs_by_offsets() -> None:
    it = Setting()
    it.client.assign([ONE, TWO])
    assert it.read() == {ONE: ALL, TWO: ALL}
    it.client.seek({ONE: OFFSET_BEGINNING, TWO: OFFSET_END})
    it.kafka.logs[TWO] += 1
    assert it.read() == {ONE: ALL, TWO: [10]}


def test_partitions_that_were_assigned_by_hand_start_where_nothing_was_told() -> None:
    it = Setting(reset="latest")
    it.kafka.coordinator_lost = 1
    it.client.assign_from_starts([ONE, ("nowhere", 0)])
    assert set(it.client.silent()) == {ONE, ("nowhere", 0)}
    it.read(1)
    it.client.tend(1e9)
    assert it.client.uncommitted_starts == {ONE: 10}
    assert it.told == [("placed", {ONE, ("nowhere", 0)})]


def test_it_leaves_when_its_commits_are_answered() -> None:
    """Closing with one on its way hangs, and dropping the client spins a processor."""
    it = Setting()
    it.join(ONE)
    it.read()
    answers: list[ServiceError | None] = []
    it.client.commit([PartitionOffset(*ONE, 10)], answers.append)
    it.client.close()
    assert (answers, it.consumer.closed) == ([None], True)


@pytest.mark.parametrize(
    "code", [KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE]
)
def test_a_commit_that_the_coordinator_does_not_take_yet_is_sent_again(code: int) -> None:
    it = Setting()
    it.join(ONE)
    it.read()
    it.consumer.refusals = [KafkaError(code)] * 2
    answers: list[ServiceError | None] = []
    it.client.commit([PartitionOffset(*ONE, 10)], answers.append)
    it.client.close()  # which waits for it
    assert (answers, it.kafka.committed[ONE], it.consumer.closed) == ([None], 10, True)


def test_a_commit_is_sent_again_for_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    it, now = Setting(), 100.0
    monkeypatch.setattr(commits, "time", SimpleNamespace(monotonic=lambda: now))
    it.join(ONE)
    it.read()
    it.consumer.refusals = [KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)] * 100
    answers: list[ServiceError | None] = []
    it.client.commit([PartitionOffset(*ONE, 10)], answers.append, within_s=1.0)
    while now < 102:
        it.client.poll(1, 0)
        now += 0.1
        it.client.tend(now)
    assert len(answers) == 1
    assert isinstance(answers[0], ServiceError)
    assert answers[0].retriable
    assert 4 <= 100 - len(it.consumer.refusals) <= 6
    assert not it.client.commits.on_their_way


def test_a_commit_that_is_sent_again_takes_no_newer_one_back() -> None:
    it = Setting()
    it.join(ONE)
    it.read()
    it.consumer.refusals = [KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)]
    answers: list[tuple[int, bool]] = []
    it.client.commit([PartitionOffset(*ONE, 5)], lambda error: answers.append((5, error is None)))
    it.read()
    it.client.commit([PartitionOffset(*ONE, 8)], lambda error: answers.append((8, error is None)))
    assert it.client.settle_commits(time.monotonic() + PATIENCE_S)
    assert it.kafka.committed[ONE] == 8
    assert sorted(answers) == [(5, False), (8, True)]


def test_a_commit_that_is_not_answered_has_failed_after_its_time() -> None:
    it = Setting()
    it.join(ONE)
    it.read()
    it.consumer.frozen = True
    answers: list[ServiceError | None] = []
    it.client.commit([PartitionOffset(*ONE, 10)], answers.append, within_s=1.0)
    it.client.tend(0.0)
    assert answers == []
    it.client.tend(1e9)
    assert len(answers) == 1
    assert isinstance(answers[0], ServiceError)
    assert not it.client.settle_commits(0.0)


@pytest.mark.parametrize("new", [5, 20])
def test_a_topic_that_was_made_again_is_read_from_its_beginning(new: int) -> None:
    it = Setting(reset="latest")
    it.client.assign([ONE], {ONE: 0})
    assert it.read() == {ONE: ALL}
    it.kafka.make("topic", 2)
    it.kafka.logs[ONE] = new
    assert it.client.begin_again("topic") == [ONE]
    assert it.read() == {ONE: list(range(new))}


def test_a_topic_that_was_made_again_while_the_group_had_taken_it_away() -> None:
    it = Setting(reset="latest")
    it.join(ONE)
    it.read()
    it.join()
    it.read(1)
    it.kafka.make("topic", 2)
    it.kafka.logs[ONE] = 3
    assert it.client.begin_again("topic") == []
    it.join(ONE)
    assert it.read() == {ONE: [0, 1, 2]}


def test_a_partition_that_went_to_the_beginning_by_itself_is_left_there() -> None:
    """The new log is shorter, so librdkafka has gone there: all of it came again when the topic was found to be new."""
    it = Setting()
    it.join(ONE, TWO)
    assert it.read() == {ONE: ALL, TWO: ALL}
    assert it.client.afresh() == set()
    it.kafka.make("topic", 2)
    it.kafka.logs |= {ONE: 5, TWO: 12}
    assert it.read() == {ONE: [0, 1, 2, 3, 4], TWO: [10, 11]}
    assert it.client.afresh() == {ONE}
    assert it.client.begin_again("topic", it.client.afresh()) == [TWO]
    assert it.read() == {TWO: list(range(12))}
    assert it.client.afresh() == set()
    it.client.seek({ONE: 0})  # as its client wants
    assert it.read(200)[ONE] == [0, 1, 2, 3, 4]
    assert it.client.afresh() == set()


def test_a_partition_that_is_assigned_after_its_topic_was_gone_is_left_at_the_beginning() -> None:
    it = Setting()
    it.join(ONE)
    it.read()
    it.client.topic_gone("topic")
    it.join()
    it.read(1)
    it.kafka.make("topic", 1)
    it.join(ONE)
    it.read(1)
    assert it.client.afresh() == {ONE}
    assert it.client.begin_again("topic", it.client.afresh()) == []
    it.join()
    it.read(1)
    it.join(ONE)
    it.read(1)
    assert it.client.afresh() == set()


@pytest.mark.parametrize("lost", [False, True])
def test_the_owner_hears_of_partitions_before_they_go(lost: bool) -> None:
    it = Setting()
    it.join(ONE, TWO)
    it.read(1)
    it.join(TWO, lost=lost)
    it.read(1)
    assert it.told == [
        ("assigned", {ONE, TWO}),
        ("lost" if lost else "revoked", {ONE, TWO}),
        ("assigned", {TWO}),
    ]


def test_a_topic_that_is_missing_is_asked_for_again() -> None:
    it = Setting()
    asked: list[str] = []

    def list_topics(topic: str, timeout: float) -> Any:
        asked.append(topic)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    it.consumer.list_topics = list_topics  # type: ignore[method-assign]
    it.client.missing = {"topic"}
    for now in (100.0, 100.5, 101.1, 101.2):
        it.client.look_for_missing(now)
    assert asked == ["topic", "topic"]
    assert it.client.missing == {"topic"}


class Counted(SimulatedConsumer, CountedConsumer):
    """With an account in the memory budget."""

    def __init__(self, kafka: SimulatedKafka, on_commit: Any) -> None:
        SimulatedConsumer.__init__(self, kafka, "earliest", False, on_commit)
        self.fetch_bytes, self.buffer_bytes = 1000, 1500
        self.noted = 0

    def note(self, size: int) -> None:
        self.noted = size

    def get_watermark_offsets(self, place: Any, cached: bool = False) -> tuple[int, int]:  # type: ignore[override]
        assert cached
        return 0, self._kafka.logs[place.topic, place.partition]

    def __del__(self) -> None: ...


def test_what_is_fetched_ahead_is_no_more_than_what_flows() -> None:
    kafka = SimulatedKafka()
    kafka.make("topic", 2)
    kafka.logs |= {ONE: 10, TWO: 100}
    made: list[Counted] = []

    def build(on_commit: Any) -> Any:
        made.append(Counted(kafka, on_commit))
        return made[0]

    client = GroupClient(build)
    client.open()
    client.assign([ONE, TWO], {ONE: 0, TWO: 0})
    client._record_bytes = 50
    seen = []
    for change in (
        lambda: None,  # 10 records of 50 bytes, and one fetch of the other
        lambda: client.hold([TWO]),
        lambda: client.hold_all(True),
        lambda: client.hold_all(False),
        lambda: client.flow([TWO]),
        lambda: [client.poll(200, 0) for _ in range(3)],
    ):
        change()
        client.count(0.0)
        seen.append(made[0].noted)
    assert seen == [1500, 500, 0, 500, 1500, 0]
