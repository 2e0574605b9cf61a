"""Kafka as the services see it. The adapters beside this file implement it; nothing else knows confluent_kafka.

All methods belong to the event loop; where an answer takes a while they are coroutines or return a future. Failures are
ServiceErrors (see gateway/kafka/errors.py for which Kafka code becomes which).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder, RecordToSend

if TYPE_CHECKING:
    from kafka_gateway.kafka.admin.ports import Administration


class Stored(Protocol):
    """A produced record that Kafka has confirmed: its place in the log."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]:
        """Its kind and epoch milliseconds: the producer's, or the broker's where the topic says so."""


Delivery = Stored | ServiceError
"""What became of one produced record."""


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class PartitionOffset(NamedTuple):
    topic: str
    partition: int
    offset: int
    metadata: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionInfo:
    partition: int
    leader: int
    """-1 when there is none."""
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class TopicInfo:
    name: str
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    topic_id: str = ""
    """Of this life of the topic; "" where the brokers tell none."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigEntry:
    name: str
    value: str | None
    """None for sensitive values."""
    overridden: bool
    """Set for this topic, not inherited."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """What a client may choose for its consumer instance, and nothing else (reliability.md §2.1)."""

    group: str
    client_id: str
    auto_offset_reset: str = ""
    """earliest, latest or none; "" for the operator's configuration, else Kafka's latest."""
    auto_commit: bool | None = None
    """None for the operator's configuration, else on."""
    isolation_level: str = ""
    finds_ends: bool = False
    """Whether ``Consumer.reached`` is wanted."""
    session_timeout_ms: int = 0
    """How long Kafka hears nothing of the member before its partitions go to others; 0 for the operator's choice."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much one read may take, and how long.

    ``max_bytes`` counts keys and values. A record that would reach it (``inclusive`` False, v2: sum >= max) or exceed
    it (``inclusive`` True, v1: sum > max) stays for the next read. The first record of a read is delivered whatever
    its size, unless ``oversized`` is False: then such a read finds nothing (v1, kafka-rest-http.md §5.6). The read
    answers at ``timeout_s``, or earlier: at once when the limit is reached, and as soon as more than
    ``min_bytes`` are there (-1: as soon as there is a record). ``min_bytes`` None: never early for having data (v1).
    ``max_records`` 0: as many as the configuration allows for any read.
    """

    max_bytes: int
    timeout_s: float
    min_bytes: int | None = -1
    inclusive: bool = False
    max_records: int = 0
    oversized: bool = True


