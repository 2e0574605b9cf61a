"""The records of a consumer instance as a stream of events (streams.md §1, last rows): a push in another shape.

Everything about who gets which record is a push's: an instance has one subscription at most, records count as returned
when they have been written, and its commits and all other requests work as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gateway.dialect import REST
from gateway.errors import ServiceError, ShuttingDown
from gateway.kafka.ports import PartitionOffset, ReadLimits, TakenBatch, TopicPartition
from gateway.records import RecordsEncoder
from gateway.stream import Event
from services.instances import ConsumerInstance
from services.push_stream import PushStream
from services.stream_token import token, token_part
from services.topic_stream import ready_event


class InstanceStream(PushStream):
    """``ready`` comes behind the first read, which is when a subscribed consumer has joined its group."""

    def __init__(
        self,
        instance: ConsumerInstance,
        limits: ReadLimits,
        encoder: RecordsEncoder,
        heartbeat_s: int,
        translate: Callable[[ServiceError], ServiceError],
        stopping: Callable[[], bool],
    ) -> None:
        """``encoder`` never refuses a record. ``stopping`` says whether an end is that of the gateway."""
        super().__init__(instance, dataclasses.replace(limits, min_bytes=-1), encoder, REST, translate)
        self._encoder = encoder
        self.heartbeat_s = heartbeat_s
        self._positions: dict[TopicPartition, int] = {}
        self._ready = False
        self._stopping = stopping

    async def __anext__(self) -> bytes:
        if not self._ready:
            await self._find_positions()
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            if self._stopping():
                raise ShuttingDown() from None
            raise

    async def _find_positions(self) -> None:
        """What the instance has returned so far, and of what else it has the committed offsets."""
        consumer = self._instance.consumer
        try:
            assigned = await consumer.assignment()
            committed = await consumer.committed(assigned) if assigned else []
        except ServiceError:
            return  # whether it can be read from, the first read finds out
        self._positions = {TopicPartition(each.topic, each.partition): each.offset for each in committed}
        for each in consumer.returned():
            if (place := TopicPartition(each.topic, each.partition)) in assigned:
                self._positions[place] = each.offset + 1

    def _open(self, taken: TakenBatch) -> bytes:
        lines = super()._open(taken)
        event = None
        ready = None if self._ready else ready_event(self._cursor())
        self._ready = True
        if len(taken.batch):
            for record in taken.batch.records:
                place = TopicPartition(record.topic() or "", record.partition() or 0)
                self._positions[place] = (record.offset() or 0) + 1
            event = Event(lines, "", self._cursor())
        if ready is None:
            assert event is not None  # only the first read may bring nothing
            return event
        if event is not None:
            self._payloads.append(event)
        return ready

    def _error(self, error: ServiceError) -> bytes:  # type: ignore[override]
        """A stream ends with its first error: its client comes back (§2)."""
        raise self._translate(error)

    def _cursor(self) -> bytes:
        return token([token_part(PartitionOffset(*each, at) for each, at in sorted(self._positions.items()))])
