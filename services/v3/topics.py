"""Topics: listed, made, enlarged, deleted (kafka-rest-http.md §7.6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, PayloadError, UnknownTopicOrPartition
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.administration import Administration, Created, TopicDetails, TopicToCreate
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.own_names import own_refusal
from kafka_gateway.services.common.json_members import (
    NULL,
    check_names,
    read_document,
    read_integer,
    read_list,
    read_object,
    read_text,
)
from kafka_gateway.services.common.names import is_topic
from kafka_gateway.services.v3.bodies import read_flag, required
from kafka_gateway.services.v3.links import ClusterLinks, Link, Links, Metadata

_EMPTY = "Payload error. Request body is empty. Data is required."
_NO_COUNT = "Payload error. Request body is empty. Partitions_count is required."


class Topic(jsonio.Struct, gc=False):
    kind: str
    metadata: Metadata
    cluster_id: str
    topic_name: str
    is_internal: bool
    replication_factor: int
    partitions_count: int
    partitions: Link
    configs: Link
    partition_reassignments: Link
    authorized_operations: Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class CreateTopicRequest:
    topic: TopicToCreate
    validate_only: bool


class TopicsService:
    """The handlers of ``…/topics`` and ``…/topics/{topic_name}``."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    async def list(self, call: Call) -> Response:
        """``GET …/topics``: without Kafka's own."""
        links = await self._links.of(call)
        found = [each for each in await self._administration.topics(_wants_operations(call)) if not each.internal]
        shown = set(call.session.rights.filter("describe", "topic", [each.name for each in found]))
        topics = [each for each in found if each.name in shown]
        return await links.listed("KafkaTopic", "/topics", len(topics), (_topic(each, links) for each in topics))

    async def get(self, call: Call) -> Response:
        """``GET …/topics/{topic_name}``"""
        links = await self._links.of(call)
        topic = await self._administration.topic(call.params["topic_name"], _wants_operations(call))
        return Response(_topic(topic, links))

    async def create(self, call: Call) -> Response:
        """``POST …/topics``"""
        request: CreateTopicRequest = call.body
        if (own := own_refusal("topic", (request.topic.name,), "create")) is not None:
            raise own
        call.require_making(request.topic.name)
        links = await self._links.of(call)
        made = await self._administration.create_topic(request.topic, request.validate_only)
        topic = _created(request.topic, made, links)
        location = (("Location", topic.metadata.url),)
        return Response(topic, 200 if request.validate_only else 201, location)

    async def enlarge(self, call: Call) -> Response:
        """``PATCH …/topics/{topic_name}``"""
        links = await self._links.of(call)
        name, total = str(call.params["topic_name"]), int(call.body)
        before = await self._administration.topic(name)
        await self._administration.add_partitions(name, total)
        try:
            after = await self._administration.topic(name)
        except (UnknownTopicOrPartition, KafkaAuthorization):
            after = before
        # The broker that is asked may not know the new partitions yet.
        return Response(_topic(after, links, max(total, len(after.partitions))))

    async def delete(self, call: Call) -> Response:
        """``DELETE …/topics/{topic_name}``"""
        await self._links.of(call)
        name = str(call.params["topic_name"])
        if not is_topic(name):
            raise UnknownTopicOrPartition()
        await self._administration.delete_topic(name)
        return NO_CONTENT


def _wants_operations(call: Call) -> bool:
    """Upstream has one spelling on the list and the other on a single topic (§13 no. 16)."""
    texts = (call.query.get("include_authorized_operations"), call.query.get("includeAuthorizedOperations"))
    return any(text is not None and text.lower() == "true" for text in texts)


def _topic(topic: TopicDetails, links: Links, count: int | None = None) -> Topic:
    replicas = len(topic.partitions[0].replicas) if topic.partitions else 0
    count = len(topic.partitions) if count is None else count
    return _resource(topic.name, links, topic.internal, replicas, count, topic.operations)


def _created(topic: TopicToCreate, made: Created, links: Links) -> Topic:
    """The number that the broker chose; if it does not tell, the one asked for, or 0 (§7.6)."""
    asked_partitions, asked_replicas = topic.partitions, topic.replicas
    if topic.assignments:
        asked_partitions = len(topic.assignments)
        asked_replicas = len(next(iter(topic.assignments.values())))
    partitions = made.partitions if made.partitions >= 0 else max(0, asked_partitions)
    replicas = made.replicas if made.replicas >= 0 else max(0, asked_replicas)
    return _resource(topic.name, links, False, replicas, partitions, ())


def _resource(
    name: str, links: Links, internal: bool, replicas: int, partitions: int, operations: Sequence[str]
) -> Topic:
    path = f"/topics/{name}"
    return Topic(
        "KafkaTopic",
        links.metadata(path, f"/topic={name}"),
        links.cluster,
        name,
        internal,
        replicas,
        partitions,
        links.to(path + "/partitions"),
        links.to(path + "/configs"),
        links.to(path + "/partitions/-/reassignment"),
        operations,
    )


# --- bodies ----------------------------------------------------------------------------------------------------------


def read_create_topic(body: bytes, codec: Codec | None) -> CreateTopicRequest:
    """The body of ``POST …/topics``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_EMPTY)
    known = (
        *("topic_name", "partitions_count", "replication_factor", "replicas_assignments", "configs", "validate_only"),
    )
    check_names(members, known)
    name = required(read_text(members.get("topic_name", NULL), "topic_name"), "topic_name")
    if not is_topic(name):
        raise PayloadError("Payload error. Invalid topic name.").with_help(
            "A topic's name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and is neither '.' nor '..'."
        )
    partitions = read_integer(members.get("partitions_count", NULL), "partitions_count")
    replicas = read_integer(members.get("replication_factor", NULL), "replication_factor", 16)
    topic = TopicToCreate(
        name,
        -1 if partitions is None else partitions,
        -1 if replicas is None else replicas,
        _assignments(members.get("replicas_assignments", NULL)),
        _configs(members.get("configs", NULL)),
    )
    return CreateTopicRequest(topic, read_flag(members.get("validate_only", NULL), "validate_only") or False)


def _assignments(raw: Raw) -> dict[int, list[int]]:
    assignments = {}
    for name, brokers in (read_object(raw, "replicas_assignments") or {}).items():
        place = f"replicas_assignments.{name[:100]}"
        partition = required(read_integer(Raw(jsonio.encode(name)), place), place)
        ids = [read_integer(one, f"{place}[{i}]") for i, one in enumerate(required(read_list(brokers, place), place))]
        assignments[partition] = [required(one, f"{place}[{i}]") for i, one in enumerate(ids)]
    return assignments


def _configs(raw: Raw) -> list[tuple[str, str | None]]:
    configs = []
    for i, element in enumerate(read_list(raw, "configs") or ()):
        place = f"configs[{i}]"
        members = required(read_object(element, place), place)
        check_names(members, ("name", "value"), place)
        name = required(read_text(members.get("name", NULL), f"{place}.name"), f"{place}.name")
        configs.append((name, read_text(members.get("value", NULL), f"{place}.value")))
    return configs


def read_partitions_count(body: bytes, codec: Codec | None) -> int:
    """The body of ``PATCH …/topics/{topic_name}``: the number of partitions that the topic is to have."""
    members = read_document(body)
    if members is None:
        raise PayloadError(_NO_COUNT)
    check_names(members, ("partitions_count",))
    count = read_integer(members.get("partitions_count", NULL), "partitions_count")
    if count is None:
        raise BadRequest("partitions_count must not be null.")
    return count
