"""``/docs`` in headless Chromium: everything is shown, requests can be tried out, nobody else is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser import CHROMIUM, FLAGS, need_chromium
from tests.gateway_process import GatewayProcess

__all__ = ("need_chromium",)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("embedded.topics=orders", "api.v1.enable=false") as running:
        yield running


@pytest.fixture
async def page(gateway: GatewayProcess) -> AsyncIterator[Page]:
    """The page, loaded; fails the test when its script does, or when the browser refuses something."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = await browser.new_page()
        trouble: list[str] = []
        opened.on("pageerror", lambda error: trouble.append(str(error)))
        opened.on("console", lambda said: trouble.append(said.text) if "Content Security" in said.text else None)
        opened.on("request", lambda asked: trouble.append(asked.url) if "127.0.0.1" not in asked.url else None)
        await opened.goto(f"{gateway.url}/docs")
        await opened.locator("details.operation").first.wait_for(timeout=20_000)
        yield opened
        await browser.close()
        assert [each for each in trouble if not each.startswith("data:")] == []


async def test_every_operation_and_channel_is_there(page: Page, gateway: GatewayProcess) -> None:
    reply = await page.request.get(f"{gateway.url}/openapi.json")
    paths = (await reply.json())["paths"]
    count = sum(1 for item in paths.values() for name in item if name != "servers")
    reply = await page.request.get(f"{gateway.url}/asyncapi.json")
    count += len((await reply.json())["channels"])
    assert await page.locator("details.operation").count() == count
    await page.fill("#find", "consumer offsets post")
    shown = page.locator("details.operation:visible")
    assert 0 < await shown.count() < 5


async def test_a_produce_is_tried_out_and_read_back(page: Page) -> None:
    produce = page.locator("#v2_produce_to_topic")
    await produce.locator("summary").click()
    await produce.locator("input[name=topic]").fill("orders")
    await produce.get_by_label("Content-Type").select_option("application/vnd.kafka.json.v2+json")
    assert "curl -X POST" in await produce.locator(".curl").inner_text()
    await produce.locator("button.send").click()
    await produce.locator(".status", has_text="200").wait_for(timeout=20_000)
    rows = json.loads(await produce.locator(".body").inner_text())["offsets"]
    assert [each["error_code"] for each in rows] == [None, None]

    stream = page.locator("#streams_topics")
    await stream.locator("summary").click()
    for name, value in (("topics", "orders"), ("offset", "earliest"), ("format", "json"), ("until", "end")):
        await stream.locator(f"input[name={name}]").fill(value)
    await stream.locator("button.send").click()
    await stream.locator(".body", has_text='"event":"end"').wait_for(timeout=20_000)
    assert await stream.locator(".body").inner_text() != ""
    assert '"amount":2' in await stream.locator(".body").inner_text()


async def test_a_refusal_is_shown(page: Page) -> None:
    get = page.locator("#v2_topics_get")
    await get.locator("summary").click()
    await get.locator("input[name=topic]").fill("no<b>such</b>topic")
    await get.locator("button.send").click()
    await get.locator(".status", has_text="400").wait_for(timeout=20_000)
    assert "40002" in await get.locator(".body").inner_text()


async def test_a_socket_is_tried_out(page: Page) -> None:
    channel = page.locator("#channel-envelopes")
    await channel.locator("summary").click()
    await channel.get_by_role("button", name="Connect").click()
    await channel.locator(".log", has_text="open").wait_for(timeout=20_000)
    await channel.get_by_label("Message").fill('{"id":"7","method":"GET","path":"/topics"}')
    await channel.get_by_role("button", name="Send").click()
    await channel.locator(".log", has_text='"id":"7"').wait_for(timeout=20_000)
    assert "orders" in await channel.locator(".log").inner_text()
