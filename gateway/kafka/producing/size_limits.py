"""How large the batches of a topic may be, as far as Kafka tells or shows it, and what else it demands of records.

A topic takes batches of at most ``max.message.bytes`` (its own, or the brokers' ``message.max.bytes``), and none larger
than a segment of its log. Kafka is asked when a topic is first written to, and again after a while, because both can
change at any time. Who may write to a topic need not be allowed to see its settings: then refusals have to teach it.
"""

from __future__ import annotations

import logging
import time

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.producing.suspects import RecordDemands

_log = logging.getLogger("gateway.kafka.producer")

ASK_AGAIN_S = 30.0
"""A change that nobody has noticed costs a refusal and a second sending, no record."""

SURE_S = 1.0
"""How long what Kafka said decides that a record will be refused. Order is lost if it takes the record after all."""
_SMALLEST = 1024
"""Below it a batch is one record."""
_TOPICS_MAX = 10_000


class SizeLimits:
    """The batch size of each topic, out of a few: ``largest`` and its halves. Belongs to the event loop."""

    def __init__(self, admin: Admin, largest: int) -> None:
        self._admin = admin
        self.largest = largest
        self._told: dict[str, int] = {}
        """What Kafka says; without topics whose settings it does not show."""
        self._shown: dict[str, tuple[int, int]] = {}
        """What refusals have shown, and what Kafka said then: counts until it says something else."""
        self._asked: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        """When Kafka said something of the topic last, even if that it does not show it."""
        self.rules: dict[str, RecordDemands] = {}
        """What topics demand of each record, where Kafka shows it."""

    def due(self, topic: str) -> bool:
        """Whether Kafka should be asked about the topic (again)."""
        return self._asked.get(topic, 0.0) <= time.monotonic()

    def knows(self, topic: str) -> bool:
        """Whether Kafka has been asked about the topic once, whatever it said."""
        return topic in self._answered

    def is_sure(self, topic: str) -> bool:
        """Whether Kafka has been asked about the topic a moment ago."""
        return self._answered.get(topic, 0.0) > time.monotonic() - SURE_S

    async def ask(self, topic: str) -> None:
        """Asks Kafka for the topic's limit. Raises nothing: without an answer the last one counts."""
        try:
            await self._admin.reach()
        except ServiceError:
            return  # nothing is sent to it either
        if len(self._asked) >= _TOPICS_MAX:
            self._asked.clear()
            self._told.clear()
            self._answered.clear()
            self.rules.clear()
        self._asked[topic] = time.monotonic() + ASK_AGAIN_S
        try:
            settings = {entry.name: entry.value for entry in await self._admin.topic_configs(topic)}
        except ServiceError as error:
            _log.debug("the largest batch of topic %s is not known: %s", topic, error.message)
            return
        finally:
            self._answered[topic] = time.monotonic()
        limits = [int(text) for name in ("max.message.bytes", "segment.bytes") if (text := settings.get(name))]
        if limits:
            self._told[topic] = min(limits)
            self.rules[topic] = RecordDemands.of(settings)

    def batch_bytes(self, topic: str) -> int:
        """How large a batch may be, at most, that the topic takes for certain."""
        told = self._told.get(topic, self.largest)
        shown = self._shown.get(topic)
        if shown is not None:
            if shown[1] == told:
                return shown[0]
            del self._shown[topic]
        return self._class(told)

    def refused(self, topic: str, batch_bytes: int) -> None:
        """Kafka has refused a batch of the topic that had at most ``batch_bytes``."""
        if self.batch_bytes(topic) >= batch_bytes:
            if len(self._shown) >= _TOPICS_MAX:
                self._shown.clear()
            # A quarter: five refusals find any limit, and batches stay larger than an eighth of what is allowed.
            self._shown[topic] = (self._class(batch_bytes // 4), self._told.get(topic, self.largest))

    def _class(self, limit: int) -> int:
        size = self.largest
        while size > limit and size > 1:
            size = size // 2 if size >= 2 * _SMALLEST else 1
        return size
