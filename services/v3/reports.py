"""What became of produced records, as v3 shows it (kafka-rest-http.md §7.10, §7.11)."""

from __future__ import annotations

import time

from kafka_gateway import jsonio
from kafka_gateway.errors import RecordTooLarge, ServiceError, UnknownTopicOrPartition, UnknownTopicTimeout
from kafka_gateway.kafka.ports.producing import Delivery, Stored
from kafka_gateway.services.v3.records import Record

END = b"\r\n"
"""Stands behind every report."""


class FailureReport(jsonio.Struct):
    error_code: int
    message: str


class BatchFailure(jsonio.Struct):
    id: str
    error_code: int
    message: str


class Reports:
    """The reports on records of one topic. A success is put together from its parts: it costs half a microsecond."""

    __slots__ = ("_middle", "_second", "_second_text", "_topic")

    def __init__(self, cluster: str, topic: str) -> None:
        self._topic = topic
        self._middle = b'"cluster_id":%b,"topic_name":%b,"partition_id":' % (
            jsonio.encode(cluster),
            jsonio.encode(topic),
        )
        self._second = -1
        self._second_text = b""

    def success(self, stored: Stored, record: Record) -> bytes:
        """The members of a success, without what stands before them, in braces or not."""
        return b'%b%d,"offset":%d,"timestamp":"%b"%b%b}' % (
            self._middle,
            stored.partition() or 0,
            stored.offset() or 0,
            self._timestamp(stored.timestamp()[1]),
            record.key_shown,
            record.value_shown,
        )

    def of(self, delivery: Delivery, record: Record) -> bytes:
        """The report on a record in a stream."""
        if isinstance(delivery, ServiceError):
            return self.failure(delivery)
        return b'{"error_code":200,%b\r\n' % self.success(delivery, record)

    def failure(self, error: ServiceError) -> bytes:
        """The report on a record that is not stored, as far as is known."""
        return jsonio.encode(FailureReport(*code_and_message(error, self._topic))) + END

    def _timestamp(self, millis: int) -> bytes:
        """ISO-8601 in UTC, with a fraction if it is not zero (§7.10)."""
        if millis < 0:  # Kafka has kept none
            millis = int(time.time() * 1000)
        second, fraction = divmod(millis, 1000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%03dZ" % (self._second_text, fraction) if fraction else self._second_text + b"Z"


def code_and_message(error: ServiceError, topic: str) -> tuple[int, str]:
    """How a report shows a failure; the status of the whole response is 200 or 207 in any case."""
    if isinstance(error, RecordTooLarge):
        return 413, error.message
    if isinstance(error, (UnknownTopicTimeout, UnknownTopicOrPartition)):
        return 40401, f"Topic {topic}, or the partition, is not present in metadata: {error.message}"
    if error.status == 422:
        if error.error_code == 422:  # an unknown member: here a matter of one record (§7.10)
            return 400, error.message
        first_line = error.message.partition("\n")[0]
        return 422, f"Error: {error.error_code} : {first_line}"
    return error.error_code, error.message
