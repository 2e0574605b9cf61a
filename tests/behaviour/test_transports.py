"""The suite of `kafka_gateway.testing.behaviour` over every transport of the gateway, and on each Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_gateway.testing.behaviour import *  # noqa: F403
from kafka_gateway.testing.behaviour import Connect
from tests.behaviour.clients import TRANSPORTS

# Which Kafka it is and how clients reach the gateway have nothing to do with each other: every transport is tried on
# the real one, whose groups form at once, and one transport on the embedded one.
PLACES = [
    *(pytest.param(("kafka", name), id=f"kafka-{name}", marks=pytest.mark.broker) for name in sorted(TRANSPORTS)),
    pytest.param(("embedded", "http"), id="embedded-http", marks=pytest.mark.embedded),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A Kafka and a transport."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def settings(place: tuple[str, str], request: pytest.FixtureRequest) -> dict[str, Any]:
    """No bootstrap.servers for the embedded Kafka."""
    # By then a client that polls no more is taken for gone; and a stream that goes on is ended when the gateway stops.
    leaves = {"transport.long-polling.expiry.ms": 1000, "shutdown.graceful.ms": 500}
    if place[0] == "embedded":
        return leaves
    return {**leaves, "bootstrap.servers": request.getfixturevalue("kafka").bootstrap}


@pytest.fixture
def connect(place: tuple[str, str]) -> Connect:
    transport = TRANSPORTS[place[1]]
    return lambda app: transport(app.addresses[0])
