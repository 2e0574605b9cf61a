"""A librdkafka producer and the thread that serves its delivery reports.

How large a batch may become is a setting of a whole librdkafka producer (``batch.size``), none of a topic. Topics that
take less than others have a sender with smaller batches (size_limits.py says which).

Reports arrive on the poll thread and fill the rows of their batch. All batches that became complete in one round wake
the loop once: a wake-up a record would cost twenty times as much. A fatal error of the producer comes *out of*
``poll()`` (reliability.md §3a), so the loop round it is guarded: all open batches are failed and a new producer takes
over.

``linger.ms`` makes a lone record wait for nobody, and librdkafka waits for the end of a millisecond by asking again and
again, which took a third of the processor's time under load. So records are gathered here: what finds nothing under way
is sent at once, and what comes meanwhile waits for the reports of that, and goes together then; not for ever, but the
longer, the longer reports take, because librdkafka, too, asks again and again while it has records and may send no more
requests (five under way). The poll thread serves both with librdkafka's ``flush``: as long as that runs, nothing
lingers. Hundreds of records that are sent together are not flushed: the first of them would leave in small requests
while the others are handed over, which costs librdkafka and the broker twice as much. The producer is the same, and so
are order and idempotence.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import confluent_kafka

from kafka_gateway.errors import TooManyRequests
from kafka_gateway.kafka.errors import to_delivery_error
from kafka_gateway.kafka.producing.batch import Batch, kafka_code, of_topic
from kafka_gateway.kafka.producing.refusals import UNHEARD_OF, may_go_again
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.records import RecordToSend

log = logging.getLogger("gateway.kafka.producer")

_POLL_S = 0.2
_LEARN_S = 2.0
_GATHERED_RECORDS, _GATHERED_BYTES = 5000, 512 * 1024
"""Records that are sent whatever is in flight: handing 5,000 records to librdkafka takes the loop some 8 ms."""
_GATHERS_MOST_S = 0.02
"""How long records wait, at most, while reports take long."""
_FLUSHED_RECORDS = 200
"""As many records, at most, are flushed when they are sent together."""
_FLUSH_S = 0.002
"""How long records are flushed, at most: they have long left by then, and their reports come without it."""

FULL = (
    "The producer's queue is full: Kafka takes records more slowly than they come. Nothing of this request was sent; "
    "send it again later."
)

_Code = confluent_kafka.KafkaError

_NO_TOPIC = to_delivery_error(_Code(_Code.TOPIC_AUTHORIZATION_FAILED))
_FORBIDDEN_S = 1.0
"""How long a user that may write to nothing is refused without Kafka being asked again."""


Queued = tuple[Batch, Sequence[RecordToSend], int | None]
"""A batch, its records, and the partition of those that name none."""


class Sender:
    """Sends batches of at most ``batch_bytes``, as librdkafka counts them; a larger record travels alone.

    ``send`` is called on the event loop, ``close`` ends the thread.
    """

    def __init__(
        self,
        make: Callable[[], confluent_kafka.Producer],
        batch_bytes: int,
        finished: Callable[[Sequence[Batch]], None],
        broken: Callable[[Sender], None],
        *,
        gathers_s: float | None = 0.0,
    ) -> None:
        """Does not wait for Kafka. Raises KafkaException for a faulty configuration.

        Args:
            make: builds the producer, and another one after a fatal error.
            finished: gets the batches whose reports are all there; on the loop.
            broken: is called when the producer has failed for good, which leaves all of its batches open; on the loop.
            gathers_s: how long records wait for the reports of others that are under way; half of the time that reports
                take, if that is longer. None: they are given to librdkafka at once, and wait ``linger.ms`` there even
                if there are no others.
        """
        self.batch_bytes = batch_bytes
        self.done: list[Batch] = []
        """Complete batches that the loop has not seen; only the poll thread appends, only the loop removes."""
        self._make = make
        self._finished = finished
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self.forbidden: KafkaAuthorization | None = None
        """Set while Kafka lets the producer's user write to no topic at all: then it has no use for a producer."""
        self._forbidden_at = 0.0
        self._gathers_s = gathers_s
        self._gathered: list[Queued] = []
        """What waits for the reports of others, in the order of its sending."""
        self._gathered_records = self._gathered_bytes = 0
        self._took_s = 0.0
        """How long the reports of gathered records took recently."""
        self._measured_from = 0.0
        """When what is measured now was sent; 0: nothing is."""
        self._release_at: asyncio.TimerHandle | None = None
        self._is_waiting = False
        """Whether the poll thread waits for a send to flush."""
        self._sent: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._flushes = True
        """Whether what was sent last is flushed. Only the loop changes it."""
        self.producer = make()
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
        self._thread.start()

    # --- on the loop ------------------------------------------------------------------------------------------------

    def send(self, batch: Batch, records: Sequence[RecordToSend], partition: int | None) -> bool:
        """Queues the records without waiting; whether the batch is complete already, because none could be queued."""
        return bool(self.send_all([(batch, records, partition)], len(records), batch.cost_bytes))

    def send_all(self, queued: Sequence[Queued], count: int, cost_bytes: int) -> list[Batch]:
        """As ``send`` for one after the other; which of them are complete. ``count``: records of all of them."""
        if self.forbidden is not None and not self._may_try_again():
            return [batch for batch, records, _ in queued if self._refuse(self.forbidden, batch, len(records))]
        if self._gathers_s and (self._gathered or len(self.producer)):
            self._gather(queued, count, cost_bytes)
            return []
        self._flushes = count <= _FLUSHED_RECORDS
        complete = self._produce_all(queued)
        self._wake()
        return complete

    def _refuse(self, error: KafkaAuthorization, batch: Batch, size: int) -> bool:
        batch.rows[:] = [of_topic(error, batch.topic)] * size
        return _without(batch, size)

    def _gather(self, queued: Sequence[Queued], count: int, cost_bytes: int) -> None:
        if not self._gathered:
            held_s = max(self._gathers_s or 0.0, min(self._took_s / 2, _GATHERS_MOST_S))
            self._release_at = self._loop.call_later(held_s, self._release)
        self._gathered += queued
        self._gathered_records += count
        self._gathered_bytes += cost_bytes
        if self._gathered_records > _GATHERED_RECORDS or self._gathered_bytes > _GATHERED_BYTES:
            self._release()

    def _release(self) -> None:
        """Sends what has been gathered."""
        count = self._gathered_records
        gathered = self._take_gathered()
        if not gathered:
            return
        if not self._measured_from:
            self._measured_from = self._loop.time()
            gathered[0][0].future.add_done_callback(self._measure)
        self._flushes = count <= _FLUSHED_RECORDS
        complete = self._produce_all(gathered)
        self._wake()
        if complete:
            self._finished(complete)

    def _measure(self, done: object) -> None:
        """Learns how long the reports take."""
        self._took_s += (self._loop.time() - self._measured_from - self._took_s) / 4
        self._measured_from = 0.0

    def _take_gathered(self) -> list[Queued]:
        if self._release_at is not None:
            self._release_at.cancel()
            self._release_at = None
        gathered, self._gathered = self._gathered, []
        self._gathered_records = self._gathered_bytes = 0
        return gathered

    def _wake(self) -> None:
        """Has the poll thread flush what was given to librdkafka."""
        if self._is_waiting:
            self._sent.put(None)

    def _produce_all(self, queued: Sequence[Queued]) -> list[Batch]:
        """Gives the records to librdkafka; returns as ``send_all``."""
        return [batch for batch, records, partition in queued if self._produce(batch, records, partition)]

    def _produce(self, batch: Batch, records: Sequence[RecordToSend], partition: int | None) -> bool:
        """Gives the records to librdkafka; returns as ``send``."""
        size = len(records)
        if partition is None:
            partition = -1
        produce, topic = self.producer.produce, batch.topic
        delivered, delivered_alone = self.reports(batch, records)
        if size == 1:
            record = records[0]
            if record.headers is None and not record.timestamp_ms:
                place = partition if record.partition is None else record.partition
                try:
                    produce(topic, record.value, record.key, place, delivered_alone)
                except Exception as error:
                    if _is_over(error):
                        return False
                    _not_queued(batch, 0, record.value, record.key, place, error)
                    return _without(batch, 1)
                return False
        failed = 0
        for index, record in enumerate(records):
            report = delivered_alone if size == 1 else partial(delivered, index)
            place = partition if (own := record.partition) is None else own
            try:
                if (headers := record.headers) is None and not record.timestamp_ms:
                    produce(topic, record.value, record.key, place, report)
                else:
                    listed: Any = None if headers is None else list(headers)
                    if batch.extras is None:
                        batch.extras = {}
                    batch.extras[index] = (record.timestamp_ms, listed)
                    produce(topic, record.value, record.key, place, report, None, record.timestamp_ms, listed)
            except Exception as error:
                # Of whatever kind: others may be sent in the same round, and are not to be lost for this one.
                if _is_over(error):
                    continue
                _not_queued(batch, index, record.value, record.key, place, error)
                failed += 1
        return failed > 0 and _without(batch, failed)

    def reports(
        self, batch: Batch, records: Sequence[RecordToSend]
    ) -> tuple[Callable[[int, Any, Any], None], Callable[[Any, Any], None]]:
        """The callbacks for delivery reports: of one record among several, and of a single one. On the poll thread."""
        return batch.delivered, batch.delivered_alone

    def send_again(self, batch: Batch) -> bool:
        """Queues the refused records of the batch, as they were sent before; returns as ``send``."""
        refused, batch.refused = batch.refused or [], None
        extras = batch.extras or {}
        batch.sender = self
        batch.restart(len(refused))
        failed = 0
        for index, record, *_ in sorted(refused, key=lambda each: each.place):
            timestamp_ms, headers = extras.get(index, (0, None))
            partition: Any = -1 if record.partition() is None else record.partition()
            report = partial(batch.delivered, index)
            try:
                self.producer.produce(
                    batch.topic, record.value(), record.key(), partition, report, None, timestamp_ms, headers
                )
            except Exception as error:
                if _is_over(error):
                    continue
                _not_queued(batch, index, record.value(), record.key(), partition, error)
                failed += 1
        self._wake()
        return failed > 0 and _without(batch, failed)

    def learn(self, topic: str) -> None:
        """Has librdkafka ask for the topic, which has changed, at once instead of within five minutes. Blocks."""
        try:
            self.producer.list_topics(topic, timeout=_LEARN_S)
        except confluent_kafka.KafkaException as error:
            log.info("the partitions of topic %s are not known yet: %s", topic, error)

    def hand_over(self) -> None:
        """Finishes all batches that are complete by now."""
        done = self.done
        if done:
            count = len(done)
            batches = done[:count]
            del done[:count]
            self._finished(batches)
        if self._gathered and not len(self.producer):
            self._release()

    async def flush(self, timeout_s: float) -> None:
        """Waits for the reports of the records that are on their way."""
        self._release()
        await asyncio.to_thread(_flush, self.producer, timeout_s)
        self.hand_over()

    async def close(self) -> None:
        """Ends the thread."""
        self._stopped = True
        await asyncio.to_thread(self._thread.join, _POLL_S * 5)
        self.hand_over()

    # --- on the poll thread -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            # The first send of an instance waits for its producer id, up to a second with three brokers
            # (reliability.md §3h): contact Kafka before anybody waits.
            self.producer.list_topics(timeout=1)
        except confluent_kafka.KafkaException as error:
            log.debug("no contact with Kafka yet: %s", error)
        while not self._stopped:
            try:
                self._serve_reports()
            except confluent_kafka.KafkaException as error:
                if kafka_code(error) == _Code.CLUSTER_AUTHORIZATION_FAILED:
                    self._forbid(error)
                else:
                    log.exception("the producer failed; its open records have an unknown outcome, a new one takes over")
                    self._replace()
            except Exception:
                # A fatal error, or an exception that a callback raised. The producer may be unusable: replace it.
                log.exception("the producer failed; its open records have an unknown outcome, a new one takes over")
                self._replace()
            if self.done:
                self._call_loop(self.hand_over)

    def _serve_reports(self) -> None:
        if self._gathers_s is None:
            self.producer.poll(_POLL_S)
            return
        # In this order: a send that comes meanwhile sees the mark, or is seen here.
        self._is_waiting = True
        try:
            if not len(self.producer):
                self._sent.get(timeout=_POLL_S)
        except queue.Empty:
            self.producer.poll(0)
            return
        finally:
            self._is_waiting = False
        if self._flushes:
            if self.producer.flush(_FLUSH_S):
                self.producer.poll(_POLL_S)
        elif not self.producer.poll(_POLL_S):
            self.producer.flush(_FLUSH_S)  # nothing has come for so long: they linger

    def _forbid(self, error: confluent_kafka.KafkaException) -> None:
        """An idempotent producer gets no id (KIP-679): its user may write to no topic. Nothing of it was stored."""
        if self.forbidden is None:
            log.warning("Kafka lets this user write to no topic: %s", error)
        self._forbidden_at = time.monotonic()
        # Whether this or the refusal of its topic is heard first is chance; the latter says more.
        self.forbidden = KafkaAuthorization(_NO_TOPIC.message)
        self._call_loop(self._lose)

    def _may_try_again(self) -> bool:
        """Makes another producer, for rights may have been given meanwhile. On the loop."""
        if time.monotonic() - self._forbidden_at < _FORBIDDEN_S:
            return False
        self.producer = self._make()
        self.forbidden = None
        return True

    def _replace(self) -> None:
        old = self.producer
        try:
            self.producer = self._make()
        except Exception:
            log.exception("no new producer can be made; trying again")
            time.sleep(_POLL_S)
        finally:
            del old
        self._call_loop(self._lose)

    def _lose(self) -> None:
        """On the loop. What was gathered counts as lost with the rest, and is not sent behind the answer."""
        self._take_gathered()
        self._broken(self)

    def _call_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("the event loop is closed; delivery reports are dropped")


