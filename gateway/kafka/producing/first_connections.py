"""The connection that a new librdkafka producer has before its first record.

librdkafka connects to the leader of a partition when there is a record for it. At that moment, too, it asks for the id
that an idempotent producer needs; no broker is connected yet, so it asks again half a second later, and the record
waits. A producer that is asked for its topic first is connected by then, and has the id within milliseconds.

A connection costs both sides processor time, for TLS above all. So a few are made at a time, in the order of their
asking: of many clients that come at the same moment the first are served soon, and the last no later than if all had
begun at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

import confluent_kafka

_log = logging.getLogger("gateway.kafka.producer")

_AT_ONCE: Final = 4
_PATIENCE_S: Final = 2.0
"""How long records wait for a connection: then librdkafka gets them, which keeps them while Kafka is away."""


class FirstConnections:
    """Makes those of all producers of a gateway. Belongs to the event loop."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "kafka-connect")

    async def make(self, producer: confluent_kafka.Producer, topic: str) -> None:
        """Returns when the producer is connected and knows the topic, which exists; or when that takes too long."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.get_running_loop().run_in_executor(self._threads, _ask, producer, topic)
        except TimeoutError:
            _log.debug("A producer for topic %s has no connection after %g s", topic, _PATIENCE_S)

    def close(self) -> None:
        """Begins no more. What is being made ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class FirstConnection:
    """That of one producer. Belongs to the event loop.

    Args:
        connections: who makes it; None: nobody waits for one.
        producer: whose it is.
    """

    def __init__(self, connections: FirstConnections | None, producer: Callable[[], confluent_kafka.Producer]) -> None:
        self._connections = connections
        self._producer = producer
        self._making: asyncio.Task[None] | None = None
        self.is_made = connections is None
        """Whether records need not wait for it, or not any more."""

    async def make(self, topic: str) -> None:
        """Returns when records need not wait any more; those who wait go on in the order of their asking."""
        if self.is_made or self._connections is None:
            return
        if self._making is None:
            making = self._connections.make(self._producer(), topic)
            self._making = asyncio.get_running_loop().create_task(making, name="first connection")
            self._making.add_done_callback(self._made)
        await asyncio.wait((self._making,))

    def _made(self, making: asyncio.Task[None]) -> None:
        self.is_made, self._making = True, None
        if not making.cancelled() and (error := making.exception()) is not None:
            _log.error("a producer could not be connected", exc_info=error)

    def close(self) -> None:
        """Nobody waits for it any more: the producer ends, or Kafka does not take its login."""
        if self._making is not None:
            self._making.cancel()


def _ask(producer: confluent_kafka.Producer, topic: str) -> None:
    try:
        # The broker of bootstrap.servers may have answered the first question. librdkafka leaves it with that, for the
        # brokers that it has learned of; one of these answers the second.
        for _ in range(2):
            producer.list_topics(topic, timeout=_PATIENCE_S)
    except confluent_kafka.KafkaException as error:  # the first record tells what is wrong
        _log.debug("A producer for topic %s is not connected: %s", topic, error)


class Lazily:
    """Something to await that begins when somebody does, and costs nothing if nobody does."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, None, None]:
        return self._begin().__await__()
