"""Making a consumer instance, as far as v1 and v2 do it alike (kafka-rest-http.md §5.5, §6.4)."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.definitions import VERSION, Definition, SlotKey, new_uid
from kafka_gateway.errors import InvalidConsumerConfig, InvalidSettings, Unprocessable
from kafka_gateway.homes import Homes
from kafka_gateway.kafka.ports.consuming import ConsumerSettings, Rebalanced
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.messages import Call, Request
from kafka_gateway.services.common.json_members import shown
from kafka_gateway.services.common.names import check_group, check_instance
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.services.instances.lasting import LastingInstances, anchors_in
from kafka_gateway.services.instances.registry import InstanceRegistry
from kafka_gateway.services.rest.base_uri import BaseUrls
from kafka_gateway.services.rest.bodies import InstanceReply, InstanceRequest
from kafka_gateway.services.rest.subscriptions import Subscriptions
from kafka_gateway.session import Owner, Session

_NAME_PREFIX = "rest-consumer-"
_NOT_IN_CLIENT_ID = re.compile(r"[^A-Za-z0-9._-]")
_CLIENT_ID_MAX = 100

_FETCH_MIN_BYTES_MAX = 10_000_000
_SESSION_TIMEOUT_MS = range(6_000, 300_001)
"""What the brokers allow by default (group.min.session.timeout.ms), up to the time in which a member has to read."""
_BOOLEANS = {"true": True, "false": False}
_RESETS = {
    "v1": {"smallest": "earliest", "largest": "latest"},
    "v2": {"earliest": "earliest", "latest": "latest", "none": "none"},
}
_ISOLATION_LEVELS = ("read_uncommitted", "read_committed")

GROUP_S = 10.0
"""How long the first read of an instance may wait for its group, unless its client says how long reads may take. Kafka
holds a new group open for three seconds (group.initial.rebalance.delay.ms), longer than a read's usual second."""


class _Given(NamedTuple):
    """What a client has asked for, checked."""

    codec: Codec
    settings: ConsumerSettings
    timeout_s: float
    """Longest duration of a read."""
    min_bytes: int
    group_s: float


