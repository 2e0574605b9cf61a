"""The other REST documents: what replies hold, and the bodies of requests about consumers.

Readers are plain functions ``(body, codec) -> value`` for ``Route.takes``; the codec plays no part here. They raise
BadRequest for JSON of the wrong type and Unprocessable for what breaks a rule (§3.4; kafka-rest-http-observed.md says
which is which).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.errors import BadRequest, PartitionNotFound, Unprocessable
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.topics import PartitionInfo, PartitionOffset, TopicPartition
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
from kafka_gateway.services.common.timestamps import parse_instant

T = TypeVar("T")

# --- replies: metadata (§5.2, §6.2) ----------------------------------------------------------------------------------


class Brokers(jsonio.Struct):
    brokers: list[int]


class Replica(jsonio.Struct):
    broker: int
    leader: bool
    in_sync: bool


class Partition(jsonio.Struct):
    partition: int
    leader: int
    replicas: list[Replica]

    @classmethod
    def of(cls, info: PartitionInfo) -> Partition:
        """How replies show a partition; the preferred replica stands first."""
        replicas = [Replica(broker, broker == info.leader, broker in info.in_sync) for broker in info.replicas]
        return cls(info.partition, info.leader, replicas)


class Topic(jsonio.Struct):
    name: str
    configs: dict[str, str | None]
    partitions: list[Partition]


class PartitionOffsets(jsonio.Struct):
    beginning_offset: int
    end_offset: int


# --- replies: producing (§5.3) ---------------------------------------------------------------------------------------


class Produced(jsonio.Struct, gc=False):
    """What became of one record; ``error_code`` is None for one that is stored."""

    partition: int | None
    offset: int | None
    error_code: int | None = None
    error: str | None = None


class ProduceReply(jsonio.Struct, gc=False):
    offsets: list[Produced]
    key_schema_id: int | None = None
    value_schema_id: int | None = None


# --- replies: consumers (§5.5, §5.7, §6.5, §6.7) ---------------------------------------------------------------------


class InstanceReply(jsonio.Struct):
    instance_id: str
    base_uri: str


class Topics(jsonio.Struct):
    topics: list[str]


class AssignedPartition(jsonio.Struct):
    topic: str
    partition: int


class Assignments(jsonio.Struct):
    partitions: list[AssignedPartition]


class CommittedOffset(jsonio.Struct):
    topic: str
    partition: int
    offset: int
    metadata: str


class CommittedOffsets(jsonio.Struct):
    offsets: list[CommittedOffset]


class CommittedV1(jsonio.Struct):
    """``consumed`` and ``committed`` are the offset of the last record that was returned (§5.7)."""

    topic: str
    partition: int
    consumed: int
    committed: int


# --- bodies: the root (§5.1) -----------------------------------------------------------------------------------------


def read_free_map(body: bytes, codec: Codec | None) -> None:
    """The body of ``POST /``: any object of texts, or nothing."""
    for name, raw in (read_document(body) or {}).items():
        read_text(raw, shown(name))


# --- bodies: consumer instances (§5.5, §6.4) -------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class InstanceRequest:
    """What a client asks of a new consumer instance; None for what it leaves to the gateway.

    These are the only settings that clients have a say in (reliability.md §2.1, A1); nothing is passed through.
    """

    name: str | None = None
    format: str = "binary"
    auto_offset_reset: str | None = None
    auto_commit: str | None = None
    fetch_min_bytes: int | None = None
    timeout_ms: int | None = None
    isolation_level: str | None = None
    session_timeout_ms: int | None = None


def _set_text(field: str) -> Callable[[InstanceRequest, Raw, str], None]:
    def read(request: InstanceRequest, raw: Raw, place: str) -> None:
        value = read_text(raw, place)
        if value is not None:
            setattr(request, field, value)

    return read


def _set_integer(field: str) -> Callable[[InstanceRequest, Raw, str], None]:
    def read(request: InstanceRequest, raw: Raw, place: str) -> None:
        setattr(request, field, read_integer(raw, place))

    return read


_INSTANCE_V1 = {
    "name": _set_text("name"),
    "id": _set_text("name"),
    "format": _set_text("format"),
    "auto.offset.reset": _set_text("auto_offset_reset"),
    "auto.commit.enable": _set_text("auto_commit"),
    "session.timeout.ms": _set_integer("session_timeout_ms"),
}
_INSTANCE_V2 = _INSTANCE_V1 | {
    "fetch.min.bytes": _set_integer("fetch_min_bytes"),
    "responseMinBytes": _set_integer("fetch_min_bytes"),
    "consumer.request.timeout.ms": _set_integer("timeout_ms"),
    "requestWaitMs": _set_integer("timeout_ms"),
    "isolation.level": _set_text("isolation_level"),
}


def read_instance_v1(body: bytes, codec: Codec | None) -> InstanceRequest:
    """The body of v1 ``POST /consumers/{group}``; it may be missing."""
    return _read_instance(body, _INSTANCE_V1)


def read_instance_v2(body: bytes, codec: Codec | None) -> InstanceRequest:
    """The body of v2 ``POST /consumers/{group}``; it may be missing."""
    return _read_instance(body, _INSTANCE_V2)


def _read_instance(body: bytes, readers: dict[str, Callable[[InstanceRequest, Raw, str], None]]) -> InstanceRequest:
    request = InstanceRequest()
    members = read_document(body) or {}
    check_names(members, readers)
    for name, raw in members.items():
        if name != "id":
            readers[name](request, raw, name)
    if "id" in members:  # deprecated, but it overrides the name wherever it stands
        readers["id"](request, members["id"], "id")
    return request


# --- bodies: subscriptions and assignments (§6.5) --------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class SubscriptionRequest:
    """What to subscribe to: topics, else a pattern, else nothing changes."""

    topics: list[str] | None = None
    pattern: str | None = None


def read_subscription(body: bytes, codec: Codec | None) -> SubscriptionRequest:
    """The body of ``POST …/subscription``. Topics once each, in the order given."""
    members = _required(read_document(body), '{"topics": ["…"]} or {"topic_pattern": "…"}')
    check_names(members, ("topics", "topic_pattern"))
    request = SubscriptionRequest()
    if "topics" in members and (elements := read_list(members["topics"], "topics")) is not None:
        topics = [_topic(raw, f"topics[{i}]") for i, raw in enumerate(elements)]
        request.topics = list(dict.fromkeys(topics))
    if "topic_pattern" in members:
        request.pattern = read_text(members["topic_pattern"], "topic_pattern")
    return request


def read_partitions(body: bytes, codec: Codec | None) -> list[TopicPartition]:
    """The body of ``POST …/assignments``, ``…/positions/beginning`` and ``…/positions/end``."""
    members = _required(read_document(body), '{"partitions": [{"topic": "…", "partition": 0}]}')
    return _read_partitions(members)


def read_committed_partitions(body: bytes, codec: Codec | None) -> list[TopicPartition]:
    """The body of ``GET …/offsets``; without one the answer is PartitionNotFound (§6.7)."""
    members = read_document(body)
    if members is None:
        raise PartitionNotFound()
    return _read_partitions(members)


def _read_partitions(members: dict[str, Raw]) -> list[TopicPartition]:
    check_names(members, ("partitions",))
    elements = _listed(members, "partitions")
    partitions = []
    for place, entry in _entries(elements, "partitions", ("topic", "partition")):
        topic = _topic(entry.get("topic", NULL), f"{place}.topic")
        partitions.append(TopicPartition(topic, _present(entry, "partition", place)))
    return partitions


_OFFSET_MAX = 2**63 - 2

# --- bodies: positions and offsets (§6.6, §6.7) ----------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class PositionsRequest:
    """Where to go on reading: at offsets, and at the first record of a time (``offset`` in ms since 1970)."""

    offsets: list[PartitionOffset]
    times: list[PartitionOffset]


def read_positions(body: bytes, codec: Codec | None) -> PositionsRequest:
    """The body of ``POST …/positions``. An ``offset`` or ``partition`` that is left out is 0 (observed §6.6)."""
    members = _required(read_document(body), '{"offsets": [{"topic": "…", "partition": 0, "offset": 0}]}')
    check_names(members, ("offsets", "timestamps"))
    request = PositionsRequest([], [])
    for name, entries, read in (("offsets", request.offsets, _offset), ("timestamps", request.times, _time_ms)):
        known = ("topic", "partition", "metadata", name[:-1])
        for place, entry in _entries(read_list(members.get(name, NULL), name) or [], name, known, BadRequest):
            topic = read_text(entry.get("topic", NULL), f"{place}.topic")
            if not topic:
                raise BadRequest(f"{place}.topic must not be null.")
            partition = read_integer(entry.get("partition", NULL), f"{place}.partition") or 0
            where = f"{place}.{name[:-1]}"
            entries.append(PartitionOffset(topic, partition, read(entry.get(name[:-1], NULL), where)))
    return request


def _offset(raw: Raw, place: str) -> int:
    offset = read_integer(raw, place, 64) or 0
    if offset < 0:
        raise Unprocessable(f"{place} must be greater than or equal to 0 (was {offset})")
    return offset


def _time_ms(raw: Raw, place: str) -> int:
    """An ISO-8601 text, or a number of seconds since 1970 (observed §6.6)."""
    text = bytes(raw)
    if text[:1] in b"-0123456789" and text:
        try:
            seconds = jsonio.decode_value(text)
        except ValueError:
            raise BadRequest(f"{place} is out of range: {shown(text.decode())}.") from None
        return max(-(2**63), min(2**63 - 1, int(seconds * 1000)))
    written = read_text(raw, place)
    if not written:
        raise BadRequest(f"{place} must not be null.")
    try:
        return parse_instant(written)
    except ValueError as reason:
        raise BadRequest(f"{place} must be an ISO-8601 text: {shown(repr(written))} is {reason}.") from None


def read_commit(body: bytes, codec: Codec | None) -> list[PartitionOffset] | None:
    """The body of v2 ``POST …/offsets``, with the offsets as the client gave them; None without one.

    Of one partition given twice the last counts.
    """
    members = read_document(body)
    if members is None:
        return None
    check_names(members, ("offsets",))
    offsets = {}
    elements = _listed(members, "offsets")
    for place, entry in _entries(elements, "offsets", ("topic", "partition", "offset", "metadata")):
        topic = _topic(entry.get("topic", NULL), f"{place}.topic")
        partition = _present(entry, "partition", place)
        offset = _present(entry, "offset", place, 64)
        if partition < 0 or offset < 0:
            name, number = ("partition", partition) if partition < 0 else ("offset", offset)
            raise Unprocessable(f"{place}.{name} must be greater than or equal to 0 (was {number})")
        if offset > _OFFSET_MAX:  # what is stored is one more
            raise Unprocessable(f"{place}.offset must be less than or equal to {_OFFSET_MAX} (was {offset})")
        metadata = read_text(entry.get("metadata", NULL), f"{place}.metadata") or ""
        if "\0" in metadata:  # librdkafka would end it there
            raise Unprocessable(f"{place}.metadata holds the character U+0000.")
        offsets[topic, partition] = PartitionOffset(topic, partition, offset, metadata)
    return list(offsets.values())


# --- what these readers share ----------------------------------------------------------------------------------------


def _required(value: T | None, example: str) -> T:
    if value is None:
        raise Unprocessable(f"The body must not be null (was null): {example} is expected.")
    return value


def _listed(members: dict[str, Raw], name: str) -> list[Raw]:
    elements = read_list(members.get(name, NULL), name)
    if elements is None:
        raise Unprocessable(f"{name} must not be null (was null)")
    return elements


def _entries(
    elements: list[Raw],
    name: str,
    known: tuple[str, ...],
    null: type[BadRequest] | type[Unprocessable] = Unprocessable,
) -> list[tuple[str, dict[str, Raw]]]:
    """Place and members of each element; which error a null among them is depends on the list (observed §3.4)."""
    entries = []
    for i, raw in enumerate(elements):
        place = f"{name}[{i}]"
        members = read_object(raw, place)
        if members is None:
            raise null(f"{place} must not be null (was null)")
        check_names(members, known, place)
        entries.append((place, members))
    return entries


def _topic(raw: Raw, place: str) -> str:
    topic = read_text(raw, place)
    if topic is None or not topic.strip():
        raise Unprocessable(f"{place} must not be blank (was {topic if topic is not None else 'null'})")
    return topic


def _present(members: dict[str, Raw], name: str, place: str, bits: int = 32) -> int:
    number = read_integer(members.get(name, NULL), f"{place}.{name}", bits)
    if number is None:
        raise Unprocessable(f"{place}.{name} must not be null (was null)")
    return number
