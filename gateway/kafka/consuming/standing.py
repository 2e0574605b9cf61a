"""Where a consumer stands, for whoever is to go on in its place (cluster.md §4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException

from kafka_gateway.definitions import Anchor
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.fed_partitions import FedPartitions
from kafka_gateway.kafka.consuming.offset_queries import QUERY_S
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition

_log = logging.getLogger("gateway.kafka.consumer")

HAND_OVER_S = 0.5
"""How long a hand-over waits for Kafka to store what is committed, and for what it has stored: all of it takes three
seconds at most, by default, and half of them belong to the requests at work."""

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
        self._sought: dict[tuple[Partition, int], int] = {}
        """The ends of logs that were sought, as Kafka has told them last."""

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
        positions = self._positions(self._ask_end)
        return self._with_unused(positions, self._ask_stored(QUERY_S))

    def for_good(self) -> tuple[Offsets, Offsets]:
        """As `now`; from here on nothing is committed automatically, so that nobody who goes on there is taken back.

        Where Kafka does not answer at once, what this consumer knows by itself counts. Raises nothing of Kafka's.
        """
        self._commit_no_more()
        try:
            stored = self._ask_stored(HAND_OVER_S)
        except KafkaException as error:
            _log.info("Kafka does not tell what a group has committed, so that counts which was known: %s", error)
            stored = {TopicPartition(*one): at for one, at in self._client.stored.of(self._client.assigned).items()}
        return self._with_unused(self._positions(self._known_end), stored)

    def _ask_stored(self, within_s: float) -> Offsets:
        client = self._client
        stored = {(each.topic, each.partition): each.offset for each in client.committed(client.assigned, within_s)}
        client.stored.tell(client.assigned, stored)
        return {TopicPartition(*place): offset for place, offset in stored.items()}

    def _positions(self, end_of: Callable[[Partition, int], int]) -> Offsets:
        client = self._client
        self._fed.absorb()
        found = {place: offset for place, offset in self._goes_on().items() if place in client.assigned}
        for place in client.assigned - found.keys():
            start = client.starts.get(place)
            if start in (OFFSET_BEGINNING, OFFSET_END):  # it was sought, and nothing has come since
                found[place] = end_of(place, start)
        return {TopicPartition(*place): offset for place, offset in found.items() if offset >= 0}

    def _ask_end(self, place: Partition, end: int, within_s: float = QUERY_S) -> int:
        first, last = self._client.bounds(place, within_s)
        self._sought[place, end] = found = first if end == OFFSET_BEGINNING else last
        return found

    def _known_end(self, place: Partition, end: int) -> int:
        """As it was when it was sought; -1 if nobody knows."""
        if (found := self._sought.get((place, end))) is not None:
            return found
        try:
            return self._ask_end(place, end, HAND_OVER_S)
        except KafkaException as error:
            _log.info("Kafka does not tell where %s-%d goes on, which a hand-over leaves out: %s", *place, error)
            return -1

    def _with_unused(self, positions: Offsets, committed: Offsets) -> tuple[Offsets, Offsets]:
        for place, anchor in self._client.anchors.left.items():
            if (unused := TopicPartition(*place)) not in positions:
                positions[unused] = anchor.at
                committed.pop(unused, None)
                if anchor.committed is not None:
                    committed[unused] = anchor.committed
        return positions, committed

    def unstored_starts(self) -> Offsets:
        """Starts at the end of the log, of partitions that it has and of which nothing is committed."""
        client = self._client
        return {TopicPartition(*place): offset for place, offset in client.starts_to_store(client.assigned).items()}
