"""One reader of a group in a topic that is read once for all (`shared_fetcher`): its position in each partition.

The reader's own client holds the partitions whose records the fetcher brings. Positions are kept here, partition by
partition, so that a reader that leaves the fetcher, for whatever reason, goes on behind what it has had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from confluent_kafka import Message

from kafka_gateway.kafka.consuming.buffer import size_of
from kafka_gateway.records import RecordBatch

FetcherKey = tuple[str, str]
"""Topic and isolation level."""


class FetcherPort(Protocol):
    """A topic that is read once for all who are at its end, as one of them sees it."""

    members: dict[SharedReader, None]
    next: dict[int, int]
    """The offset that comes next, of every partition that is read."""

    @property
    def has_failed(self) -> bool:
        """Whether nothing comes of it any more."""

    def offers(self, partition: int, offset: int) -> bool:
        """Whether it will bring all records of the partition from this offset on."""

    def together(self, batches: Sequence[RecordBatch]) -> RecordBatch:
        """Batches that come one after the other, as one: the same for all who ask for the same ones."""


class SharedReader:
    """Which partitions the fetcher brings, and where the reader is in each. Belongs to the event loop."""

    def __init__(self, take: Callable[[RecordBatch, float], None], left: Callable[[set[int]], None]) -> None:
        """
        Args:
            take: gets the records that come next, maybe none, and the time (`time.monotonic`).
            left: hears of the partitions that the fetcher brings no longer; they go on at ``next``.
        """
        self.hand_on = take
        self._left = left
        self.next: dict[int, int] = {}
        """The next offset of every partition of which it is known: that a record has come from, say."""
        self.fed: set[int] = set()
        """Partitions whose records come from the fetcher."""
        self.exact = False
        """Whether the fetcher's next record is this reader's, in all partitions, so that their batches are the same."""
        self.fetcher: FetcherPort | None = None

    def take(self, batch: RecordBatch, ends: dict[int, int], now: float) -> None:
        """What the fetcher has read: the reader gets of it what it has not had. One that is `exact` is handed it as it
        is. ``ends`` are the fetcher's next offsets, of the partitions in the batch.
        """
        known = self.next
        mine = [
            record
            for record in batch.records
            if record.partition() in self.fed and (record.offset() or 0) >= known[record.partition() or 0]
        ]
        if len(mine) != len(batch):
            batch = RecordBatch(mine, size_of(cast(Sequence[Message], mine)))
        for partition, end in ends.items():
            if partition in self.fed and end > known[partition]:
                known[partition] = end
        self.hand_on(batch, now)

    def join(self, fetcher: FetcherPort, partitions: Iterable[int]) -> None:
        """The fetcher brings these from now on, too: it `offers` them from ``next``."""
        self.fed.update(partitions)
        self.fetcher = fetcher
        fetcher.members[self] = None
        if self.exact:
            self.part_from(fetcher)
        self.compare_with(fetcher)

    def leave(self) -> None:
        """What the fetcher brought is to be fetched by the reader again."""
        fetcher, self.fetcher = self.fetcher, None
        if fetcher is None:
            return
        fetcher.members.pop(self, None)
        if self.exact:
            self.part_from(fetcher)
        fed, self.fed = self.fed, set()
        self._left(fed)

    def part_from(self, fetcher: FetcherPort) -> None:
        """Its batches are not this reader's any more, though its positions so far were."""
        self.next.update((partition, fetcher.next[partition]) for partition in self.fed)
        self.exact = False

    def compare_with(self, fetcher: FetcherPort) -> None:
        """Looks whether its batches are this reader's from now on, and its positions, too."""
        self.exact = len(self.fed) == len(fetcher.next) and all(
            self.next[partition] == offset for partition, offset in fetcher.next.items()
        )
