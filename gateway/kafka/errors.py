"""Kafka's errors as ServiceErrors, by a table of codes and never by message text (kafka-rest-http.md §3.7, §11).

The classes say what a client may do about a failure; the services choose the REST code of a place where it differs
(RecordTooLarge is 413 for a v3 record and 50002 in a v2 row).
"""

from __future__ import annotations

from collections.abc import Iterable

import confluent_kafka

from kafka_gateway.errors import InstanceUnavailable, NotSupported, ServiceError, Unavailable, UnknownTopicOrPartition
from kafka_gateway.kafka_errors import (
    BrokerNotAvailable,
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaError,
    KafkaRefused,
    KafkaRetriable,
    KafkaThrottled,
    NotAMember,
    OutcomeUnknown,
    RecordTooLarge,
    UnknownTopicTimeout,
)

Code = confluent_kafka.KafkaError


_AUTHENTICATION = (Code._AUTHENTICATION, Code.SASL_AUTHENTICATION_FAILED, Code.UNSUPPORTED_SASL_MECHANISM)
_AUTHORIZATION = (
    Code.TOPIC_AUTHORIZATION_FAILED,
    Code.GROUP_AUTHORIZATION_FAILED,
    Code.CLUSTER_AUTHORIZATION_FAILED,
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    Code.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
)
_UNANSWERED = (Code._TIMED_OUT, Code._TRANSPORT, Code._ALL_BROKERS_DOWN, Code._RESOLVE)
"""No broker could be asked, or none has answered in time."""
_REFUSED = (
    Code.OFFSET_METADATA_TOO_LARGE,
    Code.TOPIC_EXCEPTION,  # Java's InvalidTopicException
    Code._INVALID_ARG,
    Code.INVALID_REPLICATION_FACTOR,
    Code.INVALID_PARTITIONS,
    Code.INVALID_REQUEST,
    Code.INVALID_CONFIG,
    Code.POLICY_VIOLATION,
    Code.TOPIC_ALREADY_EXISTS,
    Code.TOPIC_DELETION_DISABLED,
    Code.SECURITY_DISABLED,
    Code.INVALID_REPLICA_ASSIGNMENT,
    Code.UNSUPPORTED_VERSION,
    Code.UNKNOWN,  # Java's UnknownServerException
)
_UNKNOWN_TOPIC = (
    Code.UNKNOWN_TOPIC_OR_PART,
    Code.UNKNOWN_TOPIC_ID,
    Code._UNKNOWN_TOPIC,
    Code._UNKNOWN_PARTITION,
)
_RETRIABLE = (
    Code._WAIT_COORD,
    Code.LEADER_NOT_AVAILABLE,
    Code._TIMED_OUT_QUEUE,
    Code._WAIT_CACHE,
    Code._RETRY,
    Code._DESTROY,
    Code._DESTROY_BROKER,
    Code._ISR_INSUFF,
    Code._QUEUE_FULL,
    Code.NOT_ENOUGH_REPLICAS,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.NOT_LEADER_FOR_PARTITION,
    Code.REQUEST_TIMED_OUT,
    Code.NETWORK_EXCEPTION,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_COORDINATOR,
    Code.NOT_CONTROLLER,
    Code.KAFKA_STORAGE_ERROR,
    Code.OFFSET_NOT_AVAILABLE,
    Code.REPLICA_NOT_AVAILABLE,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
    Code.INVALID_MSG,  # Java's CorruptRecordException, which is retriable
    Code.UNSTABLE_OFFSET_COMMIT,
    # A rebalance took the partitions away: the client reads and commits again (§6.7).
    Code.REBALANCE_IN_PROGRESS,
    Code._ASSIGNMENT_LOST,
    Code.THROTTLING_QUOTA_EXCEEDED,
)
_FATAL = (Code._FATAL, Code._FENCED, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH)
_REPLACED = "A Kafka client of the gateway has failed and is replaced; the request can be sent again."
_PLACE_TAKEN = (Code._FATAL, Code._FENCED, Code.FENCED_INSTANCE_ID)
"""What a consumer is answered whose place in its group another one has: first by Kafka, and then by librdkafka."""


def _table(*entries: tuple[type[ServiceError], Iterable[int]]) -> dict[int, type[ServiceError]]:
    return {code: error for error, codes in entries for code in codes}


