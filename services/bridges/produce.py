"""What is posted to a path becomes a record: producer mode of the bridge (bridges.md A2).

The answer follows the caller's side of remote-write: it sends again after 5xx and 429, and drops the records after any
other 4xx. So a 4xx is only for what can never succeed; what may succeed later is a 503 with ``Retry-After``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

from kafka_gateway.errors import (
    GatewayTimeout,
    MethodNotAllowed,
    NotAuthorized,
    PayloadTooLarge,
    ServiceError,
    TooManyRequests,
    Unavailable,
    UnknownTopicOrPartition,
)
from kafka_gateway.kafka.ports.producing import Delivery, Producer
from kafka_gateway.kafka_errors import (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaThrottled,
    OutcomeUnknown,
    PartitionTrouble,
)
from kafka_gateway.messages import Call, Request, Response
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import EVERYTHING, Rights
from kafka_gateway.services.bridges.headers import HeaderRules, RecordHeaders, canonical

METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""HEAD comes with GET. All but POST make a record only if they have a body (A-4)."""

_SUCCESS = Response(b"success", 200, (), "text/plain; charset=utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class ProducerSettings:
    """One bridge into Kafka."""

    name: str
    paths: tuple[str, ...]
    topic: str
    key_header: str = ""
    rules: HeaderRules = dataclasses.field(default_factory=HeaderRules)
    max_body_bytes: int = 1_000_000
    max_in_flight: int = 1000


@dataclasses.dataclass(slots=True)
class ProducerCounters:
    """What a bridge has done since the start."""

    stored: int = 0
    """Records that Kafka has confirmed."""
    stored_bytes: int = 0
    failed: int = 0
    """Requests that were answered with an error after their body had come."""
    in_flight: int = 0


class ProducerBridge:
    """The handler of a bridge's paths; ``post`` serves all methods."""

    def __init__(self, settings: ProducerSettings, producer: Producer) -> None:
        self.settings = settings
        self.counters = ProducerCounters()
        self._producer = producer
        self._headers = RecordHeaders(settings.rules)
        self._key_header = canonical(settings.key_header.encode()).lower() if settings.key_header else ""

    async def post(self, call: Call) -> Response:
        """200 and ``success`` when Kafka has stored the record; the errors of A2.4."""
        request = call.request
        if request.path.endswith("/"):
            return _redirect(request)
        body: bytes = request.body or b""
        if not body and request.method != "POST" and "transfer-encoding" not in request.headers:
            raise MethodNotAllowed("This path takes POST, and other methods with a body.", ("POST",))
        counters = self.counters
        if counters.in_flight >= self.settings.max_in_flight:
            raise Unavailable("As many requests as may be are on their way to Kafka; send this one again later.")
        if len(body) > self.settings.max_body_bytes:
            raise PayloadTooLarge(
                f"The body has {len(body)} bytes; this path takes {self.settings.max_body_bytes} at most."
            )
        counters.in_flight += 1
        try:
            rights = call.session.rights if call.route.permissions else EVERYTHING
            delivery = await self._send(request, body, rights)
        except ServiceError as error:
            counters.failed += 1
            raise _as_answer(error) from error
        finally:
            counters.in_flight -= 1
        if isinstance(delivery, ServiceError):
            counters.failed += 1
            raise _as_answer(delivery)
        counters.stored += 1
        counters.stored_bytes += len(body)
        return _SUCCESS

    async def _send(self, request: Request, body: bytes, rights: Rights) -> Delivery:
        topic = self.settings.topic
        arrived_ms = int(time.time() * 1000)
        waiting = self._producer.ready(topic, rights)
        if waiting is not None:
            await waiting
        headers = self._headers.of(_fields(request))
        key = self._key(request) if self._key_header else None
        (delivery,) = await self._producer.send(topic, [OutgoingRecord(key, body, None, arrived_ms, headers)])
        return delivery

    def _key(self, request: Request) -> bytes | None:
        value = request.headers.get(self._key_header)
        return None if value is None else value.encode("utf-8", "surrogateescape")


def _fields(request: Request) -> Iterable[tuple[bytes, bytes]]:
    if request.raw_headers is not None:
        return request.raw_headers
    # A request that came in an envelope: its header is text.
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in request.headers.items()]


def _redirect(request: Request) -> Response:
    """To the path without its slash, as the baseline's router does (A2.1)."""
    status = 301 if request.method in ("GET", "HEAD") else 307
    return Response(None, status, (("Location", request.path.rstrip("/")),), "text/plain; charset=utf-8")


def _as_answer(error: ServiceError) -> ServiceError:
    """The failure of a record, with the status by which the caller knows whether to send it again (A2.4)."""
    if isinstance(error, (PayloadTooLarge, KafkaThrottled, GatewayTimeout, NotAuthorized)):
        return error
    if isinstance(error, OutcomeUnknown) and not isinstance(error, PartitionTrouble):
        return GatewayTimeout(error.message)
    later = (TooManyRequests, KafkaAuthentication, KafkaAuthorization, UnknownTopicOrPartition)
    if error.retriable or isinstance(error, later):
        return error if isinstance(error, Unavailable) else Unavailable(error.message)
    return error if error.status >= 500 else ServiceError(error.message)
