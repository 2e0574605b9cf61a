"""GET /metrics: what is counted, for whom, and what it costs (observability.md §1)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Counter

from kafka_gateway.assembly.app import App, tell
from kafka_gateway.assembly.plugins import PluginError
from kafka_gateway.kafka.clients.statistics import Statistics
from kafka_gateway.markers import hookimpl
from kafka_gateway.metrics.families import counter, histogram
from kafka_gateway.metrics.numbers import Histogram, Names, Traffic
from kafka_gateway.metrics.registry import OPENMETRICS, Metrics
from tests.bench.observing import full_metrics, held
from tests.operation import scraped
from tests.operation.scraped import scrape
from tests.transports.conftest import gateway


def set_(**settings: object) -> pytest.MarkDecorator:
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return pytest.mark.parametrize("settings", [values])


async def test_requests_are_counted_by_template(app: App) -> None:
    url = app.addresses[0]
    async with aiohttp.ClientSession() as client:
        for path in ("/topics", "/topics", "/topics/nobody", "/nothing/here"):
            await (await client.get(url + path)).read()
        before = await scrape(url)
        await (await client.get(url + "/topics")).read()
    after = await scrape(url)
    name = "kafka_gateway_requests_total"
    assert before.value(name, route="/topics", method="GET", code="200", transport="http") == 2
    assert before.value(name, route="/topics/{topic}", code="404") == 1
    assert before.value(name, route="", code="404") == 1
    assert after.value(name, route="/topics") == 3
    assert after.value("kafka_gateway_request_seconds_count", route="/topics") == 3
    assert after.value("kafka_gateway_request_seconds_bucket", route="/topics", le="+Inf") == 3
    here = {"transport": "http", "listener": next(iter(app.host.connections))}
    assert after.value("kafka_gateway_requests_in_progress", **here) == 1  # the scrape itself
    assert after.value("kafka_gateway_connections", listener=here["listener"]) >= 1
    assert after.value("kafka_gateway_sessions", **here) >= 1
    assert after.value("kafka_gateway_build_info") == 1
    assert after.value("kafka_gateway_threads") > 1


async def test_refusals_are_counted_by_reason() -> None:
    limit = {"rate.limit.enable": True, "rate.limit.permits.per.sec": 1, "rate.limit.costs": "operation.metrics=0"}
    async with gateway(**limit) as app:
        async with aiohttp.ClientSession() as client:
            codes = [(await client.get(app.addresses[0] + "/topics")).status for _ in range(3)]
        assert codes.count(429) == 2
        assert (await scrape(app.addresses[0])).value("kafka_gateway_refused_total", reason="rate") == 2


@pytest.mark.parametrize("accept", ["", scraped.OPENMETRICS])
async def test_both_formats_are_what_prometheus_reads(app: App, accept: str) -> None:
    async with aiohttp.ClientSession() as client:
        reply = await client.get(app.addresses[0] + "/metrics", headers={"Accept": accept} if accept else {})
        text = await reply.text()
    expected = OPENMETRICS if accept else "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["Content-Type"] == expected
    assert text.endswith("# EOF\n") == bool(accept)
    assert (await scrape(app.addresses[0], accept)).names


async def test_exemplars_name_the_trace() -> None:
    metrics, seconds = Metrics(), Histogram()
    seconds.add(0.3, "4bf92f3577b34da6a3ce929d0e0e4736")
    metrics.add(lambda: [histogram("wait_seconds", "How long", (), [((), seconds)])])
    text, _ = await metrics.render("application/openmetrics-text")
    line = next(each for each in text.decode().splitlines() if 'le="0.5"' in each)
    assert line.endswith('1.0 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.3')
    plain, _ = await metrics.render("text/plain")
    assert b"trace_id" not in plain


@set_(metrics__enable=False)
async def test_metrics_can_be_switched_off(app: App) -> None:
    async with aiohttp.ClientSession() as client:
        assert (await client.get(app.addresses[0] + "/metrics")).status == 404


@pytest.mark.parametrize("asks_who", [False, True])
async def test_nobody_from_elsewhere_reads_metrics(
    app: App, asks_who: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Whatever clients have to prove: operators have listeners of their own, and the start says so."""
    (users := tmp_path / "users").write_text("")
    proofs = {"authentication_method": "BASIC", "authentication_basic_file": str(users)} if asks_who else {}
    caplog.set_level(logging.INFO, "gateway")
    tell(app)
    assert "Metrics are not served" not in caplog.text  # they are, or are not wanted
    async with gateway(listeners="http://0.0.0.0:0", listeners_insecure=True, embedded_enable=True, **proofs) as app:
        port = app.addresses[0].rpartition(":")[2]
        async with aiohttp.ClientSession() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status == (401 if asks_who else 404)
        tell(app)
    assert "Metrics are not served anywhere: set admin.listeners" in caplog.text


class _Plugin:
    def __init__(self, name: str) -> None:
        self.ticks = Counter(name, "What a plugin counts", registry=None)

    @hookimpl
    def gateway_metrics(self) -> list[Counter]:
        return [self.ticks]