class TakenBatch:
    """Records that a read was given and that do not count as returned yet.

    Until they are confirmed or put back, other reads of the consumer wait, so nothing overtakes them. Whoever takes a
    batch must do one of the two; what is done first counts.
    """

    __slots__ = ("_settle", "batch")

    def __init__(self, batch: RecordBatch, settle: Callable[[bool], None] | None = None) -> None:
        """``settle`` is called once: True for confirmed, False for put back."""
        self.batch = batch
        self._settle = settle

    def confirm(self) -> None:
        """The client has them: they count as returned, and commits include them."""
        self.settle(True)

    def put_back(self) -> None:
        """The client has not got them: they are the first of the next read."""
        self.settle(False)

    def settle(self, accepted: bool) -> None:
        """Confirms them, or puts them back."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(accepted)


class Sending(Protocol):
    """Records on their way to Kafka."""

    @property
    def deliveries(self) -> Sequence[Delivery | None]:
        """One a record, in their order; None for what is not known yet."""


class Producer(Protocol):
    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        """Queues all records, in order, before it returns; the future has one Delivery a record, in the same order.

        ``partition`` is for records that name none. Batches sent one after the other reach a partition in that order.
        Raises TooManyRequests when the queue has no room for the batch (nothing of it was taken), Unavailable when the
        gateway stops. Cancelling the future does not recall the records.
        """

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Sending:
        """As ``send``, for at least one record, for who wants to know of each as soon as Kafka has confirmed it.

        ``progress`` is called on the event loop when more is known, not once a record.
        """

    def ready(self, topic: str) -> Awaitable[None] | None:
        """None if records for this topic can be sent at once; else something to await first.

        Only with auto.create.topics.enable=false, where unknown topics must not be produced to: it raises
        UnknownTopicOrPartition. Those who wait for one topic go on in the order in which they came.
        """


class Consumer(Protocol):
    """One Kafka consumer with a worker thread of its own, which carries out the calls in the order of their making."""

    async def subscribe(self, topics: Sequence[str]) -> None: ...
    async def unsubscribe(self) -> None:
        """Leaves the group; drops a manual assignment and what is buffered."""

    async def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Takes exactly these partitions, from their committed offsets or where auto.offset.reset says."""

    async def assignment(self) -> list[TopicPartition]: ...
    async def seek(self, positions: Sequence[PartitionOffset]) -> None:
        """The next read starts exactly there. IllegalState for a partition that is not assigned; nothing moves then."""

    async def seek_to_time(self, times: Sequence[PartitionOffset]) -> None:
        """``offset`` holds epoch milliseconds: to the first record at or after it, to the end if there is none."""

    async def seek_to_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        """An empty list means all that are assigned."""

    async def seek_to_end(self, partitions: Sequence[TopicPartition]) -> None: ...
    async def commit(self, offsets: Sequence[PartitionOffset] | None = None) -> None:
        """Commits these offsets as they are, or what reads have returned so far (offset of the last record + 1)."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[PartitionOffset]:
        """Without those that have no committed offset."""

    async def read(self, limits: ReadLimits, encoder: RecordsEncoder) -> RecordBatch:
        """The next records, encoded on the worker thread already. Several reads of one consumer are served in turn.

        Records that the encoder refuses stay at the head, those taken before are returned to it: nothing is lost.
        A caller that is cancelled before the answer gets its records put back, too.
        """

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder) -> TakenBatch:
        """As read, for a caller that learns later whether its client got the records, and confirms or puts them back.

        While they are out, a read waits for its time and then answers with nothing.
        """

    async def reached(self) -> dict[TopicPartition, int]:
        """Per partition the end of its log that was met last, since the last seek: all before it has been fetched.

        It may lie behind the last record, where a transaction has left its mark. Only with ``finds_ends``.
        """

    def returned(self) -> list[PartitionOffset]:
        """Per partition the offset of the last record that a read has returned (v1 commits list them)."""

    async def close(self) -> None:
        """Leaves the group; answers within the close deadline even if Kafka does not (reliability.md §3b)."""


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerNode:
    id: int
    host: str
    port: int
    rack: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group. ``state`` is Java's name (STABLE, EMPTY, DEAD, …); ``members`` are client ids."""

    name: str
    state: str
    simple: bool = False
    """Without members that Kafka assigns partitions to: somebody commits offsets under this name, nothing more."""
    assignor: str = ""
    members: tuple[str, ...] = ()


