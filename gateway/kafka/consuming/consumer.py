"""One Kafka consumer as the event loop sees it; `gateway.kafka.consuming.consumer_thread` is the thread behind it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from kafka_gateway.config import Config
from kafka_gateway.definitions import Anchor
from kafka_gateway.errors import InstanceNotFound, InstanceUnavailable, PartlyCommitted, ServiceError
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.commits import not_stored
from kafka_gateway.kafka.consuming.consumer_thread import ConsumerThread
from kafka_gateway.kafka.consuming.crowd import Crowd
from kafka_gateway.kafka.consuming.push_reads import PushReads, SharedFetchers
from kafka_gateway.kafka.consuming.reads import HandedOut
from kafka_gateway.kafka.consuming.standing import HAND_OVER_S
from kafka_gateway.kafka.ports.consuming import AtOnce, ConsumerSettings, ReadLimits, Rebalanced, TakenBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset, Positions, TopicPartition
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.records import RecordBatch, RecordsEncoder

_log = logging.getLogger("gateway.kafka.consumer")

AtTime = Callable[[tuple[str, tuple[int, ...], int]], Awaitable[Mapping[int, int]]]
"""Topic, partitions and epoch milliseconds: the first record at or after it in each, or -1."""
Reach = Callable[[], Awaitable[None]]
CLOSE_S = 1.8
"""`KafkaConsumer.close` answers within this time (F4: a DELETE in 2 s); the rest is left to the thread."""

_PUSH = "push"
"""`ReadLimits.kind` of what a push reads."""
_EMBEDDED_GROUP_S = 8.0
"""The mock cluster takes three seconds to form a group, and nothing makes it shorter: the first reads of every instance
would be empty, whatever their ``timeout``."""


class _Out:
    """How many batches are out."""

    __slots__ = ("_count", "_none")

    def __init__(self) -> None:
        self._count = 0
        self._none: asyncio.Event | None = None
        """Somebody waits for it; an event that is set and cleared for each batch costs more than all else here."""

    def add(self) -> None:
        self._count += 1

    def remove(self) -> None:
        self._count -= 1
        if self._none is not None and not self._count:
            self._none.set()
            self._none = None

    async def none(self) -> None:
        """Returns when there is none."""
        while self._count:
            if self._none is None:
                self._none = asyncio.Event()
            await self._none.wait()


class KafkaConsumer:
    """The `Consumer` port. Made by `open`; all methods belong to the event loop and raise ServiceErrors.

    Cancelling a call does not take it back, except for `read`. After `close` everything raises InstanceNotFound.
    """

    def __init__(
        self,
        clients: ClientFactory,
        worker: ConsumerThread,
        crowd: Crowd,
        closed: Callable[[KafkaConsumer], None],
        kind: str = "",
        numbers: KafkaNumbers | None = None,
        at_time: AtTime | None = None,
        pushes: PushReads | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._kind = kind
        self._numbers = numbers or KafkaNumbers(Names(0), Names(0))
        self._clients = clients
        self._at_time = at_time
        self._worker = worker
        self._pushes = pushes
        self._tell_closed = closed
        self._reach = reach
        self._crowd = crowd
        self._auto_commits = False
        self._closing: asyncio.Task[None] | None = None
        self._out, self._reads_out = _Out(), _Out()
        """Batches that were taken and are not settled: all of them, and those that are no pushes."""
        self._fed_counts: list[int] | None = None
        """Records and bytes that a fetcher has brought, of the present topic."""
        self._in_doubt = False
        self._returned: dict[Partition, int] = {}
        self._topics: frozenset[str] = frozenset()

    @classmethod
    async def open(
        cls,
        clients: ClientFactory,
        config: Config,
        settings: ConsumerSettings,
        closed: Callable[[KafkaConsumer], None] = lambda consumer: None,
        rebalanced: Rebalanced | None = None,
        numbers: KafkaNumbers | None = None,
        at_time: AtTime | None = None,
        fetchers: SharedFetchers | None = None,
        reach: Reach | None = None,
        crowd: Crowd | None = None,
    ) -> KafkaConsumer:
        """A new consumer with its thread. ``closed`` is called once, when it has ended; ``rebalanced`` as in the port.

        ``fetchers``: the topics that pushes of several consumers read once for all. ``reach``: `Admin.reach`.
        ``crowd``: all consumers of the process.

        Raises:
            InvalidConsumerConfig: librdkafka does not take the settings.
        """
        automatic = config.flag("consumer.enable.auto.commit") if settings.auto_commit is None else settings.auto_commit
        properties = clients.consumer_config(settings)
        crowd = crowd or Crowd()
        worker = ConsumerThread(
            partial(clients.consumer, settings),
            crowd,
            most_records=config.integer("consumer.records.max"),
            auto_commit_s=config.seconds("consumer.auto.commit.interval.ms") if automatic else None,
            cooperative=properties["partition.assignment.strategy"] == "cooperative-sticky",
            name=f"kafka-consumer-{settings.client_id}",
            reset=properties["auto.offset.reset"],
            rebalanced=rebalanced,
            anchors={(*place,): anchor for place, anchor in settings.anchors.items()} if settings.instance_id else None,
        )
        await worker.start()
        pushes = None
        if fetchers is not None and not settings.finds_ends:
            pushes = PushReads(worker, fetchers, settings.isolation_level)
        made = cls(clients, worker, crowd, closed, settings.kind or "instance", numbers, at_time, pushes, reach)
        made._auto_commits = automatic
        if settings.instance_id:
            worker.fenced = made._fenced
        return made

    @property
    def held_bytes(self) -> int:
        """Of records that were fetched and not returned."""
        return self._worker.held_bytes

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._leave_fetcher()
        await self._ask(partial(self._worker.subscribe, list(topics)))
        self._topics = frozenset(topics)

    async def joined(self, within_s: float) -> bool:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._ask(partial(self._worker.joining.wait, done))
        try:
            async with asyncio.timeout(within_s):
                await done
        except TimeoutError:
            return False
        return True

    @property
    def is_joining(self) -> bool:
        return self._worker.joining.is_open

    async def unsubscribe(self) -> None:
        self._leave_fetcher()
        await self._ask(self._worker.unsubscribe)
        self._topics = frozenset()

    async def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._leave_fetcher()
        await self._ask(partial(self._worker.assign, list(partitions)))
        self._topics = frozenset(one.topic for one in partitions)

    def topics(self) -> Collection[str]:
        """What it reads."""
        return self._topics

    async def topic_changed(self, topic: str, anew: bool) -> None:
        """See `gateway.kafka.consuming.topic_watch`."""
        await self._ask(partial(self._worker.topic_changed, topic, anew))

    async def topic_gone(self, topic: str) -> None:
        """See `gateway.kafka.consuming.topic_watch`."""
        await self._ask(partial(self._worker.topic_gone, topic))

    async def assignment(self) -> list[TopicPartition]:
        found: list[TopicPartition] = await self._ask(self._worker.standing.assignment)
        return found

    async def seek(self, positions: Sequence[PartitionOffset]) -> None:
        self._leave_fetcher()
        await self._ask(partial(self._worker.seek, list(positions)))

    async def seek_to_time(self, times: Sequence[PartitionOffset]) -> None:
        known = await self._embedded_offsets(times)
        self._leave_fetcher()
        await self._ask(partial(self._worker.seek_to_time, list(times), known))

    async def _embedded_offsets(self, times: Sequence[PartitionOffset]) -> dict[Partition, int]:
        """Where the embedded Kafka, which cannot say so, has the first record at or after each time."""
        found: dict[Partition, int] = {}
        if self._at_time is None:
            return found
        for each in times:
            places = await self._at_time((each.topic, (each.partition,), each.offset))
            if places[each.partition] >= 0:
                found[each.topic, each.partition] = places[each.partition]
        return found

    async def seek_to_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        self._leave_fetcher()
        await self._ask(partial(self._worker.seek_to_beginning, list(partitions)))

    async def seek_to_end(self, partitions: Sequence[TopicPartition]) -> None:
        self._leave_fetcher()
        await self._ask(partial(self._worker.seek_to_end, list(partitions)))

    async def commit(self, offsets: Sequence[PartitionOffset] | None = None) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._ask(partial(self._worker.commit, None if offsets is None else list(offsets), done))
        try:
            await done
        except PartlyCommitted as error:
            stored = await self.committed([TopicPartition(each.topic, each.partition) for each in error.offsets])
            gone = not_stored(error.offsets, stored)
            if gone:
                failure = PartlyCommitted(gone)
                _log.warning("A commit was stored in part: %s", failure.message)
                raise failure from error

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[PartitionOffset]:
        found: list[PartitionOffset] = await self._ask(partial(self._worker.standing.committed, list(partitions)))
        return found

    async def read(self, limits: ReadLimits, encoder: RecordsEncoder) -> RecordBatch:
        taken = await self.take(limits, encoder)
        taken.confirm()
        return taken.batch

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder, at_once: AtOnce | None = None) -> TakenBatch:
        self._check_open()
        if self._reach is not None:
            # If no broker has ever answered, an empty reply would hide what is wrong.
            await self._reach()
            self._reach = None
            self._check_open()
        if self._clients.embedded_bootstrap and limits.timeout_s > 0 and limits.group_s < _EMBEDDED_GROUP_S:
            limits = dataclasses.replace(limits, group_s=_EMBEDDED_GROUP_S)
        if self._pushes is None or limits.kind != _PUSH:
            self._leave_fetcher()
        elif (fed := await self._pushes.take(self._topics, limits, encoder, self._fed, at_once)) is not None:
            return fed
        self._check_open()
        read = self._worker.read(limits, encoder)
        try:
            await read.future
        except BaseException:
            # Also when the reader was cancelled in the very moment in which the records came (F8).
            self._worker.settle(read, False)
            raise
        batch = read.batch
        if batch.records:
            self._count(batch, limits.kind or self._kind)
        return self._taken(read)

    def _fed(self, out: HandedOut) -> TakenBatch:
        counts = self._fed_counts
        if counts is None:
            (topic,) = self._topics  # more are not read so
            counts = self._fed_counts = self._numbers.consumed.counts(_PUSH, topic)
        counts[0] += len(out.batch.records)
        counts[1] += out.batch.size_bytes
        return self._taken(out)

    def _taken(self, read: HandedOut) -> TakenBatch:
        self._out.add()
        if read.limits.kind != _PUSH:
            self._reads_out.add()
        return TakenBatch(read.batch, partial(self._settle, read))

    def _count(self, batch: RecordBatch, kind: str) -> None:
        # Nearly every consumer reads one topic. Of several the first record's counts for its whole batch, unless the
        # last one is of another: then each is looked at.
        records, topics = batch.records, self._topics
        consumed = self._numbers.consumed
        first = records[0].topic() or ""
        if len(topics) == 1 or records[-1].topic() == first:
            consumed.add(kind, first, len(records), batch.size_bytes)
            return
        for topic, count in Counter(record.topic() or "" for record in records).items():
            consumed.add(kind, topic, count, batch.size_bytes * count // len(records))

    def _settle(self, read: HandedOut, accepted: bool | None) -> None:
        self._out.remove()
        if read.limits.kind != _PUSH:
            self._reads_out.remove()
        if accepted:
            self._in_doubt = False
            self._returned.update(read.last)
        elif accepted is None:
            self._in_doubt = True
        if self._pushes is None or not self._pushes.settle(read, bool(accepted)):
            self._worker.settle(read, bool(accepted))

    def _leave_fetcher(self) -> None:
        """What is asked of the thread next has to do with positions."""
        self._fed_counts = None
        if self._pushes is not None:
            self._pushes.leave()

    async def reached(self) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._ask(self._worker.standing.reached)
        return found

    def returned(self) -> list[PartitionOffset]:
        return [PartitionOffset(*name, offset) for name, offset in sorted(self._returned.items())]

    def resume(self, anchors: Mapping[TopicPartition, Anchor]) -> None:
        self._returned.update((place, anchor.at - 1) for place, anchor in anchors.items() if anchor.at > 0)

    @property
    def unused_anchors(self) -> Mapping[TopicPartition, Anchor]:
        return {TopicPartition(*place): anchor for place, anchor in self._worker.standing.unused_anchors.items()}

    @property
    def auto_commits(self) -> bool:
        return self._auto_commits

    async def settled(self) -> None:
        await self._out.none()

    async def reads_settled(self) -> None:
        await self._reads_out.none()

    @property
    def in_doubt(self) -> bool:
        return self._in_doubt

    async def standing(self) -> tuple[Positions, Positions]:
        self._leave_fetcher()
        found: tuple[Positions, Positions] = await self._ask(self._worker.standing.now)
        return found

    async def hand_over(self) -> tuple[Positions, Positions]:
        self._leave_fetcher()
        if self._auto_commits:
            async with self._crowd.turn():
                await self._try_to_commit()
        async with self._crowd.turn():
            found: tuple[Positions, Positions] = await self._ask(self._worker.standing.for_good)
        return found

    async def _try_to_commit(self) -> None:
        """What is not stored by then is handed over as where reading goes on."""
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await self.commit()
        except TimeoutError:
            _log.info("Kafka does not answer the last commit of a consumer that is handed over")
        except (InstanceNotFound, InstanceUnavailable):
            raise  # another process has its place already
        except ServiceError as error:
            _log.info("The last commit of a consumer that is handed over has failed: %s", error.message)

    async def unstored_starts(self) -> Positions:
        found: Positions = await self._ask(self._worker.standing.unstored_starts)
        return found

    @property
    def closed(self) -> bool:
        return self._closing is not None

    async def close(self, leave: bool = True) -> None:
        """A second call waits for the first."""
        await asyncio.shield(self._begin_to_close(leave))

    def _begin_to_close(self, leave: bool) -> asyncio.Task[None]:
        if self._closing is None:
            if self._pushes is not None:
                self._pushes.stop()
            self._closing = asyncio.get_running_loop().create_task(self._close(leave))
        return self._closing

    def _fenced(self) -> None:
        if self._closing is None:
            _log.warning("a consumer ends, since another one has its place in its group, by what Kafka says")
            self._begin_to_close(leave=False)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        self._check_open()
        return await self._worker.ask(question)

    def _check_open(self) -> None:
        self._clients.check_process()
        if self._closing is not None:
            raise InstanceNotFound

    async def _close(self, leave: bool) -> None:
        try:
            async with self._crowd.turn(), asyncio.timeout(CLOSE_S):
                await self._worker.close(CLOSE_S - 0.2, leave)
        except TimeoutError:
            _log.warning("Kafka did not let a consumer go within %g s; its thread goes on alone", CLOSE_S)
        finally:
            self._tell_closed(self)
