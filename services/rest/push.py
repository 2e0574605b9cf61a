"""Push subscriptions (atmosphere-binding.md §2, kafka-rest-http.md §8, streams.md §1): records sent as they come.

An instance has one subscription at most; a newer one replaces it, on whatever connection, and begins with what the
older one did not deliver. Reads, commits and all else on the instance go on meanwhile; each record goes to one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.dialect import REST
from kafka_gateway.errors import AlreadySubscribed, InstanceNotFound, ServiceError, UpgradeRequired
from kafka_gateway.kafka.ports.consuming import ReadLimits
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.services.common.query import read_max_bytes
from kafka_gateway.services.common.rows import RecordEncoders
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.services.instances.instance_stream import InstanceStream
from kafka_gateway.services.instances.push_stream import PushStream
from kafka_gateway.services.instances.registry import InstanceRegistry, Use
from kafka_gateway.services.rest.consumers import Consumers
from kafka_gateway.services.rest.v1_consumers import ConsumersV1
from kafka_gateway.services.rest.v1_errors import to_v1, v1_errors
from kafka_gateway.services.streams.parameters import OF_INSTANCES, read_parameters
from kafka_gateway.services.streams.service import Streams


class Pushes:
    """The handlers below ``/ws``. All answer 40403 for an instance that is not there.

    A subscription answers a Stream. What cannot be subscribed to is refused before, with one reply (§2.4).
    """

    def __init__(
        self,
        config: Config,
        encoders: RecordEncoders,
        registry: InstanceRegistry,
        consumers: Consumers,
        consumers_v1: ConsumersV1,
        streams: Streams,
    ) -> None:
        self._max_bytes = config.integer("consumer.request.max.bytes")
        self._registry = registry
        self._encoders = encoders
        self._consumers = consumers
        self._consumers_v1 = consumers_v1
        self._streams = streams

    async def subscribe_v1(self, call: Call) -> Response:
        """``GET /ws/consumers/{group}/instances/{instance}/topics/{topic}?max_bytes=<n>``

        Plain HTTP can have it as an event stream.
        """
        if call.media_type == media.EVENTS:
            with v1_errors():
                async with self._use("v1", call) as instance:
                    call.format = instance.codec.name
                    max_bytes = read_max_bytes(call.query, self._max_bytes)
                    return self._events(
                        call, instance, await self._consumers_v1.prepare(call, instance, max_bytes), to_v1
                    )
        max_bytes = self._max_bytes_of(call)
        with v1_errors():
            async with self._use("v1", call) as instance:
                ends = instance.push_ends
                limits = await self._consumers_v1.prepare(call, instance, max_bytes)
                response = _start(instance, call, limits, self._encoders.get("v1", call.format), to_v1)
                if instance.push is not None and instance.push_ends != ends:  # a DELETE that was sent later was quicker
                    instance.push.end()
                return response

    async def unsubscribe_v1(self, call: Call) -> Response:
        """``DELETE /ws/consumers/{group}/instances/{instance}/topics/{topic}``, from any connection."""
        with v1_errors():
            async with self._use("v1", call) as instance:
                if instance.topics and instance.topics != (str(call.params["topic"]),):
                    raise AlreadySubscribed()
                return await _end(instance)

    async def read(self, call: Call) -> Response:
        """``GET /consumers/{group}/instances/{instance}/records``: a read, or an event stream if that is accepted."""
        if call.media_type != media.EVENTS:
            return await self._consumers.read(call)
        async with self._use("v2", call) as instance:
            call.format = instance.codec.name
            max_bytes = read_max_bytes(call.query, self._max_bytes)
            return self._events(call, instance, self._consumers.prepare(call, instance, max_bytes))

    def _events(
        self,
        call: Call,
        instance: ConsumerInstance,
        limits: ReadLimits,
        translate: Callable[[ServiceError], ServiceError] = lambda error: error,
    ) -> Response:
        """The instance's records as a stream, in the format of the instance (streams.md §1)."""
        request = call.request
        parameters = read_parameters(request.query, request.headers, call.format, (call.format,), OF_INSTANCES)
        if request.method == "HEAD":
            return Response(b"")
        encoder = self._streams.encoders.get(call.format, call.format)
        stream = InstanceStream(
            instance, limits, encoder, parameters.heartbeat_s, translate, lambda: self._streams.stopping
        )
        return _begin(instance, stream)

    async def subscribe(self, call: Call) -> Response:
        """``GET /ws/consumers/{group}/instances/{instance}/records?max_bytes=<n>``: what a v2 instance reads."""
        max_bytes = self._max_bytes_of(call)
        async with self._use("v2", call) as instance:
            limits = self._consumers.prepare(call, instance, max_bytes)
            return _start(instance, call, limits, self._encoders.get("v2", call.format))

    async def unsubscribe(self, call: Call) -> Response:
        """``DELETE /ws/consumers/{group}/instances/{instance}/records``, from any connection."""
        async with self._use("v2", call) as instance:
            return await _end(instance)

    def _max_bytes_of(self, call: Call) -> int:
        if call.request.one_reply or call.request.method == "HEAD":
            raise UpgradeRequired()
        return read_max_bytes(call.query, self._max_bytes)

    def _use(self, generation: str, call: Call) -> Use:
        key = InstanceKey(generation, str(call.params["group"]), str(call.params["instance"]))
        return self._registry.use(key, call.session)


def _start(
    instance: ConsumerInstance,
    call: Call,
    limits: ReadLimits,
    encoder: RecordsEncoder,
    translate: Callable[[ServiceError], ServiceError] = lambda error: error,
) -> Response:
    # The first reply comes as soon as there is a record, whatever plain reads of the instance wait for (§2.3).
    limits = dataclasses.replace(limits, min_bytes=-1)
    return _begin(instance, PushStream(instance, limits, encoder, call.request.dialect or REST, translate))


def _begin(instance: ConsumerInstance, stream: PushStream) -> Response:
    """The stream is the instance's subscription from now on."""
    older = instance.push
    if older is not None:
        older.end()  # nothing to wait for: no read is served before the records that it has are settled
    instance.push = stream
    if instance.closed:  # while the topic was looked up
        stream.end()
        raise InstanceNotFound()
    return Response(stream)


async def _end(instance: ConsumerInstance) -> Response:
    instance.push_ends += 1
    if instance.push is not None:
        instance.push.end()
        await instance.push.settled()  # so that after this answer nothing is pushed (§2.5)
    return NO_CONTENT
