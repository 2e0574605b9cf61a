"""The one place where librdkafka clients are built, so that one rule holds for all of them (reliability.md §2.1).

Three layers make a client's configuration: the gateway's defaults, over them what the operator passes through
(`client.`, `producer.`, `consumer.`, `admin.`; checked against the allow-list again), over them what the gateway's
promises rest on and nobody may change. What an HTTP client may choose arrives as `ConsumerSettings`, never as
properties: librdkafka opens files, loads libraries and connects anywhere if a property says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

import confluent_kafka
from confluent_kafka.admin import AdminClient

from kafka_gateway.config import Config
from kafka_gateway.errors import InvalidConsumerConfig
from kafka_gateway.kafka.clients.client_log import ClientLog
from kafka_gateway.kafka.clients.fetched_ahead import CountedConsumer, FetchedAhead
from kafka_gateway.kafka.clients.properties import SESSION_TIMEOUT_MS, Role, client_properties
from kafka_gateway.kafka.clients.statistics import Statistics
from kafka_gateway.kafka.errors import describe, kafka_error
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.memory_budget import automatic_max_bytes

Settings = dict[str, Any]

_RESET = {"earliest": "earliest", "latest": "latest", "none": "error"}
"""Kafka's words for ``auto.offset.reset`` and librdkafka's."""

_MESSAGE_MAX_BYTES = 1_000_000
"""librdkafka's default of message.max.bytes."""
_FETCH_BYTES = 128 * 1024
_BUFFER_SHARE = 16
"""No consumer fetches ahead more than this part of memory.max.bytes."""


CONNECT_MS, ANSWER_MS = 10_000, 30_000
"""How long a connection may take to be made, login included, and how long Kafka may take to answer on it, before it is
given up and made again: as with Java's clients. librdkafka's 30 s and 60 s are too long for a network that lost packets
meanwhile. TCP sends what was lost again after ever longer pauses, so a connection of before stays silent for as long
again as the packets were lost; a new one begins with short pauses. After 40 s clients waited up to 23 s longer."""
_ANSWER_MOST_MS, _CONNECT_LEAST_MS = 300_000, 1000
"""What librdkafka allows."""
_POLL_MS = 300_000
"""librdkafka's default of max.poll.interval.ms, which no session may exceed."""
EMBEDDED_GROUPS: Settings = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
"""For the mock cluster, which does not notice that all members have joined: it ends a rebalance a second before the
session does, so with the usual 45 s the second member of a group got its partitions after 44 s. Nor may it be
shorter than the 3 s for which the mock waits for more members of a new group: no member would ever be in it."""


class Login(Protocol):
    """The user as whom clients log in."""

    def settings(self) -> Settings:
        """librdkafka's properties for it, callbacks included."""


