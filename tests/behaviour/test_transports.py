"""The suite of `kafka_gateway.testing.behaviour` over every transport of the gateway, on each Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_gateway.testing.behaviour import *  # noqa: F403
from kafka_gateway.testing.behaviour import Connect
from tests.behaviour.clients import TRANSPORTS


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """No bootstrap.servers for the embedded Kafka."""
    # By then a client that polls no more is taken for gone; and a stream that goes on is ended when the gateway stops.
    leaves = {"transport.long-polling.expiry.ms": 1000, "shutdown.graceful.ms": 500}
    if request.param == "embedded":
        return leaves
    return {**leaves, "bootstrap.servers": request.getfixturevalue("kafka").bootstrap}


@pytest.fixture(params=sorted(TRANSPORTS))
def connect(request: pytest.FixtureRequest) -> Connect:
    transport = TRANSPORTS[request.param]
    return lambda app: transport(app.addresses[0])
