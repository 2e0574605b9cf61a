"""Reading a place of a partition directly, without a group: the v1 partition reads (kafka-rest-http.md §5.4)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from confluent_kafka import KafkaException, Message

from kafka_gateway.config import Config
from kafka_gateway.errors import ShuttingDown, SimpleReaderUnavailable, UnknownTopicOrPartition
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.consuming.buffer import Partition, RecordBuffer
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.consuming import ConsumerSettings, ReadLimits
from kafka_gateway.kafka_errors import OffsetOutOfRange
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

POOL_SIZE = 25
"""Reads at a time (Confluent's default of ``simpleconsumer.pool.size.max``)."""
POOL_WAIT_S = 1.0
"""How long a read waits for its turn (Confluent's default of ``simpleconsumer.pool.timeout.ms``)."""
DEADLINE_S = 5.0
"""A read answers with what it has after this time."""

_IDLE = 4
"""Consumers kept between reads: making one costs some milliseconds, keeping it four threads."""


class KafkaReader:
    """The `Reader` port. Belongs to the event loop; each read has a thread and a consumer for its time."""

    def __init__(
        self, clients: ClientFactory, admin: Admin, config: Config, numbers: KafkaNumbers | None = None
    ) -> None:
        self._consumed = (numbers or KafkaNumbers(Names(0), Names(0))).consumed
        self._clients = clients
        self._admin = admin
        self._most_records = config.integer("consumer.records.max")
        self._most_bytes = config.integer("consumer.request.max.bytes")
        self._settings = ConsumerSettings("kafka-gateway-reader", "kafka-gateway-reader", auto_offset_reset="none")
        self._turns = asyncio.Semaphore(POOL_SIZE)
        self._threads = concurrent.futures.ThreadPoolExecutor(POOL_SIZE, "kafka-reader")
        self._idle: list[GroupClient] = []
        self._closing = False

    async def fetch(self, topic: str, partition: int, offset: int, count: int, encoder: RecordsEncoder) -> RecordBatch:
        if self._closing:
            raise ShuttingDown
        first, end = await self._admin.offsets(topic, partition)
        if not first <= offset <= end:
            raise OffsetOutOfRange
        wanted = min(count, self._most_records, end - offset)
        if wanted <= 0:
            batch = RecordBatch((), 0)
            batch.encode(encoder)
            return batch
        try:
            async with asyncio.timeout(POOL_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise SimpleReaderUnavailable from None
        reading = asyncio.get_running_loop().run_in_executor(
            self._threads, self._read, (topic, partition), offset, wanted, end, encoder
        )
        reading.add_done_callback(self._done)
        # The thread reads to its end even if nobody waits for it any more; its turn is over only then.
        batch = await asyncio.shield(reading)
        self._consumed.add("simple", topic, len(batch), batch.size_bytes)
        return batch

    async def aclose(self) -> None:
        """Closes the consumers that are not reading; the others end with their read."""
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._idle.clear()  # no groups, so there is nothing to leave

    def _done(self, reading: asyncio.Future[RecordBatch]) -> None:
        self._turns.release()
        if not reading.cancelled():
            reading.exception()  # whoever asked may have gone; then nobody else looks at it

    def _read(self, place: Partition, offset: int, wanted: int, end: int, encoder: RecordsEncoder) -> RecordBatch:
        """On a thread of the pool."""
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._new_client()
        try:
            if not client.is_open:
                client.open()
            client.assign([place], {place: offset})
            records, size_bytes = self._collect(client, place, wanted, end)
            client.unsubscribe()
        except KafkaException as error:
            raise to_service_error(error) from error  # and the client is dropped with what it may still hold
        if len(self._idle) < _IDLE and not self._closing:
            self._idle.append(client)
        batch = RecordBatch(cast(Sequence[ConsumedRecord], records), size_bytes)
        batch.encode(encoder)
        return batch

    def _new_client(self) -> GroupClient:
        # The end of the partition is an event here: behind the last record there may be markers of transactions, so
        # that its offset alone does not tell.
        # A fetch that is on its way for the place before holds up the next by its waiting time, 500 ms by default.
        return GroupClient(
            partial(self._clients.consumer, self._settings, **{"enable.partition.eof": True, "fetch.wait.max.ms": 10}),
            joins=False,
        )

    def _collect(self, client: GroupClient, place: Partition, wanted: int, end: int) -> tuple[list[Message], int]:
        found = RecordBuffer()
        until = time.monotonic() + DEADLINE_S
        over = False
        while not over and len(found) < wanted and found.size_bytes <= self._most_bytes:
            left = until - time.monotonic()
            if left <= 0:
                break
            records = client.poll(wanted - len(found), min(left, 0.5))
            if client.failure is not None:
                raise client.failure
            if client.missing:
                raise UnknownTopicOrPartition
            if place in client.stopped:
                raise OffsetOutOfRange  # retention has passed the offset since it was checked
            over = place in client.ends or any((record.offset() or 0) + 1 >= end for record in records[-1:])
            found.extend(records)
        taken = found.take(ReadLimits(self._most_bytes, 0, inclusive=True), wanted)
        return taken[0], taken[1]
