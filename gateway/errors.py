"""The errors that a client may be told about, and the reasons for which its session ends.

Services raise a :class:`ServiceError`; a dialect renders it, once, on every transport. ``status`` is the HTTP status,
``error_code`` the finer code of the REST API (kafka-rest-http.md §3.6). Ending a session is another thing than
answering a request with an error: that is a :class:`CloseReason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kafka_gateway.close_reasons import FAILED as FAILED
from kafka_gateway.close_reasons import GONE as GONE
from kafka_gateway.close_reasons import IDLE as IDLE
from kafka_gateway.close_reasons import NO_MEMORY as NO_MEMORY
from kafka_gateway.close_reasons import SHUTDOWN as SHUTDOWN
from kafka_gateway.close_reasons import SLOW as SLOW
from kafka_gateway.close_reasons import CloseReason as CloseReason
from kafka_gateway.service_error import ServiceError as ServiceError

# --- the request itself ----------------------------------------------------------------------------------------------


class BadRequest(ServiceError):
    status, error_code, text = 400, 400, "HTTP 400 Bad Request"
    help = "Correct what the message names; the same request would fail again."


class Unauthorized(ServiceError):
    status, error_code, text = 401, 401, "HTTP 401 Unauthorized"
    help = "Send what WWW-Authenticate names: Authorization, with the right user or a token that is still valid."

    def __init__(self, message: str | None = None, challenge: str = "") -> None:
        super().__init__(message)
        self._challenge = challenge

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("WWW-Authenticate", self._challenge),) if self._challenge else ()


class ProofEnded(Unauthorized):
    """What a stream or a socket of a client is told whose proof of identity has ended (security.md §2)."""

    error_code, text = 40101, "The proof of identity is not valid any more."
    help = "Show a proof that is valid, then open it again."


class NotJudged(ServiceError):
    """An authenticator has failed over a proof: a fault of its own, and the client is not let in."""

    text = "The proof of identity could not be judged, because the authenticator failed."


class KafkaLoginRefused(Unauthorized):
    """Kafka does not take the credentials that the client shows for it (security.md §4)."""

    error_code, text = 40101, "Authentication to Kafka failed: it does not accept these credentials."
    help = "Send the user and password of a Kafka user, or a token that Kafka takes."


class Forbidden(ServiceError):
    status, error_code, text = 403, 403, "HTTP 403 Forbidden"
    help = "Ask the operator to allow what the message names."


class NotAuthorized(Forbidden):
    """The principal may not do that (security.md §3); gateway.rights.not_authorized says what."""

    error_code, text = 40301, "Not authorized."
    help = "Ask the operator for this right; kafka-gateway --may tells which rule decides."

    def __init__(self, message: str | None = None, need: tuple[str, str, str] | None = None) -> None:
        super().__init__(message)
        self.need = need


class HostNotAllowed(Forbidden):
    """The gateway does not answer under the name of the host that the client asked for (gateway/door/host_names.py)."""

    help = "Ask for 127.0.0.1 or localhost; or the operator lists the name in host.allowed."


class NotFound(ServiceError):
    """The path is one that the gateway serves; what it names is not there."""

    status, error_code, text = 404, 404, "HTTP 404 Not Found"
    help = "The path is right, but what it names is not there: mind the spelling, or GET the list that it belongs to."


class NoRoute(NotFound):
    """No resource is served under this path, for this client."""

    help = "Compare the path with those in GET /openapi.json; the operator may have switched the resource off."


class MethodNotAllowed(ServiceError):
    status, error_code, text = 405, 405, "HTTP 405 Method Not Allowed"
    help = "Use one of the methods in Allow."

    def __init__(self, message: str | None = None, allow: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Allow", ", ".join(self.allow)),)


class NotAcceptable(ServiceError):
    status, error_code, text = 406, 406, "HTTP 406 Not Acceptable"
    help = "Accept what the API description (/openapi.json) names for this route, or */*."


class RequestTimeout(ServiceError):
    status, error_code, text = 408, 408, "HTTP 408 Request Timeout"
    help = "Send faster, in parts, or ask for less at a time; the operator can raise the limit that the message names."


class PayloadTooLarge(ServiceError):
    status, error_code, text = 413, 413, "HTTP 413 Request Entity Too Large"
    help = "Send less at a time; the operator can raise the limit that the message names."


class UnsupportedMediaType(ServiceError):
    status, error_code, text = 415, 415, "HTTP 415 Unsupported Media Type"
    help = "Send a Content-Type and a coding that the API description (/openapi.json) names for this route."


class ExpectationFailed(ServiceError):
    status, error_code, text = 417, 417, "HTTP 417 Expectation Failed"
    help = "Send Expect: 100-continue, or leave the header out."


class UpgradeRequired(ServiceError):
    """A subscription over a connection that carries one reply only (atmosphere-binding.md §2.6; RFC 9110 §15.5.22)."""

    status, error_code, text = 426, 426, "Subscriptions need a WebSocket or an open event stream"
    help = "Open a WebSocket or an event stream, or read with GET …/records."

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Upgrade", "websocket"), ("Connection", "Upgrade"))


class HeadTooLarge(ServiceError):
    """The request line or a header field is too long, or there are too many fields (RFC 6585 §5)."""

    status, error_code, text = 431, 431, "HTTP 431 Request Header Fields Too Large"
    help = "Send fewer or shorter header fields, or a shorter path; the operator can raise the limit."


class Unprocessable(ServiceError):
    """The body is well-formed, but not what this resource takes; the message names the place."""

    status, error_code, text = 422, 422, "HTTP 422 Unprocessable Entity"
    help = "Correct the place that the message names; GET /openapi.json has the body of this route."


class TooManyRequests(ServiceError):
    """A limit is reached for the moment; nothing of the request was done."""

    status, error_code, retriable, text = 429, 429, True, "HTTP 429 Too Many Requests"
    help = "Wait for the seconds in Retry-After, then send it again: nothing of it was done."

    def __init__(self, message: str | None = None, retry_after_s: int = 1, limit: int | None = None) -> None:
        """``limit``: how much a second there may be, of a limit that counts by the second."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        after = (("Retry-After", str(self.retry_after_s)),)
        return after if self.limit is None else (*after, *rate_headers(self.limit, 0, self.retry_after_s))


