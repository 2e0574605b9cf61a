"""The service behind ``/socket/in``: sends a socket's records to Kafka, in order (websocket-proxy.md §2)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial

from kafka_gateway.errors import BadRequest, ServiceError, TooManyRequests
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.producing import Transactions
from kafka_gateway.kafka_errors import KafkaError, KafkaRefused
from kafka_gateway.messages import Call, Response
from kafka_gateway.records import RecordToSend
from kafka_gateway.services.common.dry_run import is_dry
from kafka_gateway.services.websocket_proxy.ports import SenderRequest, StoredRecord
from kafka_gateway.services.websocket_proxy.sessions import Lease, ProducerSocket, ProxySettings, SocketSessions
from kafka_gateway.services.websocket_proxy.topics import log_in, needs_keys, partitions_of

log = logging.getLogger("gateway.producer")

_ROOM_S = 0.02
"""How long to wait when the producer's queue is full before it is tried again."""

_KNOWN_S = 30.0
_TOPICS_MAX = 10_000
_NO_KEY = "INVALID_RECORD: the topic is compacted, and the record has no key"

Results = list[StoredRecord | ServiceError]
PendingResults = asyncio.Future[Results]


class ProduceSockets:
    """Makes a sender of every request for ``/socket/in``."""

    def __init__(self, kafka: Kafka, settings: ProxySettings, sessions: SocketSessions) -> None:
        self._kafka = kafka
        self._settings = settings
        self._sessions = sessions
        self._keyed: dict[str, tuple[bool, float]] = {}
        """Topic → whether it takes only records with keys, and until when that counts."""

    async def open(self, call: Call) -> Response:
        wanted = call.body
        if not isinstance(wanted, SenderRequest):
            raise BadRequest("Expected WebSocket Upgrade request")
        if is_dry(call.query):
            raise BadRequest("dry_run is for requests that produce: what a socket sends is always stored.")
        self._check(wanted)
        call.require("write", "topic", wanted.topic)
        if wanted.transactional:
            call.require("write", "transactional-id", f"{wanted.client_id}-{wanted.instance_id}")
        await partitions_of(self._kafka, wanted.topic, self._settings.hidden_topics)
        keyed = not wanted.transactional and await self._needs_keys(wanted.topic)
        lease = await self._sessions.open_producer(
            ProducerSocket(wanted.client_id, wanted.instance_id, wanted.transactional)
        )
        try:
            kafka = await log_in(self._kafka, call.session, wanted.topic)
            if not wanted.transactional:
                return Response(Sender(kafka, wanted.topic, lease, call, keyed))
            name = f"{wanted.client_id}-{wanted.instance_id}"
            transactions = await kafka.transactions(name, wanted.client_id)
        except BaseException:
            lease.close(0)
            raise
        return Response(TransactionalSender(transactions, wanted.topic, lease))

    async def _needs_keys(self, topic: str) -> bool:
        now = asyncio.get_running_loop().time()
        known = self._keyed.get(topic)
        if known is None or known[1] < now:
            if len(self._keyed) >= _TOPICS_MAX:
                self._keyed.clear()
            known = self._keyed[topic] = (await needs_keys(self._kafka, topic), now + _KNOWN_S)
        return known[0]

    def _check(self, wanted: SenderRequest) -> None:
        """BadRequest for what the configuration does not allow; before any session is touched, in this order (§1.5)."""
        settings = self._settings
        if wanted.transactional:
            if not (settings.sessions_enabled and settings.exactly_once_enabled):
                raise BadRequest(
                    "Unable to provide transactional producer. Server is not configured to allow producer transactions."
                )
            if wanted.instance_id is None:
                raise BadRequest("Request param 'instanceId' is required when using transactional.")
        if settings.sessions_enabled and wanted.instance_id is None:
            raise BadRequest(
                "Request param 'instanceId' is required when producer sessions are enabled on the proxy server."
            )


