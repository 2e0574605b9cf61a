"""The console page with a schema registry: records are shown decoded and named, and produced with a subject's
schema."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.console.test_console import counts, following, open_page, received
from tests.gateway_process import GatewayProcess
from tests.registry.fake_registry import FakeRegistry, server_error, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ORDER = json.dumps(
    {
        "type": "record", "name": "Order", "namespace": "shop",
        "fields": [{"name": "id", "type": "long"}, {"name": "price", "type": ["null", "double"]}],
    }
)  # fmt: skip
PROTO = 'syntax = "proto3"; message Parcel { int64 weight = 1; }'
BIG = 1234567890123456789
"""A number that JavaScript cannot hold."""


@pytest_asyncio.fixture(loop_scope="module")
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as found:
        yield found


@pytest.fixture
def gateway(registry: FakeRegistry) -> Iterator[GatewayProcess]:
    settings = (f"schema.registry.url={registry.url}", "schema.registry.request.timeout.ms=1000")
    with GatewayProcess("embedded.topics=orders", *settings) as running:
        yield running


async def produce_avro(gateway: GatewayProcess, *values: Any) -> None:
    await post(gateway, "avro", {"value_schema": ORDER}, *values)


async def produce_plain(gateway: GatewayProcess, *values: Any) -> None:
    await post(gateway, "json", {}, *values)


async def post(gateway: GatewayProcess, format: str, schema: dict[str, str], *values: Any) -> None:
    """In a process of its own: the registry that the gateway asks meanwhile is on the loop of the test."""
    body = schema | {"records": [{"value": value, "partition": 0} for value in values]}
    type_ = f"application/vnd.kafka.{format}.v2+json"
    process = await asyncio.create_subprocess_exec(
        "curl", "-sf", f"{gateway.url}/topics/orders", "-H", f"Content-Type: {type_}", "-d", json.dumps(body),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == 0


async def test_records_are_decoded_and_named(page: Page, gateway: GatewayProcess, tmp_path: Path) -> None:
    await produce_plain(gateway, {"plain": 1})
    await produce_avro(gateway, {"id": BIG, "price": {"double": 4.5}})
    await open_page(page, gateway, topic="orders", **{"from": "oldest"})
    await received(page, 2)
    assert await counts(page) == (2, 2, 0, 0, 0)
    first, second = await page.locator("#rows tr td:nth-child(4)").all_inner_texts()
    assert (first, second) == ('shop.Order {"id":1234567890123456789,"price":{"double":4.5}}', '{"plain":1}')
    assert await page.locator("#rows b").all_inner_texts() == ["shop.Order"]
    await page.locator("#rows .opener").first.click()
    opened = await page.locator("#rows .opened").inner_text()
    assert "shop.Order · subject orders-value, version 1 · id 1 · avro" in opened
    assert f'"id": {BIG},' in opened
    async with page.expect_download() as download:
        await page.click("#save")
    await (await download.value).save_as(tmp_path / "saved")
    plain, order = map(json.loads, (tmp_path / "saved").read_text().splitlines())
    assert (json.loads(plain["value"]), json.loads(order["value"])["id"]) == ({"plain": 1}, BIG)
    assert order["value_schema"]["subject"] == "orders-value"
    await page.fill("#filter", "shop.ord")
    assert await counts(page) == (2, 1, 0, 1, 0)
    # New ones come decoded, and nothing comes twice.
    await page.fill("#filter", "")
    await produce_avro(gateway, {"id": 2, "price": None})
    await received(page, 3)
    await page.select_option("#show", "stored")
    await received(page, 3)
    texts = await page.locator("#rows tr td:nth-child(4)").all_inner_texts()
    assert [text[:8] for text in texts] == ["not text", "not text", '{"plain"']
    assert "show=stored" in page.url


async def test_a_page_that_waits_for_the_first_record(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    await produce_avro(gateway, {"id": 1, "price": None}, {"id": 2, "price": None})
    await received(page, 2)
    assert await page.locator("#rows b").all_inner_texts() == ["shop.Order", "shop.Order"]


async def test_a_record_is_produced_with_the_schema_of_a_subject(
    page: Page, gateway: GatewayProcess, registry: FakeRegistry
) -> None:
    registry.add("orders-value", ORDER)
    registry.add("parcels", PROTO, "PROTOBUF")
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    await page.select_option("#as", "schema")
    await page.locator("#schema-note", has_text="shop.Order · avro · version 1 · id 1").wait_for()
    assert '"name": "Order"' in await page.locator("#schema").inner_text()
    assert await page.evaluate("[...document.querySelectorAll('#subjects option')].map((each) => each.value)") == [
        "orders-value",
        "parcels",
    ]
    await page.fill("#key", "k")
    await page.fill("#value", f'{{"id": {BIG}, "price": {{"double": "dear"}}}}')
    await page.locator("#produce-form button").first.click()
    await page.locator("#sent.bad", has_text="price.double: expected double").wait_for()
    await page.fill("#value", f'{{"id": {BIG}, "price": {{"double": 4.5}}}}')
    await page.locator("#produce-form button").first.click()
    await page.locator("#sent", has_text=re.compile(r"^→ partition \d @0")).wait_for()
    await received(page, 1)
    assert str(BIG) in await page.locator("#rows tr td:nth-child(4)").inner_text()
    assert await page.locator("#rows tr td:nth-child(3)").inner_text() == "k"
    # Another subject's schema, of another format.
    await page.fill("#subject", "parcels")
    await page.locator("#subject").press("Tab")
    await page.locator("#schema-note", has_text="Parcel · protobuf").wait_for()
    await page.fill("#value", '{"weight": 5}')
    await page.locator("#produce-form button").first.click()
    await received(page, 2)
    assert await page.locator("#rows b").all_inner_texts() == ["Parcel", "shop.Order"]


async def test_a_registry_that_fails_is_told(page: Page, gateway: GatewayProcess, registry: FakeRegistry) -> None:
    await produce_avro(gateway, {"id": 1, "price": None})
    registry.misbehave = server_error
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    await page.select_option("#as", "schema")
    await page.locator("#schema-note.bad", has_text="HTTP 500").wait_for(timeout=20_000)
    await page.locator("#produce-form button").first.click()
    await page.locator("#sent.bad", has_text="Choose a subject").wait_for()
    registry.misbehave = None
    await page.fill("#subject", "none")
    await page.locator("#subject").press("Tab")
    await page.locator("#schema-note.bad", has_text="Subject not found").wait_for(timeout=20_000)