def rate_headers(limit: int, remaining: int, reset_s: int) -> tuple[tuple[str, str], ...]:
    """Headers that tell of a limit per second: its size, what is left, and in how many seconds there is more.

    They have the names that Confluent's cloud gives them; ``Reset`` counts from the reply on.
    """
    return (
        ("X-RateLimit-Limit", str(limit)),
        ("X-RateLimit-Remaining", str(remaining)),
        ("X-RateLimit-Reset", str(reset_s)),
    )


class QuotaUsedUp(TooManyRequests):
    """The principal has used up its quota (security.md §5)."""

    def __init__(self, message: str, quota: str, retry_after_s: int = 1, limit: int | None = None) -> None:
        """``quota``: its name, without the prefix of the property."""
        super().__init__(message, retry_after_s, limit)
        self.quota = quota


class NotSupported(ServiceError):
    """The Kafka behind this gateway cannot do that, e.g. the embedded one."""

    status, error_code, text = 501, 501, "HTTP 501 Not Implemented"
    help = "Ask the operator: it needs another Kafka or another setting, as the message says."


class HttpVersionNotSupported(ServiceError):
    status, error_code, text = 505, 505, "HTTP 505 HTTP Version Not Supported"
    help = "Send the request as HTTP/1.1."


class Unavailable(ServiceError):
    status, error_code, retriable, text = 503, 503, True, "HTTP 503 Service Unavailable"
    help = "Wait for the seconds in Retry-After, then send it again."

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Retry-After", "1"),)


