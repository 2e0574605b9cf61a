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
def settings() -> dict[str, Any]:
    """Further properties of the gateway under test; a test may set them with parametrize."""
    return {}


@pytest.fixture
async def client(fake: FakeRegistry, rules: Rules, settings: dict[str, Any]) -> AsyncIterator[aiohttp.ClientSession]:
    settings = (
        EVERYTHING_ON | settings | {"schema.registry.url": (fake.url,), "schema.registry.request.timeout.ms": 1000}
    )
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
    rules.set("allow * read gateway:console\nallow * describe topic:orders\nallow * describe subject:shop.*")
    assert await get(client, "/console/subjects") == (200, ["orders-value", "shop.Order"])
    status, body = await get(client, "/console/schema?subject=secret-value")
    assert (status, body["message"]) == (403, "User:anonymous may not describe subject secret-value.")
    rules.set("allow * read gateway:console\nallow * describe topic:orders")
    assert await get(client, "/console/subjects") == (200, ["orders-value"])
    rules.set("allow * all topic:orders")
    assert (await get(client, "/console/subjects"))[0] == 403


async def test_a_registry_that_fails(client: aiohttp.ClientSession, fake: FakeRegistry) -> None:
    fake.misbehave = server_error
    for path in ("/console/subjects", "/console/schema?subject=x"):
        status, body = await get(client, path)
        assert (status, body["error_code"]) == (422, 42207)
        assert "HTTP 500" in body["message"]


# --- who may register ------------------------------------------------------------------------------------------------

ORDERS = "allow * write topic:orders"
ORDER = '{"type":"record","name":"shop.Order","fields":[]}'
ROWS = [
    # What v3 is told of the schema, the rules, the subject that it comes to, whether it may.
    ({"schema": ORDER}, ORDERS, "orders-value", True),
    ({"schema": ORDER, "subject": "orders-value"}, ORDERS, "orders-value", True),
    ({"schema": ORDER, "subject": "orders-key"}, ORDERS, "orders-key", True),
    ({"schema": ORDER, "subject": "secret-value"}, ORDERS, "secret-value", False),
    ({"schema": ORDER, "subject": "secret-value"}, f"{ORDERS}\nallow * describe topic:secret", "secret-value", False),
    ({"schema": ORDER, "subject": "secret-value"}, f"{ORDERS}\nallow * write topic:secret", "secret-value", True),
    ({"schema": ORDER, "subject": "anything"}, ORDERS, "anything", False),
    ({"schema": ORDER, "subject": "anything"}, f"{ORDERS}\nallow * write subject:any*", "anything", True),
    ({"schema": ORDER, "subject_name_strategy": "RECORD_NAME"}, ORDERS, "shop.Order", False),
    ({"schema": ORDER, "subject_name_strategy": "RECORD_NAME"}, f"{ORDERS}\nallow * write subject:shop.*", "shop.Order",
     True),
    ({"schema": ORDER, "subject_name_strategy": "TOPIC_RECORD_NAME"}, ORDERS, "orders-shop.Order", True),
    # The subject of the topic orders-eu, made from the title of a schema.
    ({"type": "JSONSCHEMA", "schema": '{"title":"eu-value","type":"object"}',
      "subject_name_strategy": "TOPIC_RECORD_NAME"}, ORDERS, "orders-eu-value", False),
    ({"schema": ORDER, "subject": "anything"}, ORDERS, "anything", False),  # though the gateway knows it by now
    ({"subject": "secret-value", "schema_version": 1}, ORDERS, "secret-value", False),
    ({"subject": "secret-value", "schema_version": 1}, f"{ORDERS}\nallow * describe topic:secret", "secret-value",
     True),
]  # fmt: skip


async def test_who_may_write_a_topic_registers_no_other_subject(
    client: aiohttp.ClientSession, fake: FakeRegistry, rules: Rules
) -> None:
    fake.add("secret-value", '{"type":"record","name":"Kept","fields":[]}')
    for number, (schema, granted, subject, may) in enumerate(ROWS):
        fake.subjects.pop(subject, None) if "schema" in schema else None
        before = set(fake.subjects)
        body = {"value": {"data": {}, **({"type": "AVRO"} if "schema" in schema else {}), **schema}}
        rules.set(granted)
        async with client.post("/v3/clusters/-/topics/orders/records", json=body) as reply:
            told = await reply.json()
        if may:
            assert told["error_code"] == 200, (number, told)
            assert told["value"]["subject"] == subject, (number, told)
        else:
            operation = "write to" if "schema" in schema else "describe"
            assert told == {"error_code": 40301, "message": f"User:anonymous may not {operation} subject {subject}."}
            assert set(fake.subjects) == before, number


@pytest.mark.parametrize("settings", [{"schema.subject.strategy": "RECORD_NAME"}])
async def test_v2_registers_what_the_strategy_names(
    client: aiohttp.ClientSession, fake: FakeRegistry, rules: Rules
) -> None:
    head = {"Content-Type": "application/vnd.kafka.avro.v2+json"}
    body = {"value_schema": ORDER, "records": [{"value": {}}]}

    async def produce() -> int:
        async with client.post("/topics/orders", json=body, headers=head) as reply:
            return reply.status

    rules.set(ORDERS)
    assert await produce() == 403
    assert not fake.subjects
    rules.set(f"{ORDERS}\nallow * write subject:shop.Order")
    assert await produce() == 200
    rules.set(ORDERS)
    assert await produce() == 403  # though the schema is known by now
