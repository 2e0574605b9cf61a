"""A gateway in this process on the embedded Kafka, and connections to it that send bytes as they are."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import Config, load
from kafka_gateway.door.known_heads import KnownHeads
from tests import loop_watch as watch
from tests.loop_watch import loop_watch, pytest_runtest_call
from tests.transports.wire import Wire

__all__ = ["loop_watch", "pytest_runtest_call"]

Connect = Callable[..., Awaitable[Wire]]

WAYS = {"long": 1_000_000_000, "short": 1}
"""The two ways of plain HTTP (gateway/door/known_heads.py): how often a head comes before it takes the short one."""


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which way requests go. The tests of plain HTTP, test_http_*.py, run for both; the others as the gateway does."""
    way = str(getattr(request, "param", ""))
    if way:
        monkeypatch.setattr(KnownHeads, "sights", WAYS[way])
    return way


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2].startswith("test_http_") and "way" in metafunc.fixturenames:
        # The long way is that of a client's first requests; all other tests of transports go it as well.
        ways = [pytest.param(way, marks=pytest.mark.slow if way == "long" else ()) for way in WAYS]
        metafunc.parametrize("way", ways, indirect=True)


@functools.cache
def _defaults() -> Config:
    """The configuration of a gateway without plugins of tests. To read 430 keys for each of two thousand gateways takes
    a fifth of what these take to start."""
    return load(Plugins(installed=False).config_keys())


@contextlib.asynccontextmanager
async def gateway(*extra: object, **settings: Any) -> AsyncIterator[App]:
    """A running gateway; ``_`` in names of properties stands for a dot, ``extra`` are plugins."""
    plugins = Plugins(extra=extra, installed=False)
    values = {
        "port": 0, "access.log.enable": False, "errors.help": False,
        "transport.websocket.enable": False, "embedded.enable": True, "host.allowed": "*",
    }  # fmt: skip
    values |= {name.replace("_", "."): value for name, value in settings.items()}
    config = (load(plugins.config_keys()) if extra else _defaults()).with_values(values)
    async with contextlib.AsyncExitStack() as stack:
        with watch.paused():  # the start may take its time
            running = await stack.enter_async_context(serve(config, plugins))
        yield running


@pytest.fixture
def settings() -> dict[str, Any]:
    """Properties of the gateway under test; a test may set them with parametrize."""
    return {}


@pytest.fixture
async def app(settings: dict[str, Any]) -> AsyncIterator[App]:
    async with gateway(**settings) as running:
        yield running


@pytest.fixture
async def connect(app: App) -> AsyncIterator[Connect]:
    """``await connect()``: a new connection to the gateway."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect() -> Wire:
            return await stack.enter_async_context(await Wire.open(app.addresses[0]))

        yield connect


@pytest.fixture
async def wire(connect: Connect) -> Wire:
    return await connect()


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4().hex[:10]}"
