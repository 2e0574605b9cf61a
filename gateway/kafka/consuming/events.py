"""What librdkafka's events mean for a consumer: the one table of codes, for every consumer of the gateway."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from confluent_kafka import KafkaError as Code


class Event(enum.Enum):
    """What `Consumer.consume` has returned in the place of a record."""

    PASSES = enum.auto()
    """Brokers are away for the moment; librdkafka goes on trying."""
    MISSING = enum.auto()
    """A topic or partition is unknown: it yields no records, and may come to be (kafka-rest-http.md §6.8)."""
    COORDINATOR = enum.auto()
    """The group's coordinator was not found where it was. librdkafka asks it once where partitions start; was that in
    vain, they stay silent for good (its issue 5586, 2.16)."""
    END = enum.auto()
    """The end of a partition (``enable.partition.eof``)."""
    NO_POSITION = enum.auto()
    """Nothing is there at the position, and ``auto.offset.reset`` says that this is an error: the partition stands
    still until it gets another position (reliability.md §3d)."""
    FAILURE = enum.auto()
    """Kafka refuses; whoever reads is told."""


def _table(*entries: tuple[Event, Iterable[int]]) -> dict[int, Event]:
    return {code: event for event, codes in entries for code in codes}


_MEANING = _table(
    (
        Event.PASSES,
        (
            Code._ALL_BROKERS_DOWN,
            Code._TRANSPORT,
            Code._RESOLVE,
            Code._TIMED_OUT,
            # The client was not polled for long; the next poll joins the group again.
            Code._MAX_POLL_EXCEEDED,
        ),
    ),
    (
        Event.MISSING,
        (Code.UNKNOWN_TOPIC_OR_PART, Code.UNKNOWN_TOPIC_ID, Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION),
    ),
    (
        Event.COORDINATOR,
        (
            Code.NOT_COORDINATOR,
            Code.COORDINATOR_NOT_AVAILABLE,
            Code.COORDINATOR_LOAD_IN_PROGRESS,
            Code._WAIT_COORD,
        ),
    ),
    (Event.END, (Code._PARTITION_EOF,)),
    (
        Event.NO_POSITION,
        (Code._AUTO_OFFSET_RESET, Code._NO_OFFSET, Code.OFFSET_OUT_OF_RANGE, Code._LOG_TRUNCATION),
    ),
)


def meaning_of(code: int) -> Event:
    """What an event with this code of librdkafka means; FAILURE for all that the table does not name."""
    return _MEANING.get(code, Event.FAILURE)
