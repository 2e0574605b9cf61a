"""What records count for the producer's queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kafka_gateway.records import RecordToSend

RECORD_COST_BYTES: Final = 400
"""What a queued record costs beside its content: librdkafka's 118 to 259 bytes (reliability.md §3g) and our own."""


def cost_of(records: Sequence[RecordToSend]) -> int:
    """Bytes that the records take while they wait for Kafka."""
    if len(records) == 1:
        (record,) = records
        value, key = record.value, record.key
        return RECORD_COST_BYTES + (len(value) if value else 0) + (len(key) if key else 0)
    cost = len(records) * RECORD_COST_BYTES
    cost += sum(map(len, filter(None, [record.value for record in records])))
    return cost + sum(map(len, filter(None, [record.key for record in records])))
