"""Produce requests that are only judged: ``?dry_run=true``. Nothing is written, no topic made, no schema registered.

The body has been read, and its data encoded, when this begins; what is left to judge is what Kafka would say. The reply
is that of the request without ``dry_run``, with the partition where it can be told, and without offsets and times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from kafka_gateway.errors import BadRequest, NotAuthorized, ServiceError, ShuttingDown, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.administration import CLUSTER_WIDE, ConfigOf
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.producing import Delivery, Sending, SizeLimit
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaRetriable, RecordTooLarge
from kafka_gateway.records import RecordToSend
from kafka_gateway.rights import Rights

NAME = "dry_run"
_OVERHEAD = 70
"""Bytes that a batch of one record takes beside the record (KIP-98), at least."""
_OVERHEAD_OF_CLIENT = 36
"""Bytes that librdkafka adds to key, value and headers when it looks at a record's size."""


class _Bounds(NamedTuple):
    """The bounds of a topic's records; 0 for what Kafka does not tell."""

    partitions: int
    topic_max: int
    """Bytes of a record."""


def is_dry(query: Mapping[str, str]) -> bool:
    """Whether the request is one. BadRequest for any value but true and false."""
    text = query.get(NAME)
    if text is None or text.lower() == "false":
        return False
    if text.lower() in ("true", ""):
        return True
    raise BadRequest(f"{NAME} is true or false, not {text[:40]!r}.")


class Judged:
    """A record that would be stored. ``partition`` is None where the producer chooses it."""

    __slots__ = ("_partition",)

    def __init__(self, partition: int | None) -> None:
        self._partition = partition

    def partition(self) -> int | None:
        return self._partition

    def offset(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0


class _Judging:
    """The `Sending` of records that are judged."""

    __slots__ = ("deliveries", "task")

    def __init__(self, count: int, task: asyncio.Future[list[Delivery]]) -> None:
        self.deliveries: list[Delivery | None] = [None] * count
        self.task = task


class DryRunProducer:
    """Stands in for the `Producer` and says what Kafka would say to records. Belongs to the event loop."""

    def __init__(self, kafka: Kafka, creates_topics: bool) -> None:
        """``creates_topics``: whether records may go to topics that are not there."""
        self._producer = kafka.producer
        self._admin = kafka.admin
        self._administration = kafka.administration
        self._creates_topics = creates_topics

    @property
    def size_limit(self) -> SizeLimit:
        return self._producer.size_limit

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        """As the `Producer`'s: NotAuthorized for a missing topic that whoever produces may not have made."""
        return self._find(topic, rights) if self._creates_topics and not rights.making(topic).allowed else None

    async def _find(self, topic: str, rights: Rights) -> None:
        try:
            await self._admin.topic(topic)
        except UnknownTopicOrPartition:
            rights.require("create", "topic", topic)

    def knows(self, topic: str) -> bool:
        return True

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        """A Judged or an error for each record. Raises what Kafka's metadata raise, but for an unknown topic."""
        return asyncio.ensure_future(self._judge(topic, records, partition))

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Sending:
        judging = _Judging(len(records), self.send(topic, records))

        def over(task: asyncio.Future[list[Delivery]]) -> None:
            if task.cancelled():
                error: BaseException | None = ShuttingDown()
            else:
                error = task.exception()
            if error is None:
                judging.deliveries[:] = task.result()
            else:
                told = error if isinstance(error, ServiceError) else ServiceError()
                judging.deliveries[:] = [told] * len(records)
            progress()

        judging.task.add_done_callback(over)
        return judging

    async def refusals(
        self, topic: str, records: Sequence[RecordToSend], rights: Rights, partition: int | None = None
    ) -> list[ServiceError] | None:
        """What Kafka would say to each record if it would take none of them; None if it would take one. ``rights``: of
        whoever produces them, who may not be allowed to have the topic made."""
        try:
            if (waiting := self.ready(topic, rights)) is not None:
                await waiting
            bounds = await self._topic(topic)
        except (NotAuthorized, UnknownTopicOrPartition) as error:
            return [error] * len(records)
        except ServiceError:  # it cannot be asked now; whoever sends the records will be told, or will not
            return None
        refused: list[ServiceError] = []
        own_max = self.size_limit.record_max
        for record in records:
            judged = self._one(record, partition, bounds, own_max)
            if not isinstance(judged, ServiceError):
                return None
            refused.append(judged)
        return refused

    async def _judge(self, topic: str, records: Sequence[RecordToSend], partition: int | None) -> list[Delivery]:
        try:
            bounds = await self._topic(topic)
        except UnknownTopicOrPartition as error:
            return [error] * len(records)
        own_max = self.size_limit.record_max
        return [self._one(record, partition, bounds, own_max) for record in records]

    async def _topic(self, topic: str) -> _Bounds:
        """The bounds that a missing topic would have. UnknownTopicOrPartition if it would not be made."""
        try:
            bounds = _Bounds(len((await self._admin.topic(topic)).partitions), await self._limit(topic))
        except UnknownTopicOrPartition:
            if not self._creates_topics:
                raise
            bounds = await self._defaults()
        # Kafka looks at what has been compressed, and nobody knows how small that will be.
        return bounds._replace(topic_max=0) if self.size_limit.compresses else bounds

    def _one(self, record: RecordToSend, path_partition: int | None, bounds: _Bounds, own_max: int) -> Delivery:
        count, topic_max = bounds
        partition = path_partition if record.partition is None else record.partition
        if partition is not None and (partition < 0 or (count and partition >= count)):
            return UnknownTopicOrPartition(f"The topic has {count} partitions: there is no partition {partition}.")
        size = len(record.key or b"") + len(record.value or b"")
        size += sum(len(name) + len(value or b"") for name, value in record.headers or ())
        if size + _OVERHEAD_OF_CLIENT > own_max:
            return RecordTooLarge(
                f"The record takes {size + _OVERHEAD_OF_CLIENT} bytes, the gateway sends at most {own_max} "
                "(producer.max.request.size)."
            )
        if topic_max and size + _OVERHEAD > topic_max:
            return RecordTooLarge(
                f"The record takes {size + _OVERHEAD} bytes, the topic at most {topic_max} (max.message.bytes)."
            )
        if partition is None and record.key is not None and count:
            partition = murmur2(record.key) % count
        return Judged(partition)

    async def _limit(self, topic: str) -> int:
        """The largest record of the topic; 0 if Kafka does not tell."""
        try:
            configs = {each.name: each.value for each in await self._admin.topic_configs(topic)}
        except (KafkaRetriable, BrokerNotAvailable):
            raise
        except ServiceError:
            return 0
        return int(configs.get("max.message.bytes") or 0)

    async def _defaults(self) -> _Bounds:
        """Partitions and largest record of a topic that the brokers make, as one of them has it set."""
        try:
            brokers = await self._admin.brokers()
            of = ConfigOf("BROKER", str(brokers[0])) if brokers else CLUSTER_WIDE
            settings = (await self._administration.configs([of]))[of]
        except (KafkaRetriable, BrokerNotAvailable):
            raise
        except ServiceError as error:
            settings = error
        if isinstance(settings, ServiceError):  # a client that may write need not be allowed to describe
            return _Bounds(0, 0)
        values = {each.name: each.value for each in settings}
        return _Bounds(int(values.get("num.partitions") or 0), int(values.get("message.max.bytes") or 0))


def murmur2(key: bytes) -> int:
    """The positive hash by which Java's clients, and this gateway, choose the partition of a key."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(key[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    if rest := key[whole:]:
        h = ((h ^ int.from_bytes(rest, "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF
