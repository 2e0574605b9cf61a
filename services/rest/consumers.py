"""v2 consumer instances: everything under ``/consumers`` (kafka-rest-http.md §6.4 to §6.8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.errors import FormatMismatch, NotAuthorized, NotSubscribed, PartlyCommitted, ServiceError
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import KafkaError, KafkaRetriable
from kafka_gateway.media_ranges import accept_parameter
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.services.common.names import invalid_topics, is_topic
from kafka_gateway.services.common.query import read_include, read_long, read_max_bytes
from kafka_gateway.services.common.rows import INCLUDABLE, RecordEncoders
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.services.instances.registry import InstanceRegistry, Use
from kafka_gateway.services.rest.bodies import (
    AssignedPartition,
    Assignments,
    CommittedOffset,
    CommittedOffsets,
    PositionsRequest,
    SubscriptionRequest,
    Topics,
)
from kafka_gateway.services.rest.create_instance import Creation
from kafka_gateway.services.rest.subscriptions import Subscriptions, check_seekable, real_partitions

log = logging.getLogger("gateway.consumers")

_MOVED = (
    "Kafka error: consumer instance was moved after a failure; records since the last commit will be delivered again."
)
_IN_DOUBT = (
    "Kafka error: it is not known whether the records of the last read have arrived; they will be delivered again."
)
_READ_AGAIN = "Read again, and commit then, or name the offsets in the body: until then nobody knows what to commit."


class Consumers:
    """The handlers of v2's consumer resources. All but ``create`` answer 40403 for an instance that is not there."""

    def __init__(
        self,
        config: Config,
        codecs: Mapping[str, Codec],
        encoders: RecordEncoders,
        creation: Creation,
        registry: InstanceRegistry,
        subscriptions: Subscriptions,
    ) -> None:
        self._max_bytes = config.integer("consumer.request.max.bytes")
        self._codecs = codecs
        self._encoders = encoders
        self._creation = creation
        self._registry = registry
        self._subscriptions = subscriptions
        self._commits: set[asyncio.Task[None]] = set()

    async def create(self, call: Call) -> Response:
        """``POST /consumers/{group}``"""
        return Response(await self._creation.create(call, "v2"))

    async def delete(self, call: Call) -> Response:
        """``DELETE /consumers/{group}/instances/{instance}``: reads that wait answer with nothing."""
        await self._registry.remove(_key(call), call.session)
        return NO_CONTENT

    # --- subscription and assignment (§6.5) --------------------------------------------------------------------------

    async def subscribe(self, call: Call) -> Response:
        """``POST …/subscription``"""
        request: SubscriptionRequest = call.body
        async with self._use(call) as instance:
            if request.topics is not None:
                call.require("read", "topic", *request.topics)
                await self._subscriptions.subscribe(instance, request.topics)
            elif request.pattern is not None:
                await self._subscriptions.subscribe_pattern(instance, request.pattern)
            await self._registry.save(instance)
        return NO_CONTENT

    async def subscription(self, call: Call) -> Response:
        """``GET …/subscription``"""
        async with self._use(call) as instance:
            return Response(Topics(self._subscriptions.topics(instance)))

    async def unsubscribe(self, call: Call) -> Response:
        """``DELETE …/subscription``: drops a manual assignment, too."""
        async with self._use(call) as instance:
            await self._subscriptions.unsubscribe(instance)
            await self._registry.save(instance)
        return NO_CONTENT

    async def assign(self, call: Call) -> Response:
        """``POST …/assignments``"""
        async with self._use(call) as instance:
            call.require("read", "topic", *_topics(call.body))
            await self._subscriptions.assign(instance, call.body)
            await self._registry.save(instance)
        return NO_CONTENT

    async def assignments(self, call: Call) -> Response:
        """``GET …/assignments``"""
        async with self._use(call) as instance:
            partitions = await self._subscriptions.partitions(instance)
            return Response(Assignments([AssignedPartition(each.topic, each.partition) for each in partitions]))

    # --- positions (§6.6) --------------------------------------------------------------------------------------------

    async def seek(self, call: Call) -> Response:
        """``POST …/positions``: first all offsets, then all times."""
        request: PositionsRequest = call.body
        async with self._use(call) as instance:
            call.require("read", "topic", *_topics(request.offsets), *_topics(request.times))
            check_seekable(request.offsets)
            check_seekable(request.times)
            if request.offsets:
                await instance.consumer.seek(request.offsets)
            if request.times:
                await instance.consumer.seek_to_time(request.times)
            await self._registry.save(instance, moved=True)
        return NO_CONTENT

    async def seek_to_beginning(self, call: Call) -> Response:
        """``POST …/positions/beginning``; no partitions means all that are assigned."""
        partitions: list[TopicPartition] = call.body
        async with self._use(call) as instance:
            call.require("read", "topic", *_topics(partitions))
            check_seekable(partitions)
            if instance.reads_from != "nothing" or partitions:
                await instance.consumer.seek_to_beginning(partitions)
                await self._registry.save(instance, moved=True)
        return NO_CONTENT

    async def seek_to_end(self, call: Call) -> Response:
        """``POST …/positions/end``; no partitions means all that are assigned."""
        partitions: list[TopicPartition] = call.body
        async with self._use(call) as instance:
            call.require("read", "topic", *_topics(partitions))
            check_seekable(partitions)
            if instance.reads_from != "nothing" or partitions:
                await instance.consumer.seek_to_end(partitions)
                await self._registry.save(instance, moved=True)
        return NO_CONTENT

    # --- offsets (§6.7) ----------------------------------------------------------------------------------------------

    async def commit(self, call: Call) -> Response:
        """``POST …/offsets``: what was returned so far or, with a body, one more than each offset given.

        Of partitions that are gone nothing can be committed, and the rest is stored. Without a body the header
        ``Warning`` names them; who names one in a body is wrong, and gets Kafka's 50003.
        With ``async=true`` the answer does not wait for Kafka's; a failure is then in the log only.
        """
        given: list[PartitionOffset] | None = call.body if call.body != b"" else None
        async with self._use(call) as instance:
            offsets = None
            if given is not None:
                call.require("read", "topic", *_topics(given))
                illegal = [each.topic for each in given if not is_topic(each.topic)]
                if illegal:
                    raise invalid_topics(illegal)
                offsets = [each._replace(offset=each.offset + 1) for each in given]
            else:
                await instance.consumer.reads_settled()  # what its client has by now is part of it
                if instance.consumer.in_doubt:
                    raise KafkaError(_IN_DOUBT).with_help(_READ_AGAIN)
                if not instance.knows_what_was_returned:
                    raise KafkaError(_MOVED).with_help(_READ_AGAIN)
            if offsets != []:
                if call.query.get("async", "").lower() == "true":
                    self._commit_later(instance, offsets)
                else:
                    try:
                        await instance.consumer.commit(offsets)
                    except PartlyCommitted as gone:
                        if offsets is not None:
                            raise _not_stored(gone, given or ()) from gone
                        return Response([], headers=gone.headers)
        return Response([])

    async def committed(self, call: Call) -> Response:
        """``GET …/offsets``: the committed offsets of the partitions asked for, without those that have none."""
        asked: list[TopicPartition] = call.body
        async with self._use(call) as instance:
            call.require("describe", "topic", *_topics(asked))
            real = list(dict.fromkeys(real_partitions(asked)))
            found = {
                (each.topic, each.partition): each for each in (await instance.consumer.committed(real) if real else ())
            }
            return Response(
                CommittedOffsets(
                    [
                        CommittedOffset(each.topic, each.partition, stored.offset, stored.metadata)
                        for each in asked
                        if (stored := found.get((each.topic, each.partition))) is not None
                    ]
                )
            )

    def _commit_later(self, instance: ConsumerInstance, offsets: list[PartitionOffset] | None) -> None:
        async def commit() -> None:
            try:
                await instance.consumer.commit(offsets)
            except ServiceError as error:
                log.warning("an asynchronous commit of group %r failed: %s", instance.key.group, error.message)

        commit_task = asyncio.get_running_loop().create_task(commit())
        self._commits.add(commit_task)
        commit_task.add_done_callback(self._commits.discard)

    # --- records (§6.8) ----------------------------------------------------------------------------------------------

    async def read(self, call: Call) -> Response:
        """``GET …/records?timeout=<ms>&max_bytes=<n>&include=headers,timestamp``

        It answers as soon as there is a record (or more than ``fetch.min.bytes``, if that is set), and with an empty
        list when its time is up. ``timeout=0`` asks for what is there at this moment. ``include`` is ours, and may be
        a parameter of the media type in ``Accept`` instead.
        """
        timeout_ms = read_long(call.query, "timeout", -1)
        max_bytes = read_max_bytes(call.query, self._max_bytes)
        include = _included(call)
        async with self._use(call) as instance:
            limits = self.prepare(call, instance, max_bytes, timeout_ms)
            encoders = self._encoders
            encoder = encoders.wide(call.format, include) if include else encoders.get("v2", call.format)
            return await read_reply(call, instance, limits, encoder)

    def prepare(self, call: Call, instance: ConsumerInstance, max_bytes: int, timeout_ms: int = -1) -> ReadLimits:
        """Checks that the call may read from the instance, and says how much and how long: for ``timeout_ms`` at most,
        if that is not negative.

        Raises:
            FormatMismatch, NotSubscribed, KafkaRefused, NotAuthorized: looked for in this order.
        """
        codec = instance.codec
        if call.format != codec.name and (
            not codec.family or self._codecs[call.format].family != codec.family  # one family reads each other's
        ):
            raise format_mismatch(codec.name, "v2")
        if instance.reads_from == "nothing":
            raise NotSubscribed()
        if instance.illegal:
            raise invalid_topics(instance.illegal)
        instance.check_rights(call)
        timeout_s, group_s = instance.timeout_s, instance.group_s
        if timeout_ms >= 0:
            given_s = timeout_ms / 1000
            timeout_s, group_s = min(given_s, timeout_s), min(given_s, group_s)
        return ReadLimits(max_bytes, timeout_s, instance.min_bytes, group_s=group_s)

    def _use(self, call: Call) -> Use:
        return self._registry.use(_key(call), call.session)


