"""Clusters and brokers (kafka-rest-http.md §7.3, §7.4)."""

from __future__ import annotations

from kafka_gateway import jsonio
from kafka_gateway.errors import NotFound
from kafka_gateway.kafka.ports.administration import Administration, ClusterInfo
from kafka_gateway.kafka.ports.topics import BrokerNode
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.v3.links import ClusterLinks, Link, Links, Listing, ListMetadata, Metadata
from kafka_gateway.services.v3.partitions import replica


class Cluster(jsonio.Struct):
    kind: str
    metadata: Metadata
    cluster_id: str
    controller: Link | None
    acls: Link
    brokers: Link
    broker_configs: Link
    consumer_groups: Link
    topics: Link
    partition_reassignments: Link


class Broker(jsonio.Struct):
    kind: str
    metadata: Metadata
    cluster_id: str
    broker_id: int
    host: str | None
    port: int | None
    rack: str | None
    configs: Link
    partition_replicas: Link


class ClustersService:
    """The handlers of ``/v3/clusters``, ``…/brokers`` and what is on a broker."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    async def list(self, call: Call) -> Response:
        """``GET /clusters``: one element, always."""
        info = await self._administration.cluster()
        metadata = ListMetadata(self._links.clusters_url(call))
        return Response(Listing("KafkaClusterList", metadata, [_cluster(info, self._links.to(call, info.id))]))

    async def get(self, call: Call) -> Response:
        """``GET /clusters/{cluster_id}``"""
        links = await self._links.of(call, "")
        return Response(_cluster(await self._administration.cluster(), links))

    async def brokers(self, call: Call) -> Response:
        """``GET …/brokers``"""
        links = await self._links.of(call)
        nodes = (await self._administration.cluster()).nodes
        return Response(links.listing("KafkaBroker", "/brokers", [_broker(node, links) for node in nodes]))

    async def broker(self, call: Call) -> Response:
        """``GET …/brokers/{broker_id}``"""
        links = await self._links.of(call)
        return Response(_broker(await self._find(call.params["broker_id"], None), links))

    async def replicas(self, call: Call) -> Response:
        """``GET …/brokers/{broker_id}/partition-replicas``: all replicas on it, by topic and partition."""
        links = await self._links.of(call)
        number = int(call.params["broker_id"])
        await self._find(number, f"Broker {number} cannot be found.")
        topics = await self._administration.topics()
        shown = set(call.session.rights.filter("describe", "topic", [each.name for each in topics]))
        held = [
            (topic, one)
            for topic in topics
            if topic.name in shown
            for one in topic.partitions
            if number in one.replicas
        ]
        elements = (replica(topic.name, one, number, links) for topic, one in held)
        return await links.listed("KafkaReplica", f"/brokers/{number}/partition-replicas", len(held), elements)

    async def _find(self, number: int, text: str | None) -> BrokerNode:
        for node in (await self._administration.cluster()).nodes:
            if node.id == number:
                return node
        raise NotFound(text).with_help("GET /v3/clusters/ID/brokers lists the brokers.")


def _cluster(info: ClusterInfo, links: Links) -> Cluster:
    return Cluster(
        "KafkaCluster",
        links.metadata(""),
        info.id,
        None if info.controller is None else links.to(f"/brokers/{info.controller}"),
        links.to("/acls"),
        links.to("/brokers"),
        links.to("/broker-configs"),
        links.to("/consumer-groups"),
        links.to("/topics"),
        links.to("/topics/-/partitions/-/reassignment"),
    )


def _broker(node: BrokerNode, links: Links) -> Broker:
    path = f"/brokers/{node.id}"
    return Broker(
        "KafkaBroker",
        links.metadata(path, f"/broker={node.id}"),
        links.cluster,
        node.id,
        node.host,
        node.port,
        node.rack,
        links.to(path + "/configs"),
        links.to(path + "/partition-replicas"),
    )