class ShuttingDown(Unavailable):
    error_code, text = 50301, "The gateway is shutting down; the request can be sent again, to another one or later."
    help = "Send it again, to another gateway or in a few seconds: nothing of it was done."


class ClientSetsUsedUp(Unavailable):
    """All Kafka clients that the gateway may have are in use (kafka.credentials.max)."""

    error_code = 50302
    text = "The gateway has kafka.credentials.max sets of Kafka clients in use; send this again later."
    help = "Wait for the seconds in Retry-After, then send it again; the operator can raise kafka.credentials.max."


class InstanceUnavailable(Unavailable):
    """The worker process that has it does not serve (cluster.md §10)."""

    error_code, text = 50303, "Consumer instance is not available at the moment. The request can be retried."
    help = "Wait for the seconds in Retry-After, then send it again; after a 40403 create the instance anew."


class GatewayTimeout(ServiceError):
    status, error_code, retriable, text = 504, 504, True, "HTTP 504 Gateway Timeout"
    help = "It may have been done or not: send it again if doing it twice does no harm."


# --- topics, partitions, consumer instances --------------------------------------------------------------------------


class TopicNotFound(NotFound):
    error_code, text = 40401, "Topic not found."
    help = "GET /topics lists those there are; create it, or mind the spelling."


class PartitionNotFound(NotFound):
    error_code, text = 40402, "Partition not found."
    help = "GET /topics/NAME/partitions lists them; they count from 0."


class InstanceNotFound(NotFound):
    error_code, text = 40403, "Consumer instance not found."
    help = (
        "Create it again and subscribe: it was deleted, was idle for consumer.instance.timeout.ms, lives"
        " on another gateway (use its base_uri), or is another principal's."
    )


class InstanceOnNoNode(InstanceNotFound):
    """As InstanceNotFound, where several nodes serve as one: asking another node would not help."""

    help = (
        "Create it again and subscribe: it was deleted, was idle for consumer.instance.timeout.ms, was made with the"
        " other API version, or is another principal's. All nodes of the cluster say so."
    )


class UnknownTopicOrPartition(NotFound):
    """Kafka's "unknown topic or partition"; the code is that of InstanceNotFound too (§3.6: overloaded)."""

    error_code, text = 40403, "This server does not host this topic-partition."
    help = "GET /topics lists the topics: look at the name and the partition, or have the topic created."


_NAMED_MAX = 5


class PartlyCommitted(UnknownTopicOrPartition):
    """A commit was stored, but for offsets of partitions that Kafka does not have (any more): what can be committed is
    (§6.7)."""

    def __init__(self, partitions: Iterable[tuple[str, int]], offsets: Sequence[Any] = ()) -> None:
        """``partitions``: topics and numbers. ``offsets``: the positions that Kafka's client has reported as failed."""
        self.offsets = offsets
        self.partitions = frozenset(partitions)
        named = [f"partition {number} of {topic}" for topic, number in sorted(self.partitions)]
        if len(named) > _NAMED_MAX:
            named[_NAMED_MAX:] = [f"{len(named) - _NAMED_MAX} more"]
        super().__init__(f"Kafka does not have these partitions, so their offsets were not stored: {', '.join(named)}.")

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers for the reply to a request of which all else succeeded."""
        return (("Warning", f'199 kafka-gateway "{self.message}"'),)


class LeaderNotAvailable(NotFound):
    error_code, retriable, text = 40404, True, "Leader not available."
    help = "Send it again in a moment: Kafka is choosing a leader for the partition."


class FormatMismatch(NotAcceptable):
    error_code = 40601
    text = "The requested embedded data format does not match the deserializer for this consumer instance"
    help = "Accept the format with which the instance was created, or create one for this format."


class UndecodableRecord(ServiceError):
    """A record that the instance's embedded format cannot express; it stays at the head (§4.2)."""

    status, error_code, text = 408, 40801, "Error deserializing a record."
    help = "Read with an instance of format binary, or seek behind the record with POST …/positions."


