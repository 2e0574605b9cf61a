"""Whether Kafka is there. The log tells when it goes away and when it is back: one line each, however many clients
notice. A gauge tells it all the time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.clients.client_log import ClientLog
from kafka_gateway.kafka_errors import BrokerNotAvailable

_log = logging.getLogger("gateway.kafka.admin")

CHECK_S = 1.5
"""How long Kafka has for an answer."""
PAUSE_S = 1.0
"""Between two questions, while it is away."""
PROVEN_S = 10.0
"""How long an answer of Kafka is taken for the proof that it is there, where nobody has noticed anything else."""


class Presence:
    """Asks Kafka when somebody suspects that it is away, until it answers. Belongs to the event loop."""

    def __init__(self, check: Callable[[float], Awaitable[None]], servers: str, client_log: ClientLog) -> None:
        """
        Args:
            check: raises ServiceError if no broker answers in so many seconds.
            servers: what to call Kafka, ``bootstrap.servers``.
            client_log: takes librdkafka's lines. It is told when all brokers are away: a hundred clients that cannot
                connect repeat no more than that.
        """
        self._check = check
        self._servers = servers
        self._client_log = client_log
        self._loop = asyncio.get_running_loop()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self._is_away = False
        self._answered_at: float | None = None

    def answered(self) -> None:
        """A broker has answered something. From any thread."""
        self._answered_at = time.monotonic()

    def is_there(self) -> bool:
        """Whether Kafka has not been found to be away. Waits for nothing: Kafka is asked behind this call if its last
        answer is old, for a gateway without work may have no connection that could break. From any thread."""
        if self._answered_at is None or time.monotonic() - self._answered_at > PROVEN_S:
            self.suspect_soon()
        return not self._is_away

    async def reach(self) -> None:
        """See `Admin.reach`. What is away for the first time may be back in a moment; where nothing has ever answered,
        the addresses are most likely wrong, and waiting helps nobody."""
        if self._answered_at is not None:
            return
        try:
            if self._is_away:
                raise BrokerNotAvailable
            await self._check(CHECK_S)
        except BrokerNotAvailable as error:
            raise BrokerNotAvailable("No Kafka broker has answered since the gateway was started.") from error

    def suspect(self) -> None:
        """Notes that Kafka has not answered something."""
        if self._watching is None and not self._closed:
            self._watching = self._loop.create_task(self._watch(), name="watch whether Kafka is back")

    def suspect_soon(self) -> None:
        """As ``suspect``, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.suspect)
        except RuntimeError:  # the loop is closed
            return

    def close(self) -> None:
        """Stops asking and telling."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        since = time.monotonic()
        try:
            if await self._answers():
                return  # a connection broke, or one broker of several is gone
            self._is_away = self._client_log.kafka_is_away = True
            _log.error("Kafka is away: no broker of %s answers. It is asked again every second.", self._servers)
            while not await self._answers():  # noqa: ASYNC110 (nothing announces it)
                await asyncio.sleep(PAUSE_S)
            self._is_away = False  # a reader of the line may look at the gauge at once
            _log.warning("Kafka is back, after %.0f s.", time.monotonic() - since)
        finally:
            self._watching = None
            self._is_away = self._client_log.kafka_is_away = False

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_S):
                await self._check(CHECK_S)
            return True
        except (ServiceError, TimeoutError):
            return False
