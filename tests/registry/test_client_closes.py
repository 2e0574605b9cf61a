"""The client of the registry when the gateway ends while a question is on its way."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.config import load
from kafka_gateway.registry.client import RegistryAway, RegistryClient
from kafka_gateway.registry.settings import registry_settings
from tests.keys import BUILTIN_KEYS
from tests.registry.fake_registry import FakeRegistry, never
from tests.waiting import until


async def test_what_is_asked_ends_and_opens_no_connection_again(fake: FakeRegistry) -> None:
    fake.misbehave = never
    settings = registry_settings(load(BUILTIN_KEYS).with_values({"schema.registry.url": (fake.url,)}))
    assert settings is not None
    client = RegistryClient(settings)
    asking = asyncio.create_task(client.ask("GET", "/subjects"))
    await until(lambda: fake.asked)
    await client.aclose()
    with pytest.raises(RegistryAway):
        await asking
    with pytest.raises(RegistryAway):
        await client.ask("GET", "/subjects")
    assert len(fake.asked) == 1
    await client.aclose()
