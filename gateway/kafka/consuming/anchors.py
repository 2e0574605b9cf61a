"""From where partitions go on that another process has read before (cluster.md §4.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kafka_gateway.definitions import Anchor, start_of
from kafka_gateway.kafka.consuming.buffer import Partition


class Anchors:
    """Anchors of one consumer that may still count, assigned or not: whoever goes on in its place needs them again.

    One ends when the group has committed something else, and when reading has gone on behind it. Belongs to whoever
    polls the consumer; ``left`` is never changed, only replaced, so any thread may look at it.
    """

    def __init__(self, anchors: Mapping[Partition, Anchor]) -> None:
        self.left: Mapping[Partition, Anchor] = {(*place,): anchor for place, anchor in anchors.items()}

    def starts(self, partitions: Collection[Partition], committed: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where those of these begin that have an anchor which counts. ``committed``: what the group has, of these."""
        mine = {place: self.left[place] for place in partitions if place in self.left}
        counting = {place: each for place, each in mine.items() if start_of(each, committed.get(place)) == each.at}
        self.end(mine.keys() - counting.keys())
        return {place: each.at for place, each in counting.items()}

    def end(self, partitions: Collection[Partition]) -> None:
        """Reading goes on elsewhere in these."""
        if any(place in self.left for place in partitions):
            gone = set(partitions)
            self.left = {place: each for place, each in self.left.items() if place not in gone}

    def keep(self, topics: Collection[str]) -> None:
        """Ends those of all other topics."""
        self.left = {place: each for place, each in self.left.items() if place[0] in topics}
