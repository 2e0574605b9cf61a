"""Kafka as one object: the clients of a process, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator, Sequence
from functools import partial

from kafka_gateway.config import Config, ConfigError
from kafka_gateway.errors import ShuttingDown, TooManyRequests
from kafka_gateway.kafka.admin.admin import KafkaAdmin
from kafka_gateway.kafka.admin.administration import KafkaAdministration
from kafka_gateway.kafka.admin.broker_addresses import upstream
from kafka_gateway.kafka.clients.embedded import EmbeddedKafka
from kafka_gateway.kafka.clients.embedded_rules import embedded_faults
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.clients.properties import Role, client_properties
from kafka_gateway.kafka.consuming.client import Build
from kafka_gateway.kafka.consuming.compacted_topics import KafkaCompactedLog, MemoryLog
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.consuming.group import KafkaGroupReader
from kafka_gateway.kafka.consuming.loop_polled_members import LoopPolledMembers
from kafka_gateway.kafka.consuming.member import KafkaMember, member_fetching
from kafka_gateway.kafka.consuming.reader import KafkaReader
from kafka_gateway.kafka.consuming.topic_changes import TopicChanges
from kafka_gateway.kafka.consuming.worker import Rebalanced
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic, LogListener
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.members import GroupWork, MemberListener
from kafka_gateway.kafka.producing.embedded_times import EmbeddedTimes
from kafka_gateway.kafka.producing.producer import KafkaProducer
from kafka_gateway.kafka.producing.transactions import KafkaTransactions
from kafka_gateway.kafka.tails.tails import KafkaTails
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.upstream import Upstream

_log = logging.getLogger(__name__)

_FEED = "kafka-gateway-feed"
"""Client id of the feeds, and the group that they name and never join."""
CLOSE_S = 5.0
"""How long all clients together may take to end."""


class KafkaCluster:
    """The `Kafka` port. Belongs to the event loop; made by `open_kafka`."""

    def __init__(self, config: Config, clients: ClientFactory, embedded: bool) -> None:
        self._config = config
        self._clients = clients
        self._embedded = embedded
        self._consumers: set[KafkaConsumer] = set()
        self._opening = 0
        self._closing = False
        self._admin = KafkaAdmin(clients, embedded)
        times = EmbeddedTimes() if embedded else None
        self._producer = KafkaProducer(
            clients,
            self._admin,
            queue_bytes=config.integer("producer.queue.bytes"),
            queue_records=config.integer("producer.queue.records"),
            create_topics=config.flag("auto.create.topics.enable"),
            all_down=self._admin.presence.suspect_soon,
            times=times,
        )
        self._administration = KafkaAdministration(self._admin, self.upstream, embedded)
        self._reader = KafkaReader(clients, self._admin, config)
        self._tails = KafkaTails(clients, self._admin, self._admin.client, config, times)
        self._members = LoopPolledMembers(self._build_feed)
        self._group_readers: weakref.WeakSet[KafkaGroupReader] = weakref.WeakSet()
        if not embedded:  # where no topic changes
            changes = TopicChanges(lambda: (*self._consumers, *self._group_readers, self._members))
            self._admin.watch_topics(changes.topics, changes.found)

    @property
    def held_bytes(self) -> int:
        fetched = sum(consumer.held_bytes for consumer in self._consumers) + self._tails.held_bytes
        return fetched + self._clients.fetched_ahead.total

    @property
    def producer(self) -> KafkaProducer:
        return self._producer

    @property
    def admin(self) -> KafkaAdmin:
        return self._admin

    @property
    def administration(self) -> KafkaAdministration:
        return self._administration

    @property
    def reader(self) -> KafkaReader:
        return self._reader

    @property
    def tails(self) -> KafkaTails:
        return self._tails

    @property
    def embedded(self) -> bool:
        return self._embedded

    def upstream(self) -> Upstream:
        """The way to the brokers, for the tunnel."""
        return upstream(self._config, self._clients.embedded_bootstrap, self._admin)

    @property
    def secured(self) -> bool:
        roles: tuple[Role, ...] = ("producer", "consumer")
        protocols = (client_properties(self._config, role).get("security.protocol") for role in roles)
        return any(str(protocol or "").lower().startswith("sasl") for protocol in protocols)

    async def consumer(self, settings: ConsumerSettings, rebalanced: Rebalanced | None = None) -> KafkaConsumer:
        if self._closing:
            raise ShuttingDown
        limit = self._config.integer("consumer.instances.max")
        if len(self._consumers) + self._opening >= limit:
            raise TooManyRequests(f"There are {limit} consumer instances already (consumer.instances.max).")
        self._opening += 1
        try:
            consumer = await KafkaConsumer.open(
                self._clients, self._config, settings, self._consumers.discard, rebalanced
            )
        finally:
            self._opening -= 1
        self._consumers.add(consumer)
        return consumer

    async def group_reader(
        self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork
    ) -> KafkaGroupReader:
        if self._closing:
            raise ShuttingDown
        reader = await KafkaGroupReader.open(self._clients, self._config, settings, topics, work)
        self._group_readers.add(reader)
        return reader

    async def member(
        self,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int = 500,
        commit_interval_s: float = 0.0,
    ) -> KafkaMember:
        if self._closing:
            raise ShuttingDown
        member = KafkaMember(
            self._members, topic, listener, encoder, most_records, commit_interval_s, settings.isolation_level
        )
        fetching = member_fetching(len(self._members))
        return await self._members.open(member, partial(self._clients.consumer, settings, **fetching))

    def _build_feed(self, isolation_level: str) -> Build:
        settings = ConsumerSettings(_FEED, _FEED, auto_offset_reset="none", isolation_level=isolation_level)
        return partial(self._clients.consumer, settings)

    async def transactions(self, transactional_id: str, client_id: str) -> KafkaTransactions:
        if self._closing:
            raise ShuttingDown
        build = partial(self._clients.transactional_producer, transactional_id, client_id)
        return await KafkaTransactions.open(build, f"kafka-transactions-{client_id}")

    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> CompactedLog:
        if self._closing:
            raise ShuttingDown
        if self._embedded:
            return MemoryLog(listener)
        return KafkaCompactedLog(self._clients, self._admin, self._producer, topic, reader, listener)

    async def aclose(self) -> None:
        """Ends all clients, the consumers leaving their groups; answers within `CLOSE_S` whatever Kafka does."""
        self._closing = True
        closing = [asyncio.ensure_future(consumer.close()) for consumer in self._consumers]
        closing += [
            asyncio.ensure_future(self._producer.close(CLOSE_S - 1)),
            asyncio.ensure_future(self._administration.aclose()),
            asyncio.ensure_future(self._reader.aclose()),
            asyncio.ensure_future(self._tails.aclose()),
            asyncio.ensure_future(self._members.aclose(CLOSE_S - 1)),
        ]
        done, late = await asyncio.wait(closing, timeout=CLOSE_S)
        for task in done:
            if (error := task.exception()) is not None:
                _log.error("A Kafka client did not close properly", exc_info=error)
        for task in late:
            task.cancel()
        if late:
            _log.warning("%d Kafka clients did not close within %g s", len(late), CLOSE_S)
            await asyncio.wait(late, timeout=1)
        await self._admin.aclose()


@contextlib.asynccontextmanager
async def open_kafka(config: Config) -> AsyncIterator[KafkaCluster]:
    """The Kafka of ``bootstrap.servers``, or the embedded one if that is empty; closed at the end of the block.

    Does not wait for Kafka: the gateway starts without it and says so in its readiness. Raises ConfigError where the
    embedded one must not be used.
    """
    embedded: EmbeddedKafka | None = None
    if faults := embedded_faults(config):
        raise ConfigError(faults)
    if not config.items("bootstrap.servers"):
        embedded = await asyncio.to_thread(EmbeddedKafka, config.items("embedded.topics"))
    try:
        clients = ClientFactory(config, embedded.bootstrap if embedded else "")
        cluster = KafkaCluster(config, clients, embedded is not None)
        try:
            yield cluster
        finally:
            await cluster.aclose()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.close)
