"""How far the reads of a consumer instance have come, and the automatic commits of that."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import KafkaException

from kafka_gateway.errors import PartlyCommitted, ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.commits import next_offsets, not_stored
from kafka_gateway.kafka.errors import to_consumer_error
from kafka_gateway.kafka.ports.topics import PartitionOffset

_log = logging.getLogger("gateway.kafka.consumer")


class AutoCommit:
    """Positions behind the records that reads have returned. Belongs to the thread of the consumer."""

    def __init__(self, client: GroupClient, every_s: float | None) -> None:
        """``every_s``: the time from a change until it is committed; None: nothing is committed automatically."""
        self._client = client
        self._every_s = every_s
        self.positions: dict[Partition, int] = {}
        self._due = 0.0
        self._changed = False
        self._doubted: Sequence[PartitionOffset] = ()
        """Of a commit that named a topic which is gone: what may have been stored all the same."""

    def idle_s(self, most: float) -> float:
        """How long the thread may wait until something is due, ``most`` at most."""
        if self._changed and self._every_s is not None:
            return min(most, max(0.0, self._due - time.monotonic()))
        return most

    def move(self, positions: Mapping[Partition, int]) -> None:
        """Notes the positions that reading has reached."""
        if self._client.anchors.left:
            self._client.anchors.end(positions)
        self._note(positions)

    def _note(self, positions: Mapping[Partition, int]) -> None:
        self.positions |= positions
        if self._every_s is not None and not self._changed:
            self._changed = True
            self._due = time.monotonic() + self._every_s

    @property
    def stores_starts(self) -> bool:
        """Whether `start_at` has a use for starts."""
        return self._every_s is not None

    def start_at(self, partitions: Collection[Partition]) -> None:
        """These were assigned, by the group or by hand, and it is known where they start. Starts that the group had not
        committed are stored at once: a gateway that is killed before the first commit would begin at the end of the
        log after its restart, and skip what came meanwhile.

        Where they went on at an anchor, their client has read up to there, from another process.
        """
        anchored, self._client.anchored = self._client.anchored, {}
        if anchored:
            self._note(anchored)
        if self._every_s is None:
            return
        starts = self._client.uncommitted_starts
        first = {name: starts[name] for name in partitions if name in starts and name not in self.positions}
        if first:
            self.positions |= first
            self._changed = True
            self._due = 0.0

    def commit_due(self, now: float) -> None:
        """Commits if it is time to. To be called in every round of the thread."""
        if self._doubted:
            self._drop_the_gone()
        if self._changed and self._every_s is not None and now >= self._due:
            if self._client.commits.on_their_way:
                self._due = now + self._every_s  # Kafka is slow: they would pile up
            else:
                self.commit()

    def commit(self) -> None:
        """Commits what was returned, without waiting."""
        if self._every_s is not None:
            self._changed = False
            self._send(self.positions)

    def commit_of(self, partitions: Collection[Partition]) -> None:
        """Commits what was returned of partitions that are about to be given up."""
        if self._every_s is not None:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._send({name: offset for name, offset in self.positions.items() if name in partitions})

    def finish(self) -> None:
        """Commits for the last time; not again when the client gives its partitions up while it closes."""
        if self._changed:
            self.commit()
        self.stop()

    def stop(self) -> None:
        """Ends all commits."""
        self._every_s = None

    def forget(self, partitions: Collection[Partition]) -> None:
        for name in partitions:
            self.positions.pop(name, None)

    def _send(self, positions: Mapping[Partition, int]) -> None:
        def done(error: ServiceError | None) -> None:
            if isinstance(error, PartlyCommitted):
                self._doubted = error.offsets
            elif error is not None:
                self.move({})  # so it is tried again
                _log.warning("An automatic commit failed: %s", error.message)

        if positions:
            try:
                self._client.commit(next_offsets(positions), done)
            except KafkaException as error:
                done(to_consumer_error(error))

    def _drop_the_gone(self) -> None:
        """Logs which partitions are gone, and commits nothing of them again. Blocks."""
        doubted, self._doubted = self._doubted, ()
        try:
            stored = self._client.committed([(each.topic, each.partition) for each in doubted])
        except KafkaException as error:
            _log.warning("It is not known what an automatic commit has stored: %s", to_consumer_error(error).message)
            return
        gone = not_stored(doubted, stored)
        if gone:
            self.forget(gone)
            _log.warning("An automatic commit was stored in part: %s", PartlyCommitted(gone).message)
