"""Kafka as one object: the clients of a process, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from functools import cached_property, partial
from typing import Any, cast

from kafka_gateway.config import Config, ConfigError
from kafka_gateway.errors import ShuttingDown, TooManyRequests
from kafka_gateway.kafka.admin.admin import KafkaAdmin
from kafka_gateway.kafka.admin.administration import KafkaAdministration
from kafka_gateway.kafka.admin.broker_addresses import upstream
from kafka_gateway.kafka.clients.client_log import ClientLog
from kafka_gateway.kafka.clients.embedded import EmbeddedKafka
from kafka_gateway.kafka.clients.embedded_rules import embedded_faults
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.clients.properties import Role, client_properties
from kafka_gateway.kafka.clients.statistics import Statistics
from kafka_gateway.kafka.consuming.client import Build
from kafka_gateway.kafka.consuming.compacted_topics import KafkaCompactedLog, MemoryLog
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.consuming.counted import CountedWork
from kafka_gateway.kafka.consuming.crowd import Crowd
from kafka_gateway.kafka.consuming.group import KafkaGroupReader
from kafka_gateway.kafka.consuming.loop_polled_members import LoopPolledMembers
from kafka_gateway.kafka.consuming.member import KafkaMember, member_fetching
from kafka_gateway.kafka.consuming.offset_queries import begins_at_end
from kafka_gateway.kafka.consuming.reader import KafkaReader
from kafka_gateway.kafka.consuming.topic_watch import TopicWatch
from kafka_gateway.kafka.credentials.chosen import credential_faults
from kafka_gateway.kafka.credentials.shared_knowledge import SharedKnowledge
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic, LogListener
from kafka_gateway.kafka.ports.consuming import ConsumerSettings, Rebalanced
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.members import GroupWork, MemberListener
from kafka_gateway.kafka.ports.slots import SlotGroup, SlotListener, SlotMember
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka.producing.embedded_times import EmbeddedTimes
from kafka_gateway.kafka.producing.first_connections import FirstConnections
from kafka_gateway.kafka.producing.producer import KafkaProducer
from kafka_gateway.kafka.producing.transactions import KafkaTransactions
from kafka_gateway.kafka.tails.tails import KafkaTails
from kafka_gateway.metrics.numbers import KafkaNumbers, Names
from kafka_gateway.own_names import is_own
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.session import Session
from kafka_gateway.upstream import Sasl, Upstream

_log = logging.getLogger("gateway.kafka")

_FETCHER = "kafka-gateway-feed"
"""Client id of the fetchers, and the group that they name and never join."""
_THREADS_OF_A_CLIENT = 2
"""Questions that may block at a time, of one credential: brokers that hold them hold nobody else's."""
CLOSE_S = 5.0
"""How long all clients together may take to end."""


class ConsumerPlaces:
    """How many consumer instances there are, of all clients' credentials together (consumer.instances.max)."""

    def __init__(self, config: Config) -> None:
        self._most = config.integer("consumer.instances.max")
        self._taken = 0
        self.crowd = Crowd()

    def take(self) -> None:
        """Takes a place. TooManyRequests if there is none."""
        if self._taken >= self._most:
            raise TooManyRequests(f"There are {self._most} consumer instances already (consumer.instances.max).")
        self._taken += 1
        self.crowd.resize(self._taken)

    def give_back(self) -> None:
        self._taken -= 1
        self.crowd.resize(self._taken)


