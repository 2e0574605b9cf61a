"""Pulling from a group without being a member of it (bridges.md §B3), for the push and pull endpoints.

There is one consumer for each group and topic, with all partitions assigned by hand. One pull at a time uses it: from
its lock to the commit that follows its reply. Where a pull begins is what Kafka has for the group at that moment, so
nothing need be undone when a reply could not be written: the next pull seeks back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from kafka_gateway import jsonio
from kafka_gateway.config import Config
from kafka_gateway.definitions import Definitions, Holder, SlotKey
from kafka_gateway.errors import ServiceError, ShuttingDown, Unavailable, UnknownTopicOrPartition
from kafka_gateway.homes import Elsewhere
from kafka_gateway.kafka.ports.consuming import Consumer, ConsumerSettings, ReadLimits
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaRetriable, NotAMember
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.service import Service
from kafka_gateway.services.push_pull.metrics import PushPullCounts

log = logging.getLogger("gateway.pulls")

_SWEEP_S = 1.0
_PATIENCE_S = 3.0
_RETRY_S = 0.1

T = TypeVar("T")

Show = Callable[[ConsumedRecord], Any]
"""What a reply shows of a record."""


class GroupInUse(ServiceError):
    """The group has members: Kafka refuses what a pull would commit, for only members may commit then."""

    status, error_code = 409, 409
    text = "The group has live members, so nobody else can commit offsets for it. Pull with another group."
    help = "Pull with another group, or stop the members of this one."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pull asks for. Without ``commit`` the next pull begins where this one did."""

    limit: int
    show: Show
    commit: bool = True


@dataclass(frozen=True, slots=True)
class Pulled:
    """The messages, a JSON list; ``settle`` must be called once, with whether the client got them."""

    messages: bytes
    settle: Callable[[bool | None], None] | None


NOTHING = Pulled(b"[]", None)


