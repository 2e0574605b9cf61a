"""The REST resources of v1 and v2 and the health checks: one line per method and path (kafka-rest-http.md §5.1, §6.1).

Resource names are those of §14.1; v1 has analogous ones. Resources that exist once per embedded format are named
without it (``api.v2.produce-to-topic``); ``extras["names"]`` tells the name that goes with each format.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from kafka_gateway import media
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.definitions import Definitions, Holder
from kafka_gateway.homes import OF_ALL
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.rights import OPEN
from kafka_gateway.router import AtOnce, Route, described
from kafka_gateway.schemas import Schemas
from kafka_gateway.service import Service
from kafka_gateway.services.common.dry_run import DryRunProducer
from kafka_gateway.services.common.health import HealthService, join_readiness
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.common.rows import RecordEncoders
from kafka_gateway.services.instances.lasting import LastingInstances
from kafka_gateway.services.instances.registry import InstanceRegistry
from kafka_gateway.services.rest.base_uri import BaseUrls
from kafka_gateway.services.rest.bodies import (
    read_commit,
    read_committed_partitions,
    read_free_map,
    read_instance_v1,
    read_instance_v2,
    read_partitions,
    read_positions,
    read_subscription,
)
from kafka_gateway.services.rest.brokers import BrokersService
from kafka_gateway.services.rest.consumers import Consumers
from kafka_gateway.services.rest.create_instance import Creation
from kafka_gateway.services.rest.descriptions import DESCRIPTIONS, PATH
from kafka_gateway.services.rest.partitions import PartitionsService
from kafka_gateway.services.rest.produce import RecordsService
from kafka_gateway.services.rest.produce_bodies import RecordsReader
from kafka_gateway.services.rest.push import Pushes
from kafka_gateway.services.rest.simple_reads import SimpleReads
from kafka_gateway.services.rest.subscriptions import Subscriptions
from kafka_gateway.services.rest.topics import TopicsService
from kafka_gateway.services.rest.v1_consumers import ConsumersV1
from kafka_gateway.services.streams.service import Streams

TOPIC = "/topics/{topic}"
PARTITION = "/topics/{topic}/partitions/{partition:int}"
INSTANCE = "/consumers/{group}/instances/{instance}"
_HOME = ("{group}", "{instance}")

# What the routes need (security.md §3). Of topics in bodies the handlers require it.
_CLUSTER = "describe cluster"
_DESCRIBE = "describe topic:{topic}"
_READ = "read topic:{topic}"
_WRITE = "write topic:{topic}"
_GROUP = "read group:{group}"
_GROUP_AND_TOPIC = f"{_READ}; {_GROUP}"
_TOPICS_LISTED = "describe topic"

_FORMAT_NAMES = {"jsonschema": "json-schema"}


class RestServices(Service):
    """The services of one gateway, and what they need for as long as it runs.

    Every route names it as its service.
    """

    def __init__(self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec], schemas: Schemas) -> None:
        self.config = config
        self.codecs = codecs
        self.schemas = schemas
        admin, rules, encoders = kafka.admin, TopicRules(config), RecordEncoders(codecs, schemas)
        self._rules = rules
        self.registry = InstanceRegistry(config)
        self.subscriptions = Subscriptions(rules, admin)
        self._creation = creation = Creation(config, kafka, codecs, self.registry, BaseUrls(config), self.subscriptions)
        self.brokers = BrokersService(admin)
        self.topics = TopicsService(admin)
        self.partitions = PartitionsService(admin)
        self._judge = DryRunProducer(kafka, config.flag("auto.create.topics.enable"))
        self.records = RecordsService(kafka.producer, admin, rules, self._judge)
        self.consumers = Consumers(config, codecs, encoders, creation, self.registry, self.subscriptions)
        self.consumers_v1 = ConsumersV1(config, encoders, creation, self.registry, rules, admin)
        self.streams = Streams(config, kafka, codecs, schemas, rules)
        self.pushes = Pushes(config, encoders, self.registry, self.consumers, self.consumers_v1, self.streams)
        self.simple_reads = SimpleReads(kafka.reader, admin, encoders, rules)
        self.health = HealthService(config, kafka.own.admin)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Around the gateway's serving: expires idle instances, follows topic patterns, and closes all at the end."""
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self.registry.sweep(), name="expire-instances"),
            loop.create_task(self.subscriptions.run(), name="follow-patterns"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.streams.close_all()
            await self.registry.close_all()

    def drain(self) -> None:
        """The gateway is about to stop: it is not ready any more, and reads that wait answer with what they have."""
        self.health.stop()
        self.registry.interrupt()
        self.streams.drain()

    def share(self, definitions: Definitions, metrics: Metrics) -> Holder:
        lasting = LastingInstances(
            self.registry,
            definitions,
            self._creation.revive,
            self.config.seconds("cluster.handover.timeout.ms"),
        )
        self._creation.last(lasting)
        self.health.watch(lambda: definitions.trouble)
        metrics.add(lasting.families)
        return lasting

    def generation_of(self, group: str, instance: str) -> str | None:
        """The one generation in which a consumer instance of that name exists; else None (§3.1)."""
        return self.registry.generation_of(group, instance)

    def routes(self) -> list[Route]:
        """All routes that the configuration switches on."""
        routes = self._streams()
        if self.config.flag("health.enable"):
            routes += self._health()
        if self.config.flag("api.v1.enable"):
            routes += self._v1()
        if self.config.flag("api.v2.enable"):
            routes += self._v2()
        routes = [replace(each, home=_HOME) if INSTANCE in each.template else each for each in routes]
        return described(routes, DESCRIPTIONS, PATH)

    def _reader(self, generation: str, with_partition: bool = True) -> RecordsReader:
        records_max = self.config.integer("produce.records.max")
        return RecordsReader(generation, with_partition, records_max, self.schemas, self._rules, self._judge)

    def _socket_path(self, path: str) -> str:
        return f"/{self.config.text('websocket.path.prefix').strip('/')}{path}"

    def _route(self, method: str, template: str, handler: Callable[..., Any], name: str, **more: Any) -> Route:
        return Route(method, template, handler, name, service=self, **more)

    def _formats(self, generation: str) -> list[str]:
        return [codec.name for codec in self.codecs.values() if generation in codec.generations]

    def _named(self, generation: str, name: str, separator: str) -> dict[str, str]:
        return {each: f"{name}{separator}{_FORMAT_NAMES.get(each, each)}" for each in self._formats(generation)}

    def _health(self) -> list[Route]:
        route = partial(self._route, produces=media.plain_json(), permission=OPEN)
        return [
            route("GET", "/health/live", self.health.live, "health.live"),
            route("GET", "/health/ready", self.health.ready, "health.ready", extras={OF_ALL: join_readiness}),
        ]

    def _streams(self) -> list[Route]:
        route = partial(self._route, extras={"streams": "always"})
        return [
            route(
                "GET",
                "/topics/{topics}/stream",
                self.streams.stream,
                "streams.topics",
                permission="read topic:{topics...}; read group",
            ),
        ]

    def _v1(self) -> list[Route]:
        formats = self._formats("v1")
        metadata, partitioned, managed = media.v1_metadata(), media.v1_partition(formats), media.v1_consumer(formats)
        reads, plain = media.v1_reads(formats), media.v1_takes_plain()
        records, consumer = media.v1_takes_records(formats), media.v1_takes_consumer(formats)
        brokers, topics, partitions, c = self.brokers, self.topics, self.partitions, self.consumers_v1

        def get(path: str, handler: Any, name: str, permission: str = _CLUSTER, **more: Any) -> Route:
            more = {"produces": metadata, "consumes": plain} | more
            return self._route("GET", path, handler, f"api.v1.{name}", generation="v1", permission=permission, **more)

        def post(path: str, handler: Any, name: str, permission: str, takes: Any, **more: Any) -> Route:
            return self._route(
                "POST", path, handler, f"api.v1.{name}", generation="v1", permission=permission, takes=takes, **more
            )

        def named(name: str, separator: str = ".") -> dict[str, str]:
            return self._named("v1", f"api.v1.{name}", separator)

        pushes = self._socket_path(INSTANCE)
        to_topic, to_partition = self._reader("v1"), self._reader("v1", with_partition=False)
        return [
            get("/", brokers.root, "root.get", OPEN),
            post("/", brokers.root, "root.post", OPEN, read_free_map,
                 body="optional", produces=metadata, consumes=plain),
            get("/brokers", brokers.list_v1, "brokers.list"),
            get("/topics", topics.list_v1, "topics.list", _TOPICS_LISTED),
            get(TOPIC, topics.get_v1, "topics.get", _DESCRIBE),
            post(TOPIC, self.records.to_topic_v1, "produce-to-topic", _WRITE, to_topic,
                 body="required", produces=metadata, consumes=records, at_once=self.records.to_topic_v1_at_once,
                 extras={"names": named("produce-to-topic")}),
            get(TOPIC + "/partitions", partitions.list_v1, "partitions.list", _DESCRIBE, produces=partitioned),
            get(PARTITION, partitions.get_v1, "partitions.get", _DESCRIBE, produces=partitioned),
            post(PARTITION, self.records.to_partition_v1, "produce-to-partition", _WRITE, to_partition,
                 body="required", produces=partitioned, consumes=records,
                 extras={"names": named("produce-to-partition")}),
            get(PARTITION + "/messages", self.simple_reads.read, "partitions.consume", _READ,
                produces=reads, extras={"reads": True, "names": named("partitions.consume", "-")}),
            post("/consumers/{group}", c.create, "consumers.create", _GROUP, read_instance_v1,
                 body="optional", produces=managed, consumes=consumer),
            get(INSTANCE + "/topics/{topic}", c.read, "consumers.consume", _GROUP_AND_TOPIC, produces=reads,
                consumes=consumer, extras={"reads": True, "names": named("consumers.consume", "-")}),
            post(INSTANCE + "/offsets", c.commit, "consumers.commit-offsets", _GROUP, None,
                 body="optional", produces=managed, consumes=consumer),
            self._route("DELETE", INSTANCE, c.delete, "api.v1.consumers.delete", generation="v1",
                        permission=_GROUP, produces=managed, consumes=consumer),
            get(pushes + "/topics/{topic}", self.pushes.subscribe_v1, "consumers.push", _GROUP_AND_TOPIC,
                produces=media.with_events(reads),
                consumes=consumer, extras={"reads": True, "names": named("consumers.push", "-"),
                                                        "streams": "events"}),
            self._route("DELETE", pushes + "/topics/{topic}", self.pushes.unsubscribe_v1, "api.v1.consumers.end-push",
                        generation="v1", permission=_GROUP, produces=managed, consumes=consumer),
        ]  # fmt: skip

    def _v2(self) -> list[Route]:
        formats = self._formats("v2")
        json = self.config.flag("api.v2.accept.json")
        metadata, produced, managed = media.v2_metadata(json), media.v2_produce(json), media.v2_consumer(formats, json)
        reads, plain = media.v2_reads(formats, json), media.v2_takes_plain()
        records, consumer = media.v2_takes_records(formats), media.v2_takes_consumer(formats)
        brokers, topics, partitions, c = self.brokers, self.topics, self.partitions, self.consumers

        def get(path: str, handler: Any, name: str, permission: str = _CLUSTER, **more: Any) -> Route:
            more = {"produces": metadata, "consumes": plain} | more
            return self._route("GET", path, handler, f"api.v2.{name}", generation="v2", permission=permission, **more)

        def managing(method: str, path: str, handler: Any, name: str, takes: Any = None, **more: Any) -> Route:
            more = {"body": "required" if takes else "none", "produces": managed, "consumes": consumer} | more
            return self._route(
                method, path, handler, f"api.v2.consumers.{name}",
                generation="v2", permission=_GROUP, takes=takes, **more,
            )  # fmt: skip

        def produce(path: str, handler: Any, name: str, at_once: AtOnce | None = None) -> Route:
            return self._route(
                "POST", path, handler, f"api.v2.{name}", generation="v2", permission=_WRITE, takes=to_topic,
                body="required", produces=produced, consumes=records, at_once=at_once,
                extras={"names": self._named("v2", f"api.v2.{name}", ".")},
            )  # fmt: skip

        pushes = self._socket_path(INSTANCE)
        to_topic = self._reader("v2")
        read_names = self._named("v2", "api.v2.consumers.consume", "-")
        return [
            get("/", brokers.root, "root.get", OPEN),
            self._route("POST", "/", brokers.root, "api.v2.root.post", generation="v2", permission=OPEN,
                        takes=read_free_map, body="optional", produces=metadata, consumes=plain),
            get("/brokers", brokers.list, "brokers.list"),
            get("/topics", topics.list, "topics.list", _TOPICS_LISTED),
            get(TOPIC, topics.get, "topics.get", _DESCRIBE),
            produce(TOPIC, self.records.to_topic, "produce-to-topic", self.records.to_topic_at_once),
            get(TOPIC + "/partitions", partitions.list, "partitions.list", _DESCRIBE),
            get(PARTITION, partitions.get, "partitions.get", _DESCRIBE),
            get(PARTITION + "/offsets", partitions.offsets, "partitions.get-offsets", _DESCRIBE),
            produce(PARTITION, self.records.to_partition, "produce-to-partition"),
            managing("POST", "/consumers/{group}", c.create, "create", read_instance_v2, body="optional"),
            managing("DELETE", INSTANCE, c.delete, "delete"),
            managing("POST", INSTANCE + "/subscription", c.subscribe, "subscribe", read_subscription),
            managing("GET", INSTANCE + "/subscription", c.subscription, "get-subscription"),
            managing("DELETE", INSTANCE + "/subscription", c.unsubscribe, "unsubscribe"),
            managing("POST", INSTANCE + "/assignments", c.assign, "assign", read_partitions),
            managing("GET", INSTANCE + "/assignments", c.assignments, "get-assignments"),
            managing("POST", INSTANCE + "/positions", c.seek, "seek-to-offset", read_positions),
            managing("POST", INSTANCE + "/positions/beginning", c.seek_to_beginning, "seek-to-beginning",
                     read_partitions),
            managing("POST", INSTANCE + "/positions/end", c.seek_to_end, "seek-to-end", read_partitions),
            managing("POST", INSTANCE + "/offsets", c.commit, "commit-offsets", read_commit, body="optional"),
            managing("GET", INSTANCE + "/offsets", c.committed, "get-committed-offsets", read_committed_partitions),
            managing("GET", INSTANCE + "/records", self.pushes.read, "consume", produces=media.with_events(reads),
                     extras={"reads": True, "names": read_names, "streams": "accepted"}),
            managing("GET", pushes + "/records", self.pushes.subscribe, "push", produces=reads,
                     extras={"reads": True, "names": self._named("v2", "api.v2.consumers.push", "-")}),
            managing("DELETE", pushes + "/records", self.pushes.unsubscribe, "end-push"),
        ]  # fmt: skip
