"""Producing records, v1 and v2 (kafka-rest-http.md §5.3, §6.3).

On the way of a request nothing is awaited before ``send`` when Kafka is ready for the topic: that keeps the records of
one connection in their order.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka_gateway.errors import ServiceError, TopicNotFound, UnknownTopicOrPartition, Unprocessable
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.producing import Delivery, GatewayProducer
from kafka_gateway.kafka_errors import KafkaAuthentication, KafkaAuthorization, KafkaError, KafkaRetriable
from kafka_gateway.messages import Call, Response
from kafka_gateway.records import RecordToSend
from kafka_gateway.router import TakesOutcomes
from kafka_gateway.services.common.dry_run import DryRunProducer, is_dry
from kafka_gateway.services.common.names import TopicRules, is_topic
from kafka_gateway.services.rest.bodies import Produced, ProduceReply
from kafka_gateway.services.rest.partitions import find_partition
from kafka_gateway.services.rest.schema_bodies import SchemaRecords
from kafka_gateway.services.rest.topics import find_topic_v1
from kafka_gateway.services.rest.v1_errors import to_v1, v1_errors
from kafka_gateway.session import Session


class RecordsService:
    """The handlers of ``POST /topics/{topic}`` and ``POST /topics/{topic}/partitions/{partition}``.

    ``call.body`` is what services.rest.produce_bodies.RecordsReader makes of the body.
    """

    def __init__(self, producer: GatewayProducer, admin: Admin, rules: TopicRules, dry_run: DryRunProducer) -> None:
        self._producer = producer
        self._rules = rules
        self._partitions = _KnownPartitions(admin)
        self._dry_run = dry_run
        self.to_topic_at_once = ToTopicAtOnce(producer, rules, _reply_v2)
        self.to_topic_v1_at_once = ToTopicAtOnceV1(producer, rules, _reply_v1)

    async def to_topic(self, call: Call) -> Response:
        """``POST /topics/{topic}`` of v2"""
        return _reply_v2(await self._send(str(call.params["topic"]), call, None), call.body)

    async def to_partition(self, call: Call) -> Response:
        """``POST /topics/{topic}/partitions/{partition}`` of v2; a record's own partition beats the path's."""
        partition: int = call.params["partition"]
        if partition < 0:
            raise Unprocessable(f"The partition must be greater than or equal to 0 (was {partition})")
        return _reply_v2(await self._send(str(call.params["topic"]), call, partition), call.body)

    async def to_topic_v1(self, call: Call) -> Response:
        """``POST /topics/{topic}`` of v1"""
        with v1_errors():
            return _reply_v1(await self._send(str(call.params["topic"]), call, None), call.body)

    async def to_partition_v1(self, call: Call) -> Response:
        """``POST /topics/{topic}/partitions/{partition}`` of v1: 40402 if the topic exists without that partition."""
        topic, partition = str(call.params["topic"]), call.params["partition"]
        with v1_errors():
            if is_topic(topic) and not self._partitions.has(topic, partition):
                await self._partitions.look_up(topic, partition)
            return _reply_v1(await self._send(topic, call, partition), call.body)

    async def _send(self, topic: str, call: Call, partition: int | None) -> Sequence[Delivery]:
        records: Sequence[RecordToSend] = call.body
        producer = self._dry_run if call.query and is_dry(call.query) else self._producer
        if isinstance(records, SchemaRecords):
            records.check(call.session.rights)
        refusal = self._rules.refusal(topic)
        if refusal is not None:
            return [refusal] * len(records)
        waiting = producer.ready(topic, call.session.rights)
        if waiting is not None:
            await waiting
        if isinstance(records, SchemaRecords) and records.refused is not None:
            return records.refused
        return await producer.send(topic, records, partition)


_KNOWN_MAX = 10_000
_LOOKED_AT_S = 0.2
"""How often the producer is told that a topic is used: it keeps what it knows of those fresh."""


class ToTopicAtOnce:
    """``POST /topics/{topic}`` in two halves (gateway/at_once.py), for topics that are known."""

    def __init__(
        self, producer: GatewayProducer, rules: TopicRules, reply: Callable[[Sequence[Delivery], object], Response]
    ) -> None:
        self._producer, self._rules, self._reply = producer, rules, reply
        self._ready_until: dict[str, float] = {}
        """Topics that were found ready just now."""

    def is_ready(self, params: Mapping[str, Any]) -> bool:
        topic = params["topic"]
        if self._ready_until.get(topic, 0.0) > time.monotonic():
            return True
        return self._producer.knows(topic) and self._rules.refusal(topic) is None

    def begin(
        self, params: Mapping[str, Any], session: Session, bodies: Sequence[Sequence[RecordToSend]], told: TakesOutcomes
    ) -> None:
        topic, producer = params["topic"], self._producer
        now = time.monotonic()
        if self._ready_until.get(topic, 0.0) <= now:
            if len(self._ready_until) >= _KNOWN_MAX:
                self._ready_until.clear()
            self._ready_until[topic] = now + _LOOKED_AT_S
            producer.ready(topic, session.rights)  # notes that it is used
        producer.send_each(topic, bodies, told)

    def end(self, result: Sequence[Delivery] | Exception) -> Response:
        if isinstance(result, Exception):
            raise result
        return self._reply(result, None)


class ToTopicAtOnceV1(ToTopicAtOnce):
    """The same of v1."""

    def end(self, result: Sequence[Delivery] | Exception) -> Response:
        try:
            return super().end(result)
        except ServiceError as error:
            raise to_v1(error) from error


def _reply_v2(deliveries: Sequence[Delivery], records: object) -> Response:
    """Status 401 or 403 if some record was refused with it, though the others may be stored (§6.3)."""
    codes: set[int] = set()
    rows = [
        _failed_v2(each, codes) if isinstance(each, ServiceError) else Produced(each.partition(), each.offset())
        for each in deliveries
    ]
    status = 401 if KafkaAuthentication.error_code in codes else 403 if KafkaAuthorization.error_code in codes else 200
    return Response(_reply(rows, records), status, records=len(rows))


def _reply(rows: list[Produced], records: object) -> ProduceReply:
    if isinstance(records, SchemaRecords):
        return ProduceReply(rows, records.key_schema_id, records.value_schema_id)
    return ProduceReply(rows)


def _failed_v2(error: ServiceError, codes: set[int]) -> Produced:
    _check_kafkas(error)
    code = error.error_code if isinstance(error, (KafkaAuthentication, KafkaAuthorization)) else _code(error)
    codes.add(code)
    return Produced(None, None, code, error.message)


def _reply_v1(deliveries: Sequence[Delivery], records: object) -> Response:
    rows = [
        _failed_v1(each) if isinstance(each, ServiceError) else Produced(each.partition(), each.offset())
        for each in deliveries
    ]
    return Response(_reply(rows, records), records=len(rows))


def _failed_v1(error: ServiceError) -> Produced:
    _check_kafkas(error)
    return Produced(None, None, _code(error), error.message)


def _code(error: ServiceError) -> int:
    """50003 for what may succeed when it is sent again, 50002 for the rest, such as a record that is too large."""
    again = error.retriable or isinstance(error, UnknownTopicOrPartition)
    return KafkaRetriable.error_code if again else KafkaError.error_code


def _check_kafkas(error: ServiceError) -> None:
    """Raises a failure that is not Kafka's: it fails the whole request (§5.3)."""
    if type(error) is ServiceError:
        raise ServiceError("Unexpected non-Kafka exception returned by Kafka")


_KNOWN_FOR_S = 60.0


class _KnownPartitions:
    """How many partitions topics had recently. A topic's number only grows, unless it is deleted and made again."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def has(self, topic: str, partition: int) -> bool:
        """Whether the partition was there not long ago."""
        count, until = self._counts.get(topic, (0, 0.0))
        return 0 <= partition < count and time.monotonic() < until

    async def look_up(self, topic: str, partition: int) -> None:
        """PartitionNotFound if Kafka has the topic and not the partition; a topic that is not there may be created."""
        try:
            info = await find_topic_v1(self._admin, topic)
        except TopicNotFound:
            self._counts.pop(topic, None)
            return
        find_partition(info, partition)
        self._counts[topic] = (len(info.partitions), time.monotonic() + _KNOWN_FOR_S)
        if len(self._counts) > _KNOWN_MAX:
            self._counts.popitem(last=False)
