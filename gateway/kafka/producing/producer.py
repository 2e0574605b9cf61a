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
from kafka_gateway.kafka.ports.producing import Delivery, Outcomes
from kafka_gateway.kafka.producing.batch import Batch, FollowedBatch, of_topic
from kafka_gateway.kafka.producing.costs import RECORD_COST_BYTES, cost_of
from kafka_gateway.kafka.producing.delivery_watch import DeliveryWatch
from kafka_gateway.kafka.producing.demand_checks import DemandChecks
from kafka_gateway.kafka.producing.embedded_times import EmbeddedSender, EmbeddedTimes
from kafka_gateway.kafka.producing.first_connections import FirstConnection, FirstConnections, Lazily
from kafka_gateway.kafka.producing.known_topics import KnownTopics
from kafka_gateway.kafka.producing.outcomes import Collected, Outcome, send_one_by_one
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

_REFUSED = (
    "Authentication to Kafka failed: it takes the credentials no more; the outcome is unknown: the record may have "
    "been stored"
)
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
        self._checks = DemandChecks(self._ask_limit, self._count)
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
        if not refused and not self._checks.waiting:
            return self._send(topic, records, partition, cost, False)
        if topic in self._checks.waiting or (refused and not self._limits.is_sure(topic)):
            future = self._loop.create_future()
            self._checks.send_later(
                topic, len(records), cost, lambda: pass_on(self._send_split(topic, records, partition, cost), future)
            )
            return future
        return self._send_split(topic, records, partition, cost, refused)

    def send_each(self, topic: str, batches: Sequence[Sequence[RecordToSend]], told: Outcomes) -> None:
        """See the port. What is looked at for every send is looked at once for all of them, if nothing is special."""
        rules = self._limits.rules.get(topic)
        records = [record for batch in batches for record in batch]
        costs = [cost_of(batch) for batch in batches]
        cost = sum(costs)
        if (
            self._closing
            or not all(batches)
            or self._open_bytes + cost > self._queue_bytes
            or self._open_records + len(records) > self._queue_records
            or self._checks.waiting
            or self._routes
            or self._moves
            or self._topics.absent
            or (rules is not None and self._refused(topic, records, cost))
        ):
            send_one_by_one(self, topic, batches, told)
            return
        collected = Collected(told)
        now, sender, transport, opened = self._loop.time(), self._wide, CURRENT.get()[0], self._open
        queued: list[tuple[Batch, Sequence[RecordToSend], int | None]] = []
        for place, content in enumerate(batches):
            size = len(content)
            outcome: Any = Outcome(collected, place)
            one = Batch(topic, [None] * size, size, costs[place], now, outcome, sender, transport)
            opened[one] = None
            queued.append((one, content, None))
        self._count(len(records), cost)
        if complete := sender.send_all(queued, len(records), cost):
            self._finish(complete)
        self._trouble.sent()

    def _count(self, records: int, size_bytes: int) -> None:
        self._open_records += records
        self._open_bytes += size_bytes

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Followed:
        """See the port."""
        cost = self._admit(records)
        refused = self._refused(topic, records, cost)
        if topic in self._checks.waiting or (refused and not self._limits.is_sure(topic)):
            later = FollowedLater(len(records))
            self._checks.send_later(
                topic, len(records), cost, lambda: later.begin(self._follow_split(topic, records, progress, cost))
            )
            return later
        return self._follow_split(topic, records, progress, cost, refused)

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
                self._send(topic, one.records, partition, cost_of(one.records), one.places is refused) for one in split
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
                self._follow(topic, one.records, progress, cost_of(one.records), one.places is refused) for one in split
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
        size, cost = len(records), cost_of(records)
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
        bounds, buckets, moves = seconds.bounds, seconds.buckets, self._moves
        ended = records = size_bytes = 0
        sum_s = 0.0
        transport = topic = None
        stored: list[int] = []
        for batch in batches:
            if batch.has_more_to_come():
                continue
            if (batch.refused or moves) and self._rerouting.completed(batch):
                continue
            if batch in opened:
                del opened[batch]
            elif batch in told:
                told.discard(batch)
            else:
                continue
            ended += 1
            size, cost_bytes, took_s = len(batch.rows), batch.cost_bytes, now - batch.sent_at
            records += size
            size_bytes += cost_bytes
            buckets[bisect_left(bounds, took_s)] += 1  # Histogram.add, which would be another call
            sum_s += took_s
            content_bytes = cost_bytes - size * RECORD_COST_BYTES
            if batch.errors is not None:
                numbers.produce_errors.update(batch.errors)
                taken = size - len(batch.errors)
                # How many bytes of them were stored is not worth a look at every record.
                size, content_bytes = taken, content_bytes * taken // size
            if size:
                if batch.topic is not topic or batch.transport is not transport:
                    transport, topic = batch.transport, batch.topic
                    stored = numbers.produced.counts(transport, topic)
                stored[0] += size
                stored[1] += content_bytes
            future = batch.future
            if not future.done():
                future.set_result(batch.rows)
        if ended:
            self._refusing = False
            seconds.count += ended
            seconds.sum += sum_s
            self._count(-records, -size_bytes)

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
        self._checks.close()
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
