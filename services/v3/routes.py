"""The REST resources of v3: one line for each method and path (kafka-rest-http.md §7.2).

Resource names are those of §14.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka_gateway import media
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.router import Route, described
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.v3.acls import AclsService, read_acl, read_acls
from kafka_gateway.services.v3.clusters import ClustersService
from kafka_gateway.services.v3.configs import ConfigsService, read_alter, read_alter_many, read_value
from kafka_gateway.services.v3.consumer_groups import ConsumerGroupsService
from kafka_gateway.services.v3.descriptions import DESCRIPTIONS, PATH
from kafka_gateway.services.v3.links import ClusterLinks
from kafka_gateway.services.v3.offsets_reset import OffsetsResetService, read_reset
from kafka_gateway.services.v3.partitions import PartitionsService
from kafka_gateway.services.v3.produce import ProduceService
from kafka_gateway.services.v3.topics import TopicsService, read_create_topic, read_partitions_count

CLUSTER = "/v3/clusters/{cluster_id}"
BROKER = CLUSTER + "/brokers/{broker_id:int}"
TOPIC = CLUSTER + "/topics/{topic_name}"
PARTITION = TOPIC + "/partitions/{partition_id:int}"
GROUP = CLUSTER + "/consumer-groups/{consumer_group_id}"
CONSUMER = GROUP + "/consumers/{consumer_id}"

# What most routes need (security.md §3); of names in bodies the handlers require it.
_DESCRIBE = "describe topic:{topic_name}"
_DESCRIBE_GROUP = "describe group:{consumer_group_id}"
_GROUP_AND_TOPIC = f"{_DESCRIBE_GROUP}; {_DESCRIBE}"


class V3Routes:
    """The services behind v3, and their routes."""

    def __init__(self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec], schemas: Schemas) -> None:
        administration = kafka.administration
        links = ClusterLinks(config, administration)
        self.clusters = ClustersService(administration, links)
        self.configs = ConfigsService(administration, links)
        self.topics = TopicsService(administration, links)
        self.partitions = PartitionsService(administration, links)
        self.acls = AclsService(administration, links)
        self.groups = ConsumerGroupsService(administration, links)
        self.resets = OffsetsResetService(administration, links)
        self.produce = ProduceService(config, kafka, codecs, TopicRules(config), schemas)

    def routes(self) -> list[Route]:
        routes = [
            *self._of_brokers(),
            *self._of_topics(),
            *self._of_acls(),
            *self._of_groups(),
            *self._of_producing(),
        ]
        return described(routes, DESCRIPTIONS, PATH)

    def _of_brokers(self) -> list[Route]:
        c, configs = self.clusters, self.configs
        cluster_configs = CLUSTER + "/broker-configs"
        return [
            _route("GET", "/v3/clusters", c.list, "clusters.list", "describe cluster"),
            _route("GET", CLUSTER, c.get, "clusters.get", "describe cluster"),
            _route("GET", CLUSTER + "/brokers", c.brokers, "brokers.list", "describe cluster"),
            _route("GET", BROKER, c.broker, "brokers.get", "describe cluster"),
            _route("GET", BROKER + "/partition-replicas", c.replicas, "replicas.search-by-broker",
                   "describe cluster; describe topic"),
            _route("GET", CLUSTER + "/brokers/-/configs", configs.of_all_brokers, "brokers-configs.list",
                   "describe-configs cluster"),
            *self._of_configs(BROKER + "/configs", "broker-configs", "cluster"),
            *self._of_configs(cluster_configs, "cluster-configs", "cluster"),
        ]  # fmt: skip

    def _of_configs(self, path: str, name: str, resource: str) -> list[Route]:
        """The five methods that topics, brokers and the cluster have for their settings alike."""
        configs = self.configs
        see, change = f"describe-configs {resource}", f"alter-configs {resource}"
        return [
            _route("GET", path, configs.list, f"{name}.list", see),
            _route("GET", path + "/{name}", configs.get, f"{name}.get", see),
            _route("PUT", path + "/{name}", configs.put, f"{name}.update", change, read_value),
            _route("DELETE", path + "/{name}", configs.reset, f"{name}.delete", change),
            _route("POST", path + ":alter", configs.alter, f"{name}.alter", change, read_alter),
        ]

    def _of_topics(self) -> list[Route]:
        t, p, configs = self.topics, self.partitions, self.configs
        all_topics = CLUSTER + "/topics/-"
        return [
            _route("GET", CLUSTER + "/topics", t.list, "topics.list", "describe topic"),
            _route("POST", CLUSTER + "/topics", t.create, "topics.create", "create topic", read_create_topic),
            _route("GET", TOPIC, t.get, "topics.get", _DESCRIBE),
            _route("PATCH", TOPIC, t.enlarge, "topics.partitions", "alter topic:{topic_name}", read_partitions_count),
            _route("DELETE", TOPIC, t.delete, "topics.delete", "delete topic:{topic_name}"),
            _route("GET", all_topics + "/configs", configs.of_all_topics, "topic-configs.list",
                   "describe-configs topic"),
            _route("POST", all_topics + "/configs:alter", configs.alter_topics, "topic-configs.alter-multi",
                   "alter-configs topic", read_alter_many),
            *self._of_configs(TOPIC + "/configs", "topic-configs", "topic:{topic_name}"),
            _route("GET", TOPIC + "/partitions", p.list, "partitions.list", _DESCRIBE),
            _route("GET", PARTITION, p.get, "partitions.get", _DESCRIBE),
            _route("GET", PARTITION + "/offset", p.offsets, "partitions.list.offsets", _DESCRIBE),
            _route("GET", PARTITION + "/replicas", p.replicas, "replicas.list", _DESCRIBE),
            _route("GET", PARTITION + "/replicas/{broker_id:int}", p.replica, "replicas.get", _DESCRIBE),
            _route("GET", PARTITION + "/reassignment", p.reassignment, "partition-reassignments.get",
                   "describe cluster"),
            _route("GET", TOPIC + "/partitions/-/reassignment", p.reassignments_of_topic,
                   "partition-reassignments.search-by-topic", "describe cluster"),
            _route("GET", all_topics + "/partitions/-/reassignment", p.reassignments,
                   "partition-reassignments.list", "describe cluster"),
        ]  # fmt: skip

    def _of_acls(self) -> list[Route]:
        a = self.acls
        return [
            _route("GET", CLUSTER + "/acls", a.search, "acls.list", "describe cluster"),
            _route("POST", CLUSTER + "/acls", a.create, "acls.create", "alter cluster", read_acl),
            _route("DELETE", CLUSTER + "/acls", a.delete, "acls.delete", "alter cluster"),
            _route("POST", CLUSTER + "/acls:batch", a.create_many, "acls.batch-create", "alter cluster", read_acls),
        ]

    def _of_groups(self) -> list[Route]:
        g = self.groups
        place = "/{topic_name}/partitions/{partition_id:int}"
        return [
            _route("GET", CLUSTER + "/consumer-groups", g.list, "consumer-groups.list", "describe group"),
            _route("GET", GROUP, g.get, "consumer-groups.get", _DESCRIBE_GROUP),
            _route("GET", GROUP + "/consumers", g.consumers, "consumers.list", _DESCRIBE_GROUP),
            _route("GET", CONSUMER, g.consumer, "consumers.get", _DESCRIBE_GROUP),
            _route("GET", CONSUMER + "/assignments", g.assignments, "consumer-assignments.list", _DESCRIBE_GROUP),
            _route("GET", CONSUMER + "/assignments" + place, g.assignment, "consumer-assignments.get",
                   _GROUP_AND_TOPIC),
            _route("POST", GROUP + "/offsets:reset", self.resets.reset, "consumer-groups.reset-offsets",
                   "alter group:{consumer_group_id}; read topic", read_reset),
            _route("GET", GROUP + "/lags", g.lags, "consumer-lags.list", _DESCRIBE_GROUP),
            _route("GET", GROUP + "/lags" + place, g.lag, "consumer-lags.get", _GROUP_AND_TOPIC),
            _route("GET", GROUP + "/lag-summary", g.lag_summary, "consumer-group-lag-summary.get", _DESCRIBE_GROUP),
        ]  # fmt: skip

    def _of_producing(self) -> list[Route]:
        produce = self.produce
        return [
            Route(
                "POST",
                TOPIC + "/records",
                produce.records,
                "api.v3.produce.produce-to-topic",
                generation="v3",
                permission="write topic:{topic_name}",
                body="required",
                produces=_PRODUCES,
                consumes=media.takes_json_records(),
                service=produce,
                extras={"streams_body": True},
            ),
            Route(
                "POST",
                TOPIC + "/records:batch",
                produce.batch,
                "api.v3.batch-produce.produce-to-topic",
                generation="v3",
                permission="write topic:{topic_name}",
                body="required",
                produces=_PRODUCES,
                consumes=_CONSUMES,
                service=produce,
            ),
        ]


_PRODUCES = media.plain_json()
_CONSUMES = media.takes_json()


def _route(method: str, path: str, handler: Any, name: str, permission: str, takes: Any = None) -> Route:
    return Route(
        method,
        path,
        handler,
        f"api.v3.{name}",
        generation="v3",
        permission=permission,
        takes=takes,
        body="required" if takes else "none",
        produces=_PRODUCES,
        consumes=_CONSUMES if takes else None,
    )
