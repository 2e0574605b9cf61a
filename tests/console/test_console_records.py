"""What the console page does with records: whole ones are shown, searched and saved (headless Chromium)."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Request

from tests.console.test_console import counts, following, gateway, open_page, produce, received
from tests.gateway_process import GatewayProcess

__all__ = ("gateway",)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BINARY = bytes(range(256)) * 40
LONG = json.dumps({"text": "x" * 30_000, "Needle": 12345678901234567890, "list": [], "inner": {"a": [1.10, "ü"]}})


def produce_binary(gateway: GatewayProcess, *records: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{gateway.url}/topics/orders",
        json.dumps({"records": list(records)}).encode(),
        {"Content-Type": "application/vnd.kafka.binary.v2+json"},
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200


def coded(data: bytes | str) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


@pytest.fixture(scope="module")
def filled() -> Iterator[GatewayProcess]:
    """A gateway with three records in a topic; who uses it only reads."""
    header = {"name": "Trace", "value": coded("abc")}
    with GatewayProcess("embedded.topics=orders") as running:
        produce_binary(
            running,
            {"key": coded("k1"), "value": coded(LONG), "partition": 0, "timestamp": 1700000000123, "headers": [header]},
            {"value": coded(BINARY), "partition": 0, "headers": [{"name": "h", "value": coded(b"\xff")}]},
            {"key": coded("gone"), "value": None, "partition": 0},
        )
        yield running


async def test_an_export_is_the_data(page: Page, filled: GatewayProcess, tmp_path: Path) -> None:
    await open_page(page, filled, topic="orders", **{"from": "oldest"})
    await received(page, 3)
    async with page.expect_download() as download:
        await page.click("#save")
    await (await download.value).save_as(tmp_path / "saved")
    first, second, third = map(json.loads, (tmp_path / "saved").read_text().splitlines())
    # JSON is written anew: compact, with all its digits.
    assert json.loads(first["value"]) == json.loads(LONG)
    assert first | {"value": LONG} == {
        "topic": "orders",
        "partition": 0,
        "offset": 0,
        "timestamp": 1700000000123,
        "key": "k1",
        "value": LONG,
        "headers": [{"name": "Trace", "value": "abc"}],
    }
    assert (second["key"], base64.b64decode(second["value_base64"])) == (None, BINARY)
    assert "value" not in second
    assert second["headers"] == [{"name": "h", "value_base64": "/w=="}]
    assert (third["key"], third["value"], third["headers"]) == ("gone", None, [])


async def test_the_filter_sees_whole_values_and_gives_records_back(page: Page, filled: GatewayProcess) -> None:
    await open_page(page, filled, topic="orders", filter="NEEDLE", **{"from": "oldest"})
    await received(page, 3)
    assert await counts(page) == (3, 1, 0, 2, 0)
    await page.fill("#filter", "trace")  # the name of a header
    assert await counts(page) == (3, 1, 0, 2, 0)
    await page.fill("#filter", "")
    assert await counts(page) == (3, 3, 0, 0, 0)
    places = await page.locator("#rows tr td:nth-child(2)").all_inner_texts()
    assert places == ["0 @2", "0 @1", "0 @0"]


async def test_a_row_opens_into_the_whole_record(page: Page, filled: GatewayProcess) -> None:
    await open_page(page, filled, topic="orders", filter="needle", **{"from": "oldest"})
    await received(page, 3)
    line = await page.locator("#rows tr").inner_text()
    assert "2023-11-14 22:13:20.123" in line
    assert "Trace: abc" in line
    await page.locator("#rows .opener").focus()
    await page.keyboard.press("Enter")
    opened = await page.locator("#rows .opened").inner_text()
    assert '"Needle": 12345678901234567890,\n  "list": [],\n  "inner": {\n    "a": [\n      1.1' in opened
    assert "x" * 30_000 in opened
    await page.keyboard.press("Enter")
    assert await page.locator("#rows .opened").count() == 0


async def test_a_pause_shows_nothing_more(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway, topic="orders")
    await following(page, "orders")
    produce(gateway, "orders", 1)
    await received(page, 1)
    await page.click("#pause")
    before = await page.locator("#rows").inner_html(), await page.locator("#counts").inner_text()
    produce(gateway, "orders", *range(2, 50))
    await page.locator("#behind", has_text="48 records (paused").wait_for(timeout=20_000)
    assert before == (await page.locator("#rows").inner_html(), await page.locator("#counts").inner_text())
    await page.click("#pause")
    await received(page, 49)


@pytest.mark.parametrize("width", [390, 1200])
async def test_the_page_fits(page: Page, filled: GatewayProcess, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await open_page(page, filled, topic="orders", **{"from": "oldest"})
    await received(page, 3)
    await page.locator("#client-rows tr").first.wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    lines = await page.evaluate(
        "[...document.querySelectorAll('#rows td.odd')].filter((cell) => cell.textContent === '(null)')"
        ".map((cell) => { const range = document.createRange(); range.selectNodeContents(cell);"
        " return range.getClientRects().length })"
    )
    assert lines == [1, 1]


async def test_rates_cost_one_question_a_look(page: Page) -> None:
    """Whatever there is to look at, and only of what can be seen."""
    names = [f"topic-{number:02d}" for number in range(60)]
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST":
            asked.append(request.post_data or "")

    page.on("request", note)
    with GatewayProcess(f"embedded.topics={','.join(names)}") as gateway:
        await open_page(page, gateway, via="long-polling")
        await page.locator("#topic-list li span", has_text="–").first.wait_for(timeout=20_000)
        asked.clear()
        await page.wait_for_timeout(5000)
        questions = [each for each in asked if "/console/ends?" in each]
        assert 1 <= len(questions) <= 4
        assert len(asked) <= 2 * len(questions) + 2
        assert "topic-00" in questions[0]
        assert "topic-59" not in questions[0]
