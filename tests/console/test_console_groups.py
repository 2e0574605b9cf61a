"""What the console shows of v3: consumer groups and their lag, the settings of a topic; in headless Chromium."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import confluent_kafka
import pytest
from playwright.async_api import Page

from tests.console.test_console import following, gateway, open_page, produce
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

__all__ = ["gateway"]

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE_MS = 20_000


def commit(kafka: KafkaCluster, group: str, topic: str, offset: int) -> None:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def set_retention(gateway: GatewayProcess, topic: str, value: str) -> None:
    with urllib.request.urlopen(f"{gateway.url}/v3/clusters") as reply:
        cluster = json.load(reply)["data"][0]["cluster_id"]
    url = f"{gateway.url}/v3/clusters/{cluster}/topics/{topic}/configs/retention.ms"
    body = json.dumps({"value": value}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 204


async def test_groups_their_lag_and_the_settings_of_a_topic(
    page: Page, kafka: KafkaCluster, unique: Callable[[str], str]
) -> None:
    topic, group = kafka.create_topic(unique("console"), partitions=1), unique("group & <b>")
    with GatewayProcess("console.enabled=true", bootstrap=kafka.bootstrap) as gateway:
        produce(gateway, topic, *range(5))
        commit(kafka, group, topic, 2)
        set_retention(gateway, topic, "1234567")
        await open_page(page, gateway, topic=topic)
        await following(page, topic)
        await page.click("#groups summary")
        row = page.locator("#group-rows tr", has_text=group)
        # The console asks for the lag of what is in view, and other tests have left groups in this Kafka.
        # Rows are made anew all the time, so Playwright's own scrolling would find this one gone.
        await row.wait_for(timeout=PATIENCE_MS)
        await page.evaluate(
            "group => [...document.querySelectorAll('#group-rows tr')]"
            ".find((row) => row.firstChild.textContent === group).scrollIntoView()",
            group,
        )
        await row.locator("td:nth-child(4)", has_text="3").wait_for(timeout=PATIENCE_MS)
        assert (await row.locator("td").all_inner_texts())[1:3] == ["empty", "offsets only"]
        await row.locator("button").click()
        lag = page.locator("#lag-rows tr")
        await lag.first.wait_for(timeout=PATIENCE_MS)
        assert await lag.locator("td").all_inner_texts() == [f"{topic} / 0", "2", "5", "3", "nobody"]
        commit(kafka, group, topic, 5)
        await lag.locator("td:nth-child(4)", has_text="0").wait_for(timeout=PATIENCE_MS)

        await page.click("#settings summary")
        first = page.locator("#setting-rows tr").first
        await first.wait_for(timeout=PATIENCE_MS)
        assert await first.locator("td").all_inner_texts() == ["retention.ms", "1234567", "dynamic topic config"]
        assert await page.locator("#setting-rows tr").count() > 20


async def test_the_embedded_kafka_says_what_it_does_not_know(page: Page, gateway: GatewayProcess) -> None:
    await open_page(page, gateway)
    await page.click("#groups summary")
    await page.locator("#groups-note.bad", has_text="embedded Kafka").wait_for(timeout=PATIENCE_MS)