async def test_a_plugin_adds_its_own() -> None:
    plugin = _Plugin("lines_ticks")
    async with gateway(plugin) as app:
        plugin.ticks.inc(3)
        assert (await scrape(app.addresses[0])).value("lines_ticks_total") == 3


async def test_a_name_that_is_taken_stops_the_start() -> None:
    with pytest.raises(PluginError, match="lines_ticks"):
        async with gateway(_Plugin("lines_ticks"), _Plugin("lines_ticks")):
            pass


async def test_a_source_that_fails_costs_its_own_metrics_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[object]:
        raise ValueError("no")

    async def silent() -> list[object]:
        await asyncio.sleep(3600)  # time itself: it never answers
        return []

    metrics = Metrics()
    metrics.add(broken)  # type: ignore[arg-type]
    metrics.add(silent)  # type: ignore[arg-type]
    metrics.add(lambda: [counter("good", "It works", (), [((), 1)])])
    text, _ = await metrics.render()
    assert b"kafka_gateway_good_total 1.0" in text
    assert "broken cannot be read" in caplog.text
    assert "silent took longer" in caplog.text


@set_(metrics__kafka__interval__ms=0)  # what librdkafka tells comes when it comes
async def test_clients_cannot_make_series(app: App) -> None:
    """2,500 random paths, topics, groups, methods: as many series as after the first hundred of each kind."""
    url, dice = app.addresses[0], random.Random(7)

    def word() -> str:
        return "".join(dice.choices("abcdefghij%20é", k=8))

    methods = ["GET", "PUT", "DELETE", "PATCH", "HEAD"]
    shapes = ["/{}", "/topics/{}", "/topics/{}/partitions", "/consumers/{}", "/consumers/{}/instances/{}", "/v3/{}/{}"]

    async def ask(client: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            path = dice.choice(shapes).format(word(), word())
            headers = {"Authorization": f"Basic {word()}"} if dice.random() < 0.1 else {}
            async with client.request(dice.choice(methods), url + path, headers=headers) as reply:
                await reply.read()

    async with aiohttp.ClientSession() as client:
        await scrape(url)
        for method in methods:  # each kind of reply once
            for shape in shapes:
                for path in (shape, shape.format("a", "b")):
                    await (await client.request(method, url + path)).read()
        await asyncio.gather(*(ask(client, 60) for _ in range(8)))
        before = await scrape(url)
        await asyncio.gather(*(ask(client, 250) for _ in range(8)))
    assert (await scrape(url)).keys() - before.keys() == set()


def test_brokers_stay_with_0_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clients end, and new ones know bootstrap.servers only: an alert on a series that vanishes is none."""
    now = [0.0]
    monkeypatch.setattr("kafka_gateway.kafka.clients.statistics.time.monotonic", lambda: now[0])
    statistics = Statistics(15)

    def tell(client: str, **states: str) -> None:
        nodes = enumerate(states.items(), start=1)
        brokers = {name: {"nodename": f"{name}:9092", "nodeid": n, "state": is_} for n, (name, is_) in nodes}
        brokers["boot"] = {"nodename": "boot:9092", "nodeid": -1, "state": "TRY_CONNECT"}
        statistics.settings("producer")["stats_cb"](json.dumps({"name": client, "brokers": brokers}))

    def up() -> dict[str, bool]:
        return {name: is_up for name, (is_up, _) in statistics.brokers().items()}

    tell("one", a="UP", b="DOWN")
    assert up() == {"a:9092": True, "b:9092": False}
    now[0] = 100.0
    assert up() == {"a:9092": False, "b:9092": False}
    tell("two")
    assert up() == {"a:9092": False, "b:9092": False}
    tell("two", b="UP", c="INIT")
    assert up() == {"b:9092": True, "c:9092": False}


def test_only_so_many_names_have_a_label() -> None:
    traffic = Traffic(Names(2))
    for topic in ("a", "b", "c", "d", "a", "c"):
        traffic.add("http", topic, 10, 100)
    assert dict(traffic.records()) == {("http", "a"): 20, ("http", "b"): 10, ("http", "other"): 30}
    assert dict(traffic.sizes())["http", "other"] == 300


@pytest.mark.timing
async def test_a_scrape_of_ten_thousand_series_does_not_hold_the_loop() -> None:
    """Nor do clients that tell of ten thousand partitions: the most processor time between two turns of the loop."""
    assert await held(full_metrics()) < 0.005


def test_a_partition_that_two_members_tell_of_lags_once() -> None:
    """One of them had it before."""
    statistics = Statistics(15)
    for client, partitions in (("one", {"0": 5, "1": 7}), ("two", {"1": 6, "2": -1})):
        told = {number: {"consumer_lag": lag, "fetchq_cnt": 2, "fetchq_size": 10} for number, lag in partitions.items()}
        statistics.settings("consumer", "g")["stats_cb"](
            json.dumps({"name": client, "msg_cnt": 1, "topics": {"t": {"partitions": told}}})
        )
    assert dict(statistics.lags()) == {("g", "t"): 12}
    assert statistics.queues() == {"consumer": (10, 40)}
