"""How services read records with a consumer of their own, or without any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from kafka_gateway.definitions import Anchor
from kafka_gateway.kafka.ports.topics import PartitionOffset, Positions, TopicPartition
from kafka_gateway.records import RecordBatch, RecordsEncoder

Rebalanced = Callable[[Sequence[PartitionOffset], Collection[TopicPartition]], None]
"""Hears what a member has now and where reading goes on in each partition; and which of them begin at the beginning
because their topic was deleted and made again."""


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
    instance_id: str = ""
    """``group.instance.id``: the member keeps its place in the group when it closes without leaving, and whoever comes
    with the same one takes it over. "": a member that leaves when it closes."""
    anchors: Mapping[TopicPartition, Anchor] = dataclasses.field(default_factory=dict)
    """Where partitions go on that it is assigned, as far as they still count (cluster.md §4.3)."""
    kind: str = ""
    """What is read for, in the metrics: ``instance``, ``pull``, ``bridge``, ``group_stream``, ``socket``; "" for the
    gateway's own reading."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much one read may take, and how long.

    ``max_bytes`` counts keys and values. A record that would reach it (``inclusive`` False, v2: sum >= max) or exceed
    it (``inclusive`` True, v1: sum > max) stays for the next read. The first record of a read is delivered whatever
    its size, unless ``oversized`` is False: then such a read finds nothing (v1, kafka-rest-http.md §5.6). The read
    answers at ``timeout_s``, or earlier: at once when the limit is reached, and as soon as more than
    ``min_bytes`` are there (-1: as soon as there is a record). ``min_bytes`` None: never early for having data (v1).
    ``max_records`` 0: as many as the configuration allows for any read. While the group of the consumer has not given
    it anything yet, the read waits for that for up to ``group_s``, and for ``timeout_s`` from then on.
    """

    max_bytes: int
    timeout_s: float
    min_bytes: int | None = -1
    inclusive: bool = False
    max_records: int = 0
    oversized: bool = True
    group_s: float = 0.0
    kind: str = ""
    """What is read for, where that is not what the consumer is for: ``push``."""


AtOnce = Callable[["TakenBatch"], bool]
"""Takes a batch while whoever reads still waits; False if it is to come as the answer of the read."""


class TakenBatch:
    """Records that a read was given and that do not count as returned yet.

    Until they are confirmed or put back, other reads of the consumer wait, so nothing overtakes them. Whoever takes a
    batch must settle it, one way or the other; what is done first counts.
    """

    __slots__ = ("_settle", "batch")

    def __init__(self, batch: RecordBatch, settle: Callable[[bool | None], None] | None = None) -> None:
        """``settle`` is called once: True for confirmed, False or None for put back."""
        self.batch = batch
        self._settle = settle

    def confirm(self) -> None:
        """The client has them: they count as returned, and commits include them."""
        self.settle(True)

    def put_back(self) -> None:
        """The client has not got them: they are the first of the next read."""
        self.settle(False)

    def settle(self, accepted: bool | None) -> None:
        """Confirms them, or puts them back; None: the client may have them all the same (`Consumer.in_doubt`)."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(accepted)


class Consumer(Protocol):
    """One Kafka consumer with a worker thread of its own, which carries out the calls in the order of their making."""

    async def subscribe(self, topics: Sequence[str]) -> None: ...
    async def joined(self, within_s: float) -> bool:
        """Returns when the group has answered the last `subscribe`, or will not; whether that was in time. Until then
        nothing can be committed, and nothing is assigned."""

    @property
    def is_joining(self) -> bool:
        """Whether the group has not answered yet."""

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

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder, at_once: AtOnce | None = None) -> TakenBatch:
        """As read, for a caller that learns later whether its client got the records, and confirms or puts them back.

        While they are out, a read waits for its time and then answers with nothing. ``at_once`` may get batches, one
        after the other, while this goes on waiting: the next when the one before has been confirmed. So nobody is
        woken up for them.
        """

    async def reached(self) -> dict[TopicPartition, int]:
        """Per partition the end of its log that was met last, since the last seek: all before it has been fetched.

        It may lie behind the last record, where a transaction has left its mark. Only with ``finds_ends``.
        """

    def returned(self) -> list[PartitionOffset]:
        """Per partition the offset of the last record that a read has returned (v1 commits list them)."""

    @property
    def closed(self) -> bool:
        """Whether it has ended: by `close`, because Kafka takes the credentials no more with which it reads, or because
        another consumer with its ``instance_id`` has its place, by what Kafka says."""

    def resume(self, anchors: Mapping[TopicPartition, Anchor]) -> None:
        """Another process has returned what is before these, for `returned`."""

    @property
    def unused_anchors(self) -> Mapping[TopicPartition, Anchor]:
        """Those of its settings that may still count: reading has not gone on behind them."""

    @property
    def auto_commits(self) -> bool:
        """Whether it commits by itself what reads have returned."""

    async def settled(self) -> None:
        """Returns when it is known of all records that were taken whether their client has them."""

    async def reads_settled(self) -> None:
        """As `settled`, of all but pushes, whose client may be slow for as long as it likes."""

    @property
    def in_doubt(self) -> bool:
        """Whether records were put back which the client may have got, and it has read nothing since: what it takes for
        returned is more than what a commit would cover."""

    async def standing(self) -> tuple[Positions, Positions]:
        """Where reading goes on in each partition that it has, as far as that is known; and what its group has
        committed of them. Of anchors that have not been used, what these say of both."""

    async def hand_over(self) -> tuple[Positions, Positions]:
        """As `standing`, for another process that goes on there: what reads have returned is committed before, if that
        is automatic, and nothing behind it. Only to be closed then. Needs no answer of Kafka's: where none comes at
        once, what it has committed is as far as the consumer knows."""

    async def unstored_starts(self) -> Positions:
        """Where partitions began that it has got, of which nothing is committed and whose start would be another one
        later: at the end of the log."""

    async def close(self, leave: bool = True) -> None:
        """Leaves the group; answers within the close deadline even if Kafka does not (reliability.md §3b).

        With ``leave`` False a member with an ``instance_id`` keeps its place for whoever comes with the same one.
        """


class Reader(Protocol):
    async def fetch(self, topic: str, partition: int, offset: int, count: int, encoder: RecordsEncoder) -> RecordBatch:
        """Up to ``count`` records of a partition from ``offset``; fewer at the log's end (kafka-rest-http.md §5.4)."""
