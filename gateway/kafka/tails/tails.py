"""Topics as they grow, for any number of clients (streams.md §4).

    KafkaTails ── TailTopic ──┬── LiveEdge ── Fetcher          the live edge, one for the topic
                              └── CatchUpReader ── Fetcher     the past, as many as needed and allowed

A `Fetcher` is a thread with a consumer without a group; it hands chunks of encoded records to the loop. Tails with
equal positions form a `Cohort` and get the very same batches. This module opens tails, and looks after the topics that
are being read: librdkafka says nothing of a topic that was deleted (reliability.md §3c), and is slow to see new
partitions.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from confluent_kafka.admin import AdminClient

from kafka_gateway.config import Config
from kafka_gateway.errors import PartitionNotFound, ServiceError, ShuttingDown, TopicNotFound, UnknownTopicOrPartition
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.names import check_topic_name
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.tails import Gap, Tail, TailListener, TailStart
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicInfo
from kafka_gateway.kafka.tails.fetcher import Fetcher, Item
from kafka_gateway.kafka.tails.log_offsets import LogOffsets, Lookups, TopicOffsets
from kafka_gateway.kafka.tails.topic_readers import Opening, TailTopic, Turns
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization, KafkaRetriable
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.records import RecordsEncoder

_log = logging.getLogger("gateway.kafka.streams")

GONE_AFTER = 3
"""How many looks in a row must miss a topic: a broker that is just starting may not know it yet."""
CLOSE_S = 3.0

_SETTINGS = ConsumerSettings("kafka-gateway-streams", "kafka-gateway-streams", auto_offset_reset="none")
_FETCH = {
    # What is good for hundreds of consumer instances holds these few back: 940,000 records/s (100 bytes, 4 partitions)
    # against 170,000 with `gateway.kafka.clients.factory.fetch_settings`.
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 2048,
    "fetch.message.max.bytes": 256 * 1024,
    "fetch.queue.backoff.ms": 2,
}


class Times(Protocol):
    async def at_time(self, question: tuple[str, tuple[int, ...], int]) -> Mapping[int, int]:
        """Topic, partitions and epoch milliseconds: the first record at or after it; -1 where there is none."""


class KafkaTails:
    """The `Tails` port. Belongs to the event loop."""

    def __init__(
        self,
        clients: ClientFactory,
        admin: Admin,
        client: AdminClient,
        config: Config,
        times: Times | None = None,
        numbers: KafkaNumbers | None = None,
    ) -> None:
        """``client`` is for questions that the port of ``admin`` does not know; ``times`` are those of the embedded
        Kafka, which does not keep any."""
        self._clients = clients
        self.numbers = numbers or KafkaNumbers(Names(0), Names(0))
        self._admin = admin
        self._embedded = times is not None
        isolation = clients.consumer_config(_SETTINGS).get("isolation.level", "read_committed")
        asking = TopicOffsets(admin, client, isolation == "read_committed")
        self._bounds: Lookups[str, LogOffsets] = Lookups(asking.bounds)
        self._times: Lookups[tuple[str, tuple[int, ...], int], Mapping[int, int]] = Lookups(
            times.at_time if times is not None else asking.at_time
        )
        self._topics: dict[str, TailTopic] = {}
        self._ending: set[TailTopic] = set()
        if times is None:  # where no topic changes
            admin.watch_topics(lambda: self._topics, self._found)
        self._closing = False
        self.turns = Turns(config.integer("stream.max.catchup.readers"))
        self.ring_bytes = config.integer("stream.buffer.bytes")
        self.linger_s = config.seconds("stream.linger.ms")

    async def open(
        self,
        topic: str,
        start: TailStart,
        listener: TailListener,
        encoder: RecordsEncoder,
        partitions: frozenset[int] | None = None,
        until_end: bool = False,
    ) -> Tail:
        check_topic_name(topic)
        if start.at == "time" and start.value < 0:  # before 1970, and before every record
            start = dataclasses.replace(start, at="earliest")
        bounds = await self.bounds(topic)
        if partitions is not None and not partitions.issubset(bounds.end):
            raise PartitionNotFound
        numbers = tuple(sorted(bounds.end if partitions is None else partitions))
        times: Mapping[int, int] = {}
        asked_at_time = tuple(one for one in numbers if one not in start.positions) if start.at == "time" else ()
        if asked_at_time:
            try:
                times = await self._times.get((topic, asked_at_time, start.value))
            except KafkaRetriable as error:
                raise BrokerNotAvailable(error.message) from error
        if self._closing:
            raise ShuttingDown
        self._clients.check_process()
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = TailTopic(topic, self)
        found.knows(bounds)
        opening = starting_positions(topic, start, numbers, bounds, times)
        return found.open(opening, listener, encoder, partitions, until_end)

    async def aclose(self) -> None:
        """Tells every listener, and ends all that reads; answers within `CLOSE_S`."""
        self._closing = True
        for topic in list(self._topics.values()):
            topic.fail(ShuttingDown())
        ending = [asyncio.ensure_future(topic.aclose()) for topic in self._ending]
        await self._bounds.aclose()
        await self._times.aclose()
        if ending:
            _, late = await asyncio.wait(ending, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            if late:
                _log.warning("Readers of %d topics did not end within %g s", len(late), CLOSE_S)

    # --- for the topics -----------------------------------------------------------------------------------------------

    async def bounds(self, topic: str) -> LogOffsets:
        if self._closing:
            raise ShuttingDown
        try:
            return await self._bounds.get(topic)
        except UnknownTopicOrPartition:
            raise TopicNotFound from None
        except TimeoutError:
            raise BrokerNotAvailable from None
        except KafkaRetriable as error:
            raise BrokerNotAvailable(error.message) from error
        except asyncio.CancelledError:
            if self._closing:
                raise ShuttingDown from None
            raise

    @property
    def held_bytes(self) -> int:
        """Of records that were fetched for those who follow topics."""
        return sum(topic.held_bytes for topic in self._topics.values())

    @property
    def is_followed(self) -> bool:
        """Whether any topic is read."""
        return bool(self._topics)

    def open_fetcher(
        self, topic: str, starts: Mapping[int, int], deliver: Callable[[list[Item]], None], past: bool
    ) -> Fetcher:
        more: dict[str, object] = {"enable.partition.eof": True, **_FETCH}
        if past or self._embedded:
            # The end of the log is told after an empty fetch; and the mock cluster does not hear of new records, it
            # only looks when this time is up.
            more["fetch.wait.max.ms"] = 20
        return Fetcher(
            partial(self._clients.consumer, _SETTINGS, **more),
            topic,
            starts,
            deliver,
            window_bytes=max(self.ring_bytes, 1024 * 1024),
        )

    async def look(self, topic: TailTopic) -> bool:
        if self._embedded:
            return True  # no topic changes there
        return self._found(topic.name, (await self._admin.describe_topics([topic.name]))[topic.name])

    def unused(self, topic: TailTopic) -> None:
        if self._topics.get(topic.name) is topic:
            del self._topics[topic.name]
        self._ending.add(topic)
        if not self._closing:
            ending = asyncio.ensure_future(topic.aclose())
            ending.add_done_callback(lambda _: self._ending.discard(topic))

    # --- topics that change -------------------------------------------------------------------------------------------

    def _found(self, name: str, found: TopicInfo | ServiceError) -> bool:
        """What Kafka says of a topic that is being read; False if that is nothing."""
        topic = self._topics.get(name)
        if topic is None:
            return True
        if isinstance(found, UnknownTopicOrPartition):
            topic.missed += 1
            if topic.missed >= GONE_AFTER:
                topic.fail(TopicNotFound())
        elif isinstance(found, KafkaAuthorization):
            topic.fail(found)
        elif isinstance(found, ServiceError):
            return False
        else:
            topic.missed = 0
            if topic.topic_id is None:
                topic.topic_id = found.topic_id
            if topic.topic_id != found.topic_id:
                topic.begin_again(found.topic_id, len(found.partitions))
            else:
                topic.grow(len(found.partitions))
        return True


def starting_positions(
    topic: str, start: TailStart, partitions: tuple[int, ...], bounds: LogOffsets, times: Mapping[int, int]
) -> Opening:
    """Where a tail begins, as `TailStart` says. Offsets that are not there become gaps.

    ``times``: the offsets that Kafka found for ``start.value``, -1 where there is no such record.
    """
    named = start.positions
    # A token names all partitions there were; what is not in it came later.
    newer = len(named) if set(named) == set(range(len(named))) and named else None
    positions = {}
    gaps = []
    for partition in partitions:
        first, end = bounds.first[partition], bounds.end[partition]
        asked: int | None = None
        if partition in named:
            asked = named[partition]
            # Beyond the end it is of another life of the topic: all of this one is new to the client.
            offset = asked if first <= asked <= end else first
        elif (newer is not None and partition >= newer) or start.at == "earliest":
            offset = first
        elif start.at == "offset":
            asked = start.value
            offset = min(max(asked, first), end)
        elif start.at == "last":
            offset = max(first, end - start.value)
        elif start.at == "time":
            found = times.get(partition, -1)
            offset = end if found < 0 else found
        else:
            offset = end
        if asked is not None and asked != offset:
            gaps.append(Gap(topic, partition, asked, offset))
        positions[partition] = PartitionOffset(topic, partition, offset)
    # The same object for all who share the lookup: cohorts compare it once for all of them.
    all_of_them = len(partitions) == len(bounds.end)
    ends = bounds.end if all_of_them else {partition: bounds.end[partition] for partition in partitions}
    return Opening(positions, ends, tuple(gaps))
