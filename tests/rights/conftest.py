"""Gateways whose rules a test may change from one request to the next."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.authorizers.policy import Policy
from kafka_gateway.authorizers.rules_file import read_rules
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.rights import Authorizer, Judge
from kafka_gateway.session import Principal
from tests.loop_watch import loop_watch, pytest_runtest_call
from tests.transports.conftest import gateway

__all__ = ["loop_watch", "pytest_runtest_call"]

EVERYTHING_ON: dict[str, Any] = {
    "transport.websocket.enable": True,
    "console.enabled": "true",
    "push.pull.enable": True,
    "push.pull.prefix": "/flasfka",
    "tunnel.enable": True,
    "bridge.producer.in.path": "/write",
    "bridge.producer.in.topic": "bridged",
    "embedded.topics": "orders,second,secret,bridged",
    "consumer.request.timeout.ms": 100,
}


class Rules(Authorizer):
    """An authorizer, as a plugin, that judges by the rules that stand in it at the moment."""

    def __init__(self) -> None:
        self._changed: Callable[[], None] = lambda: None
        self.set("")

    def set(self, text: str) -> None:
        """Takes other rules, at once."""
        file, faults = read_rules(text)
        assert not faults, faults
        self.policy = Policy(file)
        self._changed()

    def judge(self, principal: Principal) -> Judge:
        return self.policy.rules_of(principal).decide

    def quotas(self, principal: Principal) -> dict[str, int]:
        return self.policy.quotas_of(principal)

    @contextlib.asynccontextmanager
    async def watch(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        self._changed = changed
        yield

    # It is its own plugin.
    @hookimpl
    def gateway_authorizers(self) -> list[Authorizer]:
        return [self]


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def settings() -> dict[str, Any]:
    """Further properties of the gateway under test; a test may set them with parametrize."""
    return {}


@pytest.fixture
async def app(rules: Rules, settings: dict[str, Any]) -> AsyncIterator[App]:
    """A gateway with everything switched on; by its rules nobody may anything."""
    async with gateway(rules, **{**EVERYTHING_ON, **settings}) as running:
        yield running
