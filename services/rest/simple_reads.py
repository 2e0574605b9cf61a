"""Reading a partition directly, v1 only (kafka-rest-http.md §5.4): no group, no instance, nothing committed."""

from __future__ import annotations

from kafka_gateway.errors import LeaderNotAvailable
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.consuming import Reader
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.common.query import read_long
from kafka_gateway.services.common.rows import RecordEncoders
from kafka_gateway.services.rest.partitions import find_partition
from kafka_gateway.services.rest.topics import find_topic_v1
from kafka_gateway.services.rest.v1_errors import v1_errors

_COUNT_MAX = 2**31 - 1


class SimpleReads:
    """The handler of ``GET /topics/{topic}/partitions/{partition}/messages``."""

    def __init__(self, reader: Reader, admin: Admin, encoders: RecordEncoders, rules: TopicRules) -> None:
        self._reader = reader
        self._admin = admin
        self._encoders = encoders
        self._rules = rules

    async def read(self, call: Call) -> Response:
        """Up to ``count`` records (1) from ``offset`` (0) on; fewer, or none, at the end of the log.

        Raises:
            TopicNotFound, PartitionNotFound, LeaderNotAvailable: 40401, 40402, 40404.
            OffsetOutOfRange: 50002, for an offset that is not in the log.
            KafkaError: 50002.
        """
        offset = read_long(call.query, "offset", 0)
        count = read_long(call.query, "count", 1)
        encoder = self._encoders.get("v1", call.format)
        with v1_errors():
            info = await find_topic_v1(self._admin, str(call.params["topic"]))
            partition = find_partition(info, call.params["partition"])
        refusal = self._rules.refusal(info.name)
        if refusal is not None:
            raise refusal  # no error of Kafka's
        with v1_errors():
            if partition.leader < 0:
                raise LeaderNotAvailable()
            if count <= 0:
                return Response([])
            batch = await self._reader.fetch(info.name, partition.partition, offset, min(count, _COUNT_MAX), encoder)
            return Response(batch.encode(encoder), records=len(batch))
