"""A topic that is read once for all members of groups that are at its end.

A hundred groups with a member each would fetch every record a hundred times, at about 40 µs for the gateway and more
for the broker. Members that have caught up let the fetcher bring their records instead, partition by partition, as the
very same batches, encoded once for all that have the same formats; in their groups nothing changes. One that falls
behind, or loses its place in any way, fetches by itself again, from the offset after its last record, and joins later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import cast

from kafka_gateway.kafka.consuming.buffer import size_of
from kafka_gateway.kafka.consuming.client import Build, GroupClient
from kafka_gateway.kafka.consuming.shared_reader import SharedReader
from kafka_gateway.records import ConsumedRecord, RecordBatch

_log = logging.getLogger("gateway.kafka.consumer")

_MOST_RECORDS = 500
_MOST_TOGETHER = 16
_ACTIVE_S = 1.0
_UNUSED_S = 5.0
"""A fetcher without members ends after this time."""


class SharedFetcher:
    """Belongs to the event loop; made by `gateway.kafka.consuming.loop_polled_members`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._client: GroupClient | None = None
        self.next: dict[int, int] = {}
        """The offset that comes next, of every partition that is read."""
        self.members: dict[SharedReader, None] = {}
        """The readers that get the records."""
        self._used_at = time.monotonic()
        self._failed = False
        self._together: dict[tuple[RecordBatch, ...], RecordBatch] = {}
        self.active_until = 0.0
        """Until then it is polled often."""

    @property
    def has_failed(self) -> bool:
        """Whether nothing comes of it any more."""
        return self._failed

    def build(self, build: Build) -> None:
        """On a thread."""
        client = GroupClient(build, blocking=False, joins=False)
        client.open()
        self._client = client

    def offers(self, partition: int, offset: int) -> bool:
        """Whether it will bring all records of the partition from this offset on. The first who asks decides where."""
        if self._failed or self._client is None:
            return False
        at = self.next.get(partition)
        if at is None:
            self._client.add({(self.topic, partition): offset})
            self.next[partition] = offset
            for member in self.members:  # it has a partition more than they have
                if member.exact:
                    member.part_from(self)
            return True
        return offset >= at

    def together(self, batches: Sequence[RecordBatch]) -> RecordBatch:
        """Batches that come one after the other, as one: the same for all who ask for the same ones."""
        key = tuple(batches)
        found = self._together.get(key)
        if found is None:
            if len(self._together) >= _MOST_TOGETHER:
                self._together.clear()
            records = [record for batch in batches for record in batch.records]
            found = self._together[key] = RecordBatch(records, sum(batch.size_bytes for batch in batches))
        return found

    def poll(self, now: float) -> bool:
        """Hands out what there is; True if there may be more."""
        client = self._client
        if client is None or self._failed:
            return False
        if self.members:
            self._used_at = now
        client.tend(now)
        found = client.poll(_MOST_RECORDS, 0)
        if client.failure is not None or client.stopped:
            failure = client.failure or next(iter(client.stopped.values()))
            _log.info("The topic %s is not read once for all any more: %s", self.topic, failure.message)
            self.fail()
            return False
        if not found:
            self._together.clear()
            return False
        more = len(found) == _MOST_RECORDS
        self.active_until = now + _ACTIVE_S
        ends = {record.partition() or 0: (record.offset() or 0) + 1 for record in found}
        # Before they are handed out: who leaves meanwhile has had them.
        self.next.update(ends)
        batch = RecordBatch(cast(Sequence[ConsumedRecord], found), size_of(found))
        for member in list(self.members):
            if member not in self.members:
                continue
            try:
                if member.exact:
                    member.hand_on(batch, now)
                    continue
                member.take(batch, ends, now)
            except Exception:
                _log.exception("A member could not take what was read for all")
                member.leave()
            if member in self.members:
                member.compare_with(self)
        return more

    def fail(self) -> None:
        """Its members fetch by themselves again."""
        self._failed = True
        for member in list(self.members):
            member.leave()

    def over(self, now: float) -> bool:
        return self._failed or (not self.members and now - self._used_at > _UNUSED_S)

    def leave(self) -> None:
        """On a thread of its own."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
