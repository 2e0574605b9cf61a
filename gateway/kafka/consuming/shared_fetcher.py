"""A topic that is read once for all members of groups that are at its end.

A hundred groups with a member each would fetch every record a hundred times, at about 40 µs for the gateway and more
for the broker. Members that have caught up let the feed bring their records instead, partition by partition, as the
very same batches, encoded once for all that have the same formats; in their groups nothing changes. One that falls
behind, or loses its place in any way, fetches by itself again, from the offset after its last record, and joins later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import confluent_kafka
from confluent_kafka import KafkaError as Code
from confluent_kafka import Message

from kafka_gateway.kafka.clients.header_repair import without_unreadable_headers
from kafka_gateway.kafka.errors import describe
from kafka_gateway.records import ConsumedRecord, RecordBatch

if TYPE_CHECKING:
    from kafka_gateway.kafka.consuming.member import Build, KafkaMember

_log = logging.getLogger(__name__)

_MOST_RECORDS = 500
_UNUSED_S = 5.0
"""A feed without members ends after this time."""
_PASSING = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PART,
        Code.UNKNOWN_TOPIC_ID,
        Code._UNKNOWN_TOPIC,
        Code._UNKNOWN_PARTITION,
        Code._ALL_BROKERS_DOWN,
        Code._TRANSPORT,
        Code._RESOLVE,
        Code._TIMED_OUT,
    }
)


class SharedFetcher:
    """Belongs to the event loop; made by `gateway.kafka.consuming.loop_polled_members`."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._consumer: confluent_kafka.Consumer | None = None
        self.next: dict[int, int] = {}
        """The offset that comes next, of every partition that is read."""
        self.members: dict[KafkaMember, None] = {}
        """Who gets the records."""
        self._used_at = time.monotonic()
        self._failed = False

    def build(self, build: Build) -> None:
        """On a thread."""
        self._consumer = build()

    def offers(self, partition: int, offset: int) -> bool:
        """Whether it will bring all records of the partition from this offset on. The first who asks decides where."""
        if self._failed or self._consumer is None:
            return False
        at = self.next.get(partition)
        if at is None:
            self._consumer.incremental_assign([confluent_kafka.TopicPartition(self._topic, partition, offset)])
            self.next[partition] = offset
            for member in self.members:  # it has a partition more than they have
                if member.exact:
                    member.part_from(self)
            return True
        return offset >= at

    def poll(self, now: float) -> bool:
        """Hands out what there is; True if there may be more."""
        if self._consumer is None or self._failed:
            return False
        if self.members:
            self._used_at = now
        found = self._consumer.consume(_MOST_RECORDS, 0)
        if not found:
            return False
        more = len(found) == _MOST_RECORDS
        if any(map(Message.error, found)):
            for record in found:
                if (error := record.error()) is not None and error.code() not in _PASSING:
                    _log.info("The topic %s is not read once for all any more: %s", self._topic, describe(error))
                    self.fail()
                    return False
            found = [record for record in found if record.error() is None]
        without_unreadable_headers(found)
        ends = {record.partition() or 0: (record.offset() or 0) + 1 for record in found}
        # Before they are handed out: who leaves meanwhile has had them.
        self.next.update(ends)
        batch = RecordBatch(cast(Sequence[ConsumedRecord], found), 0)
        for member in list(self.members):
            if member not in self.members:
                continue
            try:
                member.take_fed(batch, ends, now)
            except Exception:
                _log.exception("A member could not take what was read for all")
                member.leave_feed()
            if not member.exact and member in self.members:
                member.compare_with_feed(self)
        return more

    def fail(self) -> None:
        """Its members fetch by themselves again."""
        self._failed = True
        for member in list(self.members):
            member.leave_feed()

    def over(self, now: float) -> bool:
        return self._failed or (not self.members and now - self._used_at > _UNUSED_S)

    def leave(self) -> None:
        """On a thread of its own."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
