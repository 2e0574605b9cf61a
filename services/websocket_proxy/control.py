"""Decides who may open a socket of Kafka WebSocket Proxy's protocol, and its limits: ``SocketSessions`` over Kafka."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from kafka_gateway.config import Config
from kafka_gateway.kafka.ports.compacted_logs import CompactedTopic
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.schemas import Schemas
from kafka_gateway.service import Service
from kafka_gateway.services.websocket_proxy.dynamic_limits import DynamicLimits
from kafka_gateway.services.websocket_proxy.implied_settings import AUTO_REGISTER, REGISTRY_URL
from kafka_gateway.services.websocket_proxy.limits import ClientLimits, Limits
from kafka_gateway.services.websocket_proxy.metrics import ProxyMetrics
from kafka_gateway.services.websocket_proxy.schema_registration import SchemaRegistration
from kafka_gateway.services.websocket_proxy.session import CONSUMER, PRODUCER, Kind
from kafka_gateway.services.websocket_proxy.session_sync import SessionSync
from kafka_gateway.services.websocket_proxy.session_table import Duplicate, KindClash, LimitReached
from kafka_gateway.services.websocket_proxy.sessions import (
    ConsumerSocket,
    ProducerSocket,
    ProxySettings,
    SessionKindClash,
    SessionsUnavailable,
    SocketCounters,
    SocketRefused,
)

_KEY = "kafka.ws.proxy."


def settings(config: Config) -> ProxySettings:
    """The part of the configuration that the sockets need."""
    handler = _KEY + "commit-handler."
    return ProxySettings(
        sessions_enabled=config.flag(_KEY + "producer.sessions-enabled"),
        exactly_once_enabled=config.flag(_KEY + "producer.exactly-once-enabled"),
        max_stack_size=config.integer(handler + "max-stack-size"),
        auto_commit_enabled=config.flag(handler + "auto-commit-enabled"),
        auto_commit_interval_s=config.seconds(handler + "auto-commit-interval"),
        auto_commit_max_age_s=config.seconds(handler + "auto-commit-max-age"),
        hidden_topics=frozenset(
            {
                config.text(_KEY + "session-handler.topic-name"),
                config.text(_KEY + "dynamic-config-handler.topic-name"),
            }
        ),
    )


class SocketLease:
    """The `Lease` of one socket."""

    __slots__ = (
        "_control",
        "batch_size",
        "client_id",
        "closed",
        "counters",
        "kind",
        "rate",
        "registered",
        "session_id",
    )

    def __init__(
        self, control: ProxyControl, kind: Kind, session_id: str, client_id: str, registered: bool, limits: ClientLimits
    ) -> None:
        self._control = control
        self.kind = kind
        self.session_id = session_id
        self.client_id = client_id
        """The client id of a consumer, or the instance id of a producer."""
        self.registered = registered
        self.rate = limits.rate or 0
        self.batch_size = limits.batch_size or 0
        self.counters = SocketCounters()
        self.closed = False

    def close(self, code: int = 1000) -> None:
        if not self.closed:
            self.closed = True
            self._control.left(self, code)


class ProxyControl(Service):
    """The `SocketSessions` of one gateway, with its limits and metrics. Belongs to the event loop."""

    def __init__(self, config: Config, kafka: Kafka, schemas: Schemas) -> None:
        """ConfigError for faulty limits."""
        self.limits = Limits(config)
        self.settings = settings(config)
        self.metrics = ProxyMetrics(config, kafka.admin)
        server = config.text(_KEY + "server.server-id")
        self.session_sync = SessionSync(
            kafka,
            server,
            _topic(config, "session-handler", config.seconds(_KEY + "session-handler.dead-server-timeout")),
        )
        self.dynamic: DynamicLimits | None = None
        if config.flag(_KEY + "dynamic-config-handler.enabled"):
            topic = _topic(config, "dynamic-config-handler")
            self.dynamic = DynamicLimits(kafka, server, topic, self.limits, self._limits_changed)
        self._registration = SchemaRegistration(schemas)
        self._registers = bool(config.text(REGISTRY_URL)) and config.flag(AUTO_REGISTER)
        self._at_start = config.flag(_KEY + "session-handler.at-start")
        self._partitions: dict[str, int] = {}
        """Group → partitions of the topic that its last socket asked for: the upper bound of its limit."""

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open while the gateway serves. The topics are opened in the background: Kafka may be away."""
        if self._at_start:
            self.session_sync.start()
        if self._registers:
            self._registration.start()
        if self.dynamic is not None:
            await self.dynamic.start()
        try:
            yield
        finally:
            await self._registration.aclose()
            if self.dynamic is not None:
                await self.dynamic.aclose()
            await self.session_sync.aclose()

    async def open_producer(self, socket: ProducerSocket) -> SocketLease:
        limits = await self._limits("producer", socket.client_id)
        if not self.settings.sessions_enabled:
            return self._place(PRODUCER, socket.client_id, socket.instance_id or "", False, limits)
        if socket.instance_id is None:
            self.metrics.refused("instance")
            raise SocketRefused(
                f"WebSocket for producer {socket.client_id} in session {socket.client_id} not established because "
                "instanceId could not be found in query parameters."
            )
        limit = 1 if socket.transactional else limits.most or 0
        try:
            await self.session_sync.add(PRODUCER, socket.client_id, socket.instance_id, limit)
        except LimitReached as error:
            self.metrics.refused("limit")
            raise SocketRefused(
                f"The max number of WebSockets for session {socket.client_id} has been reached. Limit is {error.limit}."
            ) from None
        except KindClash:
            self.metrics.refused("kind")
            raise SessionKindClash(
                "An unexpected error occurred when trying to establish the WebSocket producer "
                f"{socket.client_id}-{socket.instance_id} in session {socket.client_id}."
            ) from None
        except SessionsUnavailable:
            self.metrics.refused("unavailable")
            raise
        return self._place(PRODUCER, socket.client_id, socket.instance_id, True, limits)

    async def open_consumer(self, socket: ConsumerSocket) -> SocketLease:
        limits = await self._limits("consumer", socket.group_id)
        self._partitions[socket.group_id] = socket.partitions
        limit = min(socket.partitions, limits.most or socket.partitions)
        try:
            await self.session_sync.add(CONSUMER, socket.group_id, socket.client_id, limit)
        except Duplicate:
            self.metrics.refused("duplicate")
            raise SocketRefused(
                f"WebSocket for consumer {socket.client_id} in session {socket.group_id} not established because a "
                "consumer with the same ID is already registered."
            ) from None
        except LimitReached as error:
            self.metrics.refused("limit")
            raise SocketRefused(
                f"The max number of WebSockets for session {socket.group_id} has been reached. Limit is {error.limit}"
            ) from None
        except KindClash:
            self.metrics.refused("kind")
            raise SessionKindClash(
                "An unexpected error occurred when trying to establish the WebSocket consumer "
                f"{socket.client_id} in session {socket.group_id}."
            ) from None
        except SessionsUnavailable:
            self.metrics.refused("unavailable")
            raise
        return self._place(CONSUMER, socket.group_id, socket.client_id, True, limits)

    def left(self, place: SocketLease, code: int) -> None:
        """Counts a socket that has ended, and gives its place back."""
        self.metrics.closed(place, code)
        if place.registered:
            self.session_sync.remove(place.session_id, place.client_id)
        if place.kind == CONSUMER and not self.session_sync.table.has_own(place.session_id):
            self._partitions.pop(place.session_id, None)

    async def _limits(self, side: str, client: str) -> ClientLimits:
        if self.dynamic is not None:
            await self.dynamic.settled()
        return self.limits.of("consumer" if side == "consumer" else "producer", client)

    def _place(
        self, kind: Kind, session_id: str, client_id: str, registered: bool, limits: ClientLimits
    ) -> SocketLease:
        place = SocketLease(self, kind, session_id, client_id, registered, limits)
        self.metrics.opened(place)
        return place

    def _limits_changed(self, limits: ClientLimits) -> None:
        """Changes the limit of a session that is open; its sockets stay (websocket-proxy.md §1.8.2)."""
        if limits.most is None:
            return
        if limits.side == "producer":
            self.session_sync.set_limit(PRODUCER, limits.id, limits.most)
        else:
            partitions = self._partitions.get(limits.id, limits.most)
            self.session_sync.set_limit(CONSUMER, limits.id, min(partitions, limits.most or partitions))


def _topic(config: Config, handler: str, presence_s: float = 0.0) -> CompactedTopic:
    prefix = f"{_KEY}{handler}."
    return CompactedTopic(
        config.text(prefix + "topic-name"),
        config.integer(prefix + "topic-replication-factor"),
        config.integer(prefix + "topic-retention"),
        presence_s,
    )
