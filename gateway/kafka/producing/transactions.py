"""A producer that makes a transaction of every record, with a thread of its own (websocket-proxy.md §2.8).

librdkafka's transactional calls block, up to their timeouts. One thread carries them out in the order of their asking,
so a client whose transactions hang delays nobody else.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException, Message

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.errors import describe, kafka_error, to_service_error
from kafka_gateway.kafka.ports.producing import Stored
from kafka_gateway.kafka_errors import OutcomeUnknown
from kafka_gateway.records import RecordToSend

_log = logging.getLogger("gateway.kafka.producer")

INIT_S = 15.0
"""How long Kafka may take to give the producer its id, fencing whoever used the transactional id before."""
COMMIT_S = 60.0
"""How long one transaction may take to be committed."""
ABORT_S = 5.0
CLOSE_S = 5.0


class KafkaTransactions:
    """The `Transactions` port. Made by `open`; belongs to the event loop."""

    def __init__(self, build: Callable[[], confluent_kafka.Producer], name: str) -> None:
        self._build = build
        self._producer: confluent_kafka.Producer | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, name)
        self._failed: ServiceError | None = None
        self._closed = False

    @classmethod
    async def open(cls, build: Callable[[], confluent_kafka.Producer], name: str) -> KafkaTransactions:
        """A producer that may begin. Raises what Kafka answers as a ServiceError."""
        transactions = cls(build, name)
        try:
            await transactions._ask(transactions._init)
        except BaseException:
            transactions._end()
            raise
        return transactions

    async def send(self, topic: str, record: RecordToSend) -> Stored:
        if self._failed is not None:
            raise self._failed
        stored: Stored = await self._ask(self._send, topic, record)
        return stored

    async def close(self) -> None:
        """Waits for the transaction at work, for some seconds at most."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._ask(lambda: None)
        except TimeoutError:
            _log.warning("A transaction was still at work %g s after its client had left", CLOSE_S)
        self._end()

    def _ask(self, call: Callable[..., Any], *arguments: object) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _end(self) -> None:
        self._closed = True
        self._thread.shutdown(wait=False)
        self._producer = None

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _init(self) -> None:
        try:
            self._producer = self._build()
            self._producer.init_transactions(INIT_S)
        except KafkaException as error:
            raise self._error(error) from error

    def _send(self, topic: str, record: RecordToSend) -> Stored:
        producer = self._producer
        if self._failed is not None:
            raise self._failed
        if producer is None:
            raise OutcomeUnknown
        stored: list[Message] = []
        refused: list[Any] = []

        def delivered(error: Any, message: Message) -> None:
            if error is None:
                stored.append(message)
            else:
                refused.append(error)

        headers: Any = None if record.headers is None else list(record.headers)
        try:
            producer.begin_transaction()
            producer.produce(topic, record.value, record.key, headers=headers, on_delivery=delivered)
            producer.commit_transaction(COMMIT_S)  # flushes, and calls `delivered`
            producer.poll(0)
        except (KafkaException, BufferError) as error:
            self._abort(producer, error)
            cause = refused[0] if refused else kafka_error(error) or error
            self._failed = to_service_error(cause)
            raise self._failed from error
        if not stored:
            self._failed = OutcomeUnknown("The transaction was committed, but no place of the record was reported.")
            raise self._failed
        return stored[0]

    def _abort(self, producer: confluent_kafka.Producer, error: Exception) -> None:
        cause = kafka_error(error)
        if cause is not None and cause.fatal():  # fenced, say: there is nothing left to abort
            _log.warning("A transactional producer has ended: %s", describe(cause))
            return
        try:
            producer.abort_transaction(ABORT_S)
        except KafkaException as failure:
            _log.warning("A transaction could not be aborted: %s", failure)

    @staticmethod
    def _error(error: KafkaException) -> ServiceError:
        return to_service_error(kafka_error(error) or error)
