"""How services send records to Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.records import RecordToSend
from kafka_gateway.rights import Rights


class Stored(Protocol):
    """A produced record that Kafka has confirmed: its place in the log."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]:
        """Its kind and epoch milliseconds: the producer's, or the broker's where the topic says so."""


Delivery = Stored | ServiceError
"""What became of one produced record."""


class Sending(Protocol):
    """Records on their way to Kafka."""

    @property
    def deliveries(self) -> Sequence[Delivery | None]:
        """One a record, in their order; None for what is not known yet."""


class SizeLimit(NamedTuple):
    """What the producer itself takes of a record, whatever its topic would."""

    record_max: int
    """Bytes as they are sent, not compressed; configured as producer.max.request.size."""
    compresses: bool
    """Whether records are compressed: then nobody knows before whether one is too large for its topic."""


Outcomes = Callable[[Sequence[tuple[int, "list[Delivery] | Exception"]]], None]
"""Gets what has become of some batches: the place of each among those that were sent together, and its deliveries."""


class Producer(Protocol):
    @property
    def size_limit(self) -> SizeLimit: ...

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        """Queues all records, in order, before it returns; the future has one Delivery a record, in the same order.

        ``partition`` is for records that name none. Batches sent one after the other reach a partition in that order.
        Raises TooManyRequests when the queue has no room for the batch (nothing of it was taken), Unavailable when the
        gateway stops. Cancelling the future does not recall the records.
        """

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Sending:
        """As ``send``, for at least one record; tells of each as soon as Kafka has confirmed it.

        ``progress`` is called on the event loop when more is known, not once a record.
        """

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        """None if records for this topic can be sent at once; else something to await first.

        ``rights``: those of whoever produces; EVERYTHING for what the gateway writes itself, and for whoever is asked
        for no right. They count where a topic is missing: with them it is made, without them NotAuthorized is raised.

        It raises BrokerNotAvailable, soon, when no broker has answered since the start; in a later outage records for
        topics that were there before are kept, and all of whoever may make topics. Only with
        auto.create.topics.enable=false, where unknown topics must not be produced to, it raises
        UnknownTopicOrPartition. Those who wait for one topic go on in the order in which they came.
        """

    def knows(self, topic: str) -> bool:
        """Whether ``ready`` would say None. Asks nobody, and nothing follows from it."""


class GatewayProducer(Producer, Protocol):
    """The producer that all clients share, or all with the same credentials."""

    def send_each(self, topic: str, batches: Sequence[Sequence[RecordToSend]], told: Outcomes) -> None:
        """As ``send`` for one batch after the other; raises nothing.

        ``told`` gets the deliveries of each batch, or why it has none, once, in later turns of the event loop; those
        that are complete at the same time together.
        """


class Transactions(Protocol):
    """A producer that makes a transaction of every record (websocket-proxy.md §2.8). Belongs to one client."""

    async def send(self, topic: str, record: RecordToSend) -> Stored:
        """The record's place, after its transaction was committed. ServiceError: it was aborted, and nothing more can
        be sent. Calls are carried out one after the other.
        """

    async def close(self) -> None: ...
