"""Refusals of Kafka behind which a record is as good as before: it is not stored, and may be sent again."""

from __future__ import annotations

from typing import NamedTuple

import confluent_kafka

from kafka_gateway.errors import ServiceError

_Code = confluent_kafka.KafkaError
_TOO_LARGE = (_Code.MSG_SIZE_TOO_LARGE, _Code.RECORD_LIST_TOO_LARGE)
"""How Kafka refuses a batch that is larger than max.message.bytes, or than segment.bytes: none of it is stored."""
_FAULTY = (_Code.INVALID_TIMESTAMP, _Code.INVALID_RECORD, _Code._INVALID_DIFFERENT_RECORD)
"""How it refuses a batch for one of its records: a time too far in the past or future
(message.timestamp.before.max.ms, message.timestamp.after.max.ms), no key for a compacted topic. None of it is stored.
"""
UNHEARD_OF = (_Code.UNKNOWN_TOPIC_OR_PART, _Code.UNKNOWN_TOPIC_ID, _Code._UNKNOWN_TOPIC)
"""How librdkafka fails a record whose topic the broker that it asked last does not know."""
_ALL = frozenset((*_TOO_LARGE, *_FAULTY, *UNHEARD_OF))


class Refused(NamedTuple):
    """A record of a batch that Kafka did not take: its place in what was sent, its content, and the refusal."""

    place: int
    record: confluent_kafka.Message
    error: ServiceError
    too_large: bool
    """The batch was."""
    unheard_of: bool
    """The topic was not known. If neither, one of the batch's records was faulty, this one or another."""


def may_go_again(place: int, record: confluent_kafka.Message, error: ServiceError, code: int) -> Refused | None:
    """The record that failed with this code of Kafka's; None if it is not to be sent again."""
    return Refused(place, record, error, code in _TOO_LARGE, code in UNHEARD_OF) if code in _ALL else None
