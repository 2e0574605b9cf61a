"""Gateways with a proof to ask for, and everything on that a request can come through."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest

from kafka_gateway.assembly.app import App
from tests.loop_watch import loop_watch, pytest_runtest_call
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService

__all__ = ["loop_watch", "pytest_runtest_call"]


def proof(name: str = "ada", password: str | None = None) -> dict[str, str]:
    """The header that proves to be that user, whose password is the name."""
    text = f"{name}:{name if password is None else password}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A file with the users ada and bob."""
    file = tmp_path / "users"
    lines = [f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}" for name in ("ada", "bob")]
    file.write_text("\n".join(lines))
    return file


BASIC: dict[str, object] = {
    "authentication.method": "BASIC",
    "listeners": "http://127.0.0.1:0",
    "transport.websocket.enable": True,
    "console.enabled": "true",
    "push.pull.enable": True,
    "push.pull.prefix": "/flasfka",
    "tunnel.enable": True,
    "bridge.producer.in.path": "/write",
    "bridge.producer.in.topic": "bridged",
    "embedded.topics": "t,bridged",
}


@pytest.fixture
def stub() -> StubService:
    return StubService()


@pytest.fixture
async def guarded(users: Path, stub: StubService, settings: dict[str, object]) -> AsyncIterator[App]:
    """A gateway that asks who its clients are."""
    async with gateway(stub, **{**BASIC, "authentication.basic.file": users, **settings}) as running:
        yield running


@pytest.fixture
def settings() -> dict[str, object]:
    """Further properties of the gateway under test; a test may set them with parametrize."""
    return {}


def set_(**settings: object) -> pytest.MarkDecorator:
    """Properties of the gateway under test; two underscores stand for a dot."""
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return pytest.mark.parametrize("settings", [values])
