"""A Kafka in memory, behind the ports that the services see. Failures are injected by name of the method."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from kafka_gateway.definitions import Anchor
from kafka_gateway.errors import (
    IllegalState,
    NotSubscribed,
    NotSupported,
    PartitionNotFound,
    ServiceError,
    TopicNotFound,
    UnknownTopicOrPartition,
)
from kafka_gateway.kafka.consuming.anchors import Anchors
from kafka_gateway.kafka.ports.consuming import AtOnce, ConsumerSettings, ReadLimits, Rebalanced, TakenBatch
from kafka_gateway.kafka.ports.members import GroupWork, MemberListener
from kafka_gateway.kafka.ports.producing import Delivery, Outcomes, SizeLimit
from kafka_gateway.kafka.ports.tails import Gap, TailBatch, TailListener, TailStart
from kafka_gateway.kafka.ports.topics import (
    ConfigEntry,
    PartitionInfo,
    PartitionOffset,
    Positions,
    TopicInfo,
    TopicPartition,
)
from kafka_gateway.kafka.producing.outcomes import send_one_by_one
from kafka_gateway.kafka_errors import OffsetOutOfRange
from kafka_gateway.records import Headers, OutgoingRecord, RecordBatch, RecordsEncoder, RecordToSend
from kafka_gateway.rights import Rights
from kafka_gateway.upstream import Broker, Upstream
from tests.services.fake_administration import FakeAdministration
from tests.services.fake_groups import FakeGroupReader, FakeMember


class FakeRecord:
    """A stored record; it has the shape of gateway.records.ConsumedRecord."""

    def __init__(self, topic: str, partition: int, offset: int, record: OutgoingRecord) -> None:
        self._topic, self._partition, self._offset, self.sent = topic, partition, offset, record

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self.sent.key

    def value(self) -> bytes | None:
        return self.sent.value

    def headers(self) -> Headers | None:
        return self.sent.headers

    def timestamp(self) -> tuple[int, int]:
        return (1, self.sent.timestamp_ms)

    @property
    def size(self) -> int:
        return len(self.sent.key or b"") + len(self.sent.value or b"")


class FakeKafka:
    """All of it: logs, committed offsets, and the clients."""

    embedded = True
    held_bytes = 0
    secured = False

    def __init__(self, **topics: int) -> None:
        self.logs: dict[str, list[list[FakeRecord]]] = {}
        self.configs: dict[str, list[ConfigEntry]] = {}
        self.internal: set[str] = set()
        self.leaderless: set[TopicPartition] = set()
        self.committed: dict[tuple[str, str, int], tuple[int, str]] = {}
        self.failures: dict[str, list[ServiceError]] = {}
        self.calls: list[tuple[str, object]] = []
        self.consumers: list[FakeConsumer] = []
        self.group_readers: list[FakeGroupReader] = []
        self.members: list[FakeMember] = []
        self.auto_create = True
        self.holds = False
        """Whether records that are followed wait for a call of what is in ``unconfirmed``, with a number of them."""
        self.unconfirmed: list[Callable[[int], None]] = []
        self.create_gate: asyncio.Event | None = None
        """If set, new consumers are ready only once it is."""
        self.first_share: frozenset[TopicPartition] | None = None
        """What groups assign to new consumers at first; None: everything."""
        self.changed = asyncio.Event()
        self.producer = FakeProducer(self)
        self.admin = FakeAdmin(self)
        self.administration = FakeAdministration(self)
        self.reader = FakeReader(self)
        self.tails = FakeTails(self)
        for name, partitions in topics.items():
            self.add_topic(name, partitions)

    @property
    def own(self) -> FakeKafka:
        return self

    @property
    def callers(self) -> FakeKafka:
        return self

    async def for_socket(self, session: object) -> FakeKafka:
        return self

    def upstream(self) -> Upstream:
        return Upstream((), None, None, self._no_cluster)

    async def _no_cluster(self) -> tuple[str, tuple[Broker, ...]]:
        raise NotSupported("This Kafka has no brokers.")

    def add_topic(self, name: str, partitions: int = 1) -> None:
        self.logs[name] = [[] for _ in range(partitions)]

    def fail(self, method: str, *errors: ServiceError) -> None:
        """The next calls of the method raise these, one each; for ``delivery``, the next records get them."""
        self.failures.setdefault(method, []).extend(errors)

    def called(self, method: str, argument: object = None) -> None:
        self.calls.append((method, argument))
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    def store(self, topic: str, partition: int, record: OutgoingRecord) -> FakeRecord:
        log = self.logs[topic][partition]
        stored = FakeRecord(topic, partition, len(log), record)
        log.append(stored)
        self.changed.set()
        self.changed = asyncio.Event()
        self.tails.stored(stored)
        return stored

    def put(self, topic: str, *values: bytes | None, partition: int = 0) -> None:
        """Stores records without a producer."""
        for value in values:
            self.store(topic, partition, OutgoingRecord(None, value))

    async def consumer(self, settings: ConsumerSettings, rebalanced: Rebalanced | None = None) -> FakeConsumer:
        self.called("consumer", settings)
        if self.create_gate is not None:
            await self.create_gate.wait()
        self.consumers.append(FakeConsumer(self, settings, rebalanced))
        return self.consumers[-1]

    async def group_reader(self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork) -> FakeGroupReader:
        self.called("group_reader", settings)
        self.group_readers.append(FakeGroupReader(self, settings, work))
        return self.group_readers[-1]

    async def member(
        self,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int = 500,
        commit_interval_s: float = 0.0,
    ) -> FakeMember:
        self.called("member", settings)
        self.members.append(FakeMember(self, settings, topic, listener, encoder, most_records))
        return self.members[-1]


def as_values(records: Iterable[RecordToSend]) -> list[OutgoingRecord]:
    """The records as values that can be compared: bodies are decoded into other objects of that shape."""
    return [OutgoingRecord(each.key, each.value, each.partition, each.timestamp_ms, each.headers) for each in records]


class FakeSending:
    """Records on their way; None for those that are not confirmed."""

    def __init__(self, deliveries: list[Delivery | None]) -> None:
        self.deliveries = deliveries


class FakeProducer:
    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self._turn = 0
        self.size_limit = SizeLimit(1_000_000, compresses=False)

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        if topic in self._kafka.logs or (self._kafka.auto_create and rights.making(topic).allowed):
            return None
        return self._unknown(topic, rights)

    def knows(self, topic: str) -> bool:
        return topic in self._kafka.logs

    async def _unknown(self, topic: str, rights: Rights) -> None:
        if self._kafka.auto_create:
            rights.require("create", "topic", topic)
        raise UnknownTopicOrPartition()

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        records = as_values(records)
        self._kafka.called("send", (topic, records, partition))
        future: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        if topic not in self._kafka.logs:
            self._kafka.add_topic(topic)
        future.set_result([self._deliver(topic, record, partition) for record in records])
        return future

    def send_each(self, topic: str, batches: Sequence[Sequence[RecordToSend]], told: Outcomes) -> None:
        send_one_by_one(self, topic, batches, told)

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> FakeSending:
        records = as_values(records)
        self._kafka.called("follow", (topic, records))
        if topic not in self._kafka.logs:
            self._kafka.add_topic(topic)
        sending = FakeSending([None] * len(records))

        def confirm(count: int) -> None:
            done = [place for place, row in enumerate(sending.deliveries) if row is None][:count]
            for place in done:
                sending.deliveries[place] = self._deliver(topic, records[place], None)
            if done:
                progress()

        self._kafka.unconfirmed.append(confirm)
        if not self._kafka.holds:
            confirm(len(records))
        return sending

    def _deliver(self, topic: str, record: OutgoingRecord, partition: int | None) -> Delivery:
        if self._kafka.failures.get("delivery"):
            return self._kafka.failures["delivery"].pop(0)
        count = len(self._kafka.logs[topic])
        chosen = record.partition if record.partition is not None else partition
        if chosen is None:
            chosen = self._turn = (self._turn + 1) % count
        if not 0 <= chosen < count:
            return UnknownTopicOrPartition()
        return self._kafka.store(topic, chosen, record)


class FakeConsumer:
    def __init__(
        self,
        kafka: FakeKafka,
        settings: ConsumerSettings,
        rebalanced: Rebalanced | None = None,
    ) -> None:
        self._kafka = kafka
        self.rebalanced = rebalanced
        self.share = kafka.first_share
        """What the group assigns to it; None: everything, without a word."""
        self.settings = settings
        self._anchors = Anchors(settings.anchors)
        self.subscribed: tuple[str, ...] = ()
        self.assigned: dict[TopicPartition, int] = {}
        self._returned: dict[TopicPartition, int] = {}
        self._turn = asyncio.Lock()
        self._none_out, self._no_read_out = asyncio.Event(), asyncio.Event()
        """Clear while records are out, and those of a read that is no push."""
        self._none_out.set()
        self._no_read_out.set()
        self.in_doubt = False
        self.is_joining = False
        self.closed = False
        self.close_gate: asyncio.Event | None = None

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._kafka.called("subscribe", list(topics))
        self._anchors.keep(topics)
        self.subscribed = tuple(topics)
        self.assigned = {}

    async def joined(self, within_s: float) -> bool:
        if self.settings.anchors:
            self._join()
        return True

    async def unsubscribe(self) -> None:
        self._kafka.called("unsubscribe")
        self._anchors.keep(())
        self.subscribed, self.assigned = (), {}

    async def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._kafka.called("assign", list(partitions))
        self._anchors.end(self._anchors.left.keys() - set(partitions))
        self.assigned = {each: self.assigned.get(each, self._start(each)) for each in partitions}

    def _start(self, partition: TopicPartition) -> int:
        stored = self._kafka.committed.get((self.settings.group, *partition))
        anchored = self._anchors.starts([partition], {partition: stored[0]} if stored is not None else {})
        if anchored or stored is not None:
            return anchored[partition] if anchored or stored is None else stored[0]
        logs = self._kafka.logs.get(partition.topic, [])
        log = logs[partition.partition] if partition.partition < len(logs) else []
        return 0 if self.settings.auto_offset_reset == "earliest" else len(log)

    def _join(self) -> None:
        """Partitions of a subscribed consumer are assigned during reads only."""
        for topic in self.subscribed:
            for number in range(len(self._kafka.logs.get(topic, []))):
                partition = TopicPartition(topic, number)
                if self.share is not None and partition not in self.share:
                    continue
                if partition not in self.assigned:
                    self.assigned[partition] = self._start(partition)

    def rebalance(self, *share: TopicPartition, anew: Collection[TopicPartition] = ()) -> None:
        """The group assigns exactly these from now on; ``anew``: from the beginning, as their topic was made again."""
        self.share = frozenset(share)
        kept = {each: at for each, at in self.assigned.items() if each in self.share} | dict.fromkeys(anew, 0)
        self.assigned = {each: kept.get(each, self._start(each)) for each in share}
        if self.rebalanced is not None:
            self.rebalanced([PartitionOffset(*each, at) for each, at in sorted(self.assigned.items())], anew)
        self._kafka.changed.set()
        self._kafka.changed = asyncio.Event()

    async def assignment(self) -> list[TopicPartition]:
        return sorted(self.assigned)

    def _check(self, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            if each not in self.assigned:
                raise IllegalState(f"Illegal state: No current assignment for partition {each.topic}-{each.partition}")

    async def seek(self, positions: Sequence[PartitionOffset]) -> None:
        self._check([TopicPartition(each.topic, each.partition) for each in positions])
        for each in positions:
            self.assigned[TopicPartition(each.topic, each.partition)] = each.offset
        self._anchors.end([TopicPartition(each.topic, each.partition) for each in positions])

    async def seek_to_time(self, times: Sequence[PartitionOffset]) -> None:
        self._check([TopicPartition(each.topic, each.partition) for each in times])
        for each in times:
            log = self._kafka.logs[each.topic][each.partition]
            later = (record.offset() for record in log if record.timestamp()[1] >= each.offset)
            self.assigned[TopicPartition(each.topic, each.partition)] = next(later, len(log))

    async def seek_to_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        self._check(partitions)
        for each in partitions or list(self.assigned):
            self.assigned[each] = 0

    async def seek_to_end(self, partitions: Sequence[TopicPartition]) -> None:
        self._check(partitions)
        for each in partitions or list(self.assigned):
            self.assigned[each] = len(self._kafka.logs[each.topic][each.partition])

    async def commit(self, offsets: Sequence[PartitionOffset] | None = None) -> None:
        self._kafka.called("commit", offsets)
        if offsets is None:
            offsets = [PartitionOffset(each.topic, each.partition, each.offset + 1) for each in self.returned()]
        for each in offsets:
            if each.topic not in self._kafka.logs:
                raise UnknownTopicOrPartition()
            place = (self.settings.group, each.topic, each.partition)
            self._kafka.committed[place] = (each.offset, each.metadata)

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[PartitionOffset]:
        self._kafka.called("committed", list(partitions))
        found = []
        for each in partitions:
            stored = self._kafka.committed.get((self.settings.group, *each))
            if stored is not None:
                found.append(PartitionOffset(*each, *stored))
        return found

    async def read(self, limits: ReadLimits, encoder: RecordsEncoder) -> RecordBatch:
        taken = await self.take(limits, encoder)
        taken.confirm()
        return taken.batch

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder, at_once: AtOnce | None = None) -> TakenBatch:
        self._kafka.called("read", limits)
        if not self.subscribed and not self.assigned:
            raise NotSubscribed()
        until = time.monotonic() + limits.timeout_s
        try:
            async with asyncio.timeout(max(limits.timeout_s, 0.1)):
                await self._turn.acquire()
        except TimeoutError:
            batch = RecordBatch((), 0)
            batch.encode(encoder)
            return TakenBatch(batch)
        try:
            return await self._take_in_turn(limits, encoder, until)
        except BaseException:
            self._turn.release()
            raise

    async def _take_in_turn(self, limits: ReadLimits, encoder: RecordsEncoder, until: float) -> TakenBatch:
        while True:
            if not self.subscribed and not self.assigned:
                raise NotSubscribed()
            self._join()
            changed = self._kafka.changed
            records, size, full = self._take(limits)
            enough = limits.min_bytes is not None and records and size > limits.min_bytes
            left = until - time.monotonic()
            if full or enough or left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):  # Python 3.11's wait_for() may swallow a cancellation
                    await changed.wait()
        batch = RecordBatch(records, size)
        batch.encode(encoder)
        before = dict(self.assigned)
        last = {TopicPartition(record.topic(), record.partition()): record.offset() for record in records}
        self.assigned |= {partition: offset + 1 for partition, offset in last.items()}

        self._none_out.clear()
        if limits.kind != "push":
            self._no_read_out.clear()

        def settle(accepted: bool | None) -> None:
            self._none_out.set()
            self._no_read_out.set()
            self.in_doubt = accepted is None or (self.in_doubt and not accepted)
            if accepted:
                self._returned |= last
                if self._anchors.left:
                    self._anchors.end(last)
            else:
                self.assigned |= {partition: before[partition] for partition in last if partition in self.assigned}
            self._turn.release()

        return TakenBatch(batch, settle)

    def _take(self, limits: ReadLimits) -> tuple[list[FakeRecord], int, bool]:
        records: list[FakeRecord] = []
        size = 0
        for partition, position in self.assigned.items():
            logs = self._kafka.logs.get(partition.topic, [])
            for record in logs[partition.partition][position:] if partition.partition < len(logs) else ():
                total = size + record.size
                over = total > limits.max_bytes if limits.inclusive else total >= limits.max_bytes
                over = over or 0 < limits.max_records <= len(records)
                if (records or not limits.oversized) and over:
                    return records, size, not limits.inclusive
                records.append(record)
                size = total
        return records, size, limits.inclusive and size >= limits.max_bytes

    async def reached(self) -> dict[TopicPartition, int]:
        return {each: len(self._kafka.logs[each.topic][each.partition]) for each in self.assigned}

    def returned(self) -> list[PartitionOffset]:
        return [PartitionOffset(*partition, offset) for partition, offset in sorted(self._returned.items())]

    def resume(self, anchors: Mapping[TopicPartition, Anchor]) -> None:
        self._returned.update((place, anchor.at - 1) for place, anchor in anchors.items())

    @property
    def auto_commits(self) -> bool:
        return self.settings.auto_commit is not False

    async def settled(self) -> None:
        await self._none_out.wait()

    async def reads_settled(self) -> None:
        await self._no_read_out.wait()

    async def standing(self) -> tuple[Positions, Positions]:
        committed = {each: self._kafka.committed.get((self.settings.group, *each)) for each in self.assigned}
        unused = {TopicPartition(*place): each for place, each in self._anchors.left.items()}
        known = {place: each.committed for place, each in unused.items() if each.committed is not None}
        known |= {place: stored[0] for place, stored in committed.items() if stored is not None}
        return {place: each.at for place, each in unused.items()} | self.assigned, known

    @property
    def unused_anchors(self) -> Mapping[TopicPartition, Anchor]:
        return {TopicPartition(*place): anchor for place, anchor in self._anchors.left.items()}

    async def hand_over(self) -> tuple[Positions, Positions]:
        if self.auto_commits:
            await self.commit()
        return await self.standing()

    async def unstored_starts(self) -> Positions:
        if self.settings.auto_offset_reset == "earliest":
            return {}
        return {
            place: at
            for place, at in self.assigned.items()
            if (self.settings.group, *place) not in self._kafka.committed
        }

    async def close(self, leave: bool = True) -> None:
        self._kafka.called("close" if leave or not self.settings.instance_id else "close, and stay")
        if self.close_gate is not None:
            await self.close_gate.wait()
        self.closed = True


class FakeAdmin:
    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka

    async def brokers(self) -> list[int]:
        self._kafka.called("brokers")
        return [2, 1]

    def _info(self, name: str) -> TopicInfo:
        partitions = tuple(
            PartitionInfo(number, -1 if TopicPartition(name, number) in self._kafka.leaderless else 1, (1, 2), (1,))
            for number in range(len(self._kafka.logs[name]))
        )
        return TopicInfo(name, name in self._kafka.internal, partitions)

    async def topics(self) -> list[TopicInfo]:
        self._kafka.called("topics")
        return [self._info(name) for name in self._kafka.logs]

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        self._kafka.called("topic", name)
        if name not in self._kafka.logs:
            raise UnknownTopicOrPartition()
        return self._info(name)

    def forget_topic(self, name: str) -> None:
        self._kafka.called("forget_topic", name)

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        self._kafka.called("topic_configs", name)
        return self._kafka.configs.get(name, [])

    async def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        self._kafka.called("offsets", (topic, partition))
        if partition >= len(self._kafka.logs[topic]):
            raise PartitionNotFound()
        return 0, len(self._kafka.logs[topic][partition])

    async def all_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return {partition: await self.offsets(topic, partition) for partition in partitions}

    async def log_ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        self._kafka.called("log_ends", sorted(topics))
        logs = self._kafka.logs
        return {name: {place: len(log) for place, log in enumerate(logs[name])} for name in topics if name in logs}

    async def check(self, timeout_s: float) -> None:
        self._kafka.called("check")


class FakeReader:
    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka

    async def fetch(self, topic: str, partition: int, offset: int, count: int, encoder: RecordsEncoder) -> RecordBatch:
        self._kafka.called("fetch", (topic, partition, offset, count))
        log = self._kafka.logs[topic][partition]
        if not 0 <= offset <= len(log):
            raise OffsetOutOfRange
        records = log[offset : offset + count]
        batch = RecordBatch(records, sum(record.size for record in records))
        batch.encode(encoder)
        return batch


class FakeTails:
    """Every record is a batch of its own, given at once to all tails that are at its place."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.open_tails: list[FakeTail] = []
        self.first: dict[TopicPartition, int] = {}
        """Where logs begin, if not at 0."""

    async def open(
        self,
        topic: str,
        start: TailStart,
        listener: TailListener,
        encoder: RecordsEncoder,
        partitions: frozenset[int] | None = None,
        until_end: bool = False,
    ) -> FakeTail:
        self._kafka.called("open_tail", (topic, start, partitions))
        await asyncio.sleep(0)
        if topic not in self._kafka.logs:
            raise TopicNotFound()
        logs = self._kafka.logs[topic]
        chosen = sorted(partitions) if partitions is not None else list(range(len(logs)))
        if any(each >= len(logs) for each in chosen):
            raise PartitionNotFound()
        tail = FakeTail(self, topic, listener, encoder, {each: self._from(start, logs, each) for each in chosen})
        tail.ends = {each: len(logs[each]) for each in chosen}
        tail.until_end = until_end
        self.open_tails.append(tail)
        return tail

    def _from(self, start: TailStart, logs: list[list[FakeRecord]], partition: int) -> int:
        log = logs[partition]
        if partition in start.positions:
            return start.positions[partition]
        if start.positions and partition > max(start.positions):
            return 0
        match start.at:
            case "latest":
                return len(log)
            case "earliest":
                return 0
            case "offset":
                return start.value
            case "last":
                return max(0, len(log) - start.value)
        later = (record.offset() for record in log if record.timestamp()[1] >= start.value)
        return next(later, len(log))

    def log(self, topic: str, partition: int) -> list[FakeRecord]:
        return self._kafka.logs[topic][partition]

    def stored(self, record: FakeRecord) -> None:
        batches: dict[object, TailBatch] = {}
        for tail in list(self.open_tails):
            if tail.topic == record.topic() and tail.is_reading:
                tail.give(batches)

    def delete(self, topic: str) -> None:
        """The topic is gone, under its tails."""
        del self._kafka.logs[topic]
        for tail in list(self.open_tails):
            if tail.topic == topic:
                tail.listener.failed(TopicNotFound())


