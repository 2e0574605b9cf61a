"""Kafka as the services see it: the modules of this folder. The adapters in the folders beside it implement them;
nothing else knows confluent_kafka.

All methods belong to the event loop; where an answer takes a while they are coroutines or return a future. Failures are
ServiceErrors (see gateway/kafka/errors.py for which Kafka code becomes which).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.administration import Administration
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic, LogListener
from kafka_gateway.kafka.ports.consuming import Consumer, ConsumerSettings, Reader, Rebalanced
from kafka_gateway.kafka.ports.members import GroupReader, GroupWork, Member, MemberListener
from kafka_gateway.kafka.ports.producing import GatewayProducer, Transactions
from kafka_gateway.kafka.ports.tails import Tails
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.session import Session


class Kafka(Protocol):
    """All of Kafka that a service may use.

    What a service gets asks in the name of the client whose request runs, with the client's credentials if it brings
    some (`kafka.credentials`, security.md §4): a service has nothing to do for that. What belongs to no request is the
    gateway's own work, and goes through ``own``.
    """

    @property
    def own(self) -> Kafka:
        """The gateway's own clients, whoever asks: for its own topics, for health checks, for bridges."""

    @property
    def callers(self) -> Kafka:
        """The clients of whoever asks now: for what goes on by itself outside of a request."""

    async def for_socket(self, session: Session) -> Kafka:
        """The clients for a socket of the proxy's protocol: of its client's own credentials, if Kafka wants any, and
        never the gateway's (websocket-proxy.md §1.3.4). Unauthorized if the client brings none, or wrong ones."""

    @property
    def producer(self) -> GatewayProducer: ...
    @property
    def admin(self) -> Admin: ...
    @property
    def administration(self) -> Administration: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def tails(self) -> Tails: ...
    @property
    def embedded(self) -> bool: ...
    @property
    def secured(self) -> bool:
        """Whether the brokers want credentials, and the gateway has some: they are its own, not its clients'."""

    @property
    def held_bytes(self) -> int:
        """Keys and values of records that were fetched and are not handed on, or kept for clients that follow a topic;
        and what librdkafka may have fetched ahead of them.
        """

    async def consumer(self, settings: ConsumerSettings, rebalanced: Rebalanced | None = None) -> Consumer:
        """A new consumer. TooManyRequests when consumer.instances.max are open; InvalidConsumerConfig.

        ``rebalanced`` is called on the event loop after each change of what a subscription's group assigns to this
        member, with all partitions it has now and where reading goes on in each; and which of them begin at the
        beginning because their topic was deleted and made again.
        """

    async def group_reader(self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork) -> GroupReader:
        """A member of ``settings.group`` that hands the records of these topics to ``work``, from now on."""

    async def member(
        self,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int = 500,
        commit_interval_s: float = 0.0,
    ) -> Member:
        """A new member of ``settings.group``, subscribed to one topic, which it never creates.

        ``most_records`` come in one call of the listener at most; commits go out ``commit_interval_s`` apart at least.
        Raises InvalidConsumerConfig, ShuttingDown.
        """

    async def transactions(self, transactional_id: str, client_id: str) -> Transactions:
        """Fences whoever uses the id, and may begin at once. Raises what Kafka answers, BrokerNotAvailable in time."""

    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> CompactedLog:
        """Opens the topic and begins to read it from its start; does not wait for Kafka, and never gives it up.

        ``reader`` is the client id and group id of the reading. The embedded Kafka has no such topics: there the log
        is kept in memory, for this process alone.
        """
