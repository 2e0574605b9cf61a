"""A gateway in this process on the embedded Kafka, as in tests/transports."""

from __future__ import annotations

from tests.loop_watch import loop_watch, pytest_runtest_call
from tests.transports.conftest import app, connect, settings, topic, wire

__all__ = ["app", "connect", "loop_watch", "pytest_runtest_call", "settings", "topic", "wire"]
