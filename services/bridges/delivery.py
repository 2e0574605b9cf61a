"""Posting records to a sink: order, attempts, back-off, and how far each partition is done (bridges.md A3.3, A3.4).

Records that must not overtake each other share a *lane*: those of a partition, those of a key, or each alone. A lane
works off its records one by one, and a record that is tried again holds up its own lane only. What is read and not yet
done is bounded; a partition that has its share, or everything together, is paused in Kafka until half of it is done.

All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.members import GroupReader
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka.unfinished import Unfinished
from kafka_gateway.records import ConsumedRecord
from kafka_gateway.services.bridges.dead_letters import DeadLetters
from kafka_gateway.services.bridges.headers import SinkHeaderRules, http_headers
from kafka_gateway.services.bridges.outcomes import (
    FailureAction,
    Outcome,
    RecordSink,
    RetryRules,
    SinkAnswer,
    outcome,
    status_class,
)

_log = logging.getLogger("gateway.bridge")

_TELL_EVERY_S = 10.0
_RECORD_COST_BYTES = 300
"""What a record costs beside its content."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How one bridge delivers. Times in seconds."""

    name: str
    ordering: Literal["partition", "key", "none"] = "partition"
    retry: RetryRules = dataclasses.field(default_factory=RetryRules)
    headers: SinkHeaderRules = dataclasses.field(default_factory=SinkHeaderRules)
    max_concurrency: int = 16
    max_records: int = 1000
    max_bytes: int = 64 * 1024 * 1024
    revoke_timeout_s: float = 20.0


@dataclasses.dataclass(slots=True)
class DeliveryCounters:
    """What a bridge has done since the start."""

    consumed: int = 0
    delivered: int = 0
    attempts: int = 0
    posts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Attempts by class of status: ``2xx`` …, ``none`` without an answer."""
    dead_letters: int = 0
    dropped_records: int = 0
    dropped_headers: int = 0
    retrying: int = 0
    """Records that wait for their next attempt now."""


class _Partition:
    """A partition that is ours, from its assignment to its end."""

    __slots__ = ("busy", "bytes", "committed", "halted", "name", "paused", "posting", "quiet", "records", "unfinished")

    def __init__(self, name: TopicPartition) -> None:
        self.name = name
        self.unfinished: Unfinished[None] = Unfinished()
        """Of this assignment: what an earlier one has still at work counts no more (bridges.md A-28)."""
        self.committed: int | None = None
        self.halted = asyncio.Event()
        """Nothing of it is begun any more, and nothing of it waits."""
        self.posting: set[asyncio.Task[SinkAnswer]] = set()
        self.busy = 0
        self.quiet = asyncio.Event()
        """None of its records is on its way to the sink, or to the dead letters."""
        self.quiet.set()
        self.paused = False
        self.records = 0
        self.bytes = 0

    @property
    def position(self) -> int | None:
        """What may be committed; None as long as nothing is done."""
        return self.unfinished.position(self.name)

    @property
    def done_before(self) -> int | None:
        """Where what is not done begins, also if nothing is done yet; None before the first record."""
        position = self.position
        return self.unfinished.first(self.name) if position is None else position

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Round what is on its way. What it means for the offset follows without an await in between, so whoever waits
        for quiet reads the offset behind it."""
        self.busy += 1
        self.quiet.clear()
        try:
            yield
        finally:
            self.busy -= 1
            if not self.busy:
                self.quiet.set()


class _Item:
    __slots__ = ("arrived_at", "partition", "record", "size")

    def __init__(self, record: ConsumedRecord, partition: _Partition, size: int, arrived_at: float) -> None:
        self.record = record
        self.partition = partition
        self.size = size
        self.arrived_at = arrived_at


_LaneKey = object


