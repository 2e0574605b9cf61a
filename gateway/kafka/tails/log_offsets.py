"""Where the partitions of a topic begin and end, for any number of askers at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import confluent_kafka
from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka_errors import KafkaRetriable

DEADLINE_S = 5.0
_RETRY_S = 0.05
_NO_LEADER = "LEADER_NOT_AVAILABLE: a partition of the topic has no leader"
_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogOffsets:
    """Of every partition, by partition: the log start, and the end as the consumers' isolation level has it."""

    first: Mapping[int, int]
    end: Mapping[int, int]


class Lookups(Generic[Key, T]):
    """Shares answers among those who ask at the same time. Belongs to the event loop.

    An answer always comes from a lookup that began after the question. A question that arrives during a lookup waits
    for the next one, with all others that do. A thousand questions at a time make two lookups.
    """

    def __init__(self, ask: Callable[[Key], Awaitable[T]]) -> None:
        self._ask = ask
        self._under_way: dict[Key, asyncio.Task[T]] = {}
        self._next: dict[Key, asyncio.Task[T]] = {}

    async def get(self, key: Key) -> T:
        """Raises what ``ask`` raises. Cancelling leaves the lookup to the others."""
        flight = self._next.get(key)
        if flight is None:
            flight = self._next[key] = asyncio.get_running_loop().create_task(self._fly(key))
            flight.add_done_callback(_looked_at)
        return await asyncio.shield(flight)

    async def aclose(self) -> None:
        flights = [*self._under_way.values(), *self._next.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, key: Key) -> T:
        me = self._next[key]
        try:
            if (before := self._under_way.get(key)) is not None:
                await asyncio.wait([before])
        finally:
            del self._next[key]
        self._under_way[key] = me
        try:
            return await self._ask(key)
        finally:
            del self._under_way[key]


class TopicOffsets:
    """Asks Kafka. Raises the errors of `Admin.topic`, KafkaRetriable. Belongs to the event loop."""

    def __init__(self, admin: Admin, client: AdminClient, read_committed: bool) -> None:
        self._admin = admin
        self._client = client
        self._isolation = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED

    async def bounds(self, topic: str) -> LogOffsets:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                partitions = (await self._admin.topic(topic)).partitions
                if any(one.leader < 0 for one in partitions):
                    raise KafkaRetriable(_NO_LEADER)
                numbers = [one.partition for one in partitions]
                try:
                    first, end = await asyncio.gather(
                        self._offsets(topic, numbers, _EARLIEST), self._offsets(topic, numbers, _LATEST)
                    )
                    # A broker that is just starting answered -1001 for all, and no error.
                    if min(*first.values(), *end.values()) >= 0:
                        return LogOffsets(first, end)
                except KafkaException as error:
                    failure = to_service_error(error)
                    if not failure.retriable and failure.status != 404:
                        raise failure from error
                # A topic that was just made: its leader does not know yet that it is one. The deadline ends the trying.
                await asyncio.sleep(_RETRY_S)

    async def at_time(self, question: tuple[str, tuple[int, ...], int]) -> Mapping[int, int]:
        """Topic, partitions and epoch milliseconds: the first record at or after it; -1 where there is none."""
        topic, partitions, time_ms = question
        spec: Any = OffsetSpec.for_timestamp(time_ms)
        try:
            found = await self._offsets(topic, partitions, spec)
        except KafkaException as error:
            raise to_service_error(error) from error
        if min(found.values()) < -1:
            raise KafkaRetriable(_NO_LEADER)
        return found

    async def _offsets(self, topic: str, partitions: tuple[int, ...] | list[int], spec: Any) -> dict[int, int]:
        futures = self._client.list_offsets(
            {confluent_kafka.TopicPartition(topic, one): spec for one in partitions},
            isolation_level=self._isolation,
            request_timeout=DEADLINE_S,
        )
        found = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return {place.partition: int(result.offset) for place, result in zip(futures, found, strict=True)}


def _looked_at(flight: asyncio.Task[Any]) -> None:
    if not flight.cancelled():
        flight.exception()  # all who asked may have gone; then nobody else looks at it