class ClientFactory:
    """Builds the Kafka clients of one process.

    Usable from any thread. Every method raises RuntimeError in a forked child: a client that was built before fork()
    accepts records there, sends none and reports nothing (reliability.md §3f), so workers fork first and connect after.
    """

    def __init__(
        self, config: Config, bootstrap: str = "", login: Login | None = None, log: ClientLog | None = None
    ) -> None:
        """
        Args:
            bootstrap: where the embedded Kafka listens; otherwise ``bootstrap.servers`` counts.
            login: of a client of the gateway, in whose name all clients are; otherwise the properties say.
            log: where librdkafka's log lines go; otherwise to one of its own.
        """
        self._config = config
        self._login = login
        self._embedded = bool(bootstrap)
        self._bootstrap = bootstrap or ",".join(config.items("bootstrap.servers"))
        self._pid = os.getpid()
        self.fetched_ahead = FetchedAhead()
        """What the consumers have that were built here."""
        self._buffer_max = (config.integer("memory.max.bytes") or automatic_max_bytes()) // _BUFFER_SHARE
        self.statistics = Statistics(config.seconds("metrics.kafka.interval.ms"))
        self.log = log or ClientLog(logging.getLogger("gateway.kafka.librdkafka"))
        """Takes the log lines of all clients that are built here."""

    @property
    def servers(self) -> str:
        """The addresses that clients begin with."""
        return self._bootstrap

    @property
    def embedded_bootstrap(self) -> str:
        """Where the embedded Kafka listens; "" if there is none."""
        return self._bootstrap if self._embedded else ""

    def check_process(self) -> None:
        """Raises RuntimeError if this is not the process that made the clients."""
        if os.getpid() != self._pid:
            raise RuntimeError("Kafka clients were built before fork(); build them in the process that uses them")

    def producer_config(self) -> Settings:
        """What the producer is built with (by `gateway.kafka.producing.producer`)."""
        defaults: Settings = {
            # With it come acks=all and records that are stored once and in order. Our `client_properties` checks that
            # an operator who sets acks switches it off knowingly.
            "enable.idempotence": True,
            # The partition of a key that Java's producers choose.
            "partitioner": "murmur2_random",
            # Topics are made by `KafkaAdmin.make_topic`: a producer that once wrote to a topic makes it again, without
            # being asked, a moment after somebody has deleted it (reliability.md §3c).
            "allow.auto.create.topics": False,
            # How long a topic may stay unknown before its records fail; 30 s by default, the time of a whole request.
            "topic.metadata.propagation.max.ms": 4000,
        }
        return self._merged("producer", defaults, dict(self.statistics.settings("producer")))

    def transactional_producer(self, transactional_id: str, client_id: str) -> confluent_kafka.Producer:
        """A producer whose every record is to be a transaction (websocket-proxy.md §2.8). Raises KafkaException."""
        config = self.producer_config()
        for given in (
            "acks", "request.required.acks", "linger.ms", "queue.buffering.max.ms", "max.in.flight",
            "statistics.interval.ms", "stats_cb",
        ):  # fmt: skip
            config.pop(given, None)
        # librdkafka takes no record that may outlive its transaction.
        patience = max(int(config.get(name, 0)) for name in ("delivery.timeout.ms", "message.timeout.ms"))
        config |= {
            "transactional.id": transactional_id,
            "client.id": client_id,
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "linger.ms": 0,
            "transaction.timeout.ms": min(900_000, max(60_000, patience)),
            "allow.auto.create.topics": False,
        }
        return confluent_kafka.Producer(config)

    def consumer_config(self, settings: ConsumerSettings) -> Settings:
        """What a consumer is built with."""
        defaults: Settings = {
            "auto.offset.reset": "latest",
            "partition.assignment.strategy": "range,roundrobin",
            # Partitions that were just added are assigned within 10 s: librdkafka compares what its group has with
            # what there is only when it looks by itself, every five minutes by default.
            "topic.metadata.refresh.interval.ms": 5000,
            # For what a cluster may ask of its clients (KIP-714) each of them keeps histograms, whether it asks or not:
            # 310 KiB of the 545 that a member of a group took.
            "enable.metrics.push": False,
            **({} if settings.instance_id else _session(client_properties(self._config, "consumer"))),
            **(EMBEDDED_GROUPS if self._embedded else {}),
            **fetch_settings(self._config.integer("consumer.buffer.bytes")),
            **_longer_than_fetches(client_properties(self._config, "consumer")),
        }
        forced: Settings = {
            "group.id": settings.group,
            "client.id": settings.client_id,
            # close() of a client with automatic commits hung for over 130 s on a frozen broker (§3b); the gateway
            # commits what was returned, by its own timer.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Reading a name must not make a topic of it.
            "allow.auto.create.topics": False,
            "enable.partition.eof": settings.finds_ends,
        }
        if settings.auto_offset_reset:
            forced["auto.offset.reset"] = _RESET.get(settings.auto_offset_reset, settings.auto_offset_reset)
        if settings.session_timeout_ms:
            forced["session.timeout.ms"] = settings.session_timeout_ms
        if settings.instance_id:  # librdkafka's 45 s: its partitions wait so long for its next process
            forced |= {"group.instance.id": settings.instance_id, "group.protocol": "classic"}
        if settings.isolation_level:
            forced["isolation.level"] = settings.isolation_level
        return self._merged("consumer", defaults, forced)

    def admin_config(self) -> Settings:
        """What the admin client is built with."""
        # It is built on a producer, whose metadata requests make unknown topics; with this one they do not. librdkafka
        # calls that a consumer's property, but heeds it (test_admin: an unknown name is not created).
        return self._merged("admin", {}, {"allow.auto.create.topics": False})

    def topic_maker(self) -> AdminClient:
        """An admin client whose questions for unknown topics make them, if the brokers do that; for one question."""
        return AdminClient(self._merged("admin", {}, {}))

    def consumer(self, settings: ConsumerSettings, **more: object) -> confluent_kafka.Consumer:
        """A new consumer; takes some milliseconds, so call it off the event loop. Raises InvalidConsumerConfig."""
        if not settings.group:  # the binding (2.16) ends the whole process with an assertion
            raise InvalidConsumerConfig(f"{InvalidConsumerConfig.text}the group's name is empty")
        try:
            # Only for clients that are polled all the time: in others the statistics would pile up.
            told = self.statistics.settings("consumer", settings.group) if settings.kind else {}
            properties: Settings = {**self.consumer_config(settings), **told, **more}
            kbytes = min(int(properties["queued.max.messages.kbytes"]), self._buffer_max // 1024)
            properties["queued.max.messages.kbytes"] = max(1, kbytes)
            return CountedConsumer(properties, self.fetched_ahead)
        except (confluent_kafka.KafkaException, ValueError, TypeError) as error:
            cause = kafka_error(error)
            reason = describe(cause) if cause is not None else str(error)
            raise InvalidConsumerConfig(f"{InvalidConsumerConfig.text}{reason}") from error

    def admin(self) -> AdminClient:
        """A new admin client. Raises KafkaException for a faulty configuration."""
        return AdminClient(self.admin_config())

    def _merged(self, role: Role, defaults: Settings, forced: Settings) -> Settings:
        self.check_process()
        common: Settings = {
            "client.id": self._config.text("id") or "kafka-gateway",
            # A broker that came back is found within a second; librdkafka's default is 10 s.
            "reconnect.backoff.max.ms": 1000,
            "socket.connection.setup.timeout.ms": CONNECT_MS,
            "socket.timeout.ms": ANSWER_MS,
            "log.connection.close": False,
        }
        forced |= {"bootstrap.servers": self._bootstrap, "logger": self.log}
        properties: Settings = {**client_properties(self._config, role)}
        if self._login is not None:
            properties = {name: value for name, value in properties.items() if not name.startswith("sasl.")}
            forced |= self._login.settings()
        return {**common, **defaults, **properties, **forced}


def _session(properties: Mapping[str, str]) -> Settings:
    """The session timeout where nobody sets it: after it Kafka gives the partitions of a silent member to others.

    When a gateway is killed, its members keep their partitions for that long: with librdkafka's 45 s its clients stood
    still for 43 s at the next gateway. Heartbeats come from a thread of librdkafka's, so neither a client that does not
    read nor a busy event loop ends a session; a process that is stopped for longer, or a coordinator that is away for
    longer, does. Then the groups rebalance, and records that were not committed come again.
    """
    heartbeat_ms = int(properties.get("heartbeat.interval.ms", 0))
    most_ms = int(properties.get("max.poll.interval.ms", _POLL_MS))
    # If the operator chose rarer heartbeats, one of them may be lost, too.
    return {"session.timeout.ms": min(max(SESSION_TIMEOUT_MS, 3 * heartbeat_ms), most_ms)}


def _longer_than_fetches(properties: Mapping[str, str]) -> Settings:
    """How long Kafka may take to answer, where the operator lets it wait for records."""
    wait_ms = int(properties.get("fetch.wait.max.ms", 0))
    # librdkafka wants a second between them. Longer fetches than it allows keep the most that it allows.
    return {"socket.timeout.ms": min(max(ANSWER_MS, wait_ms + 1000), _ANSWER_MOST_MS)}


def answers_within(most_ms: int) -> Settings:
    """For a client of the gateway's own, to which Kafka always answers within milliseconds: after so long without an
    answer, or a connection, it tries another connection. At most `ANSWER_MS` count."""
    within_ms = min(max(most_ms, _CONNECT_LEAST_MS), ANSWER_MS)
    return {"socket.timeout.ms": within_ms, "socket.connection.setup.timeout.ms": min(within_ms, CONNECT_MS)}


def fetch_settings(buffer_bytes: int) -> Settings:
    """How a consumer fetches, so that it is cheap to have many with a backlog, and each is fast.

    Measured with 100-byte records on 4 partitions: 2 MiB for each of 20 consumers that fetched and were not read
    (librdkafka's defaults: 92 MiB), and 640,000 to 880,000 records/s for one that is.
    """
    return {
        # The next fetch goes out when nearly all that was fetched has been taken. With 1000 each kept 2.9 MiB. With 1
        # it waits for fetch.queue.backoff.ms after every single record: at 1,000 records/s a push took 3.2 ms (p50),
        # with 10 it takes 0.5 ms.
        "queued.min.messages": 10,
        "queued.max.messages.kbytes": max(1, buffer_bytes // 1024),
        "fetch.message.max.bytes": min(buffer_bytes, _FETCH_BYTES),
        # For topics of many partitions. librdkafka refuses a consumer that has less than message.max.bytes here.
        "fetch.max.bytes": max(buffer_bytes, _MESSAGE_MAX_BYTES),
        # How long until a partition is looked at again whose queue was not empty. The default of 1000 ms holds a fast
        # reader at 135,000 records/s with an idle processor; with 2 it is twice as fast as with 5, but 100 consumers
        # that are not read cost 37 % of a processor instead of 20, until the worker pauses them.
        "fetch.queue.backoff.ms": 5,
    }
