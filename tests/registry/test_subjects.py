"""What pages are told of the registry: its subjects, and the newest schema of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.registry.fake_registry import FakeRegistry, server_error
from tests.rights.conftest import EVERYTHING_ON, Rules
from tests.transports.conftest import gateway


@pytest.fixture
def rules() -> Rules:
    found = Rules()
    found.set("allow * all *")
    return found


@pytest.fixture
async def client(fake: FakeRegistry, rules: Rules) -> AsyncIterator[aiohttp.ClientSession]:
    settings = EVERYTHING_ON | {"schema.registry.url": (fake.url,), "schema.registry.request.timeout.ms": 1000}
    async with gateway(rules, **settings) as app, aiohttp.ClientSession(app.addresses[0]) as opened:
        yield opened


async def get(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path) as reply:
        return reply.status, await reply.json()


async def test_subjects_and_the_newest_schema(client: aiohttp.ClientSession, fake: FakeRegistry) -> None:
    fake.add("orders-value", '"int"')
    fake.add("orders-value", '"long"')
    fake.add("shop.Order", '{"type":"record","name":"shop.Order","fields":[]}')
    assert await get(client, "/console/subjects") == (200, ["orders-value", "shop.Order"])
    assert await get(client, "/console/schema?subject=orders-value") == (
        200, {"subject": "orders-value", "version": 2, "id": 2, "format": "avro", "name": "", "schema": '"long"'},
    )  # fmt: skip
    assert (await get(client, "/console/schema?subject=shop.Order"))[1]["name"] == "shop.Order"
    assert (await get(client, "/console/schema"))[0] == 400
    status, body = await get(client, "/console/schema?subject=none")
    assert (status, body["error_code"], "Subject not found" in body["message"]) == (422, 42207, True)


async def test_subjects_of_topics_that_one_may_not_describe(
    client: aiohttp.ClientSession, fake: FakeRegistry, rules: Rules
) -> None:
    for subject in ("orders-value", "secret-value", "secret-key", "shop.Order"):
        fake.add(subject, '"int"')
    rules.set("allow * read gateway:console\nallow * describe topic:orders")
    assert await get(client, "/console/subjects") == (200, ["orders-value", "shop.Order"])
    assert (await get(client, "/console/schema?subject=secret-value"))[0] == 403
    rules.set("allow * all topic:orders")
    assert (await get(client, "/console/subjects"))[0] == 403


async def test_a_registry_that_fails(client: aiohttp.ClientSession, fake: FakeRegistry) -> None:
    fake.misbehave = server_error
    for path in ("/console/subjects", "/console/schema?subject=x"):
        status, body = await get(client, path)
        assert (status, body["error_code"]) == (422, 42207)
        assert "HTTP 500" in body["message"]
