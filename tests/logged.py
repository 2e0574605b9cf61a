"""What was logged during a test, without the lines of Kafka clients: those of tests before it may outlive them."""

from __future__ import annotations

import logging

import pytest

_CLIENTS = "gateway.kafka.librdkafka"


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    """The messages from this level on."""
    return [each.getMessage() for each in caplog.records if each.levelno >= level and each.name != _CLIENTS]
