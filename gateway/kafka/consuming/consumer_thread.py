"""The thread behind one consumer instance: all calls to its client run here, in the order in which they were asked for.

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
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException

from kafka_gateway.definitions import Anchor
from kafka_gateway.errors import IllegalState, InstanceNotFound, InstanceUnavailable, NotSubscribed
from kafka_gateway.heap import trimmer
from kafka_gateway.kafka.consuming.auto_commit import AutoCommit
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import Build, GroupClient
from kafka_gateway.kafka.consuming.commits import next_offsets
from kafka_gateway.kafka.consuming.crowd import Crowd
from kafka_gateway.kafka.consuming.fed_partitions import FedPartitions
from kafka_gateway.kafka.consuming.joining import Joining
from kafka_gateway.kafka.consuming.questions import Questions
from kafka_gateway.kafka.consuming.read_queue import ReadQueue
from kafka_gateway.kafka.consuming.reads import HandedOut, Read
from kafka_gateway.kafka.consuming.standing import Standing
from kafka_gateway.kafka.errors import to_consumer_error
from kafka_gateway.kafka.ports.consuming import ReadLimits, Rebalanced
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import RecordsEncoder

_log = logging.getLogger("gateway.kafka.consumer")

SLICE_S = 0.1
"""How long a question may wait while a read waits for records."""
IDLE_S = 0.4
"""How often an instance that nobody reads serves its group: a rebalance of the others waits for it that long."""
PAUSE_AFTER_S = 1.0
"""When nobody read for this long, fetching stops and what was fetched ahead is given up."""
REVOKE_S = 1.0
"""How long to wait for librdkafka to take an assignment away after the subscription has ended; it is a local matter."""
_GATHER_S = 0.01
_REFETCH_S = 0.05
"""How long a read after a pause waits for what is fetched anew: the first records come after 3 to 7 ms."""
_TELL_AGAIN_S = 1.0
_UNSUBSCRIBED_S = 10.0
_ILLEGAL_MODE = "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive"


class ConsumerThread:
    """The thread. `ask`, `read` and `settle` are for the event loop, all else runs on the thread."""

    def __init__(
        self,
        build: Build,
        crowd: Crowd,
        most_records: int,
        auto_commit_s: float | None,
        cooperative: bool,
        name: str,
        reset: str = "latest",
        rebalanced: Rebalanced | None = None,
        anchors: Mapping[Partition, Anchor] | None = None,
    ) -> None:
        """``build`` makes the client, on the thread. ``auto_commit_s`` None: no commits but those asked for.

        ``anchors``: see `GroupClient`; None for an instance that ends with its process.

        ``rebalanced`` hears on the loop of every change of the group's assignment; ``reset`` is librdkafka's
        ``auto.offset.reset``.
        """
        self._client = GroupClient(build, self, cooperative=cooperative, reset=reset, anchors=anchors or {})
        self._lasts = anchors is not None
        self._crowd = crowd
        self._leaves = True
        self._cooperative = cooperative
        self._rebalanced = rebalanced
        self._tell_at = math.inf
        """When to say what is assigned and where reading goes on; not before the callbacks of a rebalance are over."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._questions = Questions(self._loop, self._wake)
        # A lock as a wake-up call: waiting is acquiring it. An Event would cost three locks and a list for each wait.
        self._wake_up = threading.Lock()
        self._wake_up.acquire()
        self._closing: float | None = None
        self._auto = AutoCommit(self._client, auto_commit_s)
        self._reads = ReadQueue(self._questions, most_records, self._auto.move)
        self._buffer = self._reads.buffer
        self.joining = Joining(self._client, self._reads, self._questions.answer)
        self.fed = FedPartitions(self._client, self._reads, self._auto, self._questions.call)
        self.standing = Standing(self._client, self.fed, lambda: self._goes_on(self._reads.stands()), self._auto.stop)
        self._read_at = time.monotonic()
        self.fenced: Callable[[], None] | None = None
        """Called on the loop, once, when Kafka says that another client has the place in the group."""
        # Daemon: a thread that hangs in close() on a frozen broker must not keep the process (reliability.md F4).
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # --- on the event loop --------------------------------------------------------------------------------------------

    def start(self) -> asyncio.Future[None]:
        """Starts the thread; the future is done when the client exists, or fails as building it failed."""
        ready = self._questions.ask(self._open)
        self._thread.start()
        return ready

    @property
    def held_bytes(self) -> int:
        """Of the records that were fetched and not returned; the thread may change it meanwhile."""
        return self._buffer.size_bytes

    def ask(self, question: Callable[[], Any]) -> asyncio.Future[Any]:
        """Has the thread call this and answers with its result, or with its error as a ServiceError."""
        return self._questions.ask(question)

    def post(self, order: Callable[[], Any]) -> None:
        """Has the thread call this, and waits for nothing."""
        self._questions.post(order)

    def read(self, limits: ReadLimits, encoder: RecordsEncoder) -> Read:
        """Queues a read. Whoever gets its answer, or stops waiting for it, must `settle` it."""
        read = Read(limits, encoder, self._loop.create_future())
        self._questions.post(lambda: self._begin(read))
        return read

    def settle(self, read: HandedOut, accepted: bool) -> None:
        """Says whether the records of a read reached the one who asked; if not, they are put back."""
        read.outcome = accepted
        # Usually nobody waits for it, and the thread sees it with the next question.
        self._questions.post(lambda: self._reads.settle(read, accepted), wake=bool(self._reads.waiting or not accepted))

    def close(self, within_s: float, leave: bool = True) -> asyncio.Future[None]:
        """Ends the thread: commits if that is automatic, leaves the group, and gives up at that time."""
        until = time.monotonic() + within_s
        self._questions.post(lambda: self._close(until, leave))
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
                self._questions.answer_all(lambda: self._closing is not None)
                if self._client.is_open and self._closing is None:
                    self._round()
                if self._client.fatal and self.fenced is not None:
                    self._tell_fenced(self.fenced)
            except Exception:
                # Whatever it is, one instance goes on and its client finds out by the next question (F14).
                _log.exception("A round of a consumer failed")
                self._wake_up.acquire(timeout=SLICE_S)
        self._end()

    def _idle_s(self) -> float:
        """How long the thread may wait for a question before it has something to do by itself."""
        if self._questions or self._tell_at == 0.0:
            return 0
        if self._reads.waiting:
            # consume() waits in the place of the lock, but not for a read that may not begin yet.
            return SLICE_S if self._reads.unsettled is not None else 0
        if self._client.commits:
            # consume() returns at once for the report, but also while there are records.
            return self._client.commits.patience_s() if len(self._buffer) else 0
        if not self._client.mode:
            return _UNSUBSCRIBED_S
        if self.joining.is_waited_for:
            return 0
        return self._auto.idle_s(max(IDLE_S, self._crowd.idle_s))

    def _round(self) -> None:
        now = time.monotonic()
        self._client.tend(now)
        self.fed.absorb()
        self._auto.commit_due(now)
        if now >= self._tell_at:
            self._tell_assignment(now)
        reads = self._reads
        if reads.waiting and reads.unsettled is None:
            self._serve(reads.waiting[0], now)
            return
        # Records that a push has taken may be out for as long as its client takes to accept them, and no read overtakes
        # them. Those that a read was answered with are settled in no time, and then the next read gets some of its own.
        for read in [read for read in reads.waiting if read.deadline + SLICE_S <= now]:
            reads.answer(read)
        if self._client.mode:
            self._keep_membership(now)
        elif self._client.commits:
            self._poll(1, SLICE_S / 2)
        else:
            self._poll(1, 0)  # nothing can arrive but log lines

    # --- reading ------------------------------------------------------------------------------------------------------

    def _begin(self, read: Read) -> None:
        self.joining.give_time(read)
        self._reads.waiting.append(read)

    def _serve(self, read: Read, now: float) -> None:
        if read.future.done():
            self._reads.waiting.popleft()
            return
        client, buffer = self._client, self._buffer
        if not client.mode:
            self._reads.fail(read, NotSubscribed())
            return
        self._read_at = now
        most = self._reads.most(read.limits)
        try:
            resumed = client.all_held
            client.hold_all(False)
            if resumed and 0 < len(buffer) < most:
                # The two or three records that came before the pause are not all that there is.
                self._poll(1, min(_REFETCH_S, max(0.0, read.deadline - now)))
            if not len(buffer):
                if self._poll(1, min(SLICE_S, max(0.0, read.deadline - now))):
                    self._fill(read.limits)
            elif len(buffer) < most:
                self._fill(read.limits)
                if not buffer.enough(read.limits, most) and now < read.deadline:
                    # It gathers until it has enough: not record by record, which would be a busy loop.
                    self._wake_up.acquire(timeout=min(_GATHER_S, read.deadline - now))
        except KafkaException as error:
            self._reads.fail(read, to_consumer_error(error))
            return
        client.look_for_missing(now)
        if self.joining.is_in_vain:
            self.joining.end()
        if self._tell_at == 0.0:  # before the records: positions that are told now count from there
            self._tell_assignment(now)
        if buffer.enough(read.limits, most):
            self._reads.answer(read)
            return
        failure = client.failure or next(iter(client.stopped.values()), None)
        if failure is not None and not len(buffer):
            client.failure = None
            self._reads.fail(read, failure)
        else:
            self._reads.answer_late(time.monotonic())

    def _fill(self, limits: ReadLimits) -> None:
        """Moves what is there into the buffer, but not much more than a read with these limits can take.

        500 consumers whose readers took 10 kB at a time kept 3.4 MiB each when everything there was moved: as Python
        objects records are five times as large as in librdkafka.
        """
        buffer, most = self._buffer, self._reads.most(limits)
        while len(buffer) < most and buffer.size_bytes <= limits.max_bytes:
            average = buffer.size_bytes // len(buffer) + 1 if len(buffer) else 1
            count = min(most - len(buffer), (limits.max_bytes - buffer.size_bytes) // average + 1)
            if self._poll(count, 0) < count:
                return

    def _poll(self, count: int, timeout_s: float) -> int:
        """Moves up to ``count`` records into the buffer, waiting for the first; how many."""
        records = self._client.poll(count, timeout_s)
        if records:
            self._buffer.extend(records)
        return len(records)

    def _keep_membership(self, now: float) -> None:
        """A poll between reads, which answers rebalances and keeps ``max.poll.interval.ms``."""
        if len(self._buffer) and not self._client.all_held and now - self._read_at > PAUSE_AFTER_S:
            # Not between any two reads: pausing throws away what is prefetched, 20,000 records cost 39,990.
            self._client.hold_all(True)
            trimmer.let_go()
        is_waited_for = self.joining.is_waited_for
        waiting = is_waited_for or (bool(self._client.commits) and not len(self._buffer))
        self._poll(1, SLICE_S / 2 if waiting else 0)
        if is_waited_for and self.joining.is_in_vain:
            self.joining.release()

    # --- what is asked ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._client.open()
        except BaseException:
            self._closing = 0.0
            raise

    def subscribe(self, topics: Sequence[str]) -> None:
        if not topics:
            self.unsubscribe()
            return
        if self._client.mode == "manual":
            raise IllegalState(_ILLEGAL_MODE)
        if not self._client.assigned:
            self.joining.begin(topics)
        self._client.subscribe(topics)
        if not self._cooperative:
            self._wait_for_revocation()

    def unsubscribe(self) -> None:
        self.joining.end()
        if self._client.mode == "group":
            self._client.unsubscribe()
            self._wait_for_revocation()
        elif self._client.mode == "manual":
            self._auto.commit()
            self._client.unsubscribe()
        self._client.forget()
        self._forget_all()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        if self._client.mode == "group":
            raise IllegalState(_ILLEGAL_MODE)
        self._auto.commit()
        self._client.hold_all(False)
        wanted = [(one.topic, one.partition) for one in partitions]
        if self._auto.stores_starts or self._lasts:
            self._client.assign_from_starts(wanted)
        else:
            self._client.assign(wanted)
        self._forget_all()
        self._auto.start_at(wanted)

    def seek(self, positions: Sequence[PartitionOffset]) -> None:
        targets = {(one.topic, one.partition): one.offset for one in positions}
        self._client.check_assigned(targets)
        self._forget(targets)
        self._client.seek(targets)
        # Like Java's client: who says where it stands has read up to there.
        if told := {partition: offset for partition, offset in targets.items() if offset >= 0}:
            self._auto.move(told)

    def seek_to_time(self, times: Sequence[PartitionOffset], known: Mapping[Partition, int]) -> None:
        """``known``: where that is, as far as Kafka need not be asked."""
        asked = {(one.topic, one.partition): one.offset for one in times}
        self._client.check_assigned(asked)
        # Before 1970 is before every record; Kafka has names of its own for negative times (-1: the end).
        early = {one: OFFSET_BEGINNING for one, time_ms in asked.items() if time_ms < 0}
        late = {one: time_ms for one, time_ms in asked.items() if time_ms >= 0 and one not in known}
        found = {**early, **known} | (self._client.offsets_at_times(late) if late else {})
        self.seek([PartitionOffset(*one, offset) for one, offset in found.items()])

    def seek_to_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        self._seek_all(partitions, OFFSET_BEGINNING)

    def seek_to_end(self, partitions: Sequence[TopicPartition]) -> None:
        self._seek_all(partitions, OFFSET_END)

    def _seek_all(self, partitions: Sequence[TopicPartition], offset: int) -> None:
        self.seek([PartitionOffset(*one, offset) for one in partitions or self.standing.assignment()])

    def commit(self, offsets: Sequence[PartitionOffset] | None, done: asyncio.Future[None]) -> None:
        """Answers ``done`` by itself, when Kafka has."""
        answer = self._questions.answer
        self.fed.absorb()
        if offsets is None:
            offsets = next_offsets(self._auto.positions)
        if not offsets:
            answer(done, None, None)
            return
        try:
            self._client.commit(offsets, lambda error: answer(done, None, error))
        except Exception as error:
            answer(done, None, error)

    def topic_changed(self, topic: str, anew: bool) -> None:
        """It has other partitions, or was deleted and made again (``anew``); see `GroupClient`."""
        self._client.learn(topic)
        if not anew:
            return
        gone = self._client.begin_again(topic, self._client.afresh())
        if gone:
            _log.warning("Topic %s was deleted and made again; a consumer goes on at its beginning", topic)
            self._forget(gone)
            self._tell(self._client.assigned, gone)

    def topic_gone(self, topic: str) -> None:
        """Kafka does not know it any more; see `GroupClient`."""
        self._client.topic_gone(topic)

    def _close(self, until: float, leave: bool) -> None:
        self._closing, self._leaves = until, leave

    # --- positions ----------------------------------------------------------------------------------------------------

    def _forget(self, partitions: Collection[Partition]) -> None:
        """Drops all that is kept of these partitions, because they start anew or are no longer ours."""
        self.fed.drop(partitions)
        self._reads.forget(partitions)
        self._auto.forget(partitions)

    def _forget_all(self) -> None:
        self.fed.drop_all()
        self._reads.forget_all()
        self._auto.positions.clear()
        self._tell_at = math.inf

    # --- the group (the RebalanceListener of the client) --------------------------------------------------------------

    def assigned(self, partitions: Collection[Partition]) -> None:
        self.joining.end()
        if self._rebalanced is not None:
            self._tell_at = 0.0
        self._auto.start_at(partitions)
        self.fed.disturbed()

    def placed(self, partitions: Collection[Partition]) -> None:
        self._auto.start_at(partitions)

    def revoked(self, partitions: Collection[Partition]) -> None:
        self.fed.settle_now(partitions)
        self._auto.commit_of(partitions)
        self.lost(partitions)

    def lost(self, partitions: Collection[Partition]) -> None:
        self._forget(partitions)
        self._tell(self._client.assigned.difference(partitions))

    def _tell_assignment(self, now: float) -> None:
        """Says what is assigned, when it is known where reading goes on."""
        self._tell_at = math.inf
        assigned = self._client.assigned
        waiting = [name for name in assigned if name not in self._goes_on() and name not in self._client.stopped]
        if waiting and any(name in self._client.silent() for name in waiting):
            self._tell_at = now + _TELL_AGAIN_S
        else:
            self._tell(assigned, self._client.afresh())

    def _goes_on(self, of_reads: dict[Partition, int] | None = None) -> dict[Partition, int]:
        """The next offset of each partition of which it is known; ``of_reads`` in the place of `ReadQueue.goes_on`."""
        starts = {name: offset for name, offset in self._client.starts.items() if offset >= 0}
        return starts | self._auto.positions | (self._reads.goes_on() if of_reads is None else of_reads)

    def _tell(self, assigned: Collection[Partition], anew: Collection[Partition] = ()) -> None:
        if self._rebalanced is not None:
            goes_on = self._goes_on()
            told = [PartitionOffset(*name, goes_on[name]) for name in sorted(assigned) if name in goes_on]
            self._questions.call(self._rebalanced, told, frozenset(TopicPartition(*name) for name in anew))

    def _wait_for_revocation(self) -> None:
        """Polls until librdkafka has taken the old assignment away; a later poll might take a new one instead."""
        until = time.monotonic() + REVOKE_S
        while self._client.assigned and time.monotonic() < until:
            self._poll(1, _GATHER_S)

    def _tell_fenced(self, fenced: Callable[[], None]) -> None:
        self._auto.stop()
        self._client.failure = InstanceUnavailable()
        self._questions.call(fenced)
        self.fenced = None

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        until = self._closing or 0.0
        try:
            if self._client.is_open:
                self._answer_and_commit(until)
        except Exception:
            _log.exception("A consumer did not close properly")
        self._client.commits.expire(math.inf)
        self.joining.release()
        self._questions.refuse_all(InstanceNotFound())
        if self._client.commits.on_their_way:
            # Nobody need wait for the rest.
            self._questions.answer(self._ended, None, None)
        self._buffer.clear()
        try:
            if self._lasts and self._leaves and self._client.is_open:
                self._client.leave()
            self._client.close()
        except Exception:
            _log.exception("A consumer did not leave its group properly")
        self._client.drop()
        self._questions.answer(self._ended, None, None)

    def _answer_and_commit(self, until: float) -> None:
        """Answers the reads, and commits for the last time if that is automatic."""
        while self._reads.waiting:
            # A read that a DELETE overtakes ends with what it has (kafka-rest-http.md §6.9).
            self._reads.answer(self._reads.waiting[0])
        self.fed.absorb()
        self._auto.finish()
        self._client.settle_commits((until + time.monotonic()) / 2)
