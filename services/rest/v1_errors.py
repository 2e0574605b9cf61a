"""What v1 calls failures that v2 tells apart: 50003 if retriable, else Kafka's 50002 (kafka-rest-http.md §3.7)."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Literal

from kafka_gateway.errors import ServiceError, TopicNotFound, UnknownTopicOrPartition
from kafka_gateway.kafka_errors import (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaError,
    KafkaRefused,
    KafkaRetriable,
    KafkaThrottled,
    RecordTooLarge,
)

_OF_KAFKA = (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaError,
    KafkaRefused,
    KafkaRetriable,
    KafkaThrottled,
    RecordTooLarge,
)


def to_v1(error: ServiceError) -> ServiceError:
    """The error as v1 clients know it; errors that are not Kafka's stay as they are."""
    if isinstance(error, UnknownTopicOrPartition):
        return TopicNotFound()
    if not isinstance(error, _OF_KAFKA) or error.message.startswith(("Kafka error: ", "Retriable Kafka error: ")):
        return error
    if error.retriable:
        return KafkaRetriable(f"Retriable Kafka error: {error.message}").with_help(error.help)
    return KafkaError(f"Kafka error: {error.message}").with_help(error.help)


class _V1Errors:
    # Not contextlib's: its generators cost as much as the rest of a produce of one record in v1.
    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, ServiceError):
            raise to_v1(error) from error
        return False


_TRANSLATED = _V1Errors()


def v1_errors() -> contextlib.AbstractContextManager[None]:
    """Inside, errors leave as v1 clients know them."""
    return _TRANSLATED
