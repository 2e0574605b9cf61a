"""v1 consumer instances (kafka-rest-http.md §5.5 to §5.9): one topic each, subscribed to by the first read of it."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.errors import AlreadySubscribed, PartlyCommitted, TopicNotFound
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.services.common.names import TopicRules, is_topic
from kafka_gateway.services.common.query import read_max_bytes
from kafka_gateway.services.common.rows import RecordEncoders
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.services.instances.registry import InstanceRegistry, Use
from kafka_gateway.services.rest.bodies import CommittedV1
from kafka_gateway.services.rest.consumers import format_mismatch, read_reply
from kafka_gateway.services.rest.create_instance import Creation
from kafka_gateway.services.rest.v1_errors import v1_errors


class ConsumersV1:
    """The handlers of v1's consumer resources. All but ``create`` answer 40403 for an instance that is not there."""

    def __init__(
        self,
        config: Config,
        encoders: RecordEncoders,
        creation: Creation,
        registry: InstanceRegistry,
        rules: TopicRules,
        admin: Admin,
    ) -> None:
        self._max_bytes = config.integer("consumer.request.max.bytes")
        self._encoders = encoders
        self._creation = creation
        self._registry = registry
        self._rules = rules
        self._admin = admin

    async def create(self, call: Call) -> Response:
        """``POST /consumers/{group}``"""
        with v1_errors():
            return Response(await self._creation.create(call, "v1"))

    async def read(self, call: Call) -> Response:
        """``GET …/instances/{instance}/topics/{topic}?max_bytes=<n>``

        It collects records until its time is up or the size limit is met exactly (§5.6). A record larger than
        ``max_bytes`` stays for a read with more room: a published client reads with ``max_bytes=1`` to keep its
        instance, and throws the answer away. One that exceeds consumer.request.max.bytes comes alone, where 2.0.1 would
        be stuck for ever.
        """
        max_bytes = read_max_bytes(call.query, self._max_bytes)
        with v1_errors():
            async with self._use(call) as instance:
                limits = await self.prepare(call, instance, max_bytes)
                encoder = self._encoders.get("v1", call.format)
                return await read_reply(call, instance, limits, encoder)

    async def prepare(self, call: Call, instance: ConsumerInstance, max_bytes: int) -> ReadLimits:
        """Checks that the call may read from the instance, subscribes to its topic if it is the first, and says how
        much it may read.

        Raises:
            FormatMismatch, TopicNotFound, AlreadySubscribed: looked for in this order (§5.6).
        """
        topic = str(call.params["topic"])
        if call.format != instance.codec.name:
            raise format_mismatch(instance.codec.name, "v1")
        if instance.topics != (topic,):
            await self._subscribe(instance, topic)
        instance.check_rights(call)
        return ReadLimits(
            max_bytes,
            timeout_s=instance.timeout_s,
            min_bytes=None,
            inclusive=True,
            oversized=max_bytes >= self._max_bytes,
            group_s=instance.group_s,
        )

    async def commit(self, call: Call) -> Response:
        """``POST …/offsets``: commits what was returned, after the reads in flight, and lists it (§5.7)."""
        with v1_errors():
            async with self._use(call) as instance:
                await instance.reads_done()
                await instance.consumer.reads_settled()
                returned = instance.consumer.returned()
                if returned:
                    # These very offsets, and not "what was returned so far": another read may begin while Kafka works.
                    try:
                        await instance.consumer.commit(
                            [PartitionOffset(each.topic, each.partition, each.offset + 1) for each in returned]
                        )
                    except PartlyCommitted as gone:
                        left = [each for each in returned if (each.topic, each.partition) not in gone.partitions]
                        rows = [CommittedV1(each.topic, each.partition, each.offset, each.offset) for each in left]
                        return Response(rows, headers=gone.headers)
                return Response(
                    [CommittedV1(each.topic, each.partition, each.offset, each.offset) for each in returned]
                )

    async def delete(self, call: Call) -> Response:
        """``DELETE …/instances/{instance}``: after the reads in flight."""
        with v1_errors():
            await self._registry.remove(_key(call), call.session)
        return NO_CONTENT

    async def _subscribe(self, instance: ConsumerInstance, topic: str) -> None:
        if not is_topic(topic):
            raise TopicNotFound()
        if not (await self._admin.topic(topic)).partitions:
            raise TopicNotFound()
        refusal = self._rules.refusal(topic)
        if refusal is not None:
            raise refusal
        async with instance.lock:
            if instance.topics == (topic,):  # another first read was quicker
                return
            if instance.topics:
                raise AlreadySubscribed()
            await instance.consumer.subscribe([topic])
            instance.reads_from = "topics"
            instance.topics = (topic,)
            await self._registry.save(instance)

    def _use(self, call: Call) -> Use:
        return self._registry.use(_key(call), call.session)


def _key(call: Call) -> InstanceKey:
    return InstanceKey("v1", str(call.params["group"]), str(call.params["instance"]))
