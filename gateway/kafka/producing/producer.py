"""Producing: librdkafka producers for everybody, one for nearly all topics.

``send`` runs on the event loop: it queues a whole batch without waiting. The threads that serve the delivery reports
are in sender.py. Topics that take smaller batches than others have a sender of their own size (size_limits.py,
rerouting.py), so that no record is refused for its neighbours.

A batch that waits because Kafka has no leader or too few replicas for it is answered early (see delivery_watch.py), and
counts for the queue until its reports have come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import confluent_kafka

from kafka_gateway.errors import ServiceError, ShuttingDown, TooManyRequests, Unavailable, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka.producing.batch import Batch, FollowedBatch, of_topic
from kafka_gateway.kafka.producing.delivery_watch import DeliveryWatch
from kafka_gateway.kafka.producing.embedded_times import EmbeddedSender, EmbeddedTimes
from kafka_gateway.kafka.producing.first_connections import FirstConnection, FirstConnections, Lazily
from kafka_gateway.kafka.producing.known_topics import KnownTopics
from kafka_gateway.kafka.producing.producer_settings import largest_batch, patience_s, size_limit
from kafka_gateway.kafka.producing.rerouting import Rerouting
from kafka_gateway.kafka.producing.sender import FULL, Sender
from kafka_gateway.kafka.producing.size_limits import SizeLimits
from kafka_gateway.kafka.producing.suspects import Followed, FollowedApart, FollowedLater, parts, pass_on, together
from kafka_gateway.kafka_errors import KafkaAuthentication, KafkaAuthorization, OutcomeUnknown, UnknownTopicTimeout
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.records import RecordToSend
from kafka_gateway.request_ids import CURRENT
from kafka_gateway.rights import Rights

_log = logging.getLogger("gateway.kafka.producer")

RECORD_COST_BYTES = 400
"""What a queued record costs beside its content: librdkafka's 118 to 259 bytes (reliability.md §3g) and our own."""

_REFUSED = (
    "Authentication to Kafka failed: it takes the credentials no more; the outcome is unknown: the record may have "
    "been stored"
)
_CHECK_S = 1.0
"""How long the sends to a topic wait, at most, for word of what it demands."""
MOST_SKIPPED_LINGER_MS = 5.0
"""An operator who gives a longer ``linger.ms`` wants it for lone clients, too."""


class ProducerClients(Protocol):
    """Where the settings of producers come from (gateway/kafka/clients/factory.py)."""

    def producer_config(self) -> dict[str, Any]: ...


