"""Where one reader of a group stands in a topic that is read once for all (`shared_fetcher`).

The reader's own client holds the partitions whose records the feed brings. Positions are kept here, partition by
partition, so that a reader that leaves the feed, for whatever reason, goes on behind what it has had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from kafka_gateway.records import RecordBatch

FeedKey = tuple[str, str]
"""Topic and isolation level."""


class SharedFeed(Protocol):
    """A topic that is read once for all who are at its end, as one of them sees it."""

    members: dict[FeedPlace, None]
    next: dict[int, int]
    """The offset that comes next, of every partition that is read."""

    @property
    def has_failed(self) -> bool:
        """Whether nothing comes of it any more."""

    def offers(self, partition: int, offset: int) -> bool:
        """Whether it will bring all records of the partition from this offset on."""

    def together(self, batches: Sequence[RecordBatch]) -> RecordBatch:
        """Batches that come one after the other, as one: the same for all who ask for the same ones."""


class FeedPlace:
    """Belongs to the event loop."""

    def __init__(self, take: Callable[[RecordBatch, float], None], left: Callable[[set[int]], None]) -> None:
        """
        Args:
            take: gets the records that come next, maybe none, and the time (`time.monotonic`).
            left: hears of the partitions that the feed brings no longer; they go on at ``next``.
        """
        self._take = take
        self._left = left
        self.next: dict[int, int] = {}
        """The next offset of every partition of which it is known: that a record has come from, say."""
        self.fed: set[int] = set()
        """Partitions whose records come from the feed."""
        self.exact = False
        """Whether the feed's next record is this reader's, in all partitions, so that their batches are the same."""
        self.feed: SharedFeed | None = None

    def take(self, batch: RecordBatch, ends: dict[int, int], now: float) -> None:
        """What the feed has read. ``ends`` are its next offsets, of the partitions in the batch."""
        if not self.exact:
            known = self.next
            mine = [
                record
                for record in batch.records
                if record.partition() in self.fed and (record.offset() or 0) >= known[record.partition() or 0]
            ]
            if len(mine) != len(batch):
                batch = RecordBatch(mine, 0)
            for partition, end in ends.items():
                if partition in self.fed and end > known[partition]:
                    known[partition] = end
        self._take(batch, now)

    def join(self, feed: SharedFeed, partitions: Iterable[int]) -> None:
        """The feed brings these from now on, too: it `offers` them from ``next``."""
        self.fed.update(partitions)
        self.feed = feed
        feed.members[self] = None
        if self.exact:
            self.part_from(feed)
        self.compare_with(feed)

    def leave(self) -> None:
        """What the feed brought is to be fetched by the reader again."""
        feed, self.feed = self.feed, None
        if feed is None:
            return
        feed.members.pop(self, None)
        if self.exact:
            self.part_from(feed)
        fed, self.fed = self.fed, set()
        self._left(fed)

    def part_from(self, feed: SharedFeed) -> None:
        """Its batches are not this reader's any more, though its positions so far were."""
        self.next.update((partition, feed.next[partition]) for partition in self.fed)
        self.exact = False

    def compare_with(self, feed: SharedFeed) -> None:
        """Looks whether its batches are this reader's from now on, and its positions, too."""
        self.exact = len(self.fed) == len(feed.next) and all(
            self.next[partition] == offset for partition, offset in feed.next.items()
        )
