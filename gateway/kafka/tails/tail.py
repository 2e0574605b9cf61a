"""One client's place in a topic, and the groups of clients that are at the same place. All on the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.tails import Gap, TailBatch, TailListener
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka.tails.fetcher import Chunk, Filter, batch_of
from kafka_gateway.metrics.numbers import KafkaNumbers, Traffic
from kafka_gateway.records import RecordBatch, RecordsEncoder

_log = logging.getLogger("gateway.kafka.streams")

Positions: TypeAlias = dict[int, PartitionOffset]
"""The next offset by partition, in order. Never changed, always replaced: many hold the same one."""

NO_ENDS: Mapping[int, int] = {}


class TailObserver(Protocol):
    """The topic of a tail, as the tail sees it."""

    numbers: KafkaNumbers

    def resumed(self, tail: KafkaTail) -> None: ...
    def paused(self, tail: KafkaTail, cohort: Cohort) -> None: ...
    def closed(self, tail: KafkaTail) -> None: ...


class KafkaTail:
    """The `Tail` port. It is in a cohort while records flow; otherwise it knows its positions itself."""

    __slots__ = (
        "_detached",
        "_ends",
        "_owner",
        "behind",
        "catch_up",
        "cohort",
        "encoder",
        "failure",
        "gaps",
        "last",
        "listener",
        "partitions",
        "running",
        "started",
        "until_end",
    )

    def __init__(
        self,
        owner: TailObserver,
        listener: TailListener,
        encoder: RecordsEncoder,
        partitions: Filter,
        positions: Positions,
        ends: Mapping[int, int],
        until_end: bool,
    ) -> None:
        self.listener = listener
        self.encoder = encoder
        self.partitions = partitions
        self.until_end = until_end
        self.cohort: Cohort | None = None
        self.last: object = None
        """What the cohort gave it last: tells whether it has its share of what is being given just now."""
        self.behind: Mapping[int, int] | None = ends
        """The ends that it has not reached yet."""
        self.gaps: list[Gap] = []
        """To be told before anything else."""
        self.failure: ServiceError | None = None
        self.catch_up: object = None
        """What waits for it while it pauses."""
        self.running = False
        """Whether it is to get records: resumed, and not paused again."""
        self.started = False
        self._owner: TailObserver | None = owner
        self._ends = ends
        self._detached = positions

    @property
    def positions(self) -> Sequence[PartitionOffset]:
        return tuple(self.places.values())

    @property
    def ends(self) -> Mapping[int, int]:
        return self._ends

    @property
    def closed(self) -> bool:
        return self._owner is None

    def pause(self) -> None:
        self.running = False
        cohort = self.cohort
        if cohort is not None and self._owner is not None:
            self.leave()
            self._owner.paused(self, cohort)

    def resume(self) -> None:
        if self._owner is not None and not self.running:
            self.running = self.started = True
            self._owner.resumed(self)

    def close(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            self.running = False
            self.leave()
            owner.closed(self)

    @property
    def places(self) -> Positions:
        """As `positions`, by partition."""
        cohort = self.cohort
        if cohort is None:
            return self._detached
        return cohort.before if cohort.giving is not None and self.last is not cohort.giving else cohort.positions

    def move(self, positions: Positions) -> None:
        """Sets the positions of a tail that is in no cohort."""
        self._detached = positions

    def leave(self) -> None:
        """Out of its cohort, with the positions behind what it was given."""
        self._detached = self.places
        self.last = None  # or it would keep a whole chunk in memory
        if self.cohort is not None:
            self.cohort.remove(self)

    def reached(self, positions: Positions) -> bool:
        """Whether everything below `ends` lies behind these positions."""
        return self.behind is None or _beyond(positions, self.behind)

    def caught_up(self) -> None:
        """Tells it to the listener; a tail that reads until its end is closed by it."""
        self.behind = None
        self.tell(lambda listener: listener.caught_up())
        if self.until_end:
            self.close()

    def fail(self, error: ServiceError) -> None:
        """Ends it; a listener that has not begun is told when it does."""
        if self.closed:
            return
        if self.started:
            self.close()
            self.tell(lambda listener: listener.failed(error))
        else:
            self.failure = error

    def tell(self, call: Callable[[TailListener], None]) -> None:
        """Calls the listener; one that raises loses its tail and harms nobody else."""
        try:
            call(self.listener)
        except Exception:
            self.broken()

    def tell_gap(self, gap: Gap) -> None:
        """Tells the listener that records are missing."""
        if self._owner is not None:
            self._owner.numbers.stream_gaps += 1
        self.tell(lambda listener: listener.gap(gap))

    def broken(self) -> None:
        """The listener raised an exception, which is being handled."""
        _log.exception("The listener of a stream failed")
        if not self.closed:
            self.fail(ServiceError())


class Cohort:
    """Tails with the same positions and the same partitions: they all get the very same batches.

    ``until`` cuts what it gives at these offsets; tails with and without that are never in one cohort.
    """

    __slots__ = (
        "before", "behind", "catch_up", "consumed", "giving", "partitions", "positions", "tails", "topic", "until",
    )  # fmt: skip

    def __init__(
        self,
        topic: str,
        partitions: Filter,
        positions: Positions,
        until: Mapping[int, int] | None,
        consumed: Traffic | None = None,
    ) -> None:
        self.consumed = consumed
        """Counts what is given."""
        self.topic = topic
        self.partitions = partitions
        self.positions = positions
        self.until = until
        self.tails: dict[KafkaTail, None] = {}
        self.catch_up: object = None
        """The catch-up reader that reads for it; None at the live edge."""
        self.behind = False
        """Whether some tail may not have caught up yet."""
        self.giving: object = None
        """The batch that is being delivered; ``before``: the positions of tails that do not have it yet."""
        self.before = positions

    def key(self) -> object:
        """Equal keys can be one cohort."""
        return self.partitions, id(self.until), tuple(place.offset for place in self.positions.values())

    def add(self, tails: Iterable[KafkaTail]) -> None:
        for tail in tails:
            tail.cohort = self
            self.tails[tail] = None
            self.behind = self.behind or tail.behind is not None

    def remove(self, tail: KafkaTail) -> None:
        self.tails.pop(tail, None)
        tail.cohort = None

    def merge(self, other: Cohort) -> None:
        """Takes over the tails of a cohort with the same key."""
        self.add(list(other.tails))
        other.tails.clear()

    def take(self, chunk: Chunk) -> None:
        """Gives the records of the chunk that lie ahead of the positions."""
        old = self.positions
        until = self.until
        new = None
        for partition, offset in chunk.nexts.items():
            place = old.get(partition)
            if until is not None:
                offset = min(offset, until.get(partition, offset))
            if place is not None and place.offset < offset:
                new = new or old.copy()
                new[partition] = PartitionOffset(self.topic, partition, offset)
        if new is None:
            return
        self.before, self.positions = old, new
        if chunk.firsts:
            records = self._share(chunk, old)
            if len(records):
                self._give(TailBatch(records, tuple(new.values())))
        if self.behind:
            self.check_ends()

    def check_ends(self) -> None:
        """Tells the tails that have reached the ends of their opening."""
        behind = False
        seen: dict[int, bool] = {}  # many have the same ends
        for tail in list(self.tails):
            if tail.behind is None or tail.cohort is not self:
                continue
            reached = seen.get(id(tail.behind))
            if reached is None:
                reached = seen[id(tail.behind)] = tail.reached(self.positions)
            if reached:
                tail.caught_up()
            else:
                behind = True
        self.behind = behind

    def skip(self, partition: int, offset: int, back: bool = False) -> None:
        """Tells of a gap up to this offset, if the position lies before it; with ``back``, if it lies behind it."""
        place = self.positions.get(partition)
        if place is None or not (place.offset > offset if back else place.offset < offset):
            return
        self.before = self.positions
        self.positions = {**self.positions, partition: PartitionOffset(self.topic, partition, offset)}
        gap = Gap(self.topic, partition, place.offset, offset)
        self.giving = gap
        for tail in list(self.tails):
            if tail.cohort is self:
                tail.last = gap
                tail.tell_gap(gap)
        self.giving = None
        if self.behind:
            self.check_ends()

    def _share(self, chunk: Chunk, old: Positions) -> RecordBatch:
        until = self.until
        for partition, first in chunk.firsts.items():
            place = old.get(partition)
            if place is None:
                if self.partitions is None:
                    break  # the partition came later, and not for those who read until an end
                continue
            if place.offset > first or (
                until is not None and chunk.nexts[partition] > until.get(partition, chunk.nexts[partition])
            ):
                break
        else:
            return chunk.part(self.partitions) if self.partitions is not None else chunk.batch
        return batch_of(
            [
                record
                for record in chunk.batch.records
                if (place := old.get(record.partition() or 0)) is not None
                and place.offset <= (offset := record.offset() or 0)
                and (until is None or offset < until.get(place.partition, offset + 1))
            ]
        )

    def _give(self, batch: TailBatch) -> None:
        self.giving = batch
        tails = list(self.tails)
        given = len(tails)
        for tail in tails:
            # One that was paused or closed by what another's listener did keeps its place in front of this batch.
            if tail.cohort is self:
                tail.last = batch
                try:
                    tail.listener.records(batch)
                except Exception:
                    tail.broken()
            else:
                given -= 1
        self.giving = None
        if self.consumed is not None:
            records = batch.records
            self.consumed.add("stream", self.topic, len(records) * given, records.size_bytes * given)


def _beyond(positions: Positions, ends: Mapping[int, int]) -> bool:
    return all(place.offset >= ends.get(partition, 0) for partition, place in positions.items())
