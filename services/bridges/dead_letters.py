"""Records that no sink takes, kept in a topic of their own (bridges.md A-27)."""

from __future__ import annotations

import datetime

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.producing import Producer
from kafka_gateway.records import ConsumedRecord, OutgoingRecord
from kafka_gateway.rights import EVERYTHING
from kafka_gateway.services.bridges.outcomes import SinkAnswer

_ERROR_MAX = 512


class DeadLetters:
    """The dead-letter topic of a bridge."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self.topic = topic
        self._producer = producer

    async def keep(self, record: ConsumedRecord, answer: SinkAnswer, attempts: int) -> None:
        """Returns when Kafka has stored it; ServiceError if it has not."""
        waiting = self._producer.ready(self.topic, EVERYTHING)
        if waiting is not None:
            await waiting
        (delivery,) = await self._producer.send(self.topic, [dead_letter(record, answer, attempts)])
        if isinstance(delivery, ServiceError):
            raise delivery


def dead_letter(record: ConsumedRecord, answer: SinkAnswer, attempts: int) -> OutgoingRecord:
    """The record as it was, with further headers that say where it comes from and what was wrong."""
    now = datetime.datetime.now(datetime.UTC)
    story = {
        "topic": str(record.topic()),
        "partition": str(record.partition()),
        "offset": str(record.offset()),
        "timestamp": str(record.timestamp()[1]),
        "attempts": str(attempts),
        "status": str(answer.status),
        "error": answer.text[:_ERROR_MAX],
        "failed-at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    headers = [*(record.headers() or ()), *((f"gw.dlq.{name}", text.encode()) for name, text in story.items())]
    return OutgoingRecord(record.key(), record.value(), None, 0, headers)
