"""Limits that are changed at run time, in a compacted topic that all gateways follow (websocket-proxy.md §4.7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from kafka_gateway import jsonio
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.services.websocket_proxy.limits import ClientLimits, Limits, Side, read_record, record_key

log = logging.getLogger("gateway.config")

HANDLER_S = 10.0
LOOKUP_S = 4.0
"""How long a new socket waits until the topic has been read; then the configured limits apply."""
_READER = "ws-proxy-dynamic-config-handler-consumer-"


class TimedOut(ServiceError):
    text = "The operation timed out."
    help = "Look whether it was done, then send it again: Kafka did not answer in time."


class DynamicLimits:
    """Keeps ``limits.dynamic`` up to date. Belongs to the event loop. ``changed`` is called for every new entry."""

    def __init__(
        self, kafka: Kafka, server: str, topic: CompactedTopic, limits: Limits, changed: Callable[[ClientLimits], None]
    ) -> None:
        self._kafka = kafka
        self._server = server
        self._topic = topic
        self._limits = limits
        self._changed = changed
        self._log: CompactedLog | None = None
        self._read = asyncio.Event()
        self._written: dict[str, int] = {}

    async def start(self) -> None:
        """Begins to read the topic; does not wait for it."""
        self._log = await self._kafka.compacted_log(self._topic, _READER + self._server, self)

    async def aclose(self) -> None:
        if self._log is not None:
            await self._log.close()

    async def settled(self) -> None:
        """Waits until the topic has been read, `LOOKUP_S` at most."""
        try:
            async with asyncio.timeout(LOOKUP_S):
                await self._read.wait()
        except TimeoutError:
            log.warning("topic %s has not been read in time: the configured limits apply", self._topic.name)

    async def save(self, limits: ClientLimits) -> None:
        """Inserts or replaces an entry. Raises TimedOut or what Kafka answers."""
        await self._write([(limits.side, limits.id, limits)])

    async def remove(self, side: Side, client: str) -> bool:
        """Removes an entry; False if there is none. Raises as `save`."""
        if client not in self._limits.dynamic[side]:
            return False
        await self._write([(side, client, None)])
        return True

    async def clear(self) -> None:
        entries = [(side, client, None) for side, known in self._limits.dynamic.items() for client in known]
        if entries:
            await self._write(entries)

    async def _write(self, entries: Sequence[tuple[Side, str, ClientLimits | None]]) -> None:
        if self._log is None:
            raise TimedOut()
        records = [
            (record_key(side, client).encode(), None if limits is None else jsonio.encode(limits.document()))
            for side, client, limits in entries
        ]
        try:
            async with asyncio.timeout(HANDLER_S):
                offset = await self._log.write(records)
        except TimeoutError:
            raise TimedOut() from None
        for place, (side, client, limits) in enumerate(entries, offset - len(entries) + 1):
            self._written[record_key(side, client)] = place
            self._apply(side, client, limits)

    def _apply(self, side: Side, client: str, limits: ClientLimits | None) -> None:
        known = self._limits.dynamic[side]
        if limits is None:
            known.pop(client, None)
        elif known.get(client) != limits:
            known[client] = limits
            self._changed(limits)

    # --- reading (LogListener) --------------------------------------------------------------------------------------

    def record(self, key: bytes, value: bytes | None, offset: int) -> None:
        name = key.decode("utf-8", "replace")
        if offset < self._written.get(name, -1):  # written before what this gateway wrote itself
            return
        kind, dash, client = name.partition("-")
        if not dash or kind not in ("consumer", "producer"):
            log.warning("record %d of %s has no key of limits", offset, self._topic.name)
            return
        side: Side = "consumer" if kind == "consumer" else "producer"
        if value is None:
            self._apply(side, client, None)
            return
        try:
            self._apply(side, client, read_record(name, value))
        except (ValueError, ServiceError) as error:
            log.warning("record %d of %s cannot be read as limits: %s", offset, self._topic.name, error)

    def caught_up(self) -> None:
        self._read.set()

    def restarted(self) -> None:
        self._written.clear()
        for known in self._limits.dynamic.values():
            known.clear()
