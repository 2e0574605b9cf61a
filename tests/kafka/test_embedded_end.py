"""The end of the embedded Kafka (gateway/kafka/clients/embedded.py)."""

from __future__ import annotations

import threading

import pytest

from kafka_gateway.kafka.clients import embedded
from kafka_gateway.kafka.clients.embedded import EmbeddedKafka


class Unending:
    """A mock cluster whose end waits for ever, as librdkafka's does now and then right behind its start."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def close(self) -> None:
        self.over.wait()


def test_an_embedded_kafka_that_does_not_end_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kafka, host = EmbeddedKafka(), Unending()
    real, kafka._host = kafka._host, host  # type: ignore[assignment]
    monkeypatch.setattr(embedded, "_STOP_S", 0.05)
    try:
        kafka.close()
        assert "does not stop by itself" in caplog.text
    finally:
        host.over.set()
        real.close()