class Creation:
    """Makes consumer instances from what clients ask for."""

    def __init__(
        self,
        config: Config,
        kafka: Kafka,
        codecs: Mapping[str, Codec],
        registry: InstanceRegistry,
        urls: BaseUrls,
        subscriptions: Subscriptions,
    ) -> None:
        self._kafka = kafka
        self._codecs = codecs
        self._registry = registry
        self._urls = urls
        self._id = config.text("id")
        self._lasting: LastingInstances | None = None
        self._subscriptions = subscriptions
        self._timeout_s = config.seconds("consumer.request.timeout.ms")
        self._min_bytes = config.integer("fetch.min.bytes")

    async def create(self, call: Call, generation: str) -> InstanceReply:
        """A new instance in the group of the path.

        Raises:
            Elsewhere: another worker is the home of the name.
            Unprocessable: the group, the name or the format cannot be used.
            InvalidConsumerConfig, InvalidSettings: a setting has a value that it cannot have.
            InstanceExists, TooManyRequests: see InstanceRegistry.create.
        """
        group = str(call.params["group"])
        check_group(group)
        request: InstanceRequest = call.body if call.body else InstanceRequest()
        given = self._given(group, request, generation)
        name = request.name if request.name is not None else self._generated_name(group, call.homes)
        check_instance(name)
        uid = new_uid()
        if call.homes is not None:
            uid = _uid_of(call.request)
            call.homes.check_here(group, name)
        key, session, lasting = InstanceKey(generation, group, name), call.session, self._lasting
        reply = InstanceReply(name, self._urls.instance(call.base_url, group, name))
        definition: Definition | None = None
        if lasting is not None:
            definition = _definition(key, uid, request, session, lasting.definitions.writer)
            before = lasting.definitions.find(SlotKey(group, name))
            if before is not None and (before.uid, before.principal) == (uid, definition.principal):
                return reply  # the request is sent again: the process that has made it is gone

        async def make(_: InstanceKey) -> ConsumerInstance:
            instance = await self._open(key, given, session, definition)
            if definition is not None and lasting is not None:
                try:
                    await lasting.definitions.create(definition)
                except BaseException:
                    await instance.consumer.close()
                    raise
            return instance

        owned_max = session.allowance.instances_max if session.allowance is not None else 0
        await self._registry.create(key, make, session.owner, owned_max, uid)
        return reply

    def last(self, lasting: LastingInstances) -> None:
        """Instances outlive the process from now on."""
        self._lasting = lasting

    async def revive(self, definition: Definition, session: Session) -> ConsumerInstance:
        """The instance that the definition describes, as far as another process has brought it."""
        key = InstanceKey(f"v{definition.api}", definition.group, definition.name)
        given = self._given(definition.group, _request_of(definition), key.generation)
        instance = await self._open(key, given, session, definition)
        instance.owner = Owner(definition.principal, definition.kafka)
        if definition.handed:
            instance.consumer.resume(anchors_in(definition))
        else:
            instance.was_moved = definition.subscription is not None
        wanted = definition.subscription
        try:
            if wanted is not None and wanted.pattern:
                await self._subscriptions.subscribe_pattern(instance, wanted.pattern)
            elif wanted is not None and wanted.partitions:
                await self._subscriptions.assign(instance, [TopicPartition(*each) for each in wanted.partitions])
            elif wanted is not None:
                await self._subscriptions.subscribe(instance, wanted.topics)
        except BaseException:
            await instance.consumer.close(leave=False)
            raise
        return instance

    def _given(self, group: str, request: InstanceRequest, generation: str) -> _Given:
        codec = self._codec(request.format, generation)
        timeout_s, min_bytes = self._limits(request)
        settings = _settings(group, request, generation)
        group_s = min(GROUP_S, settings.session_timeout_ms / 1000 or GROUP_S)
        if request.timeout_ms is not None:
            group_s = 0.0  # a client that says how long reads may take gets reads of that time
        return _Given(codec, settings, timeout_s, min_bytes, group_s)

    async def _open(
        self, key: InstanceKey, given: _Given, session: Session, definition: Definition | None
    ) -> ConsumerInstance:
        settings = dataclasses.replace(given.settings, client_id=_client_id(key.name))
        rebalanced: Rebalanced | None = None
        made: list[ConsumerInstance] = []
        if definition is not None and (lasting := self._lasting) is not None:
            settings = dataclasses.replace(
                settings, instance_id=lasting.definitions.member_id(definition.uid), anchors=anchors_in(definition)
            )

            def rebalanced(positions: Sequence[PartitionOffset], anew: Collection[TopicPartition]) -> None:
                if made and positions:
                    lasting.began(made[0])

        consumer = await self._kafka.consumer(settings, rebalanced)
        instance = ConsumerInstance(
            key, session.owner, given.codec, consumer, given.timeout_s, given.min_bytes, session.rights, given.group_s
        )
        instance.definition = definition
        made.append(instance)
        return instance

    def _generated_name(self, group: str, homes: Homes | None) -> str:
        """A name that nobody has. Of several workers this one serves it, so that requests of a client that keeps its
        connection are not forwarded."""
        while True:
            name = f"{_NAME_PREFIX}{self._id + '-' if self._id else ''}{uuid.uuid4()}"
            if homes is None or homes.is_here(group, name):
                return name

    def _codec(self, name: str, generation: str) -> Codec:
        codec = self._codecs.get(name.lower())
        if codec is None or generation not in codec.generations:
            known = ", ".join(sorted(each.name for each in self._codecs.values() if generation in each.generations))
            raise Unprocessable(f"Invalid format type. {shown(name)} is not one of {known}.")
        return codec

    def _limits(self, request: InstanceRequest) -> tuple[float, int]:
        """Longest duration of a read in seconds, and how much lets it answer earlier."""
        timeout_s, min_bytes = self._timeout_s, self._min_bytes
        if request.timeout_ms is not None:
            if request.timeout_ms < 0:
                raise InvalidSettings(
                    InvalidSettings.text + f"Invalid value {request.timeout_ms} for configuration "
                    "consumer.request.timeout.ms: Value must be at least 0"
                )
            timeout_s = request.timeout_ms / 1000
        if request.fetch_min_bytes is not None:
            min_bytes = request.fetch_min_bytes
            if not -1 <= min_bytes <= _FETCH_MIN_BYTES_MAX:
                bound = "at least -1" if min_bytes < 0 else f"no more than {_FETCH_MIN_BYTES_MAX}"
                raise InvalidSettings(
                    InvalidSettings.text
                    + f"Invalid value {min_bytes} for configuration fetch.min.bytes: Value must be {bound}"
                )
        return timeout_s, min_bytes