CLASSES: dict[int, type[ServiceError]] = _table(
    (KafkaRetriable, _RETRIABLE),
    (KafkaAuthentication, _AUTHENTICATION),
    (KafkaAuthorization, _AUTHORIZATION),
    (BrokerNotAvailable, (*_UNANSWERED, Code.BROKER_NOT_AVAILABLE)),
    (KafkaRefused, _REFUSED),
    (RecordTooLarge, (Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE, Code.INVALID_MSG_SIZE)),
    (UnknownTopicOrPartition, _UNKNOWN_TOPIC),
    (NotAMember, (Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION)),
    (KafkaThrottled, (Code.THROTTLING_QUOTA_EXCEEDED,)),
    (NotSupported, (Code._UNSUPPORTED_FEATURE, Code._NOT_IMPLEMENTED)),
    (OutcomeUnknown, (Code._MSG_TIMED_OUT,)),
    # The client object is broken and is being replaced (reliability.md §3a): another request will find a new one.
    (Unavailable, _FATAL),
)
"""What a code means for a request. Other codes: KafkaRetriable if librdkafka calls them so, else KafkaError."""

_OF_A_RECORD: dict[int, type[ServiceError]] = _table(
    (UnknownTopicTimeout, _UNKNOWN_TOPIC),
    # No broker answered while the record was on its way, or the gateway threw it away with the request sent: it may be
    # in the log (reliability.md §3a, §3h: REQUEST_TIMED_OUT came with an offset).
    (
        OutcomeUnknown,
        (
            Code._MSG_TIMED_OUT,
            Code._TRANSPORT,
            Code._ALL_BROKERS_DOWN,
            Code._PURGE_INFLIGHT,
            Code.REQUEST_TIMED_OUT,
            Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ),
    ),
    (KafkaRetriable, (Code._PURGE_QUEUE, Code._RESOLVE, Code._TIMED_OUT, Code.BROKER_NOT_AVAILABLE)),
)


def to_service_error(error: confluent_kafka.KafkaError | Exception) -> ServiceError:
    """What a failed request of Kafka's is to the client.

    Takes what confluent_kafka gives: a KafkaError, a KafkaException around one, or the ValueError/TypeError/BufferError
    that the binding raises in its stead. A ServiceError comes back as it is.
    """
    if isinstance(error, ServiceError):
        return error
    cause = kafka_error(error)
    if cause is None:
        # BufferError is a full queue (reliability.md §3e: no KafkaException), anything else a wrong call.
        return KafkaRetriable(str(error)) if isinstance(error, BufferError) else KafkaError(f"Kafka error: {error}")
    found = CLASSES.get(cause.code())
    if found is UnknownTopicOrPartition:
        return found()  # librdkafka's codes for it differ in text only; Java's text is the one that clients know
    if found is Unavailable:
        return found(_REPLACED)  # librdkafka's text is about a client that no other request will meet; the log has it
    if found is None:
        found = KafkaRetriable if cause.retriable() else KafkaError
    text = describe(cause)
    return found(f"No Kafka broker has answered: {text}" if cause.code() in _UNANSWERED else text)


def to_consumer_error(error: confluent_kafka.KafkaError | Exception) -> ServiceError:
    """As `to_service_error`, of what was asked of a consumer. Has another one its place in the group, it is not
    available, whatever was asked and whoever says so first: the next request finds it elsewhere, or opens it again
    (cluster.md §6.4)."""
    cause = kafka_error(error)
    if cause is not None and (cause.fatal() or cause.code() in _PLACE_TAKEN):
        return InstanceUnavailable()
    return to_service_error(error)


def to_delivery_error(error: confluent_kafka.KafkaError | Exception) -> ServiceError:
    """What a failed record is to its sender: as `to_service_error`, but telling whether it may have been stored."""
    cause = kafka_error(error)
    found = _OF_A_RECORD.get(cause.code()) if cause is not None else None
    if cause is None or found is None:
        return to_service_error(error)
    text = describe(cause)
    return found(f"{text}; the record may have been stored" if found is OutcomeUnknown else text)


def kafka_error(error: object) -> confluent_kafka.KafkaError | None:
    """The KafkaError in what confluent_kafka raised or returned."""
    if isinstance(error, confluent_kafka.KafkaException):
        error = error.args[0] if error.args else None
    return error if isinstance(error, confluent_kafka.KafkaError) else None


def describe(error: confluent_kafka.KafkaError) -> str:
    """Kafka's own text after the name of the code, which is what people search for: ``NOT_ENOUGH_REPLICAS: …``."""
    return f"{error.name()}: {error.str()}"
