"""Topics as they grow, followed without groups by any number of clients (streams.md §4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.records import RecordBatch, RecordsEncoder


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
