"""Where a consumer stands, for whoever is to go on in its place (cluster.md §4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

from kafka_gateway.definitions import Anchor
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.fed_partitions import FedPartitions
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition

Offsets = dict[TopicPartition, int]


class Standing:
    """Belongs to the consumer's thread."""

    def __init__(
        self,
        client: GroupClient,
        fed: FedPartitions,
        goes_on: Callable[[], Mapping[Partition, int]],
        commit_no_more: Callable[[], None],
    ) -> None:
        """``goes_on``: the next offset of each partition of which it is known, where what nobody has accepted yet comes
        again."""
        self._client = client
        self._fed = fed
        self._goes_on = goes_on
        self._commit_no_more = commit_no_more

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*one) for one in sorted(self._client.assigned)]

    def reached(self) -> Offsets:
        """See `Consumer.reached`."""
        return {TopicPartition(*one): offset for one, offset in self._client.ends.items()}

    def committed(self, partitions: Sequence[TopicPartition]) -> list[PartitionOffset]:
        """See `Consumer.committed`. Blocks. Raises KafkaException."""
        return self._client.committed([(one.topic, one.partition) for one in partitions])

    @property
    def unused_anchors(self) -> Mapping[Partition, Anchor]:
        """See `Anchors.left`; on any thread."""
        return self._client.anchors.left

    def now(self) -> tuple[Offsets, Offsets]:
        """Where reading goes on in what is assigned, as far as Kafka can tell it; and what the group has committed of
        that. Blocks. Raises KafkaException.

        Where that is not known, the partition not being here or its start not found yet, as of an anchor that has not
        been used: its client has been given what is before that.
        """
        client = self._client
        self._fed.absorb()
        found = {place: offset for place, offset in self._goes_on().items() if place in client.assigned}
        for place in client.assigned - found.keys():
            start = client.starts.get(place)
            if start in (OFFSET_BEGINNING, OFFSET_END):  # it was sought, and nothing has come since
                first, end = client.bounds(place)
                found[place] = first if start == OFFSET_BEGINNING else end
        positions = {TopicPartition(*place): offset for place, offset in found.items() if offset >= 0}
        stored = client.committed(sorted(client.assigned))
        committed = {TopicPartition(each.topic, each.partition): each.offset for each in stored}
        for place, anchor in client.anchors.left.items():
            if (unused := TopicPartition(*place)) not in positions:
                positions[unused] = anchor.at
                committed.pop(unused, None)
                if anchor.committed is not None:
                    committed[unused] = anchor.committed
        return positions, committed

    def for_good(self) -> tuple[Offsets, Offsets]:
        """As `now`; from here on nothing is committed automatically, so that nobody who goes on there is taken back."""
        self._commit_no_more()
        return self.now()

    def unstored_starts(self) -> Offsets:
        """Starts at the end of the log, of partitions that it has and of which nothing is committed."""
        client = self._client
        return {TopicPartition(*place): offset for place, offset in client.starts_to_store(client.assigned).items()}
