"""A gateway in this process, over the embedded Kafka and over a real one, and a client on each transport."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from tests.behaviour.clients import TRANSPORTS, Client

QUIET = {"port": 0, "access.log.enable": False, "embedded.enable": True}


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The bootstrap.servers to use: empty for the embedded Kafka."""
    if request.param == "embedded":
        return ""
    address: str = request.getfixturevalue("kafka").bootstrap
    return address


@pytest.fixture
def settings() -> dict[str, Any]:
    """Properties of the gateway under test; a test module may override the fixture."""
    return {}


@pytest.fixture
async def app(bootstrap: str, settings: dict[str, Any]) -> AsyncIterator[App]:
    plugins = Plugins(installed=False)
    values = {**QUIET, "bootstrap.servers": bootstrap, **settings}
    config = load(plugins.config_keys()).with_values(values)
    async with serve(config, plugins) as running:
        yield running


@pytest.fixture(params=sorted(TRANSPORTS))
async def client(request: pytest.FixtureRequest, app: App) -> AsyncIterator[Client]:
    connected = TRANSPORTS[request.param](app.addresses[0])
    yield connected
    await connected.close()


@pytest.fixture
async def other(request: pytest.FixtureRequest, app: App) -> AsyncIterator[Client]:
    """A second client, on plain HTTP."""
    connected = TRANSPORTS["http"](app.addresses[0])
    yield connected
    await connected.close()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has used."""
    run = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{run}"