class RegistryFailure(ServiceError):
    """v1's error for a schema that the registry does not have, refuses, or cannot be asked for (§3.6)."""

    status, error_code, text = 408, 40801, "Schema registration or lookup failed"
    help = "See whether the registry answers and has the schema; the message has its reason."


class AlreadySubscribed(ServiceError):
    status, error_code = 409, 40901
    text = "Consumer cannot subscribe the the specified target because it has already subscribed to other topics."
    help = "DELETE the subscription or the assignments first: an instance has one of them."


class InstanceExists(ServiceError):
    status, error_code = 409, 40902
    text = "Consumer with specified consumer ID already exists in the specified consumer group."
    help = "Leave name out, choose another one, or DELETE the instance that has it."


class IllegalState(ServiceError):
    status, error_code, text = 409, 40903, "Illegal state: "
    help = "Bring the instance into the state that the message asks for, then send it again."


class NotSubscribed(ServiceError):
    """A read from an instance without subscription or assignment: 500, as upstream (§6.8)."""

    text = (
        "Consumer is not subscribed to any topics or assigned any partitions: "
        "POST to its /subscription or /assignments first."
    )
    help = "POST topics to …/subscription or partitions to …/assignments, then read again."


class GroupActive(ServiceError):
    """Offsets of a group that has members: these would not notice the change (websocket-proxy.md §1.8.3)."""

    status, error_code = 412, 412
    text = (
        "Unable to modify the consumer group offsets because the group is still considered to be active. "
        "Please ensure that all consumer clients are stopped before trying again."
    )
    help = "Stop all consumers of the group, then send it again."


class InvalidSettings(Unprocessable):
    error_code, text = 40001, "Invalid consumer configuration. It does not abide by the constraints: "
    help = "Correct the setting that the message names; GET /openapi.json has those of a consumer instance."


class ConversionError(Unprocessable):
    """v1's error for a datum that does not fit its schema; v2 has a plain 400 for it (§4.6)."""

    error_code, text = 42203, "Conversion of JSON to Avro failed"
    help = "Make the datum fit its schema at the place that the message names."


class InvalidConsumerConfig(Unprocessable):
    error_code, text = 42204, "Invalid consumer configuration: "
    help = "Correct or leave out the setting that the message names; GET /openapi.json has those there are."


class KeySchemaMissing(Unprocessable):
    error_code, text = 42201, "Request includes keys but does not include key schema"
    help = "Add key_schema or key_schema_id to the body."


class ValueSchemaMissing(Unprocessable):
    error_code, text = 42202, "Request includes values but does not include value schema"
    help = "Add value_schema or value_schema_id to the body."


class InvalidSchema(Unprocessable):
    error_code, text = 42205, "Invalid schema"
    help = "Correct the schema as the message says, or name a registered one by its id."


class PayloadError(Unprocessable):
    error_code, text = 42206, "Payload error. Request body is empty. Data is required."
    help = "Send a body with data: GET /openapi.json shows the one of this route."


class SchemasUnavailable(Unprocessable):
    error_code, text = 42206, "Payload error. Schema Registry must be configured when using schemas."
    help = "Use a format without schemas, such as json, or ask the operator to set schema.registry.url."


class InvalidBatch(Unprocessable):
    """A produce batch of v3 that is malformed as a whole."""

    error_code, text = 42208, "Empty batch."
    help = "Send an object with entries, not too many, each with an id of its own."


class SerializationError(Unprocessable):
    error_code, text = 42207, "Error serializing message."
    help = "Make the data fit their type or schema at the place that the message names."


class SimpleReaderUnavailable(ServiceError):
    """Status 500 though the code begins with 503, as upstream (§13 no. 2)."""

    error_code, retriable = 50301, True
    text = (
        "No SimpleConsumer is available at the time in the pool. The request can be retried. "
        "You can increase the pool size or the pool timeout to avoid this error in the future."
    )
    help = "Send it again in a moment: too many read at the same time."
