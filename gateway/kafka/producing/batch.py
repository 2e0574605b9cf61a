"""The records of one send, and what has become of each.

Every request that produces makes a batch, so it does little: reports fill its rows on the poll thread of its sender,
which the loop sees when all are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import confluent_kafka
import msgspec

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.errors import kafka_error, to_delivery_error
from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.kafka.producing.refusals import Refused, may_go_again
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.records import RecordToSend


class BatchSender(Protocol):
    """The sender of a batch, as those see it who have the batch."""

    batch_bytes: int
    done: list[Batch]
    forbidden: KafkaAuthorization | None

    def send(self, batch: Batch, records: Sequence[RecordToSend], partition: int | None) -> bool: ...


class Batch(msgspec.Struct, eq=False):
    """The records of one ``send``. ``rows``, ``arrived`` and ``refused`` belong to the poll thread of its sender until
    all reports are there. A struct, because every request makes one."""

    topic: str
    rows: list[Any]
    """One a record, empty before its report."""
    expected: int
    """How many reports are to come."""
    cost_bytes: int
    sent_at: float
    future: asyncio.Future[list[Delivery]]
    """Or an `Outcome`, which is told in the same way."""
    sender: BatchSender
    transport: str
    """The transport by which the records came; empty outside of requests."""
    arrived: int = 0
    extras: dict[int, tuple[int, Any]] | None = None
    """Timestamps and headers, of records that have them: reports of failures do not tell them."""
    errors: list[str] | None = None
    """Names of what befell the records that Kafka did not take."""
    refused: list[Refused] | None = None
    """The records that Kafka has not stored and that may be sent again; their rows are empty."""

    def has_more_to_come(self) -> bool:
        """Whether some reports have not come yet: of one that is seen before it is complete, or was sent again."""
        return self.arrived < self.expected

    def restart(self, expected: int) -> None:
        """Counts records of it that are sent again."""
        self.arrived, self.expected = 0, expected

    def delivered(self, index: int, error: Any, message: Any) -> None:
        """The delivery report of one record; on the poll thread, so it does as little as it can."""
        self.rows[index] = message if error is None else self._outcome(index, error, message)
        self.arrived += 1
        if self.arrived == self.expected:
            self.sender.done.append(self)

    def delivered_alone(self, error: Any, message: Any) -> None:
        self.rows[0] = message if error is None else self._outcome(0, error, message)
        self.arrived = 1
        self.sender.done.append(self)

    def refuse(self, refused: Refused) -> None:
        """Keeps a record that may be sent again."""
        if self.refused is None:
            self.refused = []
        self.refused.append(refused)

    def note(self, error: str) -> None:
        """Counts a record that Kafka did not take."""
        if self.errors is None:
            self.errors = []
        self.errors.append(error)

    def _outcome(self, index: int, error: Any, message: Any) -> ServiceError | None:
        if error.code() == confluent_kafka.KafkaError._PURGE_QUEUE and self.sender.forbidden is not None:
            return of_topic(self.sender.forbidden, self.topic)
        failure = of_topic(to_delivery_error(error), self.topic)
        if message is not None and (refused := may_go_again(index, message, failure, error.code())) is not None:
            self.refuse(refused)
            return None
        self.note(error.name())
        return failure


class FollowedBatch(Batch, eq=False, kw_only=True):
    """A batch whose sender is told of reports as they come: once for all that come in one round of the poll thread."""

    progress: Callable[[], None]
    """Called on the loop when ``deliveries`` has changed, and not any more when it is complete."""
    has_news: bool = False
    is_seen: bool = False

    def __post_init__(self) -> None:
        self.future.add_done_callback(lambda done: self.progress())

    @property
    def deliveries(self) -> Sequence[Delivery | None]:
        """One a record; None for what is not known yet."""
        if not self.future.done():
            return self.rows
        error = self.future.exception()
        if error is None:
            return self.future.result()
        failure = error if isinstance(error, ServiceError) else to_delivery_error(Exception(str(error)))
        return [failure if row is None else row for row in self.rows]

    def has_more_to_come(self) -> bool:
        # In this order: a report that comes meanwhile sets the mark again.
        self.has_news = False
        if self.arrived < self.expected:
            if not self.future.done():
                self.progress()
            return True
        if self.is_seen:  # the mark was set once more while it was looked at: it is not to be finished twice
            return True
        self.is_seen = True
        return False

    def restart(self, expected: int) -> None:
        super().restart(expected)
        self.is_seen = False

    def delivered_alone(self, error: Any, message: Any) -> None:
        self.delivered(0, error, message)

    def delivered(self, index: int, error: Any, message: Any) -> None:
        self.rows[index] = message if error is None else self._outcome(index, error, message)
        self.arrived += 1
        if not self.has_news:
            self.has_news = True
            self.sender.done.append(self)


def of_topic(failure: ServiceError, topic: str) -> ServiceError:
    """A refusal of rights names the topic. librdkafka tells it behind a record, or knows it before."""
    if isinstance(failure, KafkaAuthorization):
        return KafkaAuthorization(f"{failure.message}: topic {topic}")
    return failure


def kafka_code(error: Exception) -> int:
    """Kafka's code of what was raised; 0 if it has none."""
    cause = kafka_error(error)
    return cause.code() if cause is not None else 0