class Sender:
    """A socket's records through the gateway's producer. All sockets share that: their records share batches.

    What one socket sends stays in order, each partition's records also across retries (idempotence). A full queue
    makes the socket wait and refuses nothing.
    """

    one_by_one = False

    def __init__(self, kafka: Kafka, topic: str, lease: Lease, call: Call, keyed: bool = False) -> None:
        """``call`` has opened the socket. ``keyed``: the topic takes no records without a key."""
        self._call, self._session = call, call.session
        self._keyed = keyed
        self._producer = kafka.producer
        self._topic = topic
        self._lease = lease
        self._counters = lease.counters
        self.rate = lease.rate
        self._waiting: deque[tuple[Sequence[RecordToSend], PendingResults]] = deque()
        self._task: asyncio.Task[None] | None = None

    def send(self, records: Sequence[RecordToSend]) -> PendingResults:
        self._counters.records += len(records)
        if self._keyed:
            good = next((number for number, record in enumerate(records) if record.key is None), len(records))
            if good < len(records):
                return self._send_good(records, good)
        return self._send(records)

    def _send_good(self, records: Sequence[RecordToSend], good: int) -> PendingResults:
        """Sends the first ``good`` records only: the broker would refuse the next one, and its whole batch with it."""
        answer: PendingResults = asyncio.get_running_loop().create_future()

        def settle(sent: PendingResults) -> None:
            if not sent.cancelled() and sent.exception() is None and not answer.done():
                answer.set_result([*sent.result(), *[KafkaRefused(_NO_KEY)] * (len(records) - good)])
            else:
                _pass_on(answer, sent)

        self._send(records[:good]).add_done_callback(settle)
        return answer

    def _send(self, records: Sequence[RecordToSend]) -> PendingResults:
        if not self._waiting and self._producer.ready(self._topic, self._session.rights) is None:
            try:
                return self._producer.send(self._topic, records)
            except TooManyRequests:
                pass
        answer: PendingResults = asyncio.get_running_loop().create_future()
        self._waiting.append((records, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send_waiting())
        return answer

    async def _send_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            records, answer = waiting[0]
            try:
                if (ready := self._producer.ready(self._topic, self._session.rights)) is not None:
                    await ready
                sent = self._producer.send(self._topic, records)
            except TooManyRequests:
                await asyncio.sleep(_ROOM_S)
                continue
            except ServiceError as error:
                self._call.tell_refusal(error)
                waiting.popleft()
                _fail(answer, error)
                continue
            waiting.popleft()
            sent.add_done_callback(partial(_pass_on, answer))
        self._task = None

    def answered(self, count: int) -> None:
        self._counters.answers += count

    def end(self, code: int) -> None:
        self._lease.close(code)

    async def aclose(self) -> None:
        self.end(1006)


class TransactionalSender:
    """A socket's records, each in a transaction of its own (§2.8)."""

    one_by_one = True

    def __init__(self, transactions: Transactions, topic: str, lease: Lease) -> None:
        self._transactions = transactions
        self._topic = topic
        self._lease = lease
        self._counters = lease.counters
        self.rate = lease.rate
        self._waiting: deque[tuple[Sequence[RecordToSend], PendingResults]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._closing: asyncio.Task[None] | None = None

    def send(self, records: Sequence[RecordToSend]) -> PendingResults:
        self._counters.records += len(records)
        answer: PendingResults = asyncio.get_running_loop().create_future()
        self._waiting.append((records, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        return answer

    async def _work(self) -> None:
        waiting = self._waiting
        while waiting and not self._ended:
            records, answer = waiting.popleft()
            results: Results = []
            for record in records:
                try:
                    results.append(await self._transactions.send(self._topic, record))
                except ServiceError as error:
                    results.append(error)
                except Exception:
                    log.exception("a transaction failed")
                    results.append(KafkaError())
            if not answer.done():
                answer.set_result(results)
        self._task = None

    def answered(self, count: int) -> None:
        self._counters.answers += count

    def end(self, code: int) -> None:
        """Finishes the transaction at work, then gives the place back. Records that have not begun are not sent."""
        if self._ended:
            return
        self._ended = True
        self._waiting.clear()
        self._closing = asyncio.get_running_loop().create_task(self._close(code))

    async def _close(self, code: int) -> None:
        try:
            await self._transactions.close()
        finally:
            self._lease.close(code)

    async def aclose(self) -> None:
        self.end(1006)
        if self._closing is not None:
            await asyncio.shield(self._closing)


def _fail(answer: PendingResults, error: ServiceError) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # a client that left does not ask for it


def _pass_on(answer: PendingResults, done: PendingResults) -> None:
    if answer.done() or done.cancelled():
        return
    if (error := done.exception()) is not None:
        answer.set_exception(error)
        answer.exception()
    else:
        answer.set_result(done.result())
