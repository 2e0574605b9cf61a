"""Moving the committed offsets of a consumer group: an addition of this gateway (docs/rest-v3.md).

As Kafka's `kafka-consumer-groups --reset-offsets` does, it tells what it would do unless it is told to do it, and it is
refused while the group has members: these would not notice the change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, GroupActive, NotFound, PartitionNotFound, PayloadError
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.administration import Administration
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.common.json_members import (
    NULL,
    check_names,
    read_document,
    read_integer,
    read_list,
    read_object,
    read_text,
    shown,
)
from kafka_gateway.services.common.names import check_group, is_topic
from kafka_gateway.services.common.timestamps import parse_instant
from kafka_gateway.services.v3.bodies import read_flag, required
from kafka_gateway.services.v3.links import ClusterLinks

_TARGETS = ("earliest", "latest", "current", "offset", "timestamp", "shift_by")
_EXAMPLE = '{"to": "earliest", "topics": [{"topic_name": "…"}], "dry_run": false}'


class Moved(jsonio.Struct):
    """One partition: where the group was, and where it is, or would be."""

    topic_name: str
    partition_id: int
    current_offset: int | None
    new_offset: int


class ResetReply(jsonio.Struct):
    kind: str
    cluster_id: str
    consumer_group_id: str
    dry_run: bool
    data: list[Moved]


@dataclasses.dataclass(frozen=True, slots=True)
class ResetRequest:
    """Where to go: ``to`` is one of _TARGETS, ``value`` its offset, milliseconds or shift.

    ``topics`` are names with partitions, () for all of them; no topics at all: those that the group has committed for.
    """

    to: str
    value: int
    topics: dict[str, tuple[int, ...]]
    dry_run: bool


class OffsetsResetService:
    """The handler of ``POST …/consumer-groups/{consumer_group_id}/offsets:reset``."""

    def __init__(self, administration: Administration, links: ClusterLinks) -> None:
        self._administration = administration
        self._links = links

    async def reset(self, call: Call) -> Response:
        """200 with every partition that moves, or would; 412 while the group has members."""
        links = await self._links.of(call, "Cluster {} could not be found.")
        name, request = str(call.params["consumer_group_id"]), call.body
        check_group(name)
        call.require("read", "topic", *request.topics)
        group = await self._administration.group(name)
        if group.members:
            raise GroupActive()
        found = await self._administration.committed(name)
        committed = {TopicPartition(each.topic, each.partition): each for each in found}
        places = await self._places(request, list(committed))
        call.require("read", "topic", *{place.topic for place in places})
        current = {place: each.offset for place, each in committed.items()}
        targets = await self._targets(request, places, current)
        if not request.dry_run:
            offsets = [PartitionOffset(*place, targets[place]) for place in places]
            await self._administration.commit(name, offsets)
        data = [Moved(place.topic, place.partition, current.get(place), targets[place]) for place in places]
        return Response(ResetReply("KafkaConsumerGroupOffsetsReset", links.cluster, name, request.dry_run, data))

    async def _places(self, request: ResetRequest, committed: Sequence[TopicPartition]) -> list[TopicPartition]:
        if not request.topics:
            if not committed:
                raise NotFound("Consumer group offsets could not be found; name the topics.")
            return sorted(committed)
        places = []
        for name, partitions in request.topics.items():
            known = {each.partition for each in (await self._administration.topic(name)).partitions}
            if not known.issuperset(partitions):
                raise PartitionNotFound()
            places += [TopicPartition(name, number) for number in sorted(partitions or known)]
        return places

    async def _targets(
        self, request: ResetRequest, places: Sequence[TopicPartition], current: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where each partition goes: never before its first record, nor behind its end."""
        first = await self._administration.offsets(places, "earliest")
        end = await self._administration.offsets(places, "latest")
        missing = [place for place in places if place not in first or place not in end]
        if missing:
            raise PartitionNotFound(f"Partition {missing[0].partition} of {missing[0].topic} is not there any more.")
        wanted: dict[TopicPartition, int] = dict(end)
        if request.to == "earliest":
            wanted = dict(first)
        elif request.to == "offset":
            wanted = dict.fromkeys(places, request.value)
        elif request.to in ("shift_by", "current"):
            wanted = {place: current.get(place, end[place]) + request.value for place in places}
        elif request.to == "timestamp":
            found = await self._administration.offsets(places, "time", request.value)
            wanted = {place: found[place] if found.get(place, -1) >= 0 else end[place] for place in places}
        return {place: min(max(wanted[place], first[place]), end[place]) for place in places}


def read_reset(body: bytes, codec: Codec | None) -> ResetRequest:
    """The body of ``offsets:reset``."""
    members = read_document(body)
    if members is None:
        raise PayloadError(f"Payload error. Request body is empty. Data is required: {_EXAMPLE}")
    check_names(members, ("to", "value", "topics", "dry_run"))
    to = required(read_text(members.get("to", NULL), "to"), "to")
    if to not in _TARGETS:
        raise BadRequest(f"to must be one of {', '.join(_TARGETS)}, not {shown(repr(to))}.")
    raw = members.get("value", NULL)
    value = 0
    if to in ("offset", "shift_by", "timestamp"):
        value = required(_moment(raw) if to == "timestamp" else read_integer(raw, "value", 64), "value")
    elif raw != NULL:
        raise BadRequest(f"value does not go with to={to}.")
    dry_run = read_flag(members.get("dry_run", NULL), "dry_run")
    return ResetRequest(to, value, _topics(members.get("topics", NULL)), True if dry_run is None else dry_run)


def _moment(raw: Raw) -> int | None:
    """Milliseconds since 1970, or an ISO-8601 text."""
    try:
        return read_integer(raw, "value", 64)
    except BadRequest:
        text = read_text(raw, "value") or ""
        try:
            return parse_instant(text)
        except ValueError as reason:
            raise BadRequest(f"value must be milliseconds since 1970, or an ISO-8601 text: it is {reason}.") from None


def _topics(raw: Raw) -> dict[str, tuple[int, ...]]:
    topics: dict[str, tuple[int, ...]] = {}
    for i, element in enumerate(read_list(raw, "topics") or ()):
        place = f"topics[{i}]"
        members = required(read_object(element, place), place)
        check_names(members, ("topic_name", "partitions"), place)
        name = required(read_text(members.get("topic_name", NULL), f"{place}.topic_name"), f"{place}.topic_name")
        if not is_topic(name):
            raise BadRequest(f"{place}.topic_name is no name of a topic: {shown(repr(name))}.")
        where = f"{place}.partitions"
        numbers = [read_integer(one, where) for one in read_list(members.get("partitions", NULL), where) or ()]
        topics[name] = tuple(required(number, where) for number in numbers)
    return topics
