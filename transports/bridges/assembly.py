"""The bridges as a plugin: `bridge.*` becomes routes and sinks. Only this module knows both services and sinks."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.following import Change
from kafka_gateway.homes import OF_ALL
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.joined import join_metrics
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.rights import OPEN
from kafka_gateway.router import Route, described
from kafka_gateway.services.bridges.consume import ConsumerBridge, ConsumerBridgeSettings
from kafka_gateway.services.bridges.delivery import DeliverySettings
from kafka_gateway.services.bridges.descriptions import DESCRIPTIONS, of_producer
from kafka_gateway.services.bridges.headers import HeaderRules, SinkHeaderRules
from kafka_gateway.services.bridges.outcomes import FailureAction, RetryRules
from kafka_gateway.services.bridges.produce import METHODS, ProducerBridge, ProducerSettings
from kafka_gateway.services.bridges.service import Bridges, silence
from kafka_gateway.services.common.health import HealthService
from kafka_gateway.services.common.names import is_topic
from kafka_gateway.transports.bridges.http_sink import HttpSink, tls_context
from kafka_gateway.transports.bridges.sink_address import AllowedAddresses, sink_url
from kafka_gateway.version import VERSION

_NAME = re.compile(r"bridge\.(producer|consumer)\.([A-Za-z0-9_-]+)\.")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")


class BridgeAssembly:
    """The bridges that a configuration names: at the start, and when it is read again."""

    def __init__(self, config: Config, kafka: Kafka, metrics: Metrics) -> None:
        """ConfigError: a bridge's settings are faulty."""
        self._kafka = kafka.own
        self._judges = config.methods != ("NONE",)
        """Whether who posts needs a right: with no method but NONE the senders of webhooks prove nothing (security.md
        §3)."""
        self._consumers: dict[str, ConsumerBridge] = {}
        self._producers: dict[str, ProducerBridge] = {}
        self._settings: dict[tuple[str, str], Mapping[str, object]] = {}
        health = HealthService(config, kafka.own.admin, lambda: silence(self._consumers.values()))
        self._bridges = Bridges(health, config.seconds("shutdown.graceful.ms"))
        self._take(config, _Settings(config).bridges())
        self._bridges.set(self._producers.values(), self._consumers.values())
        metrics.add(self._bridges.families)

    def _take(self, config: Config, named: _Named) -> None:
        """Makes the bridges that are new or other than before; those whose properties stay are the same objects."""
        before, producers, consumers = self._settings, self._producers, self._consumers
        self._settings = {each: _properties(config, *each) for each in _names(config)}
        same = {each for each, properties in self._settings.items() if before.get(each) == properties}
        self._producers = {
            each.name: producers[each.name]
            if ("producer", each.name) in same
            else ProducerBridge(each, self._kafka.producer)
            for each in named.producers
        }
        self._consumers = {
            each.name: consumers[each.name]
            if ("consumer", each.name) in same
            else ConsumerBridge(each, self._kafka, make())
            for each, make in named.consumers
        }

    def routes(self) -> list[Route]:
        """The pages about bridges, and the paths of those into Kafka."""
        bridges, operators = self._bridges, {"operators": True}
        pages = [
            Route(
                "GET", "/bridges", bridges.list, "bridge.list", permission="read gateway:admin", service=bridges,
                extras=operators,
            ),
            Route(
                "GET", "/bridges/metrics", bridges.metrics, "bridge.metrics", permission="read gateway:metrics",
                extras=operators | {OF_ALL: join_metrics},
            ),
            Route("GET", "/healthz", bridges.live, "bridge.healthz", permission=OPEN),
            Route("GET", "/readyz", bridges.ready, "bridge.readyz", permission=OPEN),
        ]  # fmt: skip
        routes = described(pages, DESCRIPTIONS)
        for bridge in self._producers.values():
            routes += self._paths(bridge)
        return routes

    def _paths(self, bridge: ProducerBridge) -> list[Route]:
        settings = bridge.settings
        return [
            Route(
                method, path, bridge.post, f"bridge.produce.{settings.name}",
                permission=f"write topic:{settings.topic}" if self._judges else OPEN,
                body="optional", extras={"raw": settings.max_body_bytes},
                description=of_producer(settings.name, settings.topic),
            )
            for path in settings.paths
            for method in METHODS
        ]  # fmt: skip

    def judge(self, config: Config) -> Change:
        """What changes when the configuration is this one: new bridges start, others end, changed ones restart."""
        named = _Settings(config).bridges()
        kept = self._settings, self._producers, self._consumers
        self._take(config, named)
        taken = self._settings, self._producers, self._consumers
        routes = self.routes() if self._producers != kept[1] else None
        self._settings, self._producers, self._consumers = kept

        async def apply() -> None:
            self._settings, self._producers, self._consumers = taken
            await self._bridges.replace(self._producers.values(), self._consumers.values())

        return Change(apply, routes, "bridges")


def _names(config: Config) -> list[tuple[str, str]]:
    """Kind and name of every bridge that has a property."""
    found = (match.groups() for key in config.places if (match := _NAME.match(key)) is not None)
    return list(dict.fromkeys((kind, name) for kind, name in found))


def _properties(config: Config, kind: str, name: str) -> dict[str, object]:
    """The properties of the bridge, and those of all sinks."""
    prefix = f"bridge.{kind}.{name}."
    own: dict[str, object] = {key: config[key] for key in config.places if key.startswith(prefix)}
    return own | {"": config.items("bridge.sink.allow")} if kind == "consumer" else own


