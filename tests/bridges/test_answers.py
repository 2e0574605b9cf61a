"""Which status a failed record gets: 4xx only for what can never succeed (bridges.md A2.4)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kafka_gateway import errors, kafka_errors
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka_errors import UnknownTopicTimeout
from kafka_gateway.messages import Call, Request
from kafka_gateway.rights import Rights
from kafka_gateway.router import Route
from kafka_gateway.services.bridges.produce import ProducerBridge, ProducerSettings
from kafka_gateway.session import Session


class FailingProducer:
    """Fails with this, as the delivery of the record, or at once."""

    def __init__(self, error: ServiceError, at_once: bool) -> None:
        self._error, self._at_once = error, at_once

    def ready(self, topic: str, rights: Rights) -> None:
        return None

    def send(self, topic: str, records: object) -> asyncio.Future[list[Any]]:
        if self._at_once:
            raise self._error
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        future.set_result([self._error])
        return future


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (kafka_errors.RecordTooLarge(), 413),
        (kafka_errors.KafkaThrottled(), 429),
        (errors.TooManyRequests("queue full"), 503),
        (kafka_errors.KafkaRetriable("LEADER_NOT_AVAILABLE"), 503),
        (kafka_errors.PartitionTrouble("NOT_ENOUGH_REPLICAS"), 503),
        (kafka_errors.BrokerNotAvailable(), 503),
        (errors.ShuttingDown(), 503),
        (errors.UnknownTopicOrPartition(), 503),
        (UnknownTopicTimeout(), 503),
        (kafka_errors.KafkaAuthorization(), 503),
        (errors.NotAuthorized("User:a may not create topic t."), 403),
        (kafka_errors.KafkaAuthentication(), 503),
        (kafka_errors.OutcomeUnknown(), 504),
        (kafka_errors.KafkaError(), 500),
        (kafka_errors.KafkaRefused("TOPIC_EXCEPTION"), 500),
        (ServiceError("anything else"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ServiceError) else str(value),
)
async def test_failures_and_their_status(error: ServiceError, status: int, at_once: bool) -> None:
    bridge = ProducerBridge(ProducerSettings("b", ("/x",), "t"), cast(Any, FailingProducer(error, at_once)))
    call = Call(Request(Session("http"), "POST", "/x", body=b"v"), Route("POST", "/x", bridge.post), {}, "", "")
    with pytest.raises(ServiceError) as raised:
        await bridge.post(call)
    assert raised.value.status == status
    assert ("Retry-After" in dict(raised.value.headers)) == (status in (429, 503))
    assert "success" not in raised.value.message
    assert (bridge.counters.failed, bridge.counters.in_flight) == (1, 0)
