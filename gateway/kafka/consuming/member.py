"""Members of consumer groups without a thread each: the event loop polls them all.

A thread behind every consumer (`gateway.kafka.consuming.consumer_thread`) is right for a client that asks, waits and
leaves. Here hundreds of clients, each with a group of its own, want every record at once: a hand-over between threads
for each of them costs more than the record. An empty ``consume(n, 0)`` takes 0.4 µs, one with a rebalance in it 1.4 ms
at most (100 members on one topic), so the loop asks them itself, every millisecond or less often the more there are,
and librdkafka's own threads do the waiting. What may block, building and closing, happens on other threads.

Offsets are committed here and not by librdkafka: its ``close()`` with automatic commits hung for 130 s on a frozen
broker (reliability.md §3b).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, cast

from confluent_kafka import KafkaException, Message

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition, size_of
from kafka_gateway.kafka.consuming.client import LAST_COMMIT_S, Build, GroupClient
from kafka_gateway.kafka.consuming.shared_reader import FetcherKey, FetcherPort, SharedReader
from kafka_gateway.kafka.ports.members import MemberListener
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

_log = logging.getLogger("gateway.kafka.consumer")

PAUSE_AFTER_S = 1.5
"""When nobody took records for this long, fetching stops; until then the member is not polled at all. More than the
second between two records of the lowest rate: ``pause()`` throws away what is prefetched."""
_MEMBERSHIP_S = 0.2
"""How often a paused member serves its group."""
_FED_S = 0.2
"""The same for one whose records all come from a fetcher."""
_WORD_S = 0.02
"""How long such a one waits for word of a commit by an interval before it looks."""
_ACTIVE_S = 1.0
_UNBOUNDED = math.inf
_SLICE_S = 0.05
_COMMIT_AGAIN_S = 0.5
_COMMIT_LATE_S, _COMMIT_EACH_S = 1.0, 0.005
"""All members together commit 200 times a second at most by an interval, but each once a second at least. A commit
keeps the loop and three threads of librdkafka's busy: 400 a second took a fifth of what 10,000 deliveries took.
"""
_FETCH_PAUSE_MIN_MS, _FETCH_PAUSE_MAX_MS = 5, 25


class Round(Protocol):
    """All members of the process, as one of them sees them."""

    def __len__(self) -> int: ...
    def wake(self) -> None: ...
    def due(self, at: float) -> None: ...
    def remove(self, member: KafkaMember) -> None: ...
    def fetcher_for(self, key: FetcherKey) -> FetcherPort | None: ...


def member_fetching(members: int) -> dict[str, object]:
    """How a new member fetches, where there are so many already.

    A member that wants every record at once fetches once for each: 100 of them at 100 records/s cost the broker 10,000
    requests a second, and the gateway about 40 µs each. With ``queued.min.messages`` 1 it waits for
    ``fetch.queue.backoff.ms`` after each answer, so records gather: with 20 ms half as many requests. Alone it should
    not wait; among many, 25 ms are less than what the others would cost it.
    """
    pause_ms = min(_FETCH_PAUSE_MAX_MS, members)
    return {"queued.min.messages": 1, "fetch.queue.backoff.ms": pause_ms} if pause_ms > _FETCH_PAUSE_MIN_MS else {}


class KafkaMember:
    """The `Member` port. Made by `Members.open`."""

    def __init__(
        self,
        members: Round,
        topic: str,
        listener: MemberListener,
        counts: Callable[[], list[int]],
        encoder: RecordsEncoder,
        most_records: int,
        commit_interval_s: float,
        isolation_level: str = "",
        stores_starts: bool = False,
    ) -> None:
        """``counts``: gives the numbers of records and bytes that what is handed on is added to; called with the first.

        ``stores_starts``: whether it commits by itself where the group begins, before it joins that, and where it is
        in partitions that it has read to their end without a record (they may have been added meanwhile): a group that
        begins at the end of the log would skip records when it comes back from a gateway that was killed. Its client
        must tell of ends (``enable.partition.eof``).
        """
        self._members = members
        self.fetcher_key = (topic, isolation_level)
        self.topic = topic
        self._listener = listener
        self._find_counts = counts
        self._counts: list[int] | None = None
        self._encoder = encoder
        self._most_records = most_records
        self._commit_interval_s = commit_interval_s
        self._stores_starts = stores_starts
        self._client: GroupClient
        self._left: float = 0
        """Records that may still come."""
        self._idle_since = time.monotonic()
        self._membership_at = 0.0
        self._shared = SharedReader(self._take_fed, self._left_fetcher)
        """Its positions; of partitions that no record has come from, and that were not at their end when reading began,
        the client knows them. Those that are fed are held in the client."""
        self._strayed: set[int] = set()
        """Partitions that wait for being fetched here again, from their positions on."""
        self._to_commit: dict[Partition, int] = {}
        self._commit_at = 0.0
        self._commits_fail = False
        self._closed = False
        self.active_until = 0.0
        """Until then it is polled often."""
        self.due_at = 0.0
        """Before then a poll would do nothing: what a fetcher brings needs none."""

    def build(self, build: Build) -> None:
        """On a thread: it takes milliseconds, and up to two seconds more where starts are stored and Kafka is slow."""
        # Starts are not asked for in a poll, which would hold the event loop.
        self._client = GroupClient(build, self, blocking=False)
        self._client.open()
        if self._stores_starts:
            self._client.store_ends(self.topic)
        self._client.subscribe([self.topic])

    # --- the port -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        if self._left:
            self._left = 0
            self._idle_since = time.monotonic()
            self._shared.leave()

    def resume(self, most: int | None = None) -> None:
        self._left = math.inf if most is None else most
        self._be_due(0.0)
        self._members.wake()

    def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        to_commit = self._to_commit
        for one in offsets:
            name = (one.topic, one.partition)
            if name in self._client.assigned and one.offset > to_commit.get(name, -1):
                to_commit[name] = one.offset
        self._plan_commit()

    def commit_batch(self, batch: RecordBatch) -> None:
        # Who has them now is looked at when they are sent: that is so much rarer.
        if self._to_commit:
            self._to_commit.update(batch.next_offsets())  # there is a plan already
        elif not self._closed:
            self._to_commit.update(batch.next_offsets())
            self._plan_commit()

    def _plan_commit(self) -> None:
        """Sends a commit, or has a poll do it. Once is enough, however much is added until it is sent."""
        if self._to_commit and not self._client.commits.on_their_way:
            if time.monotonic() >= self._commit_at:
                self._send_commit()
            elif self._commit_at < self.due_at:
                self._be_due(self._commit_at)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._shared.leave()
            self._members.remove(self)

    # --- polling, on the loop -----------------------------------------------------------------------------------------

    def poll(self, now: float) -> bool:
        """Takes what there is; True if there may be more."""
        client = self._client
        if self._closed:
            return False
        if self._to_commit and not client.commits.on_their_way and now >= self._commit_at:
            self._send_commit()
        client.tend(now)
        if not self._left:
            if now - self._idle_since > PAUSE_AFTER_S and now >= self._membership_at:
                self._membership_at = now + _MEMBERSHIP_S
                client.hold_all(True)
                self._take(client.poll(1, 0), now)
            return False
        if self._strayed:
            self._go_back()
        client.hold_all(False)
        if is_fed := self._is_fed:
            if now < self._membership_at and not client.commits.on_their_way:
                self._rest(now)
                return False
            self._membership_at = now + _FED_S
        most = int(min(self._most_records, self._left))
        found = client.poll(most, 0)
        if found or client.failure is not None or client.stopped:
            self._take(found, now)
        if client.ends and not self._closed:
            self._store_starts()
        if not found and not self._closed:
            if not is_fed and self._left == math.inf and self._shared.next:
                # It may be at the end without a record that says so, or the fetcher was not ready when that came.
                self._join_fetcher()
            if is_fed and self._is_fed:
                self._rest(now)
        return len(found) == most

    @property
    def _is_fed(self) -> bool:
        """Whether all of its records come from a fetcher."""
        fed = self._shared.fed
        return bool(fed) and len(fed) == len(self._client.assigned)

    def _rest(self, now: float) -> None:
        """Is not polled before there is something to do, because all of its records come from a fetcher."""
        due_at = self._membership_at
        if self._client.commits.on_their_way:
            due_at = min(due_at, self._word_at(now))
        elif self._to_commit:
            due_at = min(due_at, self._commit_at)
        self.due_at = due_at

    def _word_at(self, now: float) -> float:
        """When to look for word of a commit. A client that commits by itself may wait for it to commit again."""
        return now + _WORD_S if self._commit_interval_s and self._is_fed else 0.0

    def _be_due(self, at: float) -> None:
        self.due_at = at
        self._members.due(at)

    def _store_starts(self) -> None:
        """Of partitions that are read to their end now. Those of which a record has come are committed with that."""
        ends = self._client.ends
        for name, offset in ends.items():
            if self._stores_starts and name[1] not in self._shared.next:
                self._shared.next[name[1]] = offset
                self._to_commit.setdefault(name, offset)
        ends.clear()

    def _take(self, found: list[Message], now: float) -> None:
        if found:
            self.active_until = now + _ACTIVE_S
            if not self._closed:
                found = self._new(found)
            if found and not self._closed:
                self._give(RecordBatch(cast(Sequence[ConsumedRecord], found), size_of(found)), now)
        client = self._client
        failure = client.failure or next(iter(client.stopped.values()), None)
        if failure is not None:
            client.failure = None
            if not self._closed:
                self._fail(failure)
        elif self._left == math.inf and found and not self._closed:
            self._join_fetcher()

    def _new(self, found: list[Message]) -> list[Message]:
        """Without what the fetcher brings; notes where the rest ends.

        Nothing is left out because its offset is lower than one before: a topic that was made again begins at 0.
        """
        if self._shared.fed:
            found = [record for record in found if record.partition() not in self._shared.fed]
        for partition, offset in dict(_places(found)).items():
            self._shared.next[partition] = offset + 1
        return found

    def _give(self, batch: RecordBatch, now: float) -> None:
        """Records for the listener, up to one that the encoder refuses."""
        self._left = max(0, self._left - len(batch))
        if not self._left:
            self._idle_since = now
        failure: ServiceError | None = None
        try:
            batch.encode(self._encoder)
        except ServiceError as error:
            failure, batch = error, self._encodable(batch)
        if len(batch):
            self._hand_on(batch)
        if failure is not None and not self._closed:
            self._fail(failure)

    def _hand_on(self, batch: RecordBatch) -> None:
        counts = self._counts
        if counts is None:
            counts = self._counts = self._find_counts()
        counts[0] += len(batch.records)
        counts[1] += batch.size_bytes
        if self._listener.records(batch):
            self.commit_batch(batch)

    def _fail(self, failure: ServiceError) -> None:
        self._left = 0
        self._shared.leave()
        self._listener.failed(failure)

    # --- the fetcher: a topic that is read once for all members at its end --------------------------------------------

    def _take_fed(self, batch: RecordBatch, now: float) -> None:
        counts = self._counts
        if counts is not None and self._encoder in batch.payloads and self._left == _UNBOUNDED:
            # So it is with nearly all of them: no call is made that can be spared. As `_give` and `_hand_on`.
            counts[0] += batch.count
            counts[1] += batch.size_bytes
            if self._listener.records(batch):
                if self._to_commit:  # as `commit_batch`
                    self._to_commit.update(batch.next_offsets())
                else:
                    self.commit_batch(batch)
        elif len(batch):
            self._give(batch, now)

    def _join_fetcher(self) -> None:
        """Has the fetcher bring what this member has caught up with; librdkafka stops fetching it for this member."""
        shared = self._shared
        fetcher = shared.fetcher or self._members.fetcher_for(self.fetcher_key)
        if fetcher is None:
            return
        joined = [
            partition
            for partition, offset in shared.next.items()
            if partition not in shared.fed
            and (self.topic, partition) in self._client.assigned
            and fetcher.offers(partition, offset)
        ]
        if joined:
            self._client.hold((self.topic, partition) for partition in joined)
            shared.join(fetcher, joined)

    def _left_fetcher(self, partitions: set[int]) -> None:
        """They are to be fetched here again, when records are wanted."""
        self.active_until = time.monotonic() + _ACTIVE_S
        self._strayed |= partitions
        self._be_due(0.0)

    def _go_back(self) -> None:
        """Fetches here again what the fetcher brought, from where this member is in each partition."""
        strayed, self._strayed = self._strayed, set()
        starts = {
            place: self._shared.next[partition]
            for partition in strayed
            if (place := (self.topic, partition)) in self._client.assigned
        }
        self._client.release(starts)
        if starts:
            self._client.restart(starts)

    def _encodable(self, batch: RecordBatch) -> RecordBatch:
        """The records before the one that the encoder refuses."""
        good, bad = 0, len(batch)
        best = RecordBatch((), 0)
        while good + 1 < bad:
            middle = (good + bad) // 2
            attempt = RecordBatch(batch.records[:middle], 0)
            try:
                attempt.encode(self._encoder)
            except ServiceError:
                bad = middle
            else:
                good, best = middle, attempt
        return best

    # --- commits ------------------------------------------------------------------------------------------------------

    def _send_commit(self) -> None:
        """One is on its way at a time: a client that commits every record does not fill Kafka's queue with them."""
        assigned, to_commit = self._client.assigned, self._to_commit
        self._to_commit = {}
        # In one step: the loop may still add something when a thread lets the member leave.
        offsets = [PartitionOffset(*name, offset) for name, offset in list(to_commit.items()) if name in assigned]
        if not offsets:
            return
        try:
            self._client.commit(offsets, lambda error: self._committed(error, offsets))
        except KafkaException as error:
            _log.warning("A commit could not be sent: %s", error)
            return
        self._commit_at = now = time.monotonic()
        self._be_due(self._word_at(now))  # a poll brings word of it
        if self._commit_interval_s:
            self._commit_at += max(self._commit_interval_s, min(_COMMIT_LATE_S, len(self._members) * _COMMIT_EACH_S))

    def _committed(self, error: ServiceError | None, offsets: Sequence[PartitionOffset]) -> None:
        if error is None:
            self._commits_fail = False
            return
        if not self._commits_fail:  # once, or a deleted topic fills the log
            self._commits_fail = True
            _log.warning("Commits for the topic %s fail: %s", self.topic, error.message)
        if error.retriable and not self._closed:
            for topic, partition, offset, _ in offsets:
                name = (topic, partition)
                if name in self._client.assigned and offset > self._to_commit.get(name, -1):
                    self._to_commit[name] = offset
            self._commit_at = time.monotonic() + _COMMIT_AGAIN_S

    # --- the group (the RebalanceListener of the client) --------------------------------------------------------------

    def assigned(self, partitions: Collection[Partition]) -> None:
        self._forget_places()
        for place in partitions:  # of a time when they were this member's, too: others may have committed more since
            self._to_commit.pop(place, None)
        self.active_until = time.monotonic() + _ACTIVE_S
        if not self._left and not self._closed:
            self._client.hold_all(True)

    def placed(self, partitions: Collection[Partition]) -> None:
        """Nothing of it is stored here."""

    def revoked(self, partitions: Collection[Partition]) -> None:
        if self._to_commit:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._send_commit()
        self._lose(partitions)

    def lost(self, partitions: Collection[Partition]) -> None:
        self._to_commit.clear()  # another member has them already
        self._lose(partitions)

    def _lose(self, partitions: Collection[Partition]) -> None:
        self._forget_places()
        if not self._closed:
            self._listener.revoked([TopicPartition(*each) for each in partitions])

    def _forget_places(self) -> None:
        """Under the eager protocol every rebalance takes all partitions away, and each starts anew."""
        if not self._closed:
            self._shared.leave()
        self._client.release([(self.topic, partition) for partition in self._strayed])
        self._strayed.clear()
        self._shared.next.clear()

    def begin_again(self) -> None:
        """The topic was deleted and made again; see `GroupClient.begin_again`."""
        if self._closed:
            return
        self._forget_places()
        gone = self._client.begin_again(self.topic)
        self._to_commit.clear()
        if gone:
            _log.warning("Topic %s was deleted and made again; a member goes on at its beginning", self.topic)
            self._listener.revoked([TopicPartition(*each) for each in gone])
        self._members.wake()

    def learn(self) -> None:
        """The topic has changed; see `GroupClient.learn`. On a thread."""
        self._client.learn(self.topic)

    # --- the end, on a thread of its own ------------------------------------------------------------------------------

    def leave(self) -> None:
        """Commits what is left and leaves the group, however long that takes."""
        client = getattr(self, "_client", None)
        if client is None:  # it could not be built
            return
        try:
            if self._to_commit:
                client.hold_all(True)
                client.settle_commits(time.monotonic() + 2.0, _SLICE_S)
                self._send_commit()
            client.settle_commits(time.monotonic() + LAST_COMMIT_S, _SLICE_S)
            client.close()
        except Exception:
            _log.exception("A member did not leave its group properly")
        client.drop()


def _places(records: Iterable[Message]) -> list[tuple[int, int]]:
    """Partition and offset of each."""
    return [(record.partition() or 0, record.offset() or 0) for record in records]
