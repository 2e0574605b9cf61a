"""What Kafka answers, as errors that a client is told (kafka-rest-http.md §3.7).

`gateway.kafka.errors` makes them of Kafka's codes; whoever handles one by itself catches it by these classes.
"""

from __future__ import annotations

from kafka_gateway.errors import BadRequest, PayloadTooLarge, ServiceError, TooManyRequests, Unavailable


class KafkaRefused(BadRequest):
    error_code, text = 40002, "Kafka refused the request."
    help = "Correct what the message names: a topic, a setting or a parameter. The same request would fail again."


class KafkaAuthentication(ServiceError):
    status, error_code, text = 401, 40101, "Authentication to Kafka failed."
    help = "Correct the user and password that are shown to Kafka: your own, or the operator's in client.sasl.*."


class KafkaAuthorization(ServiceError):
    status, error_code, text = 403, 40301, "Not authorized."
    help = "Ask for this right: the message names what refuses, Kafka's ACLs or a setting of the gateway."


class RecordTooLarge(PayloadTooLarge):
    text = "The record is too large."
    help = "Send smaller records, or have max.message.bytes of the topic raised."


class KafkaThrottled(TooManyRequests):
    error_code, text = 42901, "Kafka throttles this client."
    help = "Wait for the seconds in Retry-After, then send it again; the quota is set in Kafka."


class KafkaError(ServiceError):
    status, error_code, text = 500, 50002, "Kafka error"
    help = "Correct what Kafka's reason in the message names: the same request would fail again."


class OffsetOutOfRange(KafkaError):
    """A read of v1 from an offset that the partition does not have (§5.4)."""

    text = "Kafka error: Fetch response contains an error code: 1"
    help = "The partition has no such offset: begin between its first record and its end; 0 where nothing was deleted."


class NotAMember(KafkaError):
    """A commit for a group whose partitions belong to others: its members, or a member that has taken over."""

    help = "Read again: what was not committed comes once more, here or at the member that has the partitions now."


class KafkaRetriable(ServiceError):
    status, error_code, retriable, text = 500, 50003, True, "Kafka error; the request can be retried"
    help = "Send it again in a moment."


class UnknownTopicTimeout(KafkaRetriable):
    """The topic or partition did not appear in time (`topic.metadata.propagation.max.ms`); it may be on its way.

    Java's producer waits for metadata here and reports a retriable timeout: 50003 in the rows of v1 and v2 and
    40401 in v3 (kafka-rest-http.md §3.7 "not present in metadata", §11 "Unknown topic on produce").
    """

    text = "The topic or partition is not known to Kafka."
    help = "GET /topics lists the topics: mind the spelling, create the topic, or send it again in a moment."


class OutcomeUnknown(KafkaRetriable):
    """The time is up and nobody knows whether the record is in Kafka: it may be stored once, or not at all."""

    text = "The delivery timed out; its outcome is unknown: the record may have been stored."
    help = "If storing it twice does harm, look whether it was stored before you send it again."


class PartitionTrouble(OutcomeUnknown):
    """Kafka says why it does not take the record now: no leader, too few replicas. It may have been stored even so."""


class BrokerNotAvailable(Unavailable):
    error_code, text = 50302, "No Kafka broker can be reached."
    help = "Wait and send it again; the operator finds the reason with kafka-gateway --check."
