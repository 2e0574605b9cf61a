"""The thread behind one consumer: it alone calls librdkafka, in the order in which the calls were asked for.

One round of the thread is: carry out what was asked, then serve the oldest read or, if there is none, look after the
group membership. It waits in three places, and in none of them for long: on the wake-up lock while nobody reads (a
question wakes it at once), in ``consume(1, slice)`` while a read waits for a record (a question waits for the slice),
and for the event loop to accept what a read returned before the next read is served, because a reader who has gone
gives its records back. A push accepts when its client has, which may take long; see `_round`.

Where the records are: librdkafka's queue -> buffer -> a read that is not accepted yet -> returned. Only what was
accepted moves a position, and only positions are committed.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from gateway.errors import IllegalState, InstanceNotFound, NotSubscribed, ServiceError
from gateway.heap import trimmer
from gateway.kafka.clients.header_repair import without_unreadable_headers
from gateway.kafka.consuming.buffer import Partition, RecordBuffer, last_offsets, partition_of, without
from gateway.kafka.consuming.commits import Commits, next_offsets
from gateway.kafka.consuming.starting_offsets import starting_offsets
from gateway.kafka.errors import describe, kafka_error, to_service_error
from gateway.kafka.ports import PartitionOffset, ReadLimits, TopicPartition
from gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

_log = logging.getLogger(__name__)

SLICE_S = 0.1
"""How long a question may wait while a read waits for records."""
IDLE_S = 0.4
"""How often an instance that nobody reads serves its group: a rebalance of the others waits for it that long."""
PAUSE_AFTER_S = 1.0
"""When nobody read for this long, fetching stops and what was fetched ahead is given up."""
QUERY_S = 5.0
"""How long Kafka may take to answer a question (committed offsets, offsets for times)."""
REVOKE_S = 1.0
"""How long to wait for librdkafka to take an assignment away after the subscription has ended; it is a local matter."""

LAST_COMMIT_S = 900.0
"""How long the thread of a closed consumer waits for a commit that Kafka does not answer."""

_GATHER_S = 0.01
_REFRESH_S = 1.0
_START_AGAIN_S = 0.2
_TELL_AGAIN_S = 1.0
_UNSUBSCRIBED_S = 10.0
_ILLEGAL_MODE = "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive"

_IGNORED = frozenset(
    {
        # Unknown topics and partitions yield no records, and may come to be (kafka-rest-http.md §6.8).
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        # The brokers are away for the moment; librdkafka goes on trying.
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._MAX_POLL_EXCEEDED,
    }
)
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_COORDINATOR = frozenset(
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)
_NO_POSITION = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError._NO_OFFSET, KafkaError.OFFSET_OUT_OF_RANGE})

Build = Callable[..., confluent_kafka.Consumer]
Rebalanced = Callable[[Sequence[PartitionOffset]], None]


class Read:
    """One read from its request to its acceptance. ``future`` has no value: the answer is ``batch``."""

    __slots__ = ("batch", "deadline", "encoder", "future", "gone", "last", "limits")

    def __init__(self, limits: ReadLimits, encoder: RecordsEncoder, future: asyncio.Future[None]) -> None:
        self.limits = limits
        self.encoder = encoder
        self.future = future
        self.deadline = time.monotonic() + limits.timeout_s
        self.batch = RecordBatch((), 0)
        self.last: dict[Partition, int] = {}
        """The offset of the last record of each partition in the batch."""
        self.gone: set[Partition] = set()
        """Partitions that were taken away or moved before the read was accepted."""


class Worker:
    """The thread. `ask`, `read` and `settle` are for the event loop, all else runs on the thread."""

    def __init__(
        self,
        build: Build,
        most_records: int,
        auto_commit_s: float | None,
        cooperative: bool,
        name: str,
        reset: str = "latest",
        rebalanced: Rebalanced | None = None,
    ) -> None:
        """``build`` makes the client, on the thread. ``auto_commit_s`` None: no commits but those asked for.

        ``rebalanced`` hears on the loop of every change of the group's assignment; ``reset`` is needed for that alone.
        """
        self._build = build
        self._most_records = most_records
        self._auto_commit_s = auto_commit_s
        self._cooperative = cooperative
        self._reset = reset
        self._rebalanced = rebalanced
        self._tell_at = math.inf
        """When to say what is assigned and where reading goes on; not before the callbacks of a rebalance are over."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._questions: collections.deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = collections.deque()
        # A lock as a wake-up call: waiting is acquiring it. An Event would cost three locks and a list for each wait.
        self._wake_up = threading.Lock()
        self._wake_up.acquire()
        self._consumer: confluent_kafka.Consumer | None = None
        self._closing: float | None = None
        self._mode: Literal["", "group", "manual"] = ""
        self._assigned: set[Partition] = set()
        self._buffer = RecordBuffer()
        self._reads: collections.deque[Read] = collections.deque()
        self._unsettled: Read | None = None
        self._positions: dict[Partition, int] = {}
        self._commits = Commits()
        self._commit_due = 0.0
        self._uncommitted = False
        self._reached: dict[Partition, int] = {}
        self._starts: dict[Partition, int] = {}
        """Where partitions were sent before a record of them arrived."""
        self._stopped: dict[Partition, ServiceError] = {}
        """Partitions without a position (auto.offset.reset=none): a new assignment moves them (reliability.md §3d)."""
        self._failure: ServiceError | None = None
        self._missing: set[str] = set()
        self._refresh_at = 0.0
        self._start_again_at = math.inf
        self._read_at = time.monotonic()
        self._paused = False
        # Daemon: a thread that hangs in close() on a frozen broker must not keep the process (reliability.md F4).
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # --- on the event loop --------------------------------------------------------------------------------------------

    def start(self) -> asyncio.Future[None]:
        """Starts the thread; the future is done when the client exists, or fails as building it failed."""
        ready: asyncio.Future[None] = self._loop.create_future()
        self._questions.append((self._open, ready))
        self._thread.start()
        self._wake()
        return ready

    def ask(self, question: Callable[[], Any]) -> asyncio.Future[Any]:
        """Has the thread call this and answers with its result, or with its error as a ServiceError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._questions.append((question, future))
        self._wake()
        return future

    def read(self, limits: ReadLimits, encoder: RecordsEncoder) -> Read:
        """Queues a read. Whoever gets its answer, or stops waiting for it, must `settle` it."""
        read = Read(limits, encoder, self._loop.create_future())
        self._questions.append((lambda: self._reads.append(read), None))
        self._wake()
        return read

    def settle(self, read: Read, accepted: bool) -> None:
        """Says whether the records of a read reached the one who asked; if not, they are put back."""
        self._questions.append((lambda: self._settle(read, accepted), None))
        # Usually nobody waits for it, and the thread hears of it with the next question.
        if self._reads or not accepted:
            self._wake()

    def close(self, within_s: float) -> asyncio.Future[None]:
        """Ends the thread: commits if that is automatic, leaves the group, and gives up at that time."""
        self._questions.append((partial(self._close, time.monotonic() + within_s), None))
        self._wake()
        return self._ended

    def _wake(self) -> None:
        # The lock is free already if the thread has been woken and did not run yet.
        if self._wake_up.locked():
            try:
                self._wake_up.release()
            except RuntimeError:
                return

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._closing is None:
            try:
                self._wake_up.acquire(timeout=self._idle_s())
                self._answer_questions()
                if self._consumer is not None and self._closing is None:
                    self._round()
            except Exception:
                # Whatever it is, one instance goes on and its client finds out by the next question (F14).
                _log.exception("A round of a consumer failed")
                self._wake_up.acquire(timeout=SLICE_S)
        self._end()

    def _idle_s(self) -> float:
        """How long the thread may wait for a question before it has something to do by itself."""
        if self._questions or self._tell_at == 0.0:
            return 0
        if self._reads:
            # consume() waits in the place of the lock, but not for a read that may not begin yet.
            return SLICE_S if self._unsettled is not None else 0
        if self._commits:
            # consume() hears of the report at once, but returns at once, too, while there are records.
            return self._commits.patience_s() if len(self._buffer) else 0
        if not self._mode:
            return _UNSUBSCRIBED_S
        if self._uncommitted and self._auto_commit_s is not None:
            return min(IDLE_S, max(0.0, self._commit_due - time.monotonic()))
        return IDLE_S

    def _answer_questions(self) -> None:
        questions = self._questions
        while questions:
            question, future = questions.popleft()
            try:
                result = question()
            except Exception as error:
                if future is None:
                    raise
                self._answer(future, None, error)
            else:
                if future is not None:
                    self._answer(future, result, None)
            if self._closing is not None:
                return

    def _answer(self, future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        if isinstance(error, KafkaException):
            error = to_service_error(error)
        try:
            self._loop.call_soon_threadsafe(_resolve, future, result, error)
        except RuntimeError:
            _log.debug("The event loop has ended before a consumer answered")

    def _round(self) -> None:
        now = time.monotonic()
        self._commits.expire(now)
        if self._uncommitted and self._auto_commit_s is not None and now >= self._commit_due:
            if self._commits.on_their_way:
                self._commit_due = now + self._auto_commit_s  # Kafka is slow: they would pile up
            else:
                self._auto_commit()
        if now >= self._start_again_at:
            self._start_again()
        if now >= self._tell_at:
            self._tell_assignment(now)
        if self._reads and self._unsettled is None:
            self._serve(self._reads[0], now)
            return
        # Records that a push has taken may be out for as long as its client takes to accept them, and no read overtakes
        # them. Those that a read was answered with are settled in no time, and then the next read gets some of its own.
        for read in [read for read in self._reads if read.deadline + SLICE_S <= now]:
            self._return(read)
        if self._mode:
            self._keep_membership(now)
        elif self._commits:
            self._poll(1, SLICE_S / 2)
        else:
            self._poll(1, 0)  # nothing can arrive but log lines

    # --- reading ------------------------------------------------------------------------------------------------------

    def _serve(self, read: Read, now: float) -> None:
        if read.future.done():
            self._reads.popleft()
            return
        if not self._mode:
            self._fail(read, NotSubscribed())
            return
        self._read_at = now
        if self._paused:
            self._pause(False)
        buffer = self._buffer
        most = self._most(read.limits)
        try:
            if not len(buffer):
                # consume(n, t) would wait for all n: p50 257 ms at 200 records/s.
                if self._poll(1, min(SLICE_S, max(0.0, read.deadline - now))):
                    self._fill(read.limits)
            elif len(buffer) < most:
                self._fill(read.limits)
                if not buffer.enough(read.limits, most) and now < read.deadline:
                    # It gathers until it has enough: not record by record, which would be a busy loop.
                    self._wake_up.acquire(timeout=min(_GATHER_S, read.deadline - now))
        except KafkaException as error:
            self._fail(read, to_service_error(error))
            return
        if self._missing and now >= self._refresh_at:
            self._refresh(now)
        if self._tell_at == 0.0:  # before the records: who is told counts from there
            self._tell_assignment(now)
        if buffer.enough(read.limits, most):
            self._return(read)
            return
        failure = self._failure or next(iter(self._stopped.values()), None)
        if failure is not None and not len(buffer):
            self._failure = None
            self._fail(read, failure)
        else:
            self._return_late(time.monotonic())

    def _return_late(self, now: float) -> None:
        """Answers the reads whose time is up, in turn; a later one may be due before the first."""
        for read in [read for read in self._reads if read.deadline <= now]:
            if self._unsettled is None:
                self._return(read)

    def _return(self, read: Read) -> None:
        """Answers a read with what the buffer has for it, encoded."""
        records, size = self._buffer.take(read.limits, self._most(read.limits))
        if self._unsettled is not None:  # only at the end: a second read gets nothing more
            records, size = [], 0
        batch = _batch(records, size)
        try:
            batch.encode(read.encoder)
        except Exception as error:
            good = self._encodable(batch, read.encoder)
            if not len(good):
                self._fail(read, error)
                return
            batch = good
        self._buffer.remove(len(batch), batch.size_bytes)
        read.batch = batch
        read.last = last_offsets(records if len(batch) == len(records) else records[: len(batch)])
        self._reads.remove(read)
        if records:
            self._unsettled = read
        self._answer(read.future, None, None)

    def _fail(self, read: Read, error: Exception) -> None:
        self._reads.remove(read)
        self._answer(read.future, None, error)

    def _encodable(self, batch: RecordBatch, encoder: RecordsEncoder) -> RecordBatch:
        """The longest run from the head that the encoder takes, encoded; maybe none. The next read meets the record."""
        good, bad = 0, len(batch)
        best = RecordBatch((), 0)
        while good + 1 < bad:
            middle = (good + bad) // 2
            records, size = self._buffer.take(ReadLimits(_UNLIMITED, 0), middle)
            attempt = _batch(records, size)
            try:
                attempt.encode(encoder)
            except Exception:
                bad = middle
            else:
                good, best = middle, attempt
        return best

    def _settle(self, read: Read, accepted: bool) -> None:
        if read is not self._unsettled:
            if read in self._reads:
                self._reads.remove(read)
            return
        self._unsettled = None
        if not accepted:
            self._buffer.put_back(without(read.batch.records, read.gone))  # type: ignore[arg-type]  # our own Messages
            return
        for partition, offset in read.last.items():
            if partition not in read.gone:
                self._positions[partition] = offset + 1
        self._position_moved()

    def _fill(self, limits: ReadLimits) -> None:
        """Moves what is there into the buffer, but not much more than a read with these limits can take.

        500 consumers whose readers took 10 kB at a time kept 3.4 MiB each when everything there was moved: as Python
        objects records are five times as large as in librdkafka.
        """
        buffer, most = self._buffer, self._most(limits)
        while len(buffer) < most and buffer.size_bytes <= limits.max_bytes:
            average = buffer.size_bytes // len(buffer) + 1 if len(buffer) else 1
            count = min(most - len(buffer), (limits.max_bytes - buffer.size_bytes) // average + 1)
            if self._poll(count, 0) < count:
                return

    def _most(self, limits: ReadLimits) -> int:
        return min(limits.max_records or self._most_records, self._most_records)

    def _poll(self, count: int, timeout_s: float) -> int:
        """Moves up to ``count`` records into the buffer, waiting for the first; serves librdkafka's callbacks."""
        records = without_unreadable_headers(self._client.consume(count, timeout_s))
        if not records:
            return 0
        if any(map(Message.error, records)):
            records = self._without_errors(records)
        if self._starts:
            for record in records:
                self._starts.pop(partition_of(record), None)
        self._buffer.extend(records)
        return len(records)

    def _without_errors(self, records: list[Message]) -> list[Message]:
        for record in records:
            error = record.error()
            if error is None:
                continue
            code = error.code()
            if code in _NO_POSITION and record.topic() is not None:
                _log.info("No position: %s", describe(error))
                failure = to_service_error(error)
                self._stopped[partition_of(record)] = failure
            elif code == KafkaError._PARTITION_EOF:
                self._reached[partition_of(record)] = record.offset() or 0
            elif code in _IGNORED:
                if code in _MISSING and (topic := record.topic()):
                    self._missing.add(topic)
            elif code in _COORDINATOR:
                _log.info("The group's coordinator has moved: %s", describe(error))
                self._start_again_at = time.monotonic() + _START_AGAIN_S
            else:
                _log.warning("A consumer reports %s", describe(error))
                self._failure = to_service_error(error)
        return [record for record in records if record.error() is None]

    def _start_again(self) -> None:
        """Asks once more where the partitions start that have not started yet.

        librdkafka asks the group's coordinator once. Is that another broker by now, the partitions never yield a record
        (its issue 5586, 2.16).
        """
        self._start_again_at = math.inf
        partitions = [confluent_kafka.TopicPartition(*one) for one in self._assigned if one not in self._stopped]
        names = [(one.topic, one.partition) for one in self._client.position(partitions) if one.offset < 0]
        if names:
            positions = self._positions | self._starts
            self._assign_again({name: positions.get(name, confluent_kafka.OFFSET_INVALID) for name in names})

    def _refresh(self, now: float) -> None:
        """Asks again for topics that were unknown: librdkafka would do so after five minutes (metadata.max.age.ms)."""
        self._refresh_at = now + _REFRESH_S
        topic = self._missing.pop()
        try:
            if self._client.list_topics(topic, timeout=SLICE_S).topics[topic].error is not None:
                self._missing.add(topic)
        except KafkaException:
            self._missing.add(topic)

    def _keep_membership(self, now: float) -> None:
        """A poll between reads, which answers rebalances and keeps ``max.poll.interval.ms``."""
        if len(self._buffer) and not self._paused and now - self._read_at > PAUSE_AFTER_S:
            # Not between any two reads: pause() throws away what is prefetched, 20,000 records cost 39,990.
            self._pause(True)
            trimmer.let_go()
        trimmer.trim_if_due()
        waiting = bool(self._commits) and not len(self._buffer)
        self._poll(1, SLICE_S / 2 if waiting else 0)

    def _pause(self, pause: bool) -> None:
        partitions = [confluent_kafka.TopicPartition(*one) for one in self._assigned]
        self._paused = pause
        if pause:
            self._client.pause(partitions)
        else:
            self._client.resume(partitions)

    # --- what is asked ------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> confluent_kafka.Consumer:
        if self._consumer is None:
            raise InstanceNotFound
        return self._consumer

    def _open(self) -> None:
        try:
            self._consumer = self._build(on_commit=self._commits.reported)
        except BaseException:
            self._closing = 0.0
            raise

    def subscribe(self, topics: Sequence[str]) -> None:
        if not topics:
            self.unsubscribe()
            return
        if self._mode == "manual":
            raise IllegalState(_ILLEGAL_MODE)
        self._missing.clear()
        self._client.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._mode = "group"
        if not self._cooperative:
            self._wait_for_revocation()

    def unsubscribe(self) -> None:
        if self._mode == "group":
            self._client.unsubscribe()
            self._wait_for_revocation()
        elif self._mode == "manual":
            self._auto_commit()
            self._client.unassign()
        self._mode = ""
        self._forget_all()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        if self._mode == "group":
            raise IllegalState(_ILLEGAL_MODE)
        self._auto_commit()
        self._client.assign([confluent_kafka.TopicPartition(*one) for one in partitions])
        self._forget_all()
        self._mode = "manual" if partitions else ""
        self._assigned = {(one.topic, one.partition) for one in partitions}

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*one) for one in sorted(self._assigned)]

    def reached(self) -> dict[TopicPartition, int]:
        return {TopicPartition(*one): offset for one, offset in self._reached.items()}

    def seek(self, positions: Sequence[PartitionOffset]) -> None:
        self._check_assigned((one.topic, one.partition) for one in positions)
        targets = {(one.topic, one.partition): one.offset for one in positions}
        self._forget(targets)
        again: dict[Partition, int] = {}
        for partition, offset in targets.items():
            if partition in self._stopped:
                again[partition] = offset
                continue
            try:
                self._client.seek(confluent_kafka.TopicPartition(*partition, offset))
            except KafkaException as error:
                cause = kafka_error(error)
                if cause is None or cause.code() != KafkaError._STATE:
                    raise
                again[partition] = offset  # assigned a moment ago and not fetched yet
        self._starts |= targets
        if again:
            self._assign_again(again)
        for partition, offset in targets.items():
            if offset >= 0:
                # Like Java's client: who says where it stands has read up to there.
                self._positions[partition] = offset
                self._position_moved()

    def seek_to_time(self, times: Sequence[PartitionOffset]) -> None:
        self._check_assigned((one.topic, one.partition) for one in times)
        found = self._client.offsets_for_times(
            [confluent_kafka.TopicPartition(one.topic, one.partition, one.offset) for one in times], timeout=QUERY_S
        )
        _raise_first_error(found)
        for one in found:
            if one.offset == confluent_kafka.OFFSET_END:
                # No record is that young. Seeking to OFFSET_END after offsets_for_times() said so left the partition
                # without a position for ever (librdkafka 2.16.0); seeking to the number works.
                _, one.offset = self._client.get_watermark_offsets(one, timeout=QUERY_S)
        self.seek([PartitionOffset(one.topic, one.partition, one.offset) for one in found])

    def seek_to_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        self._seek_all(partitions, confluent_kafka.OFFSET_BEGINNING)

    def seek_to_end(self, partitions: Sequence[TopicPartition]) -> None:
        self._seek_all(partitions, confluent_kafka.OFFSET_END)

    def commit(self, offsets: Sequence[PartitionOffset] | None, done: asyncio.Future[None]) -> None:
        """Answers ``done`` by itself, when Kafka has."""
        if offsets is None:
            offsets = next_offsets(self._positions)
        if not offsets:
            self._answer(done, None, None)
            return
        try:
            self._commits.send(self._client, offsets, lambda error: self._answer(done, None, error))
        except Exception as error:
            self._answer(done, None, error)

    def committed(self, partitions: Sequence[TopicPartition]) -> list[PartitionOffset]:
        if not partitions:
            return []
        found = self._client.committed([confluent_kafka.TopicPartition(*one) for one in partitions], timeout=QUERY_S)
        _raise_first_error(found)
        return [
            PartitionOffset(one.topic, one.partition, one.offset, one.metadata or "")
            for one in found
            if one.offset >= 0
        ]

    def _close(self, until: float) -> None:
        self._closing = until

    # --- positions ----------------------------------------------------------------------------------------------------

    def _check_assigned(self, partitions: Iterable[Partition]) -> None:
        for topic, partition in partitions:
            if (topic, partition) not in self._assigned:
                raise IllegalState(f"Illegal state: No current assignment for partition {topic}-{partition}")

    def _seek_all(self, partitions: Sequence[TopicPartition], offset: int) -> None:
        self.seek([PartitionOffset(*one, offset) for one in partitions or self.assignment()])

    def _assign_again(self, starts: dict[Partition, int]) -> None:
        """Gives partitions a new start where seek() cannot."""
        moved = [confluent_kafka.TopicPartition(*one, offset) for one, offset in starts.items()]
        if self._mode == "manual" or self._cooperative:
            self._client.incremental_unassign([confluent_kafka.TopicPartition(*one) for one in starts])
            self._client.incremental_assign(moved)
        else:
            # Under the eager protocol only the whole assignment can be replaced; the others go on where they are.
            others = [confluent_kafka.TopicPartition(*one) for one in self._assigned if one not in starts]
            others = self._client.position(others) if others else []
            for one in others:
                one.offset = self._starts.get((one.topic, one.partition), one.offset)
            self._client.assign(others + moved)
        self._paused = False
        for partition in starts:
            self._stopped.pop(partition, None)

    def _forget(self, partitions: Iterable[Partition]) -> None:
        """Drops all that is known of these partitions, because they start anew or are no longer ours."""
        names = set(partitions)
        self._buffer.drop(names)
        if self._unsettled is not None:
            self._unsettled.gone |= names
        for name in names:
            self._positions.pop(name, None)
            self._reached.pop(name, None)
            self._starts.pop(name, None)

    def _forget_all(self) -> None:
        self._forget(self._assigned | set(self._positions))
        self._buffer.clear()
        self._assigned = set()
        self._reached.clear()
        self._stopped.clear()
        self._missing.clear()
        self._failure = None
        self._start_again_at = math.inf
        self._tell_at = math.inf
        self._paused = False

    def _position_moved(self) -> None:
        if self._auto_commit_s is not None and not self._uncommitted:
            self._uncommitted = True
            self._commit_due = time.monotonic() + self._auto_commit_s

    def _auto_commit(self) -> None:
        """Commits what was returned, without waiting."""
        if self._auto_commit_s is None:
            return
        self._uncommitted = False
        self._commit_quietly(self._positions)

    def _commit_quietly(self, positions: dict[Partition, int]) -> None:
        def done(error: ServiceError | None) -> None:
            if error is not None:
                self._position_moved()  # so it is tried again
                _log.warning("An automatic commit failed: %s", error.message)

        if positions:
            try:
                self._commits.send(self._client, next_offsets(positions), done)
            except KafkaException as error:
                done(to_service_error(error))

    # --- the group ----------------------------------------------------------------------------------------------------
    # librdkafka calls these within consume(). What they raise would cost the records of that call.

    def _on_assign(self, client: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        names = {(one.topic, one.partition) for one in partitions}
        if not self._cooperative:
            self._assigned = set()
        self._assigned |= names
        self._missing -= {topic for topic, _ in names}
        self._paused = False
        self._stopped = {name: error for name, error in self._stopped.items() if name not in names}
        if self._rebalanced is not None:
            self._tell_at = 0.0
            self._pin(client, partitions)

    def _pin(self, client: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        """Starts new partitions at offsets that we know. librdkafka tells where it starts with the first record only.

        If Kafka does not answer, librdkafka goes its own way, and `_tell_assignment` tries again.
        """
        try:
            starts = starting_offsets(client, [(one.topic, one.partition) for one in partitions], self._reset)
            if starts:
                pinned = [
                    confluent_kafka.TopicPartition(
                        one.topic,
                        one.partition,
                        starts.get((one.topic, one.partition), confluent_kafka.OFFSET_INVALID),
                    )
                    for one in partitions
                ]
                if self._cooperative:
                    client.incremental_assign(pinned)
                else:
                    client.assign(pinned)
            self._starts |= starts
        except KafkaException as error:
            _log.info("Kafka does not tell where new partitions start: %s", error)

    def _tell_assignment(self, now: float) -> None:
        """Says what is assigned; asks for the starts that are not known yet."""
        self._tell_at = math.inf
        goes_on = self._goes_on()
        unknown = [name for name in self._assigned if name not in goes_on and name not in self._stopped]
        if unknown:
            try:
                found = starting_offsets(self._client, unknown, self._reset)
            except KafkaException:
                self._tell_at = now + _TELL_AGAIN_S
                return
            if found:
                self._assign_again(found)
                self._starts |= found
        self._tell()

    def _goes_on(self) -> dict[Partition, int]:
        """The next offset of each partition of which it is known."""
        last = self._unsettled.last if self._unsettled is not None else {}
        out = {name: offset + 1 for name, offset in last.items()}
        return self._buffer.first_offsets() | self._starts | self._positions | out

    def _tell(self) -> None:
        if self._rebalanced is None:
            return
        goes_on = self._goes_on()
        told = [PartitionOffset(*name, goes_on[name]) for name in sorted(self._assigned) if name in goes_on]
        try:
            self._loop.call_soon_threadsafe(self._rebalanced, told)
        except RuntimeError:
            _log.debug("The event loop has ended before a consumer told its assignment")

    def _on_revoke(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        names = {(one.topic, one.partition) for one in partitions}
        if self._auto_commit_s is not None:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._commit_quietly({name: offset for name, offset in self._positions.items() if name in names})
        self._lose(names)

    def _on_lost(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        # Another member has them already: a commit would be refused, or worse, taken.
        self._lose({(one.topic, one.partition) for one in partitions})

    def _lose(self, names: set[Partition]) -> None:
        self._forget(names)
        self._assigned -= names
        for name in names:
            self._stopped.pop(name, None)
        self._tell()

    def _wait_for_revocation(self) -> None:
        """Polls until librdkafka has taken the old assignment away; a later poll might take a new one instead."""
        until = time.monotonic() + REVOKE_S
        while self._assigned and time.monotonic() < until:
            self._poll(1, _GATHER_S)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        until = self._closing or 0.0
        try:
            if self._consumer is not None:
                self._say_goodbye(until)
        except Exception:
            _log.exception("A consumer did not close properly")
        self._commits.expire(math.inf)
        while self._questions:
            _, future = self._questions.popleft()
            if future is not None:
                self._answer(future, None, InstanceNotFound())
        if self._commits.on_their_way:
            # Nobody need wait for the rest.
            self._answer(self._ended, None, None)
        try:
            if self._consumer is not None:
                self._leave()
        except Exception:
            _log.exception("A consumer did not leave its group properly")
        self._consumer = None
        self._answer(self._ended, None, None)

    def _say_goodbye(self, until: float) -> None:
        """Answers the reads, and commits for the last time if that is automatic."""
        while self._reads:
            # A read that a DELETE overtakes ends with what it has (kafka-rest-http.md §6.9).
            self._return(self._reads[0])
        if self._uncommitted:
            self._auto_commit()
        self._auto_commit_s = None  # not again when close() revokes the partitions
        half = (until + time.monotonic()) / 2
        while self._commits.on_their_way and time.monotonic() < half:
            self._poll(1, _GATHER_S)

    def _leave(self) -> None:
        """Closes the client, but never while it has commits on their way.

        With a frozen broker close() never ends (reliability.md §3b); a client that is dropped with them spins: ten of
        them took a whole processor, and went on when the broker was back. So they are waited for, on this thread that
        nobody else waits for; librdkafka gives up after its ``socket.timeout.ms``.
        """
        if self._commits.on_their_way:
            _log.warning("Kafka does not answer the last commit of a consumer; its thread waits for that alone")
            self._pause(True)
            until = time.monotonic() + LAST_COMMIT_S
            while self._commits.on_their_way and time.monotonic() < until:
                self._poll(1, SLICE_S * 5)
                self._buffer.clear()
        self._client.close()


_UNLIMITED = 2**63


def _batch(records: list[Message], size_bytes: int) -> RecordBatch:
    # A Message has the shape of a ConsumedRecord; its type says so less exactly.
    return RecordBatch(cast(Sequence[ConsumedRecord], records), size_bytes)


def _resolve(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _raise_first_error(partitions: Iterable[confluent_kafka.TopicPartition]) -> None:
    for one in partitions:
        if one.error is not None:
            raise KafkaException(one.error)
