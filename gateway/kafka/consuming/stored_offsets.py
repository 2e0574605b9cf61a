"""What a group has committed, as far as one of its consumers knows without asking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.commits import Done
from kafka_gateway.kafka.ports.topics import PartitionOffset


class StoredOffsets:
    """What Kafka has said last of each partition, and what was committed by this consumer since. Belongs to whoever
    polls the consumer.

    A commit of which nobody knows what became of it counts as not stored. An anchor that says so is right in both
    cases: either the group has what was before, and the anchor counts, or it has that commit, and goes on at it.
    """

    def __init__(self) -> None:
        self._known: dict[Partition, int] = {}

    def tell(self, partitions: Collection[Partition], stored: Mapping[Partition, int]) -> None:
        """Kafka's answer about these; what is missing in it has no committed offset."""
        for place in partitions:
            if place in stored:
                self._known[place] = stored[place]
            else:
                self._known.pop(place, None)

    def take_outcome(self, offsets: Sequence[PartitionOffset], done: Done, error: ServiceError | None) -> None:
        """Of a commit of these, for `Commits.send`; passes it on."""
        if error is None:
            for each in offsets:
                self._known[each.topic, each.partition] = each.offset
        done(error)

    def of(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Without those of which nothing is committed, or known."""
        return {place: self._known[place] for place in partitions if place in self._known}