class Admin(Protocol):
    async def brokers(self) -> list[int]: ...
    async def nodes(self) -> list[BrokerNode]:
        """All brokers by id, with their addresses for clients."""

    async def create_topic(self, name: str, partitions: int, replicas: int, settings: Mapping[str, str]) -> None:
        """Makes a topic, or leaves the one that is there as it is. Raises KafkaRefused, KafkaAuthorization.

        NotSupported on the embedded Kafka.
        """

    async def groups(self) -> list[GroupInfo]:
        """All consumer groups, by name, without their members."""

    async def describe_groups(self, names: Sequence[str]) -> list[GroupInfo]:
        """In this order. Groups that Kafka does not know have the state DEAD."""

    async def group_offsets(self, group: str) -> list[PartitionOffset]:
        """What the group has committed, by topic and partition; nothing for an unknown group."""

    async def alter_group_offsets(self, group: str, offsets: Sequence[PartitionOffset]) -> None:
        """Commits for a group without members, which it makes if need be. GroupActive while it has members."""

    async def delete_group_offsets(self, group: str, topic: str | None) -> None:
        """Drops what the group has committed for the topic, or for all. GroupActive while it has members;
        KafkaError for a group that Kafka does not know.
        """

    async def topics(self) -> list[TopicInfo]:
        """All topics, internal ones included, by name."""

    async def topic(self, name: str, fresh: bool = False) -> TopicInfo:
        """The topic as it was within the last second, or as it is now. Never creates the topic.

        Raises UnknownTopicOrPartition, which counts for half a second unless ``fresh``.
        """

    async def describe_topics(self, names: Iterable[str]) -> Mapping[str, TopicInfo | ServiceError]:
        """All of these as they are now, with one question; where there is no answer, the error that says why."""

    def watch_topics(
        self, interested: Callable[[], Iterable[str]], told: Callable[[str, TopicInfo | ServiceError], object]
    ) -> None:
        """Looks at the topics that ``interested`` names, once a second for ever, and tells what was found of each."""

    async def make_topic(self, name: str) -> TopicInfo:
        """Asks for a topic in such a way that the brokers make it, if auto.create.topics.enable says so there.

        Raises UnknownTopicOrPartition if they do not; TooManyRequests if too many topics are being made.
        """

    def forget_topic(self, name: str) -> None:
        """The topic was created, deleted or changed just now: the next answer is a new one."""

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        """All effective settings, by name. An empty list on the embedded Kafka, which keeps none."""

    async def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """Log start and high watermark. Raises UnknownTopicOrPartition or PartitionNotFound."""

    async def all_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Log start and high watermark of these partitions, with two questions for all. Raises as ``offsets`` does,
        and LeaderNotAvailable, if one of them has none."""

    async def log_ends(self, topics: Sequence[str]) -> dict[str, dict[int, int]]:
        """The high watermark of each partition of these topics, with one question to each broker. What is unknown, or
        has no leader, is left out."""

    async def trouble(self, topic: str) -> str:
        """Why some partition of the topic takes no records at present, beginning with the name of Kafka's error; "" if
        all take them. Raises UnknownTopicOrPartition.
        """

    async def check(self, timeout_s: float) -> None:
        """Asks Kafka for its metadata; raises BrokerNotAvailable when no broker answers in time."""


class Reader(Protocol):
    async def fetch(self, topic: str, partition: int, offset: int, count: int, encoder: RecordsEncoder) -> RecordBatch:
        """Up to ``count`` records of a partition from ``offset``; fewer at the log's end (kafka-rest-http.md §5.4)."""