class Pulls(Service):
    """All groups and topics that are pulled from. Belongs to the event loop."""

    def __init__(self, config: Config, kafka: Kafka, counts: PushPullCounts) -> None:
        self._kafka = kafka
        self._counts = counts
        self._silence_s = config.seconds("push.pull.timeout.ms")
        self._wait_max_s = config.seconds("push.pull.wait.max.ms")
        self._bytes_max = config.integer("push.pull.response.max.bytes")
        self._consumers_max = config.integer("push.pull.consumers.max")
        self._idle_s = config.seconds("push.pull.consumers.idle.ms")
        self._places: dict[tuple[str, str, str], _GroupInTopic] = {}
        """By group, topic and reader; the one used last is the last."""
        self._ending: set[asyncio.Task[None]] = set()
        """Commits after replies, and consumers being closed."""
        self._stopping = False

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        sweeping = asyncio.get_running_loop().create_task(self._sweep(), name="close-idle-pulls")
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            for place in list(self._places.values()):
                self._drop(place)
            while self._ending:
                await asyncio.wait(self._ending)

    @property
    def consumer_count(self) -> int:
        """Consumers that are kept, one for each group and topic."""
        return sum(place.consumer is not None for place in self._places.values())

    @property
    def at_work(self) -> int:
        """Pulls that have their turn, or wait for it."""
        return sum(place.users for place in self._places.values())

    def drain(self) -> None:
        self._stopping = True

    def share(self, definitions: Definitions, metrics: Metrics) -> Holder:
        """Kafka has the positions of groups; only pulls at work have to end before another node begins."""
        return _Moves(self._places.values, definitions)

    async def pull(self, group: str, topic: str, wanted: Wanted, reader: str = "") -> Pulled:
        """The oldest messages that the group has not had, ``wanted.limit`` at most; none if the topic is not there.

        It ends at the limit, or when all that was there at its beginning has been read and nothing more comes for
        ``push.pull.timeout.ms``. Pulls of one group and topic wait for each other. Cancelling it loses nothing.

        Args:
            reader: the name by which Kafka knows the client (`kafka_gateway.session.Owner`); each has its own consumer.
        Raises:
            GroupInUse: the group has members.
            Unavailable: Kafka cannot be reached, or push.pull.consumers.max are in use.
        """
        try:
            info = await self._kafka.admin.topic(topic)
        except UnknownTopicOrPartition:
            return NOTHING
        place = self._place(group, topic, reader)
        place.users += 1
        try:
            await place.turn.acquire()
        except BaseException:
            self._left(place)
            raise
        try:
            pulled = await self._pull(place, [each.partition for each in info.partitions], wanted)
        except BaseException as error:
            if isinstance(error, ServiceError) and not isinstance(error, GroupInUse):
                place.broken = True  # the next pull gets another consumer
            place.turn.release()
            self._left(place)
            if isinstance(error, UnknownTopicOrPartition):  # it was deleted since Kafka was asked for it
                return NOTHING
            raise
        ends = pulled.ends if wanted.commit else []
        return Pulled(pulled.messages, partial(self._settle, place, ends, pulled.count))

    # --- one pull ---------------------------------------------------------------------------------------------------

    async def _pull(self, place: _GroupInTopic, partitions: list[int], wanted: Wanted) -> _Found:
        if self._stopping:
            raise ShuttingDown()
        consumer = await self._ready(place)
        ends = await self._begin(place, consumer, partitions)
        if wanted.commit and not place.may_commit:
            await self._check(place, consumer)
        return await self._read(place, consumer, ends, wanted)

    async def _ready(self, place: _GroupInTopic) -> Consumer:
        if place.consumer is not None and (place.broken or place.consumer.closed):
            self._close(place.consumer)
            place.consumer = None
        if place.consumer is None:
            settings = ConsumerSettings(
                place.group,
                f"pull-{place.topic}",
                auto_offset_reset="earliest",
                auto_commit=False,
                finds_ends=True,
                kind="pull",
            )
            place.consumer = await self._kafka.consumer(settings)
            place.partitions, place.positions, place.may_commit, place.broken = [], {}, False, False
        return place.consumer

    async def _begin(self, place: _GroupInTopic, consumer: Consumer, partitions: list[int]) -> dict[int, int]:
        """Seeks to the positions of the group; the partitions with something to read, and where they end."""
        topic = place.topic
        if partitions != place.partitions:
            # Before the question for offsets: librdkafka then looks for the leaders, too. In the other order the first
            # message came a second later.
            await consumer.assign([TopicPartition(topic, each) for each in partitions])
            place.partitions, place.positions = partitions, {}
        asked = [TopicPartition(topic, each) for each in partitions]
        found, offsets = await asyncio.gather(
            _patiently(lambda: consumer.committed(asked)), self._kafka.admin.all_offsets(topic, partitions)
        )
        committed = {each.partition: each.offset for each in found}
        starts = {}
        for each, (first, end) in offsets.items():
            offset = committed.get(each, first)
            # The position is outside the log: records were deleted, or the topic was made again.
            starts[each] = offset if first <= offset <= end else first
        moved = [PartitionOffset(topic, each, start) for each, start in starts.items() if place.at(each) != start]
        if moved:
            place.positions.update({each.partition: each.offset for each in moved})
            await consumer.seek(moved)
        return {each: end for each, (_, end) in offsets.items() if starts[each] < end}

    async def _check(self, place: _GroupInTopic, consumer: Consumer) -> None:
        """Commits what is committed already, of one partition: Kafka refuses that if the group has members.

        It would be too late after the reply.
        """
        partition, offset = next(iter(place.positions.items()), (None, 0))
        if partition is not None:
            try:
                await _patiently(lambda: consumer.commit([PartitionOffset(place.topic, partition, offset)]))
            except NotAMember:
                raise GroupInUse() from None
            place.may_commit = True

    async def _read(self, place: _GroupInTopic, consumer: Consumer, ends: dict[int, int], wanted: Wanted) -> _Found:
        parts: list[bytes] = []
        reached: dict[int, int] = {}
        left, size = wanted.limit, 0
        until = time.monotonic() + self._wait_max_s
        while left > 0 and size < self._bytes_max and not self._stopping:
            wait_s = min(self._silence_s, until - time.monotonic())
            if wait_s <= 0:
                break
            most = self._bytes_max - size
            encoder = _encoder(wanted.show, most, at_least_one=not parts)
            try:
                taken = await consumer.take(ReadLimits(most, wait_s, max_records=left), encoder)
            except _Full:
                break
            records = taken.batch.records
            payload = taken.batch.encode(encoder) if records else b""
            # They count for this pull only: what is not committed is read again.
            taken.confirm()
            if records:
                reached.update({record.partition() or 0: (record.offset() or 0) + 1 for record in records})
                place.positions.update(reached)
                parts.append(payload[1:-1])
                left -= len(records)
                size += len(payload)
                continue
            if ends:
                met = await consumer.reached()
                ends = {
                    each: end
                    for each, end in ends.items()
                    if max(place.at(each), met.get(TopicPartition(place.topic, each), 0)) < end
                }
            if not ends:
                break
        return _Found(
            b"[" + b",".join(parts) + b"]",
            [PartitionOffset(place.topic, each, offset) for each, offset in reached.items()],
            wanted.limit - left,
        )

    # --- after it ---------------------------------------------------------------------------------------------------

    def _settle(self, place: _GroupInTopic, offsets: list[PartitionOffset], count: int, written: bool | None) -> None:
        if written:
            self._counts.pulled += count
        if written and offsets:
            self._later(self._commit(place, offsets))
        else:
            place.turn.release()
            self._left(place)

    async def _commit(self, place: _GroupInTopic, offsets: list[PartitionOffset]) -> None:
        consumer = place.consumer
        try:
            if consumer is not None:
                await _patiently(lambda: consumer.commit(offsets))
        except ServiceError as error:
            place.may_commit = False
            self._counts.failed_commits += 1
            log.warning(
                "group %r has got messages of %s and will get them again: its offsets could not be committed: %s",
                place.group, place.topic, error.message,
            )  # fmt: skip
        finally:
            place.turn.release()
            self._left(place)

    def _left(self, place: _GroupInTopic) -> None:
        place.users -= 1
        place.used_at = time.monotonic()

    # --- consumers that are kept ------------------------------------------------------------------------------------

    def _place(self, group: str, topic: str, reader: str) -> _GroupInTopic:
        if self._stopping:
            raise ShuttingDown()
        place = self._places.pop((group, topic, reader), None)
        if place is None:
            if len(self._places) >= self._consumers_max:
                oldest = next((each for each in self._places.values() if not each.users), None)
                if oldest is None:
                    raise Unavailable(
                        f"Pulls of {len(self._places)} groups and topics are at work, as many as "
                        "push.pull.consumers.max allows; pull again later."
                    )
                self._drop(oldest)
            place = _GroupInTopic(group, topic, reader)
        self._places[group, topic, reader] = place
        return place

    def _drop(self, place: _GroupInTopic) -> None:
        del self._places[place.group, place.topic, place.reader]
        if place.consumer is not None:
            self._close(place.consumer)
            place.consumer = None

    def _close(self, consumer: Consumer) -> None:
        self._later(consumer.close())

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a consumer of pulls did not close cleanly: %s", error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = time.monotonic() - self._idle_s
            for place in [each for each in self._places.values() if not each.users and each.used_at < oldest]:
                self._drop(place)


