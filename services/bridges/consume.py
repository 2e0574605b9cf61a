"""One bridge out of Kafka, from start to end: consumer mode (bridges.md A3)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.members import GroupReader
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.services.bridges.dead_letters import DeadLetters
from kafka_gateway.services.bridges.delivery import Delivery, DeliverySettings
from kafka_gateway.services.bridges.outcomes import RecordSink

_ENDS_S = 1.0
"""How long the end offsets may take that a status shows."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerBridgeSettings:
    """What a bridge reads, and how far it is stored. Times in seconds."""

    delivery: DeliverySettings
    topics: tuple[str, ...]
    group: str
    dead_letter_topic: str = ""
    offset_reset: str = "earliest"
    """earliest, latest or none."""
    commit_interval_s: float = 1.0

    @property
    def name(self) -> str:
        return self.delivery.name


class ConsumerBridge:
    """Reads a group's records and posts them to its sink; commits what the sink has taken, and nothing else."""

    def __init__(self, settings: ConsumerBridgeSettings, kafka: Kafka, sink: RecordSink) -> None:
        self.settings = settings
        self.sink = sink
        self.state = "starting"
        dead_letters = DeadLetters(kafka.producer, topic) if (topic := settings.dead_letter_topic) else None
        self.delivery = Delivery(settings.delivery, sink, dead_letters, self._stop)
        self._kafka = kafka
        self._reader: GroupReader | None = None
        self._committing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; does not wait for Kafka. InvalidConsumerConfig if librdkafka does not take the settings."""
        settings = self.settings
        chosen = ConsumerSettings(
            settings.group,
            f"kafka-gateway-bridge-{settings.name}",
            settings.offset_reset,
            kind="bridge",
        )
        self._reader = await self._kafka.group_reader(chosen, settings.topics, self.delivery)
        self.delivery.reader = self._reader
        self._committing = asyncio.get_running_loop().create_task(self._commit_on_and_on())
        self.state = "running"

    def close(self, timeout_s: float) -> asyncio.Task[None]:
        """Begins to end, by the rules of the first call; done when the offsets are stored and the group is left.

        Posts that were sent may take ``timeout_s`` to be answered; nothing is begun any more. What is left of it, and a
        few seconds at least, Kafka has for storing the offsets.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(timeout_s))
        return self._closing

    async def lag(self) -> Sequence[PartitionOffset]:
        """For each partition that is ours, how many records are not done; without those that are not known."""
        if self._reader is None:
            return []
        try:
            async with asyncio.timeout(_ENDS_S):
                ends = await self._reader.ends()
        except (ServiceError, TimeoutError):
            return []
        done = self.delivery.positions()
        return [
            PartitionOffset(topic, number, max(0, end - done[name]))
            for topic, number, end, _ in ends
            if (name := TopicPartition(topic, number)) in done
        ]

    def silent(self) -> Mapping[TopicPartition, str]:
        """Partitions of which no record can come at present, and why."""
        return self._reader.silent() if self._reader is not None and self.state == "running" else {}

    def _stop(self) -> None:
        self.state = "stopped"
        self.close(self.settings.delivery.revoke_timeout_s)

    async def _close(self, timeout_s: float) -> None:
        if self.state != "stopped":
            self.state = "ending"
        until = time.monotonic() + timeout_s
        offsets = await self.delivery.aclose(timeout_s)
        if self._committing is not None:
            self._committing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._committing
        if self._reader is not None:
            await self._reader.close(offsets, until - time.monotonic())

    async def _commit_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(self.settings.commit_interval_s)
            offsets = self.delivery.uncommitted()
            if not offsets or self._reader is None:
                continue
            try:
                await self._reader.commit(offsets)
            except ServiceError as error:
                # The next round commits them, or whoever gets the partitions posts these records once more.
                self.delivery.failed(error)
            else:
                self.delivery.committed(offsets)