def _not_stored(gone: PartlyCommitted, given: Sequence[PartitionOffset]) -> KafkaRetriable:
    """Of a commit of the ``given`` offsets: 50003 is what the contract has for it (§6.7), but nothing mends itself."""
    others = any((each.topic, each.partition) not in gone.partitions for each in given)
    rest = "The offsets of the others were stored" if others else "No offset was stored"
    return KafkaRetriable(f"{gone.message} {rest}; repeating it does not help.").with_help(PartlyCommitted.help)


def format_mismatch(format: str, generation: str) -> FormatMismatch:
    """The refusal of a read from an instance that was made for another format, which names the right one."""
    return FormatMismatch().with_help(
        f"This instance reads {format}: send Accept: application/vnd.kafka.{format}.{generation}+json, or create an "
        "instance with the format that you want."
    )


async def read_reply(call: Call, instance: ConsumerInstance, limits: ReadLimits, encoder: RecordsEncoder) -> Response:
    """The next records, which count as returned once the reply is on its client's connection (reliability.md F8)."""
    taken = await instance.read(limits, encoder, call.request.shortened)
    try:
        instance.check_rights(call)  # the rules may have changed while the read waited
    except NotAuthorized:
        taken.put_back()
        raise
    if not taken.batch.records:  # nobody need tell whether the client has them
        taken.confirm()
        return Response(taken.batch.encode(encoder))
    return Response(taken.batch.encode(encoder), settle=taken.settle, records=len(taken.batch))


def _included(call: Call) -> frozenset[str]:
    """The further members that rows are to have: of the query, else of the media type in ``Accept``."""
    wanted = call.query.get("include")
    if wanted is None and (accept := call.request.headers.get("accept")) is not None and "include" in accept.lower():
        wanted = accept_parameter(accept, call.media_type, "include")
    return read_include(wanted, INCLUDABLE) if wanted else frozenset()


def _topics(places: Iterable[TopicPartition | PartitionOffset]) -> list[str]:
    return list(dict.fromkeys(each.topic for each in places))


def _key(call: Call) -> InstanceKey:
    return InstanceKey("v2", str(call.params["group"]), str(call.params["instance"]))
