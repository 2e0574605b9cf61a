"""LoopPolledMembers of consumer groups without a thread each: the event loop polls them all.

A thread behind every consumer (`gateway.kafka.consuming.worker`) is right for a client that asks, waits and leaves.
Here hundreds of clients, each with a group of its own, want every record at once: a hand-over between threads for each
of them costs more than the record. An empty ``consume(n, 0)`` takes 0.4 µs, one with a rebalance in it 1.4 ms at most
(100 members on one topic), so the loop asks them itself, every millisecond or less often the more there are, and
librdkafka's own threads do the waiting. What may block, building and closing, happens on other threads.

Offsets are committed here and not by librdkafka: its ``close()`` with automatic commits hung for 130 s on a frozen
broker (reliability.md §3b).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

import confluent_kafka
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Message

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.clients.header_repair import without_unreadable_headers
from kafka_gateway.kafka.errors import describe, to_service_error
from kafka_gateway.kafka.ports import MemberListener, PartitionOffset, TopicPartition
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

if TYPE_CHECKING:
    from kafka_gateway.kafka.consuming.loop_polled_members import LoopPolledMembers
    from kafka_gateway.kafka.consuming.shared_fetcher import SharedFetcher

_log = logging.getLogger(__name__)

PAUSE_AFTER_S = 1.5
"""When nobody took records for this long, fetching stops; until then the member is not polled at all. More than the
second between two records of the lowest rate: ``pause()`` throws away what is prefetched."""
_MEMBERSHIP_S = 0.2
"""How often a paused member serves its group."""
_FED_S = 0.1
"""The same for one whose records all come from a feed."""
_ACTIVE_S = 1.0
_COMMIT_AGAIN_S = 0.5
_COMMIT_LATE_S, _COMMIT_EACH_S = 0.25, 0.0025
"""All members together commit 400 times a second at most by an interval, but each four times a second at least."""
_FETCH_PAUSE_MIN_MS, _FETCH_PAUSE_MAX_MS = 5, 25
LAST_COMMIT_S = 900.0
"""How long the thread that closes a member waits for a commit that Kafka does not answer (reliability.md §3b)."""

_IGNORED = frozenset(
    {
        # A topic that was deleted: the socket stays open and silent (websocket-proxy.md §3.7).
        Code.UNKNOWN_TOPIC_OR_PART,
        Code.UNKNOWN_TOPIC_ID,
        Code._UNKNOWN_TOPIC,
        Code._UNKNOWN_PARTITION,
        Code._PARTITION_EOF,
        # The brokers are away for the moment; librdkafka goes on trying.
        Code._ALL_BROKERS_DOWN,
        Code._TRANSPORT,
        Code._RESOLVE,
        Code._TIMED_OUT,
        Code._MAX_POLL_EXCEEDED,
    }
)
_COORDINATOR = frozenset(
    {Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE, Code.COORDINATOR_LOAD_IN_PROGRESS, Code._WAIT_COORD}
)
_AGAIN = _COORDINATOR | {Code._TRANSPORT, Code._TIMED_OUT, Code.REQUEST_TIMED_OUT, Code._ALL_BROKERS_DOWN}

Build = Callable[..., confluent_kafka.Consumer]
Place = tuple[str, int]


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
    """The `Member` port. Made by `LoopPolledMembers.open`."""

    def __init__(
        self,
        members: LoopPolledMembers,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int,
        commit_interval_s: float,
        isolation_level: str = "",
    ) -> None:
        self._members = members
        self.feed_key = (topic, isolation_level)
        self._topic = topic
        self._listener = listener
        self._encoder = encoder
        self._most_records = most_records
        self._commit_interval_s = commit_interval_s
        self._consumer: confluent_kafka.Consumer | None = None
        self._assigned: set[Place] = set()
        self._left: float = 0
        """Records that may still come."""
        self._idle_since = time.monotonic()
        self._held = False
        """Whether the partitions are paused in librdkafka."""
        self._membership_at = 0.0
        self._start_again_at = math.inf
        self._next: dict[int, int] = {}
        """The next offset of every partition that a record has come from; of the others librdkafka knows."""
        self._feed: SharedFetcher | None = None
        self.fed: set[int] = set()
        """Partitions whose records come from the feed; librdkafka does not fetch them."""
        self.exact = False
        """Whether the feed's next record is this member's, in all partitions, so that their batches are the same."""
        self._strayed = False
        """Whether partitions wait for being fetched here again, from ``_next`` on."""
        self._to_commit: dict[Place, int] = {}
        self._commits_out = 0
        self._commit_at = 0.0
        self._commits_fail = False
        self._closed = False
        self.active_until = 0.0
        """Until then it is polled often."""

    def build(self, build: Build) -> None:
        """On a thread: it takes milliseconds."""
        consumer = build(on_commit=self._committed)
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        self._consumer = consumer

    # --- the port -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        if self._left:
            self._left = 0
            self._idle_since = time.monotonic()
            self.leave_feed()

    def resume(self, most: int | None = None) -> None:
        self._left = math.inf if most is None else most
        self._members.wake()

    def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        to_commit = self._to_commit
        for one in offsets:
            name = (one.topic, one.partition)
            if name in self._assigned and one.offset > to_commit.get(name, -1):
                to_commit[name] = one.offset
        if to_commit and not self._commits_out and time.monotonic() >= self._commit_at:
            self._send_commit()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.leave_feed()
            self._members.remove(self)

    # --- polling, on the loop -----------------------------------------------------------------------------------------

    def poll(self, now: float) -> bool:
        """Takes what there is; True if there may be more."""
        consumer = self._consumer
        if consumer is None or self._closed:
            return False
        if self._to_commit and not self._commits_out and now >= self._commit_at:
            self._send_commit()
        if now >= self._start_again_at:
            self._start_again(consumer)
        if not self._left:
            if now - self._idle_since > PAUSE_AFTER_S and now >= self._membership_at:
                self._membership_at = now + _MEMBERSHIP_S
                self._hold(True)
                self._take(consumer.consume(1, 0), now)
            return False
        if self._strayed:
            self._go_back(consumer)
        if self._held:
            self._hold(False)
        if self.fed and len(self.fed) == len(self._assigned) and not self._commits_out:
            if now < self._membership_at:
                return False
            self._membership_at = now + _FED_S
        most = int(min(self._most_records, self._left))
        found = consumer.consume(most, 0)
        if not found:
            return False
        self._take(found, now)
        return len(found) == most

    def _take(self, found: list[Message], now: float) -> None:
        if not found:
            return
        self.active_until = now + _ACTIVE_S
        failure: ServiceError | None = None
        if any(map(Message.error, found)):
            for record in found:
                if (error := record.error()) is not None:
                    failure = self._judge(error) or failure
            found = [record for record in found if record.error() is None]
        if found and not self._closed:
            found = self._new(found)
        if found and not self._closed:
            without_unreadable_headers(found)
            self._give(RecordBatch(cast(Sequence[ConsumedRecord], found), 0), now)
        if failure is not None and not self._closed:
            self._fail(failure)
        elif self._left == math.inf and found and not self._closed:
            self._join_feed()

    def _new(self, found: list[Message]) -> list[Message]:
        """Without what came already, from the feed; notes where the rest ends."""
        known = self._next
        first = dict(_places(reversed(found)))
        if self.fed or any(offset < known.get(partition, -1) for partition, offset in first.items()):
            found = [
                record
                for record in found
                if record.partition() not in self.fed
                and (record.offset() or 0) >= known.get(record.partition() or 0, 0)
            ]
        for partition, offset in dict(_places(found)).items():
            known[partition] = offset + 1
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
            self._listener.records(batch)
        if failure is not None and not self._closed:
            self._fail(failure)

    def _fail(self, failure: ServiceError) -> None:
        self._left = 0
        self.leave_feed()
        self._listener.failed(failure)

    # --- the feed: a topic that is read once for all members at its end -----------------------------------------------

    def take_fed(self, batch: RecordBatch, ends: dict[int, int], now: float) -> None:
        """What the feed has read. ``ends`` are its next offsets, of the partitions in the batch."""
        if not self.exact:
            known = self._next
            mine = [
                record
                for record in batch.records
                if record.partition() in self.fed and (record.offset() or 0) >= known[record.partition() or 0]
            ]
            if len(mine) != len(batch):
                batch = RecordBatch(mine, 0)
            for partition, end in ends.items():
                if partition in self.fed and end > known[partition]:
                    known[partition] = end
        self.active_until = now + _ACTIVE_S
        if len(batch):
            self._give(batch, now)

    def _join_feed(self) -> None:
        """Has the feed bring what this member has caught up with; librdkafka stops fetching it for this member."""
        feed = self._feed or self._members.feed_for(self)
        consumer = self._consumer
        if feed is None or consumer is None:
            return
        joined = [
            partition
            for partition, offset in self._next.items()
            if partition not in self.fed
            and (self._topic, partition) in self._assigned
            and feed.offers(partition, offset)
        ]
        if not joined:
            return
        consumer.pause([confluent_kafka.TopicPartition(self._topic, partition) for partition in joined])
        self.fed.update(joined)
        self._feed = feed
        feed.members[self] = None
        if self.exact:
            self.part_from(feed)
        self.compare_with_feed(feed)

    def leave_feed(self) -> None:
        """What the feed brought is to be fetched here again, when records are wanted."""
        feed, self._feed = self._feed, None
        if feed is None:
            return
        feed.members.pop(self, None)
        if self.exact:
            self.part_from(feed)
        self.fed.clear()
        self._strayed = True

    def part_from(self, feed: SharedFetcher) -> None:
        """Its batches are not this member's any more, though its positions so far were."""
        self._next.update((partition, feed.next[partition]) for partition in self.fed)
        self.exact = False

    def compare_with_feed(self, feed: SharedFetcher) -> None:
        """Looks whether its batches are this member's from now on, and its positions, too."""
        self.exact = len(self.fed) == len(feed.next) and all(
            self._next[partition] == offset for partition, offset in feed.next.items()
        )

    def _go_back(self, consumer: confluent_kafka.Consumer) -> None:
        """Fetches all partitions here again, from where this member is in each."""
        self._strayed = False
        places = consumer.position([confluent_kafka.TopicPartition(*one) for one in self._assigned])
        for one in places:
            one.offset = self._next.get(one.partition, one.offset)
        consumer.assign(places)
        consumer.resume(places)
        self._held = False

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

    def _judge(self, error: confluent_kafka.KafkaError) -> ServiceError | None:
        """The failure that this event of librdkafka's is, or None if reading goes on."""
        code = error.code()
        if code in _IGNORED:
            return None
        if code in _COORDINATOR:
            self._start_again_at = time.monotonic() + 0.2
            return None
        _log.warning("A member of a group reports %s", describe(error))
        return to_service_error(error)

    def _start_again(self, consumer: confluent_kafka.Consumer) -> None:
        """Asks once more where partitions start: librdkafka asks the coordinator once, even if that has moved away
        meanwhile (its issue 5586, 2.16)."""
        self._start_again_at = math.inf
        self.leave_feed()
        here = consumer.position([confluent_kafka.TopicPartition(*one) for one in self._assigned])
        if here and any(one.offset < 0 for one in here):
            consumer.assign(here)
            self._held = False

    def _hold(self, held: bool) -> None:
        if self._held == held or self._consumer is None:
            return
        self._held = held
        partitions = [confluent_kafka.TopicPartition(*one) for one in self._assigned if one[1] not in self.fed]
        if held:
            self._consumer.pause(partitions)
        else:
            self._consumer.resume(partitions)

    # --- commits ------------------------------------------------------------------------------------------------------

    def _send_commit(self) -> None:
        """One is on its way at a time: a client that commits every record does not fill Kafka's queue with them."""
        if self._consumer is None:
            return
        offsets = [confluent_kafka.TopicPartition(*name, offset) for name, offset in self._to_commit.items()]
        self._to_commit = {}
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            _log.warning("A commit could not be sent: %s", error)
            return
        self._commits_out += 1
        self._commit_at = time.monotonic()
        if self._commit_interval_s:
            self._commit_at += max(self._commit_interval_s, min(_COMMIT_LATE_S, len(self._members) * _COMMIT_EACH_S))

    def _committed(
        self, error: confluent_kafka.KafkaError | None, partitions: list[confluent_kafka.TopicPartition]
    ) -> None:
        """librdkafka's ``on_commit``, within ``consume()``. What it raised would cost the records of that call."""
        self._commits_out -= 1
        cause = error or next((one.error for one in partitions if one.error), None)
        if cause is None:
            self._commits_fail = False
            return
        if not self._commits_fail:  # once, or a deleted topic fills the log
            self._commits_fail = True
            _log.warning("Commits for the topic %s fail: %s", self._topic, describe(cause))
        if cause.code() in _AGAIN and not self._closed:
            for one in partitions:
                name = (one.topic, one.partition)
                if name in self._assigned and one.offset > self._to_commit.get(name, -1):
                    self._to_commit[name] = one.offset
            self._commit_at = time.monotonic() + _COMMIT_AGAIN_S

    # --- the group. librdkafka calls these within consume(). ----------------------------------------------------------

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        self._forget_places()
        self._assigned = {(one.topic, one.partition) for one in partitions}
        self._held = False
        self.active_until = time.monotonic() + _ACTIVE_S
        consumer.assign(partitions)
        consumer.resume(partitions)  # what was paused under the assignment before may still be
        if not self._left and not self._closed:
            self._hold(True)

    def _on_revoke(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        if self._to_commit:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._send_commit()
        self._lose(partitions)

    def _on_lost(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        self._to_commit.clear()  # another member has them already
        self._lose(partitions)

    def _lose(self, partitions: list[confluent_kafka.TopicPartition]) -> None:
        self._forget_places()
        names = [TopicPartition(one.topic, one.partition) for one in partitions]
        self._assigned.difference_update(names)
        if not self._closed:
            self._listener.revoked(names)

    def _forget_places(self) -> None:
        """Under the eager protocol every rebalance takes all partitions away, and each starts anew."""
        if not self._closed:
            self.leave_feed()
        self._next.clear()
        self._strayed = False

    # --- the end, on a thread of its own ------------------------------------------------------------------------------

    def leave(self) -> None:
        """Commits what is left and leaves the group. The client is never closed with a commit on its way: with a frozen
        broker that waits for ever, and dropping it spins (see `gateway.kafka.consuming.worker`)."""
        consumer = self._consumer
        if consumer is None:
            return
        try:
            if self._to_commit:
                if self._commits_out:
                    self._wait_for_commits(consumer, 2.0)
                self._send_commit()
            self._wait_for_commits(consumer, LAST_COMMIT_S)
            consumer.close()
        except Exception:
            _log.exception("A member did not leave its group properly")
        self._consumer = None

    def _wait_for_commits(self, consumer: confluent_kafka.Consumer, within_s: float) -> None:
        until = time.monotonic() + within_s
        if self._commits_out:
            consumer.pause([confluent_kafka.TopicPartition(*one) for one in self._assigned])
        while self._commits_out and time.monotonic() < until:
            consumer.consume(1, 0.05)


def _places(records: Iterable[Message]) -> list[tuple[int, int]]:
    """Partition and offset of each."""
    return [(record.partition() or 0, record.offset() or 0) for record in records]
