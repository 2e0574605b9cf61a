"""Producing: one librdkafka producer for everybody, and one thread that serves its delivery reports.

``send`` runs on the event loop: it queues a whole batch without waiting. Reports arrive on the poll thread, fill the
batch's rows, and all batches that became complete in one round wake the loop once (a wake-up a record would cost
twenty times as much). A fatal error of the producer comes *out of* ``poll()`` (reliability.md §3a), so the loop round
it is guarded: all open batches are failed and a new producer takes over.

A batch that waits because Kafka has no leader or too few replicas for it is answered early (see trouble.py), and counts
for the queue until its reports have come.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import confluent_kafka

from gateway.errors import (
    OutcomeUnknown,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    Unavailable,
    UnknownTopicOrPartition,
)
from gateway.kafka.errors import to_delivery_error
from gateway.kafka.ports import Admin, Delivery
from gateway.kafka.producing.delivery_watch import TroubleWatch
from gateway.records import RecordToSend

log = logging.getLogger("gateway.kafka.producer")

RECORD_COST_BYTES = 400
"""What a queued record costs beside its content: librdkafka's 118 to 259 bytes (reliability.md §3g) and our own."""

_KNOWN_FOR_S = 4.0
"""How long a topic counts as existing after Kafka said so (F10: a deleted topic answers 404 within 5 s)."""

_POLL_S = 0.2

_FULL = (
    "The producer's queue is full: Kafka takes records more slowly than they come. Nothing of this request was sent; "
    "send it again later."
)


class ProducerClients(Protocol):
    """Where the settings of producers come from (gateway/kafka/clients/factory.py)."""

    def producer_config(self) -> dict[str, Any]: ...


class _Batch:
    """The records of one ``send``. ``rows`` and ``arrived`` belong to the poll thread until all are there."""

    __slots__ = ("arrived", "cost_bytes", "done", "expected", "future", "rows", "sent_at", "topic")

    def __init__(
        self,
        topic: str,
        size: int,
        cost_bytes: int,
        sent_at: float,
        future: asyncio.Future[list[Delivery]],
        done: list[_Batch],
    ) -> None:
        self.topic = topic
        self.sent_at = sent_at
        self.rows: list[Any] = [None] * size
        self.cost_bytes = cost_bytes
        self.future = future
        self.arrived = 0
        self.expected = size
        self.done = done

    def delivered(self, index: int, error: Any, message: Any) -> None:
        """The delivery report of one record; on the poll thread, so it does as little as it can."""
        self.rows[index] = message if error is None else to_delivery_error(error)
        self.arrived += 1
        if self.arrived == self.expected:
            self.done.append(self)

    def delivered_alone(self, error: Any, message: Any) -> None:
        self.rows[0] = message if error is None else to_delivery_error(error)
        self.done.append(self)


