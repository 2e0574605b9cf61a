"""The one place where librdkafka clients are built, so that one rule holds for all of them (reliability.md §2.1).

Three layers make a client's configuration: the gateway's defaults, over them what the operator passes through
(`client.`, `producer.`, `consumer.`, `admin.`; checked against the allow-list again), over them what the gateway's
promises rest on and nobody may change. What an HTTP client may choose arrives as `ConsumerSettings`, never as
properties: librdkafka opens files, loads libraries and connects anywhere if a property says so.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient

from gateway.config import Config
from gateway.errors import InvalidConsumerConfig
from gateway.kafka.errors import describe, kafka_error
from gateway.kafka.ports import ConsumerSettings
from gateway.kafka.properties import Role, client_properties

Settings = dict[str, Any]

_RESET = {"earliest": "earliest", "latest": "latest", "none": "error"}
"""Kafka's words for ``auto.offset.reset`` and librdkafka's."""

_FETCH_BYTES = 64 * 1024
_RECORD_OVERHEAD_BYTES = 250
"""What librdkafka and the binding keep for a record besides its content."""


class Clients:
    """Builds the Kafka clients of one process.

    Usable from any thread. Every method raises RuntimeError in a forked child: a client that was built before fork()
    accepts records there, sends none and reports nothing (reliability.md §3f), so workers fork first and connect after.
    """

    def __init__(self, config: Config, bootstrap: str = "") -> None:
        """``bootstrap`` is where the embedded Kafka listens; otherwise ``bootstrap.servers`` counts."""
        self._config = config
        self._bootstrap = bootstrap or ",".join(config.items("bootstrap.servers"))
        self._pid = os.getpid()
        self._log = ClientLog(logging.getLogger("gateway.kafka.librdkafka"))

    def check_process(self) -> None:
        """Raises RuntimeError if this is not the process that made the clients."""
        if os.getpid() != self._pid:
            raise RuntimeError("Kafka clients were built before fork(); build them in the process that uses them")

    def producer_config(self) -> Settings:
        """What the producer is built with (by `gateway.kafka.producer`)."""
        defaults: Settings = {
            # With it come acks=all and records that are stored once and in order. Our `client_properties` checks that
            # an operator who sets acks switches it off knowingly.
            "enable.idempotence": True,
            # The partition of a key that Java's producers choose.
            "partitioner": "murmur2_random",
            # How long a topic may stay unknown before its records fail; 30 s by default, the time of a whole request.
            "topic.metadata.propagation.max.ms": 4000,
        }
        return self._merged("producer", defaults, {})

    def consumer_config(self, settings: ConsumerSettings, buffer_bytes: int | None = None) -> Settings:
        """What a consumer is built with.

        ``buffer_bytes`` bounds what librdkafka keeps for it (``consumer.buffer.bytes``); see `fetch_settings`.
        """
        defaults: Settings = {
            "auto.offset.reset": "latest",
            "partition.assignment.strategy": "range,roundrobin",
            **fetch_settings(buffer_bytes or self._config.integer("consumer.buffer.bytes")),
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
            "enable.partition.eof": False,
        }
        if settings.auto_offset_reset:
            forced["auto.offset.reset"] = _RESET.get(settings.auto_offset_reset, settings.auto_offset_reset)
        if settings.isolation_level:
            forced["isolation.level"] = settings.isolation_level
        return self._merged("consumer", defaults, forced)

    def admin_config(self) -> Settings:
        """What the admin client is built with."""
        # It is built on a producer, whose metadata requests make unknown topics; with this one they do not. librdkafka
        # calls that a consumer's property, but heeds it (test_admin: an unknown name is not created).
        return self._merged("admin", {}, {"allow.auto.create.topics": False})

    def consumer(
        self, settings: ConsumerSettings, buffer_bytes: int | None = None, **more: object
    ) -> confluent_kafka.Consumer:
        """A new consumer; takes some milliseconds, so call it off the event loop. Raises InvalidConsumerConfig."""
        try:
            return confluent_kafka.Consumer({**self.consumer_config(settings, buffer_bytes), **more})
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
            "log.connection.close": False,
        }
        forced |= {"bootstrap.servers": self._bootstrap, "logger": self._log}
        return {**common, **defaults, **client_properties(self._config, role), **forced}


def fetch_settings(buffer_bytes: int) -> Settings:
    """How a consumer fetches so that its queue stays within ``buffer_bytes``, and is refilled before it is empty."""
    return {
        "queued.max.messages.kbytes": max(1, buffer_bytes // 1024),
        # The default of 100,000 records would decide nothing; too few starve the reader of small records.
        "queued.min.messages": max(1, buffer_bytes // (2 * _RECORD_OVERHEAD_BYTES)),
        "fetch.message.max.bytes": min(buffer_bytes, _FETCH_BYTES),
        # How long a partition whose queue was full is left alone. The default of 1000 ms holds a fast reader at
        # 135,000 records/s with an idle processor; with 10 it is 770,000.
        "fetch.queue.backoff.ms": 10,
    }


class ClientLog:
    """Takes librdkafka's log lines (property ``logger``); lets a few a second through and counts the rest.

    A dead broker makes every consumer log; 500 of them once filled a disk. Called on the threads that poll.
    """

    PERIOD_S = 10.0
    LINES = 5

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._period_end = 0.0
        self._lines = 0
        self._suppressed = 0

    def log(self, level: int, message: str, *args: object) -> None:
        """As `logging.Logger.log`."""
        now = time.monotonic()
        with self._lock:
            suppressed = 0
            if now >= self._period_end:
                self._period_end, self._lines = now + self.PERIOD_S, 0
                suppressed, self._suppressed = self._suppressed, 0
            self._lines += 1
            if self._lines > self.LINES:
                self._suppressed += 1
                return
        if suppressed:
            self._logger.warning("%d lines of librdkafka were left out", suppressed)
        self._logger.log(level, message, *args)
