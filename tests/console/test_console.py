"""The console page in headless Chromium: what people see, on each transport that the page offers."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGE = ROOT / "transports" / "console" / "static"


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("embedded.topics=orders") as running:
        yield running


def produce(gateway: GatewayProcess, topic: str, *values: object) -> None:
    body = json.dumps({"records": [{"value": value} for value in values]}).encode()
    request = urllib.request.Request(
        f"{gateway.url}/topics/{topic}", body, {"Content-Type": "application/vnd.kafka.json.v2+json"}
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200


async def counts(page: Page) -> tuple[int, int, int, int, int]:
    """received, shown, older, filtered, dropped; they must add up, always."""
    text = (await page.locator("#counts").inner_text()).replace(",", "")
    received, *parts = (int(number) for number in re.findall(r"\d+", text))
    assert received == sum(parts), text
    return (received, *parts)  # type: ignore[return-value]


async def received(page: Page, number: int) -> None:
    await page.locator("#counts", has_text=re.compile(rf"^received {number:,} =")).wait_for(timeout=20_000)


async def open_page(page: Page, gateway: GatewayProcess, **state: str) -> None:
    await page.goto(f"{gateway.url}/console#" + "&".join(f"{name}={value}" for name, value in state.items()))
    await page.locator("#state[data-state=open]").wait_for(timeout=20_000)


async def following(page: Page, topic: str) -> None:
    await page.locator("#note", has_text=f"following {topic}").wait_for(timeout=20_000)


@pytest.mark.parametrize("via", ["websocket", "sse", "long-polling"])
async def test_records_appear_on_each_transport(page: Page, gateway: GatewayProcess, via: str) -> None:
    produce(gateway, "orders", {"id": 1}, {"id": 2})
    await open_page(page, gateway, topic="orders", via=via, **{"from": "oldest"})
    await received(page, 2)
    produce(gateway, "orders", {"id": 3})
    await received(page, 3)
    assert await counts(page) == (3, 3, 0, 0, 0)
    assert '{"id":3}' in await page.locator("#rows").inner_text()


async def test_what_is_sent_on_the_page_is_shown_on_it(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    await page.fill("#key", "k")
    await page.fill("#value", '{"a": [1, 2]}')
    await page.locator("#produce-form button").first.click()
    await page.locator("#sent", has_text="→ partition").wait_for()
    await received(page, 1)
    assert '{"a":[1,2]}' in await page.locator("#rows").inner_text()
    await page.fill("#value", "{")
    await page.locator("#produce-form button").first.click()
    await page.locator("#sent.bad", has_text="not JSON").wait_for()


async def test_records_cannot_become_markup(page: Page, gateway: GatewayProcess) -> None:
    produce(
        gateway, "orders", "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>", {"__proto__": 1}
    )
    await open_page(page, gateway, topic="orders", **{"from": "oldest"})
    await received(page, 2)
    assert await page.locator("#rows script, #rows img").count() == 0
    assert await page.title() == "Kafka Gateway"


async def test_the_filter_counts_what_it_hides(page: Page, gateway: GatewayProcess) -> None:
    produce(gateway, "orders", *({"n": number} for number in range(20)))
    await open_page(page, gateway, topic="orders", filter="1", **{"from": "oldest"})
    await received(page, 20)
    assert await counts(page) == (20, 11, 0, 9, 0)
    await page.fill("#filter", "19")
    assert await counts(page) == (20, 1, 0, 19, 0)


async def test_the_page_stays_usable_under_load(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    for _ in range(20):
        produce(gateway, "orders", *range(500))
    await received(page, 10_000)
    got = await counts(page)
    assert got[1] <= 500
    assert await page.locator("#rows tr").count() == got[1]
    assert await page.locator("#searched").inner_text() == ""
    await page.fill("#filter", "9")  # of all that came, only what is kept can be looked at
    assert await page.locator("#searched").inner_text() == f"searched: the last {got[1]}; older ones are not kept"


async def test_the_page_goes_on_when_the_gateway_comes_back(page: Page) -> None:
    with GatewayProcess("embedded.topics=orders") as gateway:
        port = gateway.url.rpartition(":")[2]
        await open_page(page, gateway, topic="orders")
        await following(page, "orders")
        produce(gateway, "orders", 1)
        await received(page, 1)
    await page.locator("#state:not([data-state=open])").wait_for(timeout=20_000)
    await page.locator("#note.bad", has_text="trying again").wait_for(timeout=20_000)
    with GatewayProcess(f"port={port}", "embedded.topics=orders") as again:
        await page.locator("#state[data-state=open]").wait_for(timeout=20_000)
        await following(page, "orders")  # by a stream of its own, which comes back when it does
        # It was an embedded Kafka: its log begins anew, so the page follows from its beginning.
        produce(again, "orders", 2)
        await received(page, 2)


async def test_the_page_misses_nothing_while_the_gateway_is_killed(
    page: Page, kafka: KafkaCluster, unique: Callable[[str], str]
) -> None:
    topic = unique("console")
    kafka.create_topic(topic, partitions=3)
    settings = (f"bootstrap.servers={kafka.bootstrap}", "console.enabled=true")
    with GatewayProcess(*settings) as other, GatewayProcess(*settings) as gateway:
        await open_page(page, gateway, topic=topic)
        await following(page, topic)
        produce(gateway, topic, *range(20))
        await received(page, 20)
        gateway.process.kill()
        await page.locator("#note.bad", has_text="trying again").wait_for(timeout=20_000)
        produce(other, topic, *range(20, 50))
        with GatewayProcess(f"port={gateway.url.rpartition(':')[2]}", *settings) as again:
            await received(page, 50)
            produce(again, topic, *range(50, 60))
            await received(page, 60)
    assert await counts(page) == (60, 60, 0, 0, 0)
    values = await page.locator("#rows tr td:nth-child(4)").all_inner_texts()
    assert sorted(map(int, values)) == list(range(60))


async def test_clients_and_topics_are_listed_and_the_address_holds_the_state(
    page: Page, gateway: GatewayProcess
) -> None:
    await open_page(page, gateway)
    await page.locator("#topic-list button", has_text="orders").click()
    await following(page, "orders")
    assert "topic=orders" in page.url
    await page.locator("#client-rows tr", has_text="websocket").wait_for(timeout=20_000)


async def test_it_can_be_used_by_keyboard(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway)
    await page.locator("body").press("/")
    await page.keyboard.type("ord")
    await page.locator("#topic-list button", has_text="orders").wait_for()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await following(page, "orders")


def test_it_is_small() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(Path(path).stat().st_size for path in files) <= 87_000