async def _patiently(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer, also from a group whose coordinator is being chosen at the moment, as the first one of a Kafka is."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except (KafkaRetriable, BrokerNotAvailable):
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_RETRY_S)


class _Moves:
    """The `Holder` of pulls."""

    def __init__(self, places: Callable[[], Iterable[_GroupInTopic]], definitions: Definitions) -> None:
        self._places = places
        self._definitions = definitions

    async def hand_over(self, places: Collection[SlotKey]) -> None:
        for place in list(self._places()):
            try:
                self._definitions.check_here(SlotKey(place.group, place.topic))
            except Elsewhere:
                async with place.turn:  # after the commit of the pull that has it
                    pass

    def drop(self, places: Collection[SlotKey]) -> None:
        pass

    def suspend(self, places: Collection[SlotKey]) -> None:
        pass

    def resume(self, places: Collection[SlotKey]) -> None:
        pass


class _GroupInTopic:
    """The pulls of a group from a topic: its consumer and its positions."""

    def __init__(self, group: str, topic: str, reader: str) -> None:
        self.group, self.topic, self.reader = group, topic, reader
        self.turn = asyncio.Lock()
        self.users = 0
        """Pulls that have their turn, or wait for it."""
        self.used_at = time.monotonic()
        self.consumer: Consumer | None = None
        self.broken = False
        self.partitions: list[int] = []
        self.positions: dict[int, int] = {}
        """Where the consumer stands."""
        self.may_commit = False
        """Kafka has taken a commit, and refused none since."""

    def at(self, partition: int) -> int:
        return self.positions.get(partition, -1)


@dataclass(frozen=True, slots=True)
class _Found:
    messages: bytes
    ends: list[PartitionOffset]
    """What to commit."""
    count: int
    """How many messages."""


# --- what replies show ------------------------------------------------------------------------------------------------


class _Full(Exception):
    """The next record would make the reply too long."""


def _encoder(show: Show, most: int, at_least_one: bool) -> RecordsEncoder:
    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        payload = jsonio.encode([show(record) for record in records])
        # Refused, the worker looks for the longest run of records that is not.
        if len(payload) > most and (len(records) > 1 or not at_least_one):
            raise _Full
        return payload

    return encode


def as_text(content: bytes | None) -> str | None:
    """The text; bytes that are no UTF-8 become U+FFFD."""
    return None if content is None else content.decode("utf-8", "replace")


def as_base64(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


def show(text: Callable[[bytes | None], str | None], meta: bool) -> Show:
    """Shows a record's value, or with ``meta`` where it is, too."""
    if not meta:
        return lambda record: text(record.value())

    def row(record: ConsumedRecord) -> dict[str, Any]:
        kind, timestamp_ms = record.timestamp()
        return {
            "value": text(record.value()),
            "key": text(record.key()),
            "partition": record.partition(),
            "offset": record.offset(),
            "timestamp": timestamp_ms if kind else None,
        }

    return row