class KafkaProducer:
    """The Producer port. Created and used on the event loop; ``close`` ends its thread."""

    def __init__(
        self,
        clients: ProducerClients,
        admin: Admin,
        *,
        queue_bytes: int,
        queue_records: int,
        create_topics: bool,
    ) -> None:
        self._clients = clients
        self._admin = admin
        self._queue_bytes = queue_bytes
        self._queue_records = queue_records
        self._create_topics = create_topics
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Batch, None] = {}
        """In the order of their sending."""
        self._told: set[_Batch] = set()
        """Answered before all of their reports came."""
        self._open_bytes = 0
        self._open_records = 0
        self._done: list[_Batch] = []
        self._known: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._trouble = TroubleWatch(admin, self._open, self._tell)
        self._closing = False
        self._stopped = False
        self._producer = confluent_kafka.Producer(clients.producer_config())
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
        self._thread.start()

    # --- on the loop ------------------------------------------------------------------------------------------------

    def ready(self, topic: str) -> Awaitable[None] | None:
        """See the port. With auto.create.topics.enable it is always None: Kafka itself decides about unknown topics."""
        if self._create_topics:
            return None
        asking = self._asking.get(topic)
        if asking is None:
            if self._known.get(topic, 0.0) > time.monotonic():
                return None
            asking = self._asking[topic] = self._loop.create_task(self._ask(topic))
            asking.add_done_callback(lambda task: self._asking.pop(topic, None))
        # All waiters share one task and are woken in the order in which they came.
        return asyncio.shield(asking)

    async def _ask(self, topic: str) -> None:
        try:
            await self._admin.topic(topic)
        except UnknownTopicOrPartition:
            self._known.pop(topic, None)
            raise
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[topic] = time.monotonic() + _KNOWN_FOR_S

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        """See the port. An empty batch is complete at once."""
        if self._closing:
            raise ShuttingDown()
        size = len(records)
        cost = size * RECORD_COST_BYTES
        cost += sum(map(len, filter(None, [record.value for record in records])))
        cost += sum(map(len, filter(None, [record.key for record in records])))
        if self._open_records and (
            self._open_bytes + cost > self._queue_bytes or self._open_records + size > self._queue_records
        ):
            raise TooManyRequests(_FULL)
        future: asyncio.Future[list[Delivery]] = self._loop.create_future()
        if not size:
            future.set_result([])
            return future
        batch = _Batch(topic, size, cost, self._loop.time(), future, self._done)
        self._open[batch] = None
        self._open_bytes += cost
        self._open_records += size
        if partition is None:
            partition = -1
        produce, delivered = self._producer.produce, batch.delivered
        failed = 0
        for index, record in enumerate(records):
            report = batch.delivered_alone if size == 1 else partial(delivered, index)
            place = partition if (own := record.partition) is None else own
            try:
                if (headers := record.headers) is None and not record.timestamp_ms:
                    produce(topic, record.value, record.key, place, report)
                else:
                    listed: Any = None if headers is None else list(headers)
                    produce(topic, record.value, record.key, place, report, None, record.timestamp_ms, listed)
            except BufferError:
                batch.rows[index] = TooManyRequests(_FULL)
                failed += 1
            except confluent_kafka.KafkaException as error:
                batch.rows[index] = to_delivery_error(error)
                failed += 1
        if failed:
            # The poll thread compares with `expected` after each report, this thread after lowering it: whichever comes
            # last sees that the batch is complete. Finishing twice does no harm.
            batch.expected = size - failed
            if batch.arrived == batch.expected:
                self._finish((batch,))
        self._trouble.sent()
        return future

    def _finish(self, batches: Sequence[_Batch]) -> None:
        for batch in batches:
            if batch in self._open:
                del self._open[batch]
            elif batch in self._told:
                self._told.discard(batch)
            else:
                continue
            self._release(batch)
            if not batch.future.done():
                batch.future.set_result(batch.rows)

    def _release(self, batch: _Batch) -> None:
        self._open_bytes -= batch.cost_bytes
        self._open_records -= len(batch.rows)

    def _tell(self, batch: _Batch, error: ServiceError) -> None:
        """Answers a batch before its reports come; rows that have theirs keep it."""
        del self._open[batch]
        self._told.add(batch)
        if not batch.future.done():
            # A copy: the poll thread still writes into the original.
            batch.future.set_result([error if row is None else row for row in batch.rows])

    def _fail_all(self, error: ServiceError) -> None:
        for batch in (*self._open, *self._told):
            self._release(batch)
            if not batch.future.done():
                batch.future.set_exception(error)
                batch.future.exception()  # a client that left does not ask for it
        self._open.clear()
        self._told.clear()

    @property
    def waiting(self) -> tuple[int, int]:
        """Records and bytes that Kafka has not confirmed yet."""
        return self._open_records, self._open_bytes

    async def close(self, timeout_s: float) -> None:
        """Takes no more records, waits for the reports of those on their way, and fails the rest as unknown."""
        self._closing = True
        self._trouble.close()
        if not self._stopped:
            producer = self._producer
            await asyncio.to_thread(_flush, producer, timeout_s)
            self._stopped = True
            await asyncio.to_thread(self._thread.join, _POLL_S * 5)
            self._hand_over()
        self._fail_all(OutcomeUnknown())

    # --- on the poll thread -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            # The first send of an instance waits for its producer id, up to a second with three brokers
            # (reliability.md §3h): contact Kafka before anybody waits.
            self._producer.list_topics(timeout=1)
        except confluent_kafka.KafkaException as error:
            log.debug("no contact with Kafka yet: %s", error)
        while not self._stopped:
            try:
                self._producer.poll(_POLL_S)
            except Exception:
                # A fatal error, or an exception that a callback raised. The producer may be unusable: replace it.
                log.exception("the producer failed; its open records have an unknown outcome, a new one takes over")
                self._replace()
            if self._done:
                self._call_loop(self._hand_over)

    def _replace(self) -> None:
        old = self._producer
        try:
            self._producer = confluent_kafka.Producer(self._clients.producer_config())
        except Exception:
            log.exception("no new producer can be made; trying again")
            time.sleep(_POLL_S)
        finally:
            del old
        self._call_loop(
            partial(self._fail_all, Unavailable("The producer failed; the outcome is unknown: records may be stored."))
        )

    def _hand_over(self) -> None:
        """Finishes all batches that are complete by now; on the loop."""
        done = self._done
        if done:
            # Only the loop removes from the list, only the poll thread appends to it.
            count = len(done)
            batches = done[:count]
            del done[:count]
            self._finish(batches)

    def _call_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("the event loop is closed; delivery reports are dropped")


def _flush(producer: confluent_kafka.Producer, timeout_s: float) -> None:
    try:
        producer.flush(timeout_s)
    except Exception:
        log.exception("flushing the producer failed")
