"""Produce requests that are only judged: ``?dry_run=true``. Nothing is written, no topic made, no schema registered.

The body has been read, and its data encoded, when this begins; what is left to judge is what Kafka would say. The reply
is that of the request without ``dry_run``, with the partition where it can be told, and without offsets and times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from kafka_gateway.errors import (
    BadRequest,
    BrokerNotAvailable,
    KafkaRetriable,
    RecordTooLarge,
    ServiceError,
    ShuttingDown,
    UnknownTopicOrPartition,
)
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.producing import Delivery, Sending
from kafka_gateway.records import RecordToSend

NAME = "dry_run"
_OVERHEAD = 70
"""Bytes that a batch of one record takes beside the record (KIP-98), at least."""


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

    def __init__(self, admin: Admin, creates_topics: bool) -> None:
        """``creates_topics``: whether records may go to topics that are not there."""
        self._admin = admin
        self._creates_topics = creates_topics

    def ready(self, topic: str) -> Awaitable[None] | None:
        return None

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

    async def _judge(self, topic: str, records: Sequence[RecordToSend], partition: int | None) -> list[Delivery]:
        try:
            count = len((await self._admin.topic(topic)).partitions)
            limit = await self._limit(topic)
        except UnknownTopicOrPartition as error:
            if not self._creates_topics:
                return [error] * len(records)
            count, limit = 0, 0
        return [self._one(record, partition, count, limit) for record in records]

    def _one(self, record: RecordToSend, path_partition: int | None, count: int, limit: int) -> Delivery:
        partition = path_partition if record.partition is None else record.partition
        if count and partition is not None and partition >= count:
            return UnknownTopicOrPartition(f"The topic has {count} partitions: there is no partition {partition}.")
        size = len(record.key or b"") + len(record.value or b"") + _OVERHEAD
        size += sum(len(name) + len(value or b"") for name, value in record.headers or ())
        if limit and size > limit:
            return RecordTooLarge(f"The record takes {size} bytes, the topic at most {limit} (max.message.bytes).")
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
