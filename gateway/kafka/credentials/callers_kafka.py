"""The `Kafka` that services are given where clients may bring credentials: each call goes to the clients of its caller.

What is handed out here looks with every call at whose request is running (`kafka_gateway.caller`). Work that belongs to
no request is the gateway's own and says so: it takes ``kafka.own``. Without that it is refused, so that nothing is ever
asked in the gateway's name for a client by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from kafka_gateway.caller import CALLER, NOBODY
from kafka_gateway.errors import Unauthorized
from kafka_gateway.kafka.credentials.chosen import ChosenCredentials
from kafka_gateway.kafka.credentials.client_sets import ClientSet, ClientSets
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.administration import Administration
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic, LogListener
from kafka_gateway.kafka.ports.consuming import Consumer, ConsumerSettings, Reader, Rebalanced
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.members import GroupReader, GroupWork, Member, MemberListener
from kafka_gateway.kafka.ports.producing import GatewayProducer, Transactions
from kafka_gateway.kafka.ports.tails import Tails
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.session import Session


class _Of:
    """One part of Kafka, of whoever calls."""

    def __init__(self, part: Callable[[], Any]) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part(), name)


class CallersKafka:
    """The `Kafka` port. Belongs to the event loop.

    Args:
        own: the gateway's own clients.
        others: the clients of all credentials, for what is counted.
    """

    def __init__(self, own: Kafka, others: ClientSets, credentials: ChosenCredentials) -> None:
        self._own = own
        self.others = others
        self._credentials = credentials
        # A service may take a part once, when it is made, and use it for ever.
        self._producer = cast(GatewayProducer, _Of(lambda: self.callers.producer))
        self._admin = cast(Admin, _Of(lambda: self.callers.admin))
        self._administration = cast(Administration, _Of(lambda: self.callers.administration))
        self._reader = cast(Reader, _Of(lambda: self.callers.reader))
        self._tails = cast(Tails, _Of(lambda: self.callers.tails))

    @property
    def own(self) -> Kafka:
        return self._own

    @property
    def callers(self) -> Kafka:
        caller = CALLER.get()
        if isinstance(caller, ClientSet):
            return caller.kafka
        if caller is NOBODY:
            raise RuntimeError("no request is running: what the gateway asks for itself goes through kafka.own")
        if not self._credentials.is_own_allowed:
            raise Unauthorized
        return self._own

    @property
    def callers_or_own(self) -> Kafka:
        """As ``callers``; outside of requests the gateway's own."""
        return self._own if CALLER.get() is NOBODY else self.callers

    async def for_socket(self, session: Session) -> Kafka:
        return (await self._credentials.lease_of_socket(session)).kafka

    @property
    def producer(self) -> GatewayProducer:
        return self._producer

    @property
    def admin(self) -> Admin:
        return self._admin

    @property
    def administration(self) -> Administration:
        return self._administration

    @property
    def reader(self) -> Reader:
        return self._reader

    @property
    def tails(self) -> Tails:
        return self._tails

    @property
    def embedded(self) -> bool:
        return self._own.embedded

    @property
    def secured(self) -> bool:
        return self._own.secured

    @property
    def held_bytes(self) -> int:
        return self._own.held_bytes + sum(each.held_bytes for each in self.others)

    async def consumer(self, settings: ConsumerSettings, rebalanced: Rebalanced | None = None) -> Consumer:
        return await self.callers.consumer(settings, rebalanced)

    async def group_reader(self, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork) -> GroupReader:
        return await self.callers.group_reader(settings, topics, work)

    async def member(
        self,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int = 500,
        commit_interval_s: float = 0.0,
    ) -> Member:
        return await self.callers.member(settings, topic, listener, encoder, most_records, commit_interval_s)

    async def transactions(self, transactional_id: str, client_id: str) -> Transactions:
        return await self.callers.transactions(transactional_id, client_id)

    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> CompactedLog:
        return await self.callers.compacted_log(topic, reader, listener)