def _settings(group: str, request: InstanceRequest, generation: str) -> ConsumerSettings:
    auto_commit = None if generation == "v2" else False  # v1: off, whatever is configured (§5.5)
    if request.auto_commit is not None:
        auto_commit = _BOOLEANS.get(request.auto_commit.strip().lower())
        if auto_commit is None:
            raise _invalid("auto.commit.enable", request.auto_commit, ("true", "false"))
    reset = "" if generation == "v2" else "latest"
    if request.auto_offset_reset is not None:
        resets = _RESETS[generation]
        if request.auto_offset_reset not in resets:
            raise _invalid("auto.offset.reset", request.auto_offset_reset, tuple(resets))
        reset = resets[request.auto_offset_reset]
    if request.isolation_level is not None and request.isolation_level not in _ISOLATION_LEVELS:
        raise _invalid("isolation.level", request.isolation_level, _ISOLATION_LEVELS)
    session_ms = request.session_timeout_ms or 0
    if session_ms and session_ms not in _SESSION_TIMEOUT_MS:
        raise InvalidSettings(
            InvalidSettings.text + f"Invalid value {session_ms} for configuration session.timeout.ms: "
            f"Value must be between {_SESSION_TIMEOUT_MS[0]} and {_SESSION_TIMEOUT_MS[-1]}"
        )
    return ConsumerSettings(
        group,
        "",
        reset,
        auto_commit,
        request.isolation_level or "",
        session_timeout_ms=session_ms,
        kind="instance",
    )


def _client_id(name: str) -> str:
    """The name, as far as Kafka's metrics can show it. The prefix keeps clients from passing for somebody else's
    ``client.id``, by which brokers tell quotas (reliability.md §2.1)."""
    plain = _NOT_IN_CLIENT_ID.sub("_", name)[:_CLIENT_ID_MAX]
    return plain if plain.startswith(_NAME_PREFIX) else _NAME_PREFIX + plain


def _invalid(name: str, value: str, known: tuple[str, ...]) -> InvalidConsumerConfig:
    return InvalidConsumerConfig(
        f"Invalid consumer configuration: Invalid value {shown(value)} for configuration {name}: "
        f"it must be one of {', '.join(known)}"
    )


# --- definitions (cluster.md §4.2) ------------------------------------------------------------------------------------

_OPTIONS: Mapping[str, str] = {
    "auto.offset.reset": "auto_offset_reset",
    "auto.commit.enable": "auto_commit",
    "fetch.min.bytes": "fetch_min_bytes",
    "consumer.request.timeout.ms": "timeout_ms",
    "isolation.level": "isolation_level",
    "session.timeout.ms": "session_timeout_ms",
}
_NUMBERS = frozenset({"fetch.min.bytes", "consumer.request.timeout.ms", "session.timeout.ms"})


def _uid_of(request: Request) -> str:
    """The id of the instance that the request makes: the same however often it is sent."""
    if not request.creation:
        request.creation = new_uid()
    return request.creation


def _definition(key: InstanceKey, uid: str, request: InstanceRequest, session: Session, writer: str) -> Definition:
    options = {option: str(value) for option, name in _OPTIONS.items() if (value := getattr(request, name)) is not None}
    owner, generation = session.owner, int(key.generation[1:])
    return Definition(
        VERSION, uid, key.group, key.name, generation, request.format, owner.principal, writer, owner.kafka, options,
        epoch=1,
    )  # fmt: skip


def _request_of(definition: Definition) -> InstanceRequest:
    request = InstanceRequest(definition.name, definition.format)
    for option, name in _OPTIONS.items():
        if (text := definition.options.get(option)) is not None:
            setattr(request, name, int(text) if option in _NUMBERS else text)
    return request