def _is_over(error: Exception) -> bool:
    """Whether the producer has failed for good: its poll thread hears why next, and has all open batches answered."""
    return kafka_code(error) == _Code._FATAL


def _not_queued(batch: Batch, index: int, value: Any, key: Any, partition: int, error: Exception) -> None:
    if (code := kafka_code(error)) in UNHEARD_OF:
        # librdkafka has failed others for it, and has not asked again since.
        message = confluent_kafka.Message(topic=batch.topic, partition=partition, key=key, value=value)
        refused = may_go_again(index, message, to_delivery_error(error), code)
        if refused is not None:
            batch.refuse(refused)
            return
    if not isinstance(error, BufferError | confluent_kafka.KafkaException):
        log.error("librdkafka cannot be given a record", exc_info=error)
    full = isinstance(error, BufferError)
    failure = TooManyRequests(FULL) if full else to_delivery_error(error)
    if isinstance(failure, KafkaAuthorization):  # said in the same words whether it is known before or told behind
        failure = to_delivery_error(_Code(code))
    batch.rows[index] = of_topic(failure, batch.topic)
    batch.note("_QUEUE_FULL")


def _without(batch: Batch, failed: int) -> bool:
    """Expects that many reports less; whether all others have come already."""
    # The poll thread compares with `expected` after each report, this thread after lowering it: whichever comes last
    # sees that the batch is complete. Finishing twice does no harm.
    batch.expected -= failed
    return batch.arrived == batch.expected


def _flush(producer: confluent_kafka.Producer, timeout_s: float) -> None:
    try:
        producer.flush(timeout_s)
    except Exception:
        log.exception("flushing the producer failed")