class KafkaProducer:
    """The Producer port. Created and used on the event loop; ``close`` ends its threads."""

    def __init__(
        self,
        clients: ProducerClients,
        admin: Admin,
        *,
        queue_bytes: int,
        queue_records: int,
        create_topics: bool,
        all_down: Callable[[], None] = lambda: None,
        connections: FirstConnections | None = None,
        times: EmbeddedTimes | None = None,
        numbers: KafkaNumbers | None = None,
    ) -> None:
        """
        Args:
            numbers: what is counted of all records.
            connections: makes the connection that is there before the first record; None: librdkafka does it.
            all_down: is called on a thread of its own when there is no connection to any broker.
            times: of the embedded Kafka, which does not keep any.
        """
        self._times = times
        self._numbers = numbers or KafkaNumbers(Names(0), Names(0))
        self._clients = clients
        self._admin = admin
        self._queue_bytes = queue_bytes
        self._queue_records = queue_records
        self._all_down = all_down
        self._create_topics = create_topics
        self._loop = asyncio.get_running_loop()
        self._open: dict[Batch, None] = {}
        """In the order of their sending."""
        self._told: set[Batch] = set()
        """Answered before all of their reports came."""
        self._open_bytes = 0
        self._open_records = 0
        self._refusing = False
        """Whether the last batch found the queue full, and nothing has left it since."""
        self._topics = KnownTopics(admin, create_topics, self._learn)
        self._asking_limits: dict[str, asyncio.Task[None]] = {}
        self._checks: dict[str, list[tuple[int, int, Callable[[], None]]]] = {}
        """What waits for word of its topic's demands: records, bytes, what sends them."""
        self._checking: dict[str, asyncio.Task[None]] = {}
        self._trouble = DeliveryWatch(admin, self._open, self._tell)
        self._closing = False
        config = clients.producer_config()
        self.size_limit = size_limit(config)
        """See the port."""
        self._limits = SizeLimits(admin, largest_batch(config))
        self._wide = self._sender(self._limits.largest)
        self._connection = FirstConnection(connections, lambda: self._wide.producer)
        self._rerouting = Rerouting(
            self._limits,
            self._wide,
            self._sender,
            lambda: (*self._open, *self._told),
            self._finish,
            self._found,
            patience_s(config),
        )
        self._routes, self._moves = self._rerouting.routes, self._rerouting.moves

    def _sender(self, batch_bytes: int) -> Sender:
        smaller = {} if batch_bytes == self._limits.largest else {"batch.size": batch_bytes}

        def make() -> confluent_kafka.Producer:
            config = self._clients.producer_config()
            others = config.get("error_cb")

            def error_cb(error: confluent_kafka.KafkaError) -> None:
                self._client_error(error)
                if others is not None:
                    others(error)

            return confluent_kafka.Producer({**config, **smaller, "error_cb": error_cb})

        linger_ms = float(self._clients.producer_config().get("linger.ms", 0))
        gathers_s = None if linger_ms > MOST_SKIPPED_LINGER_MS else linger_ms / 1000
        if self._times is None:
            return Sender(make, batch_bytes, self._finish, self._broken, gathers_s=gathers_s)
        sender = EmbeddedSender(make, batch_bytes, self._finish, self._broken, gathers_s=gathers_s)
        sender.times = self._times
        return sender

    def _client_error(self, error: confluent_kafka.KafkaError) -> None:
        """What librdkafka tells beside the records; on a poll thread."""
        if error.code() == confluent_kafka.KafkaError._ALL_BROKERS_DOWN:
            self._all_down()

    # --- on the loop ------------------------------------------------------------------------------------------------

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        """See the port."""
        if self._refusing:
            return None  # nothing is sent that would have to wait for word of its topic first
        known = self._topics.ready(topic, rights)
        asking = self._asking_limits.get(topic)
        if asking is None and self._limits.due(topic):
            asking = self._asking_limits[topic] = self._loop.create_task(self._ask_limit(topic))
            asking.add_done_callback(lambda _: self._asking_limits.pop(topic, None))
        # A change that is not known yet costs a refusal, but what comes behind that batch could be stored before it.
        if not (asking is None or self._create_topics or self._limits.knows(topic)):
            known = Lazily(partial(self._when_both, asking, known))
        return known if self._connection.is_made else Lazily(partial(self._connect, topic, known))

    def knows(self, topic: str) -> bool:
        """See the port."""
        knows = self._topics.knows(topic) and (self._create_topics or self._limits.knows(topic))
        return knows and self._connection.is_made

    async def _when_both(self, asking: asyncio.Task[None], known: Awaitable[None] | None) -> None:
        # All who wait for a topic wait for the same, and are woken in the order in which they came.
        await asyncio.shield(asking)
        if known is not None:
            await known

    async def _connect(self, topic: str, known: Awaitable[None] | None) -> None:
        if known is not None:
            await known
        if not self._topics.is_absent(topic):
            await self._connection.make(topic)

    async def _learn(self, topic: str) -> None:
        """Has all producers ask for the topic's partitions now."""
        for sender in {self._wide, *self._routes.values()}:
            await asyncio.to_thread(sender.learn, topic)

    async def _found(self, topic: str) -> bool:
        """Whether Kafka has the topic, or does not say; all producers have asked for it then."""
        await self._topics.asked(topic)
        try:
            await self._admin.topic(topic, fresh=True)
        except UnknownTopicOrPartition:
            return False
        except ServiceError as error:
            _log.debug("whether there is a topic %s is not known: %s", topic, error.message)
        await self._learn(topic)
        return True

    async def _ask_limit(self, topic: str) -> None:
        await self._limits.ask(topic)
        self._rerouting.follow_limit(topic)

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        """See the port. An empty batch is complete at once."""
        cost = self._admit(records)
        if not records:
            future: asyncio.Future[list[Delivery]] = self._loop.create_future()
            future.set_result([])
            return future
        refused = self._refused(topic, records, cost)
        if not refused and not self._checks:
            return self._send(topic, records, partition, cost, False)
        if (self._checks and topic in self._checks) or (refused and not self._limits.is_sure(topic)):
            future = self._loop.create_future()
            self._when_checked(
                topic, len(records), cost, lambda: pass_on(self._send_split(topic, records, partition, cost), future)
            )
            return future
        return self._send_split(topic, records, partition, cost, refused)

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Followed:
        """See the port."""
        cost = self._admit(records)
        refused = self._refused(topic, records, cost)
        if (self._checks and topic in self._checks) or (refused and not self._limits.is_sure(topic)):
            later = FollowedLater(len(records))
            self._when_checked(
                topic, len(records), cost, lambda: later.begin(self._follow_split(topic, records, progress, cost))
            )
            return later
        return self._follow_split(topic, records, progress, cost, refused)

    def _when_checked(self, topic: str, size: int, cost: int, send: Callable[[], None]) -> None:
        """Sends when Kafka has told what the topic demands now. Calls for one topic keep their order."""
        waiting = self._checks.get(topic)
        if waiting is None:
            waiting = self._checks[topic] = []
            self._checking[topic] = self._loop.create_task(self._check(topic))
        self._open_records += size
        self._open_bytes += cost
        waiting.append((size, cost, send))

    async def _check(self, topic: str) -> None:
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._ask_limit(topic)
        except TimeoutError:
            _log.info("what topic %s demands of records was not told in time: what was told before counts", topic)
        finally:
            self._send_checked(topic)

    def _send_checked(self, topic: str) -> None:
        self._checking.pop(topic, None)
        for size, cost, send in self._checks.pop(topic, ()):
            self._open_records -= size
            self._open_bytes -= cost
            send()

    def _send_split(
        self,
        topic: str,
        records: Sequence[RecordToSend],
        partition: int | None,
        cost: int,
        refused: Sequence[int] | None = None,
    ) -> asyncio.Future[list[Delivery]]:
        """``refused``: places of records that travel apart; None: it is not known yet."""
        if refused is None:
            refused = self._refused(topic, records, cost)
        if 0 < len(refused) < len(records):
            split = parts(records, refused)
            sent = [
                self._send(topic, one.records, partition, _cost(one.records), one.places is refused) for one in split
            ]
            return together(split, sent)
        return self._send(topic, records, partition, cost, bool(refused))

    def _follow_split(
        self,
        topic: str,
        records: Sequence[RecordToSend],
        progress: Callable[[], None],
        cost: int,
        refused: Sequence[int] | None = None,
    ) -> Followed:
        if refused is None:
            refused = self._refused(topic, records, cost)
        if 0 < len(refused) < len(records):
            split = parts(records, refused)
            followed = [
                self._follow(topic, one.records, progress, _cost(one.records), one.places is refused) for one in split
            ]
            return FollowedApart(split, followed)
        return self._follow(topic, records, progress, cost, bool(refused))

    def _send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None, cost: int, apart: bool
    ) -> asyncio.Future[list[Delivery]]:
        loop, size = self._loop, len(records)
        future: asyncio.Future[list[Delivery]] = loop.create_future()
        sender = self._wide if not (apart or self._routes) else self._sender_of(topic, apart)
        batch = Batch(topic, [None] * size, size, cost, loop.time(), future, sender, CURRENT.get()[0])
        self._queue(batch, records, partition, apart)
        return future

    def _follow(
        self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None], cost: int, apart: bool
    ) -> FollowedBatch:
        loop, size = self._loop, len(records)
        future: asyncio.Future[list[Delivery]] = loop.create_future()
        sender, transport = self._sender_of(topic, apart), CURRENT.get()[0]
        batch = FollowedBatch(
            topic, [None] * size, size, cost, loop.time(), future, sender, transport, progress=progress
        )
        self._queue(batch, records, None, apart)
        return batch

    def _sender_of(self, topic: str, apart: bool) -> Sender:
        if apart:
            return self._rerouting.alone
        return self._routes.get(topic, self._wide) if self._routes else self._wide

    def _refused(self, topic: str, records: Sequence[RecordToSend], cost_bytes: int) -> Sequence[int]:
        """The places of records that the topic will not take (suspects.py)."""
        rules = self._limits.rules.get(topic)
        if rules is None:
            return ()
        return rules.refused(records, cost_bytes - len(records) * RECORD_COST_BYTES, self.size_limit.compresses)

    def _admit(self, records: Sequence[RecordToSend]) -> int:
        """What the records count for the queue. ShuttingDown, TooManyRequests."""
        if self._closing:
            raise ShuttingDown()
        size, cost = len(records), _cost(records)
        if self._open_records and (
            self._open_bytes + cost > self._queue_bytes or self._open_records + size > self._queue_records
        ):
            self._refusing = True
            raise TooManyRequests(FULL)
        return cost

    def _queue(self, batch: Batch, records: Sequence[RecordToSend], partition: int | None, apart: bool) -> None:
        if self._topics.absent and self._topics.is_absent(batch.topic):
            batch.future.set_result([UnknownTopicTimeout() for _ in records])
            return
        self._open[batch] = None
        self._open_bytes += batch.cost_bytes
        self._open_records += len(records)
        if self._moves and batch.topic in self._moves and not apart:
            self._rerouting.hold(batch, records, partition)
        elif batch.sender.send(batch, records, partition):
            self._finish((batch,))
        self._trouble.sent()

    def _finish(self, batches: Sequence[Batch]) -> None:
        # Every record of a client comes by here: what is added up is added up once for all batches.
        numbers, opened, told, now = self._numbers, self._open, self._told, self._loop.time()
        seconds = numbers.produce_seconds
        bounds, buckets = seconds.bounds, seconds.buckets
        stored: dict[tuple[str, str], list[int]] = {}
        ended: list[Batch] = []
        for batch in batches:
            if batch.has_more_to_come():
                continue
            if (batch.refused or self._moves) and self._rerouting.completed(batch):
                continue
            if batch in opened:
                del opened[batch]
            elif batch in told:
                told.discard(batch)
            else:
                continue
            ended.append(batch)
            size, cost_bytes, took_s = len(batch.rows), batch.cost_bytes, now - batch.sent_at
            self._open_bytes -= cost_bytes
            self._open_records -= size
            buckets[bisect_left(bounds, took_s)] += 1  # Histogram.add, which would be another call
            seconds.sum += took_s
            size_bytes = cost_bytes - size * RECORD_COST_BYTES
            if batch.errors is not None:
                numbers.produce_errors.update(batch.errors)
                taken = size - len(batch.errors)
                # How many bytes of them were stored is not worth a look at every record.
                size, size_bytes = taken, size_bytes * taken // size
            if size:
                counts = stored.get((batch.transport, batch.topic))
                if counts is None:
                    stored[batch.transport, batch.topic] = [size, size_bytes]
                else:
                    counts[0] += size
                    counts[1] += size_bytes
            if not batch.future.done():
                batch.future.set_result(batch.rows)
        if ended:
            self._refusing = False
            seconds.count += len(ended)
            for (transport, topic), (records, size_bytes) in stored.items():
                numbers.produced.add(transport, topic, records, size_bytes)

    def _release(self, batch: Batch) -> None:
        self._refusing = False
        self._open_bytes -= batch.cost_bytes
        self._open_records -= len(batch.rows)

    def _tell(self, batch: Batch, error: ServiceError) -> None:
        """Answers a batch before its reports come; rows that have theirs keep it."""
        del self._open[batch]
        self._told.add(batch)
        if not batch.future.done():
            # A copy: the poll thread still writes into the original.
            batch.future.set_result([error if row is None else row for row in batch.rows])

    def _broken(self, sender: Sender) -> None:
        """The producer of the sender is another one now: nothing more is heard of what the old one had."""
        error = sender.forbidden or Unavailable("The producer failed; the outcome is unknown: records may be stored.")
        kept = self._rerouting.kept()
        lost = [each for each in (*self._open, *self._told) if each.sender is sender and each not in kept]
        self._fail(lost, error)
        for batch in lost:
            self._rerouting.dropped(batch)

    def _fail(self, batches: Sequence[Batch], error: ServiceError) -> None:
        for batch in batches:
            self._open.pop(batch, None)
            self._told.discard(batch)
            self._release(batch)
            if batch.future.done():
                continue
            if isinstance(error, KafkaAuthorization):
                refusal = of_topic(error, batch.topic)
                batch.future.set_result([refusal if row is None else row for row in batch.rows])
                continue
            batch.future.set_exception(error)
            batch.future.exception()  # a client that left does not ask for it

    def refuse(self) -> None:
        """Answers the batches that wait: Kafka takes the login of this producer no more, and librdkafka would try it
        again until their time is up."""
        self._connection.close()
        error = KafkaAuthentication(_REFUSED)
        for batch in list(self._open):
            self._tell(batch, error)

    @property
    def waiting(self) -> tuple[int, int]:
        """Records and bytes that Kafka has not confirmed yet."""
        return self._open_records, self._open_bytes

    async def close(self, timeout_s: float) -> None:
        """Takes no more records, waits for the reports of those on their way, and fails the rest as unknown."""
        self._closing = True
        for topic, checking in list(self._checking.items()):
            checking.cancel()
            self._send_checked(topic)
        self._connection.close()
        self._trouble.close()
        self._topics.close()
        end = self._loop.time() + timeout_s
        flushed = False
        while not flushed or (self._moves and self._loop.time() < end):
            left_s = max(0.0, end - self._loop.time())
            await asyncio.gather(*(sender.flush(left_s) for sender in self._rerouting.senders))
            flushed = not self._moves
            if self._moves:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        await self._rerouting.settled()
        self._rerouting.close()
        await asyncio.gather(*(sender.close() for sender in self._rerouting.senders))
        self._fail((*self._open, *self._told), OutcomeUnknown())


def _cost(records: Sequence[RecordToSend]) -> int:
    if len(records) == 1:
        value, key = records[0].value, records[0].key
        return RECORD_COST_BYTES + (len(value) if value else 0) + (len(key) if key else 0)
    cost = len(records) * RECORD_COST_BYTES
    cost += sum(map(len, filter(None, [record.value for record in records])))
    return cost + sum(map(len, filter(None, [record.key for record in records])))