class MemberListener(Protocol):
    """Who gets the records of a group member. All calls come on the event loop, none before ``Member.resume``."""

    def records(self, batch: RecordBatch) -> None:
        """The next records, encoded already. ``Member.pause`` may be called in here."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """They belong to another member from now on: offsets of theirs are not committed any more."""

    def failed(self, error: ServiceError) -> None:
        """No more records come: Kafka refuses, a position is missing, or the encoder refuses a record."""


class Member(Protocol):
    """One member of a consumer group, without a thread of its own: for many consumers that each want every record.

    Belongs to the event loop, which polls all members in turn. It begins paused.
    """

    def pause(self) -> None:
        """No record comes until ``resume``; the membership goes on."""

    def resume(self, most: int | None = None) -> None:
        """Lets records come: ``most`` of them until the next call, or without bound."""

    def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        """Commits them soon, in the background; at most one commit of a member is on its way, later ones are merged.

        Offsets of partitions that are not this member's any more are left out. Failures are logged.
        """

    def close(self) -> None:
        """Sends what is to be committed and leaves the group, in the background. Nothing comes any more."""


class Transactions(Protocol):
    """A producer that makes a transaction of every record (websocket-proxy.md §2.8). Belongs to one client."""

    async def send(self, topic: str, record: RecordToSend) -> Stored:
        """The record's place, after its transaction was committed. ServiceError: it was aborted, and nothing more can
        be sent. Calls are carried out one after the other.
        """

    async def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class TailStart:
    """Where a tail begins (streams.md §1, §3).

    ``at`` is one of: ``latest``; ``earliest``; ``offset`` (``value`` absolute, every partition); ``last`` (the last
    ``value`` records of each partition); ``time`` (the first record at or after ``value``, epoch milliseconds).
    ``positions`` is a resume token's share of this topic and wins over ``at``: partitions that it does not name start
    as ``at`` says, but those which are newer than the token (it names all that are before them) at their beginning.
    """

    at: str = "latest"
    value: int = 0
    positions: Mapping[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """Records ``start`` to ``end`` - 1 are not there any more, or never were; reading goes on at ``end``."""

    topic: str
    partition: int
    start: int
    end: int


class TailBatch:
    """One run of records for tails that are in step: all of them get the very same object.

    ``positions`` is the next offset of every partition of the tail behind these records, by partition. ``derived`` is
    for what listeners make of the batch (framed payloads), once for all.
    """

    __slots__ = ("derived", "positions", "records")

    def __init__(self, records: RecordBatch, positions: Sequence[PartitionOffset]) -> None:
        self.records = records
        self.positions = positions
        self.derived: dict[object, Any] = {}


class TailListener(Protocol):
    """Who follows a tail. All calls come on the event loop, in order, none before ``Tail.resume`` was called once."""

    def records(self, batch: TailBatch) -> None:
        """The next records; every record once, in the order of its partition. ``Tail.pause`` may be called in here."""

    def gap(self, gap: Gap) -> None: ...
    def caught_up(self) -> None:
        """Once: everything below ``Tail.ends`` has been given. With ``until_end`` nothing comes behind it."""

    def failed(self, error: ServiceError) -> None:
        """The tail is over: the topic was deleted (TopicNotFound), the gateway stops (ShuttingDown), Kafka refuses."""


class Tail(Protocol):
    """One client's place in a topic. It begins paused, so that the listener can tell its client the positions first."""

    @property
    def positions(self) -> Sequence[PartitionOffset]:
        """The next offset of every partition that this tail reads, by partition."""

    @property
    def ends(self) -> Mapping[int, int]:
        """The end offset of each partition when the tail was opened."""

    def pause(self) -> None:
        """No record comes until ``resume``. What it misses is not kept for it: it will be read again from Kafka."""

    def resume(self) -> None: ...
    def close(self) -> None:
        """Nothing comes any more; safe to call twice."""


class Tails(Protocol):
    """Topics as they grow, without groups: any number of clients for one Kafka consumer (streams.md §4)."""

    async def open(
        self,
        topic: str,
        start: TailStart,
        listener: TailListener,
        encoder: RecordsEncoder,
        partitions: frozenset[int] | None = None,
        until_end: bool = False,
    ) -> Tail:
        """A tail whose positions are fixed: no record behind them is missed. Partitions added later join by themselves.

        ``encoder`` makes the payload that ``batch.records.encode(encoder)`` answers, ahead of time and on the reading
        thread. ``partitions`` None: all. With ``until_end`` it gives exactly what was there at this moment.

        Raises TopicNotFound, PartitionNotFound, BrokerNotAvailable, ShuttingDown. It never creates the topic.
        """


class GroupWork(Protocol):
    """What is done with a group's records. All calls come on the event loop, one after the other."""

    def records(self, records: Sequence[ConsumedRecord]) -> None:
        """The next records, each partition's in their order. No more come before this returns: pause in here."""

    def assigned(self, partitions: Sequence[TopicPartition]) -> None: ...
    async def revoked(self, partitions: Sequence[TopicPartition]) -> Sequence[PartitionOffset]:
        """These partitions are to be given up, which waits for the answer: what to commit of them before that."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Another member may have these partitions by now: nothing of them can be committed any more."""

    def failed(self, error: ServiceError) -> None:
        """Kafka refuses something, or a partition has no position (auto.offset.reset=none); reading goes on else."""


