"""Reads of a consumer instance, from their request to their acceptance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import cast

from confluent_kafka import Message

from kafka_gateway.kafka.consuming.buffer import Partition, RecordBuffer
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

_UNLIMITED = 2**63
_LOOK_S = 0.002


class HandedOut:
    """Records that somebody was given, until they are accepted or put back."""

    __slots__ = ("batch", "last", "limits", "outcome")

    def __init__(self, limits: ReadLimits, batch: RecordBatch, last: Mapping[Partition, int]) -> None:
        self.limits = limits
        self.batch = batch
        self.last = last
        """The offset of the last record of each partition in the batch."""
        self.outcome: bool | None = None
        """Whether they were accepted; None until the event loop knows. The thread is told in its turn."""

    def is_known(self, until: float) -> bool:
        """Whether the outcome is; on the thread. Waits for it until that time (`time.monotonic`)."""
        while self.outcome is None and time.monotonic() < until:
            time.sleep(_LOOK_S)
        return self.outcome is not None


class Read(HandedOut):
    """One read from its request to its acceptance. ``future`` has no value: the answer is ``batch``."""

    __slots__ = ("deadline", "encoder", "future")

    def __init__(self, limits: ReadLimits, encoder: RecordsEncoder, future: asyncio.Future[None]) -> None:
        super().__init__(limits, RecordBatch((), 0), {})
        self.encoder = encoder
        self.future = future
        self.deadline = time.monotonic() + limits.timeout_s


def longest_encodable(buffer: RecordBuffer, count: int, encoder: RecordsEncoder) -> RecordBatch:
    """The longest run from the head of the buffer that the encoder takes, encoded, where it refuses the first
    ``count``; maybe none. The next read meets the record."""
    good, bad = 0, count
    best = RecordBatch((), 0)
    while good + 1 < bad:
        middle = (good + bad) // 2
        attempt = batch_of(*buffer.take(ReadLimits(_UNLIMITED, 0), middle))
        try:
            attempt.encode(encoder)
        except Exception:
            bad = middle
        else:
            good, best = middle, attempt
    return best


def batch_of(records: list[Message], size_bytes: int) -> RecordBatch:
    """Records of the binding as a batch."""
    # A Message has the shape of a ConsumedRecord; its type says so less exactly.
    return RecordBatch(cast(Sequence[ConsumedRecord], records), size_bytes)