class FakeTail:
    """Gives what there is as soon as it is resumed, and records as they are stored."""

    def __init__(
        self, tails: FakeTails, topic: str, listener: TailListener, encoder: RecordsEncoder, next: dict[int, int]
    ) -> None:
        self._tails, self.topic, self.listener, self._encoder, self._next = tails, topic, listener, encoder, next
        self.ends: dict[int, int] = {}
        self.until_end = False
        self.is_reading = False
        self.closed = False
        self._told = False
        self._giving = False

    @property
    def positions(self) -> list[PartitionOffset]:
        return [PartitionOffset(self.topic, partition, offset) for partition, offset in sorted(self._next.items())]

    def pause(self) -> None:
        self.is_reading = False

    def resume(self) -> None:
        if self.closed:
            return
        self.is_reading = True
        self.give({})

    def close(self) -> None:
        self.closed, self.is_reading = True, False
        if self in self._tails.open_tails:
            self._tails.open_tails.remove(self)

    def give(self, batches: dict[object, TailBatch]) -> None:
        """All that is there, a batch for each partition; those in step get the same objects out of ``batches``."""
        if self._giving:
            return
        self._giving = True
        try:
            self._give(batches)
        finally:
            self._giving = False

    def _give(self, batches: dict[object, TailBatch]) -> None:
        for partition in sorted(self._next):
            log, at = self._tails.log(self.topic, partition), self._next[partition]
            first = self._tails.first.get(TopicPartition(self.topic, partition), 0)
            if not first <= at <= len(log):
                to = first if at < first else len(log)
                self._next[partition] = to
                self.listener.gap(Gap(self.topic, partition, at, to))
                at = to
            end = self.ends[partition] if self.until_end else len(log)
            if not self.is_reading or at >= end:
                continue
            key = (partition, end, tuple(sorted(self._next.items())))
            self._next[partition] = end
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = TailBatch(RecordBatch(log[at:end], 0), tuple(self.positions))
            self.listener.records(batch)
        if self.is_reading and not self._told and all(self._next[each] >= end for each, end in self.ends.items()):
            self._told = True
            self.listener.caught_up()