class GroupReader(Protocol):
    """One member of a consumer group whose records are worked on side by side, and end in any order.

    It keeps its membership whatever the work takes: paused partitions yield nothing, but it goes on polling.
    """

    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...
    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Reading goes on behind the last record that was handed over."""

    async def commit(self, offsets: Sequence[PartitionOffset]) -> None: ...
    async def ends(self) -> Sequence[PartitionOffset]:
        """The end offset of each partition that is assigned, as of the last fetch; without those not known yet."""

    def silent(self) -> Mapping[TopicPartition, str]:
        """Partitions of which no record can come at present, and why; Kafka is asked again until it answers."""

    async def close(self, offsets: Sequence[PartitionOffset] = ()) -> None:
        """Commits these and leaves the group; nothing is handed over any more. Answers within a few seconds, even if
        Kafka does not."""


class Kafka(Protocol):
    """All of Kafka that a service may use."""

    @property
    def producer(self) -> Producer: ...
    @property
    def admin(self) -> Admin: ...
    @property
    def administration(self) -> Administration: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def tails(self) -> Tails: ...
    @property
    def embedded(self) -> bool: ...
    @property
    def secured(self) -> bool:
        """Whether the brokers want credentials, and the gateway has some: they are its own, not its clients'."""

    @property
    def held_bytes(self) -> int:
        """Keys and values of records that were fetched and are not handed on, or kept for clients that follow a topic.
        What librdkafka has in its queues is not among them (consumer.buffer.bytes bounds it).
        """

    async def consumer(
        self, settings: ConsumerSettings, rebalanced: Callable[[Sequence[PartitionOffset]], None] | None = None
    ) -> Consumer:
        """A new consumer. TooManyRequests when consumer.instances.max are open; InvalidConsumerConfig.

        ``rebalanced`` is called on the event loop after each change of what a subscription's group assigns to this
        member, with all partitions it has now and where reading goes on in each.
        """

    async def group_reader(self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork) -> GroupReader:
        """A member of ``settings.group`` that hands the records of these topics to ``work``, from now on."""

    async def member(
        self,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int = 500,
        commit_interval_s: float = 0.0,
    ) -> Member:
        """A new member of ``settings.group``, subscribed to one topic, which it never creates.

        ``most_records`` come in one call of the listener at most; commits go out ``commit_interval_s`` apart at least.
        Raises InvalidConsumerConfig, ShuttingDown.
        """

    async def transactions(self, transactional_id: str, client_id: str) -> Transactions:
        """Fences whoever uses the id, and may begin at once. Raises what Kafka answers, BrokerNotAvailable in time."""

    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> CompactedLog:
        """Opens the topic and begins to read it from its start; does not wait for Kafka, and never gives it up.

        ``reader`` is the client id and group id of the reading. The embedded Kafka has no such topics: there the log
        is kept in memory, for this process alone.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class CompactedTopic:
    """A topic of one partition that keeps the last record of each key; made when it is missing."""

    name: str
    replicas: int = 3
    retention_ms: int = 0
    presence_s: float = 0.0
    """The reader is also a member of its group, and Kafka forgets it when nothing is heard of it for so long; by that
    others can tell whether this process lives. 0: no member."""


class LogListener(Protocol):
    """Who reads a compacted topic. All calls come on the event loop, in the order of the log."""

    def record(self, key: bytes, value: bytes | None, offset: int) -> None: ...
    def caught_up(self) -> None:
        """All that was there when the reading began has been given."""

    def restarted(self) -> None:
        """The topic is another one, or is read from its start again: offsets given before mean nothing any more."""


class CompactedLog(Protocol):
    @property
    def trouble(self) -> str:
        """Why the topic cannot be read at present; "" if it can."""

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Stores keys and values in this order; the offset of the last, once Kafka has confirmed all of them."""

    async def close(self) -> None:
        """Ends the reading and leaves the group. Nothing comes any more."""


Positions = Mapping[TopicPartition, int]
Partitions = Iterable[TopicPartition]
