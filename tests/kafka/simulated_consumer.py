"""librdkafka's consumer and its Kafka, simulated: with the traps that were met in the real one (reliability.md §3, §5).

- A partition stays paused over a new assignment of it, until it is resumed, and is slow behind that: as any resumed one
  is that is not sought then.
- The position is unknown behind an assignment and behind a seek, until a record was consumed from there.
- A partition that was assigned a moment ago cannot be sought. One that is sent to an end of its log, and not to an
  offset, yields nothing any more (as it happens now and then).
- A group that is left while it forms gives its partitions all the same, and takes them back.
- A group leaves its protocol behind: an assignment by hand of the other kind (whole, or by differences) is refused.
- The coordinator is asked once where a partition starts. Was that in vain, an event says so, and nothing comes.
- A topic that was deleted and made again is read on at the old offset, if its new log is long enough, without a word.
- A consumer that is closed with a commit on its way hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from kafka_gateway.kafka.clients.fetched_ahead import FetchedAhead
from kafka_gateway.kafka.ports.consuming import ConsumerSettings

Name = tuple[str, int]

VALUE = b"a record"


class SimulatedKafka:
    """Logs, as the number of records that each partition ever had, and what groups have committed."""

    def __init__(self) -> None:
        self.logs: dict[Name, int] = {}
        self.committed: dict[Name, int] = {}
        self.coordinator_lost = 0
        """So many of the next questions for committed offsets are answered with NOT_COORDINATOR."""

    def make(self, topic: str, partitions: int) -> None:
        for name in [name for name in self.logs if name[0] == topic]:
            del self.logs[name]
            self.committed.pop(name, None)
        self.logs |= {(topic, number): 0 for number in range(partitions)}

    def ask_coordinator(self) -> None:
        if self.coordinator_lost:
            self.coordinator_lost -= 1
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


class SimulatedConsumer:
    """The methods of confluent_kafka.Consumer that `GroupClient` calls."""

    def __init__(
        self,
        kafka: SimulatedKafka,
        reset: str,
        cooperative: bool,
        on_commit: Callable[..., None],
        tells_ends: bool = False,
    ) -> None:
        self._kafka = kafka
        self._tells_ends = tells_ends
        self._ends: dict[Name, int] = {}
        """Those that it has told of."""
        self._reset = reset
        self._cooperative = cooperative
        self._on_commit = on_commit
        self._fetch: dict[Name, int] = {}
        """Of what is assigned: where it is read next; below 0 while that is not known."""
        self._position: dict[Name, int] = {}
        self._fresh: set[Name] = set()
        self._silent: set[Name] = set()
        self._unknown: set[Name] = set()
        """Partitions whose position nobody but librdkafka knows."""
        self.paused: set[Name] = set()
        self._slow: dict[Name, int] = {}
        """How many polls a partition still takes to yield something."""
        self._events: list[Message] = []
        self._reports: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self.refusals: list[KafkaError] = []
        """Why Kafka stores nothing of the next commits."""
        self.frozen = False
        """Whether Kafka answers no commit."""
        self._hooks: dict[str, Callable[..., None]] = {}
        self._group: list[Callable[[], None]] = []
        self._share: set[Name] = set()
        self._forming = False
        self._in_callback = False
        self.closed = False

    # --- what a group does, as the test says ------------------------------------------------------------------------

    def rebalance(self, share: set[Name], lost: bool = False) -> None:
        """From the next poll on this member has exactly these."""
        self._group.append(lambda: self._rebalance(share, lost))

    def _rebalance(self, share: set[Name], lost: bool) -> None:
        before, self._share = self._share, set(share)
        gone = (before - share) if self._cooperative else before
        come = (share - before) if self._cooperative else share
        if gone:
            self._revoke(gone, "on_lost" if lost else "on_revoke")
        self._in_callback = True
        self._hooks["on_assign"](self, [TopicPartition(*name) for name in sorted(come)])
        assert not self._in_callback, "nobody has carried the assignment out"

    def _revoke(self, gone: set[Name], hook: str = "on_revoke") -> None:
        self._in_callback = True
        self._hooks[hook](self, [TopicPartition(*name) for name in sorted(gone)])
        if self._in_callback:  # the binding does what nobody has done
            self._drop(gone if self._cooperative else set(self._fetch))
            self._in_callback = False

    # --- reading ----------------------------------------------------------------------------------------------------

    def consume(self, count: int, timeout: float) -> list[Message]:
        assert not self.closed
        self._fresh.clear()
        while self._group:
            self._group.pop(0)()
        if not self.frozen:
            reports, self._reports = self._reports, []
            for error, places in reports:
                self._on_commit(error, places)
        found, self._events = self._events[:count], self._events[count:]
        for name in sorted(self._fetch):
            if name in self.paused | self._silent | self._fresh:
                continue
            if self._slow.get(name):
                self._slow[name] -= 1
            elif len(found) < count:
                found += self._read(name, count - len(found))
        return found

    def _read(self, name: Name, most: int) -> list[Message]:
        end = self._kafka.logs.get(name)
        at = self._fetch[name]
        if end is None or at == OFFSET_INVALID:
            return []
        if at in (OFFSET_BEGINNING, OFFSET_END) or at > end:
            reset = {OFFSET_BEGINNING: "earliest", OFFSET_END: "latest"}.get(at, self._reset)
            if reset == "error":
                self._silent.add(name)
                return [Message(topic=name[0], partition=name[1], error=KafkaError(KafkaError._AUTO_OFFSET_RESET))]
            at = self._fetch[name] = 0 if reset == "earliest" else end
        offsets = range(at, at + min(most, end - at))
        found = [Message(topic=name[0], partition=name[1], offset=each, value=VALUE) for each in offsets]
        if found:
            self._fetch[name] = self._position[name] = at + len(found)
            self._unknown.discard(name)
        elif self._tells_ends and self._ends.get(name) != at:
            self._ends[name] = at
            return [Message(topic=name[0], partition=name[1], offset=at, error=KafkaError(KafkaError._PARTITION_EOF))]
        return found

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._check(places)
        self.paused |= {(one.topic, one.partition) for one in places}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._check(places)
        resumed = {(one.topic, one.partition) for one in places} & self.paused
        self.paused -= resumed
        # Where nobody can know the position, nobody can seek.
        self._slow |= {name: _SLOW for name in resumed - self._unknown - self._fresh if self._fetch[name] >= 0}

    def _check(self, places: Sequence[TopicPartition]) -> None:
        for one in places:
            if (one.topic, one.partition) not in self._fetch:
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))

    def position(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [
            TopicPartition(one.topic, one.partition, self._position.get((one.topic, one.partition), OFFSET_INVALID))
            for one in places
        ]

    def seek(self, place: TopicPartition) -> None:
        name = (place.topic, place.partition)
        if name in self._fresh or name not in self._fetch or name in self._silent:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self._fetch[name] = place.offset if place.offset >= 0 else OFFSET_INVALID
        self._position.pop(name, None)
        self._unknown.discard(name)
        self._slow.pop(name, None)

    # --- assignments ------------------------------------------------------------------------------------------------

    def subscribe(self, topics: Sequence[str], **hooks: Callable[..., None]) -> None:
        self._hooks = hooks
        self._forming = True

    def unsubscribe(self) -> None:
        def leave() -> None:
            gone, self._share = self._share, set()
            if gone:
                self._revoke(gone)
            self._forming = False

        self._group = [*(self._group if self._forming else ()), leave]

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*name) for name in self._fetch]

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._check_protocol(differences=False)
        self._in_callback = False
        self._drop(set(self._fetch))
        self._take(places)

    def unassign(self) -> None:
        self._in_callback = False
        self._drop(set(self._fetch))

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        self._check_protocol(differences=True)
        self._in_callback = False
        assert not {(one.topic, one.partition) for one in places} & set(self._fetch), "assigned already"
        self._take(places)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        self._check_protocol(differences=True)
        self._in_callback = False
        self._check(places)
        self._drop({(one.topic, one.partition) for one in places})

    def _check_protocol(self, differences: bool) -> None:
        if self._hooks and differences != self._cooperative:
            raise KafkaException(KafkaError(KafkaError._STATE))

    def _take(self, places: Sequence[TopicPartition]) -> None:
        unknown = [(one.topic, one.partition) for one in places if one.offset == OFFSET_INVALID]
        lost = False
        if unknown and self._kafka.coordinator_lost:
            self._kafka.coordinator_lost -= 1
            lost = True
            self._events.append(Message(error=KafkaError(KafkaError.NOT_COORDINATOR)))  # of all of them, and names none
        for one in places:
            name = (one.topic, one.partition)
            self._fresh.add(name)
            if name in self.paused:
                self._slow[name] = _SLOW
            if one.offset != OFFSET_INVALID:
                self._fetch[name] = one.offset
            elif lost:
                self._fetch[name] = OFFSET_INVALID
                self._silent.add(name)
            else:
                self._fetch[name] = self._kafka.committed.get(name, _BEYOND)
                self._unknown.add(name)

    def _drop(self, names: set[Name]) -> None:
        for name in names:
            self._fetch.pop(name, None)
            self._position.pop(name, None)
            self._silent.discard(name)
            self._unknown.discard(name)
            self._slow.pop(name, None)
            self._ends.pop(name, None)

    # --- questions and commits --------------------------------------------------------------------------------------

    def committed(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._kafka.ask_coordinator()
        committed = self._kafka.committed
        return [
            TopicPartition(one.topic, one.partition, committed.get((one.topic, one.partition), OFFSET_INVALID))
            for one in places
        ]

    def offsets_for_times(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(
                one.topic, one.partition, 0 if one.offset == -2 else self._kafka.logs.get((one.topic, one.partition), 0)
            )
            for one in places
        ]

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        error = self.refusals.pop(0) if self.refusals else None
        if error is None:
            self._kafka.committed |= {(one.topic, one.partition): one.offset for one in offsets}
        self._reports.append((error, list(offsets)))

    def list_topics(self, topic: str, timeout: float) -> Any:
        numbers = [number for name, number in self._kafka.logs if name == topic]
        error = None if numbers else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions=dict.fromkeys(numbers))})

    def close(self) -> None:
        assert not self._reports, "it hangs: a commit is on its way"
        if self._share and self._hooks:
            gone, self._share = self._share, set()
            self._hooks["on_revoke"](self, [TopicPartition(*name) for name in sorted(gone)])
        self.closed = True


class SimulatedClients:
    """What a `KafkaCluster` makes its consumers with: members of groups whose protocol is the eager one."""

    def __init__(self, kafka: SimulatedKafka) -> None:
        self.statistics = None
        self.fetched_ahead = FetchedAhead()
        self.made: list[SimulatedConsumer] = []
        self._kafka = kafka

    def consumer_config(self, settings: ConsumerSettings) -> dict[str, Any]:
        return {"auto.offset.reset": settings.auto_offset_reset}

    def consumer(
        self, settings: ConsumerSettings, on_commit: Callable[..., None], **properties: object
    ) -> SimulatedConsumer:
        tells_ends = bool(properties.get("enable.partition.eof"))
        made = SimulatedConsumer(self._kafka, settings.auto_offset_reset or "latest", False, on_commit, tells_ends)
        self.made.append(made)
        return made


_SLOW = 100
_BEYOND = 2**62
"""Beyond every log: ``auto.offset.reset`` decides."""
