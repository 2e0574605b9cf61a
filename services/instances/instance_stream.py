"""The records of a consumer instance as a stream of events (streams.md §1, last rows): a push in another shape.

Everything about who gets which record is a push's: an instance has one subscription at most, records count as returned
when they have been written, and its commits and all other requests work as ever.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from kafka_gateway.dialect import REST
from kafka_gateway.errors import ServiceError, ShuttingDown
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.services.instances.instance import ConsumerInstance
from kafka_gateway.services.instances.push_stream import PushStream
from kafka_gateway.services.streams.token import token, token_part
from kafka_gateway.services.streams.topic_stream import ready_event
from kafka_gateway.stream import Payload, PushAtOnce

log = logging.getLogger("gateway.consumers")


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
        self._waiting: Payload | None = None
        """The first records, behind ``ready``."""
        self._stopping = stopping

    def push_with(self, push: PushAtOnce) -> None:
        """Does nothing: events have a cursor, which iteration makes."""

    async def __anext__(self) -> Payload:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            return waiting
        try:
            lines = (await super().__anext__()).data
        except StopAsyncIteration:
            if self._stopping():
                raise ShuttingDown() from None
            raise
        records: Sequence[ConsumedRecord] = self._taken.batch.records if self._taken is not None else ()
        ready = None
        if not self._ready:
            self._ready = True
            await self._find_positions()
            for record in reversed(records):
                self._positions[_place(record)] = record.offset() or 0
            ready = ready_event(self._cursor())
        for record in records:
            self._positions[_place(record)] = (record.offset() or 0) + 1
        event = Payload(lines, "record", self._cursor())
        if ready is None:
            return event
        self._waiting = event if lines else None
        return ready

    async def _find_positions(self) -> None:
        """Sets the positions: what the instance has returned so far, elsewhere the committed offsets."""
        consumer = self._instance.consumer
        try:
            assigned = await consumer.assignment()
            committed = await consumer.committed(assigned) if assigned else []
        except ServiceError as error:
            log.info("where an instance stands is not known: %s", error.message)
            return
        self._positions = {TopicPartition(each.topic, each.partition): each.offset for each in committed}
        for each in consumer.returned():
            if (place := TopicPartition(each.topic, each.partition)) in assigned:
                self._positions[place] = each.offset + 1

    def _error(self, error: ServiceError) -> NoReturn:
        """A stream ends with its first error: its client comes back (§2)."""
        raise self._translate(error)

    def _cursor(self) -> bytes:
        return token([token_part(PartitionOffset(*each, at) for each, at in sorted(self._positions.items()))])


def _place(record: ConsumedRecord) -> TopicPartition:
    return TopicPartition(record.topic() or "", record.partition() or 0)
