"""Kafka in the names of clients: puts together what `kafka_gateway.kafka.credentials` has (security.md §4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from kafka_gateway.config import Config
from kafka_gateway.errors import KafkaLoginRefused, ServiceError
from kafka_gateway.kafka.admin.broker_addresses import way
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.clients.properties import client_properties
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.credentials.callers_kafka import CallersKafka
from kafka_gateway.kafka.credentials.chosen import BasicJudge, ChosenCredentials, is_secured
from kafka_gateway.kafka.credentials.client_sets import ClientSet, ClientSets
from kafka_gateway.kafka.credentials.credential import PASSWORD_MECHANISMS, Credential
from kafka_gateway.kafka.credentials.judge import BrokerAccess, Judge
from kafka_gateway.kafka.credentials.login import CredentialLogin
from kafka_gateway.upstream import Sasl, Upstream

log = logging.getLogger("gateway.kafka.credentials")

_KEY: Final = "kafka.credentials"


def are_possible(config: Config) -> bool:
    """Whether clients can have Kafka credentials of their own: the brokers want some."""
    return bool(config.items("bootstrap.servers")) and is_secured(config)


class ClientCredentials:
    """Everything for it, of one gateway. Belongs to the event loop."""

    def __init__(self, config: Config, own: KafkaCluster) -> None:
        """``own``: the gateway's own clients."""
        self._config = config
        self._own = own
        self._loop = asyncio.get_running_loop()
        self.judge = Judge(
            lambda: BrokerAccess(*way(config, "")),
            config.seconds(f"{_KEY}.recheck.ms"),
            config.seconds(f"{_KEY}.refused.ms"),
        )
        self.sets = ClientSets(self._make, config.integer(f"{_KEY}.max"), config.seconds(f"{_KEY}.idle.ms"))
        self.judge.refused = self.sets.refuse
        self.chosen = ChosenCredentials(config, self.judge, self.sets)
        self.passwords = BasicJudge(config, self.judge)
        self.kafka = CallersKafka(own, self.sets, self.chosen)
        self._asking: set[asyncio.Task[None]] = set()

    def upstream(self) -> Upstream:
        """The way to the brokers, and the login, of whoever asks; of the gateway itself outside of requests."""
        found = self.kafka.callers_or_own
        return found.upstream() if isinstance(found, KafkaCluster) else self._own.upstream()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Closes what is idle while the context is open, and all clients at its end."""
        looking = self._loop.create_task(self._look_at_own(), name="log in to Kafka once")
        try:
            async with self.sets.sweeping():
                yield
        finally:
            tasks = [looking, *self._asking]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.judge.aclose()

    def _make(self, wanted: ClientSet) -> KafkaCluster:
        def refused() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._refused, wanted)

        def sasl() -> Sasl:
            newest = wanted.credential
            return Sasl(newest.mechanism, newest.user, newest.secret, lambda: wanted.credential.secret)

        login = CredentialLogin(lambda: wanted.credential, refused)
        clients = ClientFactory(self._config, login=login, log=self._own.client_log)
        return KafkaCluster(self._config, clients, False, self._own, sasl, lambda: wanted.is_doubted)

    def _refused(self, refused: ClientSet) -> None:
        """A broker does not take the credentials of a set any more: its clients' proofs are looked at now.

        librdkafka says so with each try, several times a second.
        """
        if not refused.ask_again():
            return
        self.judge.forget(refused.credential)
        asking = self._loop.create_task(self._ask_about(refused), name="ask Kafka about refused credentials")
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        for session in list(refused.sessions):
            session.end_by(self._loop.time())

    async def _ask_about(self, refused: ClientSet) -> None:
        try:
            await self.judge.judge(refused.credential)
        except KafkaLoginRefused:
            log.debug("Kafka takes the credentials of %s no more", refused.user)
        except ServiceError as error:
            log.info("Whether Kafka still takes the credentials of %s is not known: %s", refused.user, error.message)
        else:
            log.warning("A broker refuses the credentials of %s, which Kafka takes", refused.user)

    async def _look_at_own(self) -> None:
        """Says at start what is wrong with the gateway's own login, which librdkafka only tries again and again."""
        settings = client_properties(self._config, "admin")
        mechanism = settings.get("sasl.mechanism", "").upper()
        if mechanism not in PASSWORD_MECHANISMS:
            return
        own = Credential(mechanism, settings.get("sasl.username", ""), settings.get("sasl.password", ""))
        try:
            await self.judge.judge(own)
        except KafkaLoginRefused:
            log.error("Kafka refuses the gateway's own user (client.sasl.username, client.sasl.password)")
        except ServiceError as error:
            log.error("The gateway's own login to Kafka fails: %s", error.message)
