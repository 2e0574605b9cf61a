"""Telling why records wait. librdkafka tries again for as long as a record may live, and never says that Kafka has too
few replicas for it (reliability.md §3h, F7); so Kafka is asked about the topics of the records that wait for long.

It looks only while there are such records: a send costs a comparison here, and a timer a second starts at most.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka_errors import PartitionTrouble

_log = logging.getLogger("gateway.kafka.producer")

LOOK_S = 0.7
"""When records have waited this long, and from then on this often, their topics are looked at. The answer comes with
the second look that finds the same: a partition has no leader for a moment whenever its broker starts, too."""

_MOST = 10_000
"""Batches that one look may concern; the next one goes on."""


class WaitingBatch(Protocol):
    """Records that were sent together and have not all been confirmed."""

    topic: str
    sent_at: float
    """By the clock of the event loop."""


Batch = TypeVar("Batch", bound=WaitingBatch)


class DeliveryWatch(Generic[Batch]):
    """Looks after the batches that wait. Belongs to the event loop."""

    def __init__(self, admin: Admin, waiting: Collection[Batch], tell: Callable[[Batch, ServiceError], None]) -> None:
        """``waiting``: in the order of their sending. ``tell`` is called once a batch, and takes it out of there."""
        self._admin = admin
        self._waiting = waiting
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._troubled: frozenset[str] = frozenset()
        """The topics in which the last look found trouble."""

    def sent(self) -> None:
        """A batch has been sent."""
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._due)

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _due(self) -> None:
        self._timer = None
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            self._troubled = frozenset()
            return
        left_s = oldest.sent_at + LOOK_S - self._loop.time()
        if left_s <= 0 and self._looking is None:
            self._looking = self._loop.create_task(self._look())
        self._timer = self._loop.call_later(left_s if left_s > 0 else LOOK_S, self._due)

    async def _look(self) -> None:
        try:
            until = self._loop.time() - LOOK_S
            first = itertools.islice(self._waiting, _MOST)
            topics = {batch.topic for batch in itertools.takewhile(lambda batch: batch.sent_at <= until, first)}
            # One after the other: each may hold one of the few threads that ask Kafka for all.
            found = {topic: trouble for topic in topics if (trouble := await self._admin_says(topic))}
            certain = found.keys() & self._troubled
            self._troubled = frozenset(found)
            if certain:
                self._tell_all(certain, found)
        except ServiceError as error:
            # Kafka does not answer at all: nobody can say more than that the time is up.
            self._troubled = frozenset()
            _log.debug("why records wait cannot be found out: %s", error.message)
        except Exception:
            _log.exception("looking after the records that wait failed")
        finally:
            self._looking = None

    async def _admin_says(self, topic: str) -> str:
        try:
            return await self._admin.trouble(topic)
        except UnknownTopicOrPartition:
            return ""  # librdkafka itself says so

    def _tell_all(self, certain: Collection[str], found: dict[str, str]) -> None:
        until = self._loop.time() - LOOK_S
        for batch in list(itertools.islice(self._waiting, _MOST)):
            if batch.sent_at > until:
                break
            if batch.topic in certain:
                text = f"{found[batch.topic]}; the outcome is unknown: the record may have been stored"
                self._tell(batch, PartitionTrouble(text))