class _Named(NamedTuple):
    """The bridges of a configuration; sinks are made when they are needed."""

    producers: list[ProducerSettings]
    consumers: list[tuple[ConsumerBridgeSettings, Callable[[], HttpSink]]]


class _Settings:
    """Reads the keys of the bridges; ``faults`` collects all that is wrong with them."""

    def __init__(self, config: Config) -> None:
        self.faults: list[Fault] = []
        self._config = config
        try:
            self._allowed = AllowedAddresses(config.items("bridge.sink.allow"))
        except ValueError as error:
            self._fault("bridge.sink.allow", str(error))
            self._allowed = AllowedAddresses(())

    def bridges(self) -> _Named:
        """All bridges. ConfigError with everything that is wrong."""
        named = _Named([], [])
        for kind, name in _names(self._config):
            if kind == "producer":
                named.producers.append(self.producer(name))
            else:
                named.consumers.append(self.consumer(name))
        if self.faults:
            raise ConfigError(self.faults)
        return named

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(self._config.place(key), key, message))

    def _check_topic(self, key: str, topic: str) -> None:
        if not is_topic(topic):
            self._fault(key, f"{topic[:80]!r} is not the name of a topic" if topic else "the bridge needs a topic")

    def producer(self, name: str) -> ProducerSettings:
        config, prefix = self._config, f"bridge.producer.{name}."
        self._check_topic(prefix + "topic", config.text(prefix + "topic"))
        paths = config.items(prefix + "path")
        for path in paths:
            if not _PATH.fullmatch(path):
                self._fault(prefix + "path", f"{path[:80]!r} is not a path such as /v1/write")
        rules = HeaderRules(
            config.text(prefix + "multi.value") == "repeat",
            config.items(prefix + "header.allow"),
            config.items(prefix + "header.deny"),
        )
        return ProducerSettings(
            name,
            paths,
            config.text(prefix + "topic"),
            config.text(prefix + "key.header"),
            rules,
            config.integer(prefix + "max.body.bytes"),
            config.integer(prefix + "max.inflight"),
        )

    def consumer(self, name: str) -> tuple[ConsumerBridgeSettings, Callable[[], HttpSink]]:
        config, prefix = self._config, f"bridge.consumer.{name}."
        topics, dead_letters = config.items(prefix + "topic"), config.text(prefix + "dlq.topic")
        for topic in topics or ("",):
            self._check_topic(prefix + "topic", topic)
        if dead_letters:
            self._check_topic(prefix + "dlq.topic", dead_letters)
            if dead_letters in topics:
                self._fault(prefix + "dlq.topic", "the bridge would read its own dead letters")
        concurrency = config.integer(prefix + "max.concurrency")
        delivery = DeliverySettings(
            name=name,
            ordering=cast(Any, config.text(prefix + "ordering")),
            retry=RetryRules(
                config.seconds(prefix + "retry.initial.ms"),
                config.number(prefix + "retry.factor"),
                config.seconds(prefix + "retry.max.ms"),
                config.seconds(prefix + "retry.jitter.ms"),
                config.integer(prefix + "max.attempts"),
                self._decision(prefix + "on.exhausted", dead_letters),
                self._decision(prefix + "on.permanent", dead_letters),
            ),
            headers=SinkHeaderRules(
                config.flag(prefix + "split.commas"),
                config.flag(prefix + "metadata.headers"),
                f"kafka-gateway/{VERSION}",
            ),
            max_concurrency=concurrency,
            max_records=config.integer(prefix + "max.buffered.records"),
            max_bytes=config.integer(prefix + "max.buffered.bytes"),
            revoke_timeout_s=config.seconds(prefix + "revoke.timeout.ms"),
        )
        reset = config.text(prefix + "offset.reset")
        settings = ConsumerBridgeSettings(
            delivery,
            topics,
            config.text(prefix + "group") or f"kafka-gateway-bridge-{name}",
            dead_letters,
            "none" if reset == "error" else reset,
            config.seconds(prefix + "commit.interval.ms"),
        )
        return settings, self._sink(prefix, concurrency)

    def _decision(self, key: str, dead_letters: str) -> FailureAction:
        chosen = self._config.text(key)
        if chosen == "dlq" and not dead_letters:
            self._fault(key, "dlq needs a topic for dead letters: set dlq.topic")
        if chosen == "auto":
            return "dlq" if dead_letters else "block"
        return cast(FailureAction, chosen)

    def _sink(self, prefix: str, concurrency: int) -> Callable[[], HttpSink]:
        config, url, tls = self._config, None, None
        try:
            url = sink_url(config.text(prefix + "sink"), self._allowed)
        except ValueError as error:
            self._fault(prefix + "sink", str(error))
        try:
            tls = tls_context(
                config.text(prefix + "sink.ca.location"),
                config.text(prefix + "sink.certificate.location"),
                config.text(prefix + "sink.key.location"),
            )
        except (OSError, ssl.SSLError) as error:
            self._fault(prefix + "sink.certificate.location", f"the files cannot be used for TLS: {error}")
        return partial(
            HttpSink,
            cast(Any, url),
            self._allowed,
            timeout_s=config.seconds(prefix + "sink.timeout.ms"),
            concurrency=concurrency,
            tls=tls,
            token_file=config.text(prefix + "sink.token.location"),
        )