class KafkaCluster:
    """The `Kafka` port: all clients of one login. Belongs to the event loop; made by `open_kafka`.

    Each part is made when it is first used.
    """

    def __init__(
        self,
        config: Config,
        clients: ClientFactory,
        embedded: bool,
        own: KafkaCluster | None = None,
        sasl: Callable[[], Sasl] | None = None,
        is_doubted: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            own: the gateway's own clients, where these are of a client's credentials.
            sasl: those credentials, for what the gateway asks by Kafka's protocol.
            is_doubted: whether a broker has just refused them, though Kafka takes them.
        """
        self._config = config
        self._clients = clients
        self._embedded = embedded
        self._own = own
        self._sasl = sasl
        self._is_doubted = is_doubted
        self._consumers: set[KafkaConsumer] = set()
        self._places: ConsumerPlaces = own._places if own is not None else ConsumerPlaces(config)
        self._closing = False
        if own is None:
            most = {name: config.integer(f"metrics.{name}.max") for name in ("topics", "groups")}
            if not config.flag("metrics.labels.topic"):
                most = dict.fromkeys(most, 0)
            self.numbers = KafkaNumbers(Names(most["topics"]), Names(most["groups"]))
        else:
            self.numbers = own.numbers
            clients.statistics = own.statistics
        """What is counted of records and groups, whoever's credentials are used."""
        self._group_readers: weakref.WeakSet[KafkaGroupReader] = weakref.WeakSet()
        self._times = EmbeddedTimes() if embedded else None

    @property
    def own(self) -> KafkaCluster:
        return self if self._own is None else self._own

    @property
    def callers(self) -> KafkaCluster:
        return self

    async def for_socket(self, session: Session) -> Kafka:
        return self

    @property
    def statistics(self) -> Statistics:
        """The statistics of librdkafka's clients."""
        return self._clients.statistics

    @property
    def client_log(self) -> ClientLog:
        """Takes the log lines of librdkafka's clients."""
        return self._clients.log

    @property
    def held_bytes(self) -> int:
        tails = self.tails.held_bytes if self._has("tails") else 0
        fetched = sum(consumer.held_bytes for consumer in self._consumers) + tails
        return fetched + self._clients.fetched_ahead.total

    @property
    def is_busy(self) -> bool:
        """Whether these clients are still needed: by consumers, members, streams or records in flight."""
        return bool(
            self._consumers
            or self._group_readers
            or (self._has("members") and len(self.members))
            or (self._has("tails") and self.tails.is_followed)
            or (self._has("producer") and self.producer.waiting[0])
        )

    @cached_property
    def _knowledge(self) -> Admin:
        own = self._own
        if own is None:
            return self.admin
        return cast(Admin, SharedKnowledge(own.admin, lambda: self.admin, self._is_doubted))

    @cached_property
    def producer(self) -> KafkaProducer:
        return KafkaProducer(
            self._clients,
            self._knowledge,
            queue_bytes=self._config.integer("producer.queue.bytes"),
            queue_records=self._config.integer("producer.queue.records"),
            create_topics=self._config.flag("auto.create.topics.enable"),
            all_down=self.own.admin.presence.suspect_soon,
            connections=None if self._own is None else self._own.first_connections,
            times=self._times,
            numbers=self.numbers,
        )

    @cached_property
    def first_connections(self) -> FirstConnections:
        """Of the producers of all clients' credentials; the gateway's own has long connected when a record comes."""
        return FirstConnections()

    @cached_property
    def admin(self) -> KafkaAdmin:
        threads = {} if self._own is None else {"threads": _THREADS_OF_A_CLIENT}
        return KafkaAdmin(self._clients, self._embedded, hides=is_own, **threads)

    @cached_property
    def administration(self) -> KafkaAdministration:
        return KafkaAdministration(self.admin, self.upstream, self._embedded)

    @cached_property
    def reader(self) -> KafkaReader:
        return KafkaReader(self._clients, self.admin, self._config, self.numbers)

    @cached_property
    def tails(self) -> KafkaTails:
        return KafkaTails(self._clients, self.admin, self.admin.client, self._config, self._times, self.numbers)

    @cached_property
    def members(self) -> LoopPolledMembers:
        """The consumers that the event loop polls itself."""
        return LoopPolledMembers(self._build_fetcher)

    @cached_property
    def _topic_watch(self) -> TopicWatch:
        """Looks after the topics that are read."""
        watch = TopicWatch(lambda: (*self._consumers, *self._group_readers, self.members))
        if not self._embedded:  # where no topic changes
            self.admin.watch_topics(watch.topics, watch.found)
        return watch

    def open(self) -> None:
        """Makes all parts now. Does not wait for Kafka. Raises KafkaException for a faulty configuration."""
        parts: list[object] = [self.admin, self.administration, self.reader, self.tails, self.members]
        if self._config.text("kafka.credentials") != "client":  # else the gateway itself may never write
            parts.append(self.producer)
        _log.debug("%d kinds of Kafka clients are ready", len(parts))
        self._look_after_topics()

    def _has(self, part: str) -> bool:
        """Whether a part has been made."""
        return part in self.__dict__

    @property
    def embedded(self) -> bool:
        return self._embedded

    def upstream(self) -> Upstream:
        """The addresses of the brokers, for parts of the gateway that speak Kafka's protocol."""
        if self._own is None:
            return self._way
        found = self._own.upstream()
        # The addresses are the same for all credentials; the login is not.
        return dataclasses.replace(found, sasl=self._sasl() if self._sasl is not None else None)

    @cached_property
    def _way(self) -> Upstream:
        """It is made once: reading certificates takes time and memory."""
        return upstream(self._config, self._clients.embedded_bootstrap, self.admin)

    @property
    def secured(self) -> bool:
        roles: tuple[Role, ...] = ("producer", "consumer")
        protocols = (client_properties(self._config, role).get("security.protocol") for role in roles)
        return any(str(protocol or "").lower().startswith("sasl") for protocol in protocols)

    async def consumer(self, settings: ConsumerSettings, rebalanced: Rebalanced | None = None) -> KafkaConsumer:
        if self._closing:
            raise ShuttingDown
        self._places.take()
        try:
            at_time = self._times.at_time if self._times is not None else None
            consumer = await KafkaConsumer.open(
                self._clients,
                self._config,
                settings,
                self._consumer_closed,
                self._noting(settings, rebalanced),
                self.numbers,
                at_time,
                self.members,
                self._knowledge.reach,
                self._places.crowd,
            )
        except BaseException:
            self._places.give_back()
            raise
        self._consumers.add(consumer)
        self._look_after_topics()
        return consumer

    def _consumer_closed(self, consumer: KafkaConsumer) -> None:
        if consumer in self._consumers:
            self._consumers.discard(consumer)
            self._places.give_back()

    def _noting(self, settings: ConsumerSettings, rebalanced: Rebalanced | None) -> Rebalanced:
        """Counts the rebalances of the consumer's group, and tells ``rebalanced``."""
        group = self.numbers.groups.label(settings.group)

        def changed(positions: Sequence[PartitionOffset], anew: Collection[TopicPartition]) -> None:
            self.numbers.rebalances[group] += 1
            if rebalanced is not None:
                rebalanced(positions, anew)

        return changed

    def _look_after_topics(self) -> None:
        self._topic_watch  # noqa: B018 (made when there is something to look after)

    async def group_reader(
        self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork
    ) -> KafkaGroupReader:
        if self._closing:
            raise ShuttingDown
        reader = await KafkaGroupReader.open(
            self._clients, self._config, settings, topics, CountedWork(work, self.numbers.consumed, settings.kind)
        )
        self._group_readers.add(reader)
        self._look_after_topics()
        return reader

    def slot_member(self, group: SlotGroup, listener: SlotListener) -> SlotMember:
        """Takes part in the sharing out of slots, from now on. Does not wait for Kafka."""
        # Only where several nodes serve as one.
        from kafka_gateway.kafka.consuming.slot_member import KafkaSlotMember

        return KafkaSlotMember(self._clients, group, listener)

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
        self._look_after_topics()
        stores_starts = settings.auto_commit is True and begins_at_end(
            self._clients.consumer_config(settings)["auto.offset.reset"]
        )
        member = KafkaMember(
            self.members,
            topic,
            listener,
            partial(self.numbers.consumed.counts, settings.kind, topic),
            encoder,
            most_records,
            commit_interval_s,
            settings.isolation_level,
            stores_starts,
        )
        fetching = member_fetching(len(self.members)) | ({"enable.partition.eof": True} if stores_starts else {})
        return await self.members.open(member, partial(self._clients.consumer, settings, **fetching))

    def _build_fetcher(self, isolation_level: str) -> Build:
        settings = ConsumerSettings(_FETCHER, _FETCHER, auto_offset_reset="none", isolation_level=isolation_level)
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
        return KafkaCompactedLog(self._clients, self.admin, self.producer, topic, reader, listener)

    def refuse(self) -> None:
        """Answers the records that wait: Kafka takes the login of these clients no more."""
        if self._has("producer"):
            self.producer.refuse()

    async def aclose(self) -> None:
        """Ends all clients, the consumers leaving their groups; answers within `CLOSE_S` whatever Kafka does."""
        self._closing = True
        closing = [asyncio.ensure_future(consumer.close()) for consumer in self._consumers]
        ends: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "producer": lambda: self.producer.close(CLOSE_S - 1),
            "administration": lambda: self.administration.aclose(),
            "reader": lambda: self.reader.aclose(),
            "tails": lambda: self.tails.aclose(),
            "members": lambda: self.members.aclose(CLOSE_S - 1),
        }
        closing += [asyncio.ensure_future(end()) for part, end in ends.items() if self._has(part)]
        if not closing:
            closing = [asyncio.ensure_future(asyncio.sleep(0))]
        done, late = await asyncio.wait(closing, timeout=CLOSE_S)
        for task in done:
            if (error := task.exception()) is not None:
                _log.error("A Kafka client did not close properly", exc_info=error)
        for task in late:
            task.cancel()
        if late:
            _log.warning("%d Kafka clients did not close within %g s", len(late), CLOSE_S)
            await asyncio.wait(late, timeout=1)
        if self._has("first_connections"):
            self.first_connections.close()
        if self._has("admin"):
            await self.admin.aclose()


@contextlib.asynccontextmanager
async def open_kafka(config: Config, embedded_at: str = "") -> AsyncIterator[KafkaCluster]:
    """The Kafka of ``bootstrap.servers``, or the embedded one if that is empty; closed at the end of the block.

    Does not wait for Kafka: the gateway starts without it and says so in its readiness. Raises ConfigError where the
    embedded one must not be used. ``embedded_at``: where that is, if another process has it.
    """
    embedded: EmbeddedKafka | None = None
    if faults := [*embedded_faults(config), *credential_faults(config)]:
        raise ConfigError(faults)
    if not config.items("bootstrap.servers") and not embedded_at:
        embedded = await asyncio.to_thread(EmbeddedKafka, config.items("embedded.topics"))
    try:
        bootstrap = embedded.bootstrap if embedded else embedded_at
        clients = ClientFactory(config, bootstrap)
        cluster = KafkaCluster(config, clients, bool(bootstrap))
        try:
            cluster.open()
            yield cluster
        finally:
            await cluster.aclose()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.close)