class Delivery:
    """The work on one group's records (`gateway.kafka.ports.members.GroupWork`).

    ``reader`` is set by whoever opens it, before the first record comes.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        sink: RecordSink,
        dead_letters: DeadLetters | None = None,
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """``stopped`` is called once if a record stops the bridge (``stop`` as a decision)."""
        self.settings = settings
        self.counters = DeliveryCounters()
        self.reader: GroupReader | None = None
        self.trouble = ""
        """What keeps the bridge from working at present; "" if nothing does."""
        self._sink = sink
        self._dead_letters = dead_letters
        self._stopped = stopped
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._lanes: dict[_LaneKey, collections.deque[_Item]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._items: dict[_Item, None] = {}
        self._records = 0
        self._bytes = 0
        self._tell_at = 0.0
        self._ending = False

    # --- from Kafka ---------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        for name in partitions:
            self._partitions[name] = partition = _Partition(name)
            if self._ending:
                partition.halted.set()

    def records(self, records: Sequence[ConsumedRecord]) -> None:
        now = time.monotonic()
        for record in records:
            partition = self._partitions.get(TopicPartition(record.topic() or "", record.partition() or 0))
            if partition is None or partition.halted.is_set():
                continue  # the partition was given up: its next owner reads the record
            try:
                self._take(record, partition, now)
            except Exception:
                # Only posts that have begun hold the offset back: none may begin behind this one.
                _log.exception("bridge %s: a record cannot be read; its partition stops here", self.settings.name)
                partition.halted.set()
        self._throttle()

    def _take(self, record: ConsumedRecord, partition: _Partition, now: float) -> None:
        size = len(record.value() or b"") + len(record.key() or b"") + _RECORD_COST_BYTES
        size += sum(len(name) + len(value or b"") for name, value in record.headers() or ())
        item = _Item(record, partition, size, now)
        partition.unfinished.sent(partition.name, record.offset() or 0, None)
        partition.records += 1
        partition.bytes += size
        self.counters.consumed += 1
        self._records += 1
        self._bytes += size
        self._items[item] = None
        self._enqueue(item)

    async def revoked(self, partitions: Sequence[TopicPartition]) -> Sequence[PartitionOffset]:
        offsets = await self._give_up(partitions, self.settings.revoke_timeout_s)
        for name in partitions:
            self._partitions.pop(name, None)
        return offsets

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        for name in partitions:
            if (partition := self._partitions.pop(name, None)) is not None:
                partition.halted.set()
                for task in partition.posting:
                    task.cancel()

    def failed(self, error: ServiceError) -> None:
        self._tell(f"Kafka: {error.message}")

    # --- offsets ------------------------------------------------------------------------------------------------------

    def uncommitted(self) -> list[PartitionOffset]:
        """The positions that have moved since they were committed."""
        return [
            PartitionOffset(*each.name, position)
            for each in self._partitions.values()
            if (position := each.position) is not None and position != each.committed
        ]

    def committed(self, offsets: Iterable[PartitionOffset]) -> None:
        """These were stored by Kafka."""
        for topic, number, offset, _ in offsets:
            if (partition := self._partitions.get(TopicPartition(topic, number))) is not None:
                partition.committed = offset

    def positions(self) -> dict[TopicPartition, int]:
        """Where what is not done begins, of each partition that had a record."""
        return {each.name: position for each in self._partitions.values() if (position := each.done_before) is not None}

    def oldest_s(self) -> float:
        """For how long the oldest record has been at work; 0 if there is none."""
        oldest = next(iter(self._items), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.arrived_at

    @property
    def at_work(self) -> int:
        """Records that are read and not done."""
        return self._records

    # --- the end ------------------------------------------------------------------------------------------------------

    async def aclose(self, timeout_s: float) -> Sequence[PartitionOffset]:
        """Begins no more posts, lets those that were sent end, and answers what is to be committed.

        Partitions that the group takes away meanwhile, or before that is committed, are answered to it, too: its
        rebalance does not wait for this end, and whoever gets them asks where they begin at once.
        """
        self._ending = True
        offsets = await self._give_up(list(self._partitions), timeout_s)
        for task in self._workers:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        return offsets

    async def _give_up(self, names: Sequence[TopicPartition], timeout_s: float) -> list[PartitionOffset]:
        """Begins no more posts of these, and answers what is to be committed. They stay until the group takes them."""
        gone = [partition for name in names if (partition := self._partitions.get(name)) is not None]
        for partition in gone:
            partition.halted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for partition in gone:
                    await partition.quiet.wait()
        for task in [task for partition in gone for task in partition.posting]:
            task.cancel()
        return [
            PartitionOffset(*partition.name, position)
            for partition in gone
            if self._partitions.get(partition.name) is partition  # else the partition was lost meanwhile
            and (position := partition.position) is not None
            and position != partition.committed
        ]

    # --- lanes --------------------------------------------------------------------------------------------------------

    def _enqueue(self, item: _Item) -> None:
        key = self._lane_of(item)
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = lane = collections.deque()
            task = asyncio.get_running_loop().create_task(self._work(key, lane))
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        lane.append(item)

    def _lane_of(self, item: _Item) -> _LaneKey:
        ordering = self.settings.ordering
        if ordering == "none":
            return item
        key = item.record.key() if ordering == "key" else None
        return item.partition.name if key is None else key

    async def _work(self, key: _LaneKey, lane: collections.deque[_Item]) -> None:
        """Works off a lane until it is empty."""
        try:
            while lane:
                item = lane.popleft()
                try:
                    await self._deliver(item)
                except Exception:
                    # A bug must not lose the record: its partition stops, and that is shown.
                    _log.exception("bridge %s: a record failed; its partition stops here", self.settings.name)
                    item.partition.halted.set()
                finally:
                    self._leave(item)
        finally:
            del self._lanes[key]

    def _leave(self, item: _Item) -> None:
        partition = item.partition
        self._items.pop(item, None)
        partition.records -= 1
        partition.bytes -= item.size
        self._records -= 1
        self._bytes -= item.size
        self._release()

    # --- attempts -----------------------------------------------------------------------------------------------------

    async def _deliver(self, item: _Item) -> None:
        """Returns when the record is done, or its partition halted."""
        retry, halted, attempt = self.settings.retry, item.partition.halted, 0
        headers, dropped = http_headers(item.record, self.settings.headers)
        self.counters.dropped_headers += dropped
        body = item.record.value() or b""
        while True:
            answer = await self._post(item.partition, body, headers)
            if answer is None:
                return
            attempt += 1
            what = outcome(answer.status)
            if what is Outcome.TAKEN:
                self.counters.delivered += 1
                self.trouble = ""
                self._done(item)
                return
            self._tell(_failure(item.record, answer, attempt))
            delay_s = retry.delay_s(attempt, answer.retry_after)
            if what is Outcome.REFUSED or attempt >= retry.max_attempts:
                decision = retry.on_permanent if what is Outcome.REFUSED else retry.on_exhausted
                if decision != "block":
                    await self._decide(decision, item, answer, attempt)
                    return
                delay_s = max(delay_s, retry.max_s)
            if await self._sleep(halted, delay_s):
                return

    async def _post(self, partition: _Partition, body: bytes, headers: list[tuple[str, str]]) -> SinkAnswer | None:
        """One attempt; None if the partition was given up before it, or while it was under way."""
        async with self._slots:
            if partition.halted.is_set():
                return None
            self.counters.attempts += 1
            with partition.at_work():
                task = asyncio.ensure_future(self._sink.post(body, headers))
                partition.posting.add(task)
                try:
                    await asyncio.wait([task])
                finally:
                    task.cancel()
                    partition.posting.discard(task)
        if task.cancelled():
            return None
        answer = task.result()
        self.counters.posts[status_class(answer.status)] += 1
        return answer

    def _done(self, item: _Item) -> None:
        item.partition.unfinished.end(item.partition.name, item.record.offset() or 0)

    async def _decide(self, decision: FailureAction, item: _Item, answer: SinkAnswer, attempts: int) -> None:
        if decision == "drop":
            self.counters.dropped_records += 1
            self._done(item)
        elif decision == "dlq" and self._dead_letters is not None:
            await self._bury(self._dead_letters, item, answer, attempts)
        else:
            _log.error("bridge %s stops: %s", self.settings.name, _failure(item.record, answer, attempts))
            self._ending = True
            for partition in self._partitions.values():
                partition.halted.set()
            self._stopped()

    async def _bury(self, dead_letters: DeadLetters, item: _Item, answer: SinkAnswer, attempts: int) -> None:
        tries = 0
        while not item.partition.halted.is_set():
            try:
                with item.partition.at_work():
                    await dead_letters.keep(item.record, answer, attempts)
            except ServiceError as error:
                tries += 1
                self._tell(f"the dead-letter topic {dead_letters.topic} takes no record: {error.message}")
                await self._sleep(item.partition.halted, self.settings.retry.delay_s(tries))
            else:
                self.counters.dead_letters += 1
                self._done(item)
                return

    async def _sleep(self, halted: asyncio.Event, delay_s: float) -> bool:
        """Waits; True if the partition was halted meanwhile."""
        self.counters.retrying += 1
        try:
            async with asyncio.timeout(delay_s):
                await halted.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self.counters.retrying -= 1

    # --- back-pressure ------------------------------------------------------------------------------------------------

    def _throttle(self) -> None:
        """Pauses every partition that has its share, or all if there is too much altogether."""
        if self.reader is None:
            return
        limits, count = self.settings, max(1, len(self._partitions))
        full = self._records >= limits.max_records or self._bytes >= limits.max_bytes
        pause = [
            each
            for each in self._partitions.values()
            if not each.paused
            and (full or each.records >= limits.max_records / count or each.bytes >= limits.max_bytes / count)
        ]
        if pause:
            for each in pause:
                each.paused = True
            self.reader.pause([each.name for each in pause])

    def _release(self) -> None:
        """Resumes those that have half of their share left to do, when half of everything is done."""
        limits, count = self.settings, max(1, len(self._partitions))
        if self.reader is None or self._ending:
            return
        if self._records * 2 > limits.max_records or self._bytes * 2 > limits.max_bytes:
            return
        resume = [
            each
            for each in self._partitions.values()
            if each.paused
            and not each.halted.is_set()
            and each.records * 2 <= limits.max_records / count
            and each.bytes * 2 <= limits.max_bytes / count
        ]
        if resume:
            for each in resume:
                each.paused = False
            self.reader.resume([each.name for each in resume])

    def _tell(self, text: str) -> None:
        """Keeps the text as the bridge's trouble, and logs it at an interval: a sink that is down fails thousands."""
        self.trouble = text
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_EVERY_S
            _log.warning("bridge %s: %s", self.settings.name, text)


def _failure(record: ConsumedRecord, answer: SinkAnswer, attempts: int) -> str:
    what = f"status {answer.status}" if answer.status else "no answer"
    place = f"{record.topic()}-{record.partition()} offset {record.offset()}"
    return f"{place}, attempt {attempts}: {what}: {answer.text}"
