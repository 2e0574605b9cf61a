"""The writing end of the topic of definitions (cluster.md §4.2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from kafka_gateway.cluster.records import headers_of, record_key
from kafka_gateway.definitions import Deletion, SlotKey
from kafka_gateway.errors import InstanceUnavailable, ServiceError
from kafka_gateway.kafka.ports.producing import Producer
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.state_log import StateLog

log = logging.getLogger("gateway.cluster")


class DefinitionLog:
    """Belongs to the event loop."""

    def __init__(self, topic: str, producer: Callable[[], Producer], slot_of: Callable[[SlotKey], int]) -> None:
        """``producer``: the gateway's own, made when it is first used."""
        self._topic = topic
        self._producer = producer
        self._slot_of = slot_of
        self._states = StateLog(log)
        self._repairs: set[asyncio.Task[None]] = set()

    async def write(self, key: SlotKey, value: bytes | None, deletion: Deletion | None = None) -> None:
        """Returns when Kafka has stored it; InstanceUnavailable: it has not. ``value`` None is that deletion; beside a
        value it is a void one that the definition stands behind."""
        headers = headers_of(deletion) if deletion is not None else None
        record = OutgoingRecord(record_key(key), value, self._slot_of(key), headers=headers)
        (stored,) = await self._producer().send(self._topic, [record])
        if isinstance(stored, ServiceError):
            text = "definitions of consumer instances cannot be stored: %s"
            self._states.trouble("store", stored.message, logging.WARNING, text, stored.message)
            raise InstanceUnavailable() from stored
        self._states.well("store", text="definitions of consumer instances are stored again")

    def repair(self, key: SlotKey, value: bytes | None, deletion: Deletion | None) -> None:
        """As ``write``, without waiting, behind a void record: compaction would keep that one."""
        task = asyncio.get_running_loop().create_task(self._repair(key, value, deletion))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _repair(self, key: SlotKey, value: bytes | None, deletion: Deletion | None) -> None:
        with contextlib.suppress(InstanceUnavailable):  # logged; the next void record, or holder, tries again
            await self.write(key, value, deletion)
