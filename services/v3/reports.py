"""What became of produced records, as v3 shows it (kafka-rest-http.md §7.10, §7.11)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.producing import Delivery, Stored
from kafka_gateway.kafka_errors import RecordTooLarge, UnknownTopicTimeout
from kafka_gateway.services.v3.records import Record

END = b"\r\n"
"""Stands behind every report."""
_LINE_BREAK = re.compile(r"\s*\n\s*")


class FailureReport(jsonio.Struct):
    error_code: int
    message: str


class BatchFailure(jsonio.Struct):
    id: str
    error_code: int
    message: str


class Reports:
    """The reports on records of one topic. A success is put together from a few texts, most of them made before."""

    __slots__ = ("_before", "_heads", "_millis", "_moment", "_second", "_second_text", "_topic")

    def __init__(self, cluster: str, topic: str) -> None:
        self._topic = topic
        names = f'"cluster_id":{jsonio.encode(cluster).decode()},"topic_name":{jsonio.encode(topic).decode()}'
        self._before = names + ',"partition_id":'
        self._heads: dict[int, str] = {}
        """By partition what stands before the offset."""
        self._millis = self._second = -1
        self._moment = self._second_text = ""

    def success(self, stored: Stored, record: Record) -> str:
        """The members of a success, without what stands before them, in braces or not."""
        partition, stamp = stored.partition() or 0, stored.timestamp()[1]
        if stamp != self._millis:
            self._millis, self._moment = stamp, self._timestamp(stamp)
        head = self._heads.get(partition) or self._head(partition)
        return f"{head}{stored.offset()}{self._moment}{record.key_shown}{record.value_shown}}}"

    def of(self, delivery: Delivery, record: Record) -> bytes:
        """The report on a record in a stream."""
        if isinstance(delivery, ServiceError):
            return self.failure(delivery)
        return f'{{"error_code":200,{self.success(delivery, record)}\r\n'.encode()

    def run(self, deliveries: Sequence[Delivery | None], records: Sequence[Record], begin: int, most: int) -> list[str]:
        """The reports on the records from place ``begin`` on, as far as they are known: so many at most."""
        found: list[str] = []
        heads, millis, moment = self._heads, self._millis, self._moment
        for at in range(begin, min(len(records), begin + most)):
            delivery = deliveries[at]
            if delivery is None:
                break
            if isinstance(delivery, ServiceError):
                found.append(self.failure(delivery).decode())
                continue
            record = records[at]
            # As in `success`: a call for each record would double the cost.
            stamp = delivery.timestamp()[1]
            if stamp != millis:
                self._millis, self._moment = millis, moment = stamp, self._timestamp(stamp)
            head = heads.get(partition := delivery.partition() or 0) or self._head(partition)
            found.append(
                f'{{"error_code":200,{head}{delivery.offset()}{moment}{record.key_shown}{record.value_shown}}}\r\n'
            )
        return found

    def _head(self, partition: int) -> str:
        head = self._heads[partition] = f'{self._before}{partition},"offset":'
        return head

    def failure(self, error: ServiceError) -> bytes:
        """The report on a record that is not stored, as far as is known."""
        return jsonio.encode(FailureReport(*code_and_message(error, self._topic))) + END

    def _timestamp(self, millis: int) -> str:
        """The member: ISO-8601 in UTC, with a fraction if it is not zero (§7.10)."""
        if millis < 0:  # Kafka has kept none
            millis = int(time.time() * 1000)
        second, fraction = divmod(millis, 1000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        text = f"{self._second_text}.{fraction:03d}" if fraction else self._second_text
        return f',"timestamp":"{text}Z"'


class DryRunReports(Reports):
    """The reports on records that are only judged: offset and time are null, and the partition where it is open."""

    __slots__ = ()

    def success(self, stored: Stored, record: Record) -> str:
        partition = stored.partition()
        shown = "null" if partition is None else partition
        return f'{self._before}{shown},"offset":null,"timestamp":null{record.key_shown}{record.value_shown}}}'

    def run(self, deliveries: Sequence[Delivery | None], records: Sequence[Record], begin: int, most: int) -> list[str]:
        found: list[str] = []
        for at in range(begin, min(len(records), begin + most)):
            if (delivery := deliveries[at]) is None:
                break
            found.append(self.of(delivery, records[at]).decode())
        return found


def code_and_message(error: ServiceError, topic: str) -> tuple[int, str]:
    """How a report shows a failure; the status of the whole response is 200 or 207 in any case."""
    if isinstance(error, RecordTooLarge):
        return 413, error.message
    if isinstance(error, (UnknownTopicTimeout, UnknownTopicOrPartition)):
        return 40401, f"Topic {topic}, or the partition, is not present in metadata: {error.message}"
    if error.status == 422:
        if error.error_code == 422:  # an unknown member concerns one record only here (§7.10)
            return 400, error.message
        # Upstream keeps the first line alone (§3.6), and the reason is in the lines behind it.
        return 422, f"Error: {error.error_code} : {_LINE_BREAK.sub(' ', error.message)}"
    return error.error_code, error.message
