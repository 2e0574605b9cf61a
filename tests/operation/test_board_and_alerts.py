"""The board and the alert rules use names that exist; promtool and a real Prometheus take what is served."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest

from kafka_gateway.assembly.reload import Reload
from kafka_gateway.cluster.node import Node
from kafka_gateway.cluster.ports import Process
from kafka_gateway.services.bridges.metrics import families as of_bridges
from kafka_gateway.services.bridges.replies import BridgesReply
from kafka_gateway.services.instances.lasting import LastingInstances
from kafka_gateway.services.instances.registry import InstanceRegistry
from tests.operation.scraped import OPENMETRICS, Scrape, scrape
from tests.transports.conftest import gateway
from tests.waiting import until

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "share" / "grafana" / "kafka-gateway.json").read_text())
ALERTS = ROOT / "share" / "prometheus" / "alerts.yaml"
PAGE = (ROOT / "docs" / "metrics.md").read_text()
NAME = re.compile(r"kafka_gateway_[a-z_]+")

ALL_ON = {
    "tunnel.enable": True, "transport.websocket.enable": True, "push.pull.enable": True, "push.pull.prefix": "/flasfka",
    "schema.registry.url": "http://127.0.0.1:9", "metrics.kafka.interval.ms": 100,
}  # fmt: skip


async def served() -> dict[str, str]:
    """Every family of a gateway with everything on, by the name of its samples; the kind."""
    async with gateway(**ALL_ON) as app, aiohttp.ClientSession() as client:
        config = app.gateway.config
        Reload(app.gateway, config, lambda: config)
        # As a node of a cluster, which takes a Kafka: it tells of itself from its making on.
        kafka, peers, revive = Mock(), Mock(), Mock()
        node = Node(config, kafka, app.gateway, Process("c", "gw-1/0", ""), peers)
        app.gateway.metrics.add(LastingInstances(InstanceRegistry(config), node.store, revive, 1).families)
        text = await (await client.get(app.addresses[0] + "/metrics")).text()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for each in of_bridges(BridgesReply((), ()), ""):
        kinds[f"kafka_gateway_{each.name}{'_total' if each.kind == 'counter' else ''}"] = each.kind
    # Of several workers, which a gateway alone has not.
    kinds |= {"kafka_gateway_forwarded_total": "counter", "kafka_gateway_held_requests": "gauge"}
    kinds |= {"kafka_gateway_worker_restarts_total": "counter", "kafka_gateway_worker_up": "gauge"}
    found = {}
    for name, kind in kinds.items():
        if kind == "histogram":
            found |= dict.fromkeys((f"{name}_bucket", f"{name}_count", f"{name}_sum"), kind)
        found[name] = kind
    return found


def expressions() -> list[str]:
    board = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    return [*board, ALERTS.read_text(), *(each["query"] for each in BOARD["templating"]["list"])]


async def test_every_name_of_board_and_alerts_exists() -> None:
    names = await served()
    used = {name for text in expressions() for name in NAME.findall(text)}
    assert len(used) > 30
    assert used - names.keys() == set()


async def test_every_metric_is_described_and_no_other() -> None:
    names = {name for name in await served() if name.startswith("kafka_gateway_")}
    names = {re.sub(r"_(bucket|count|sum)$", "", name) if kind == "histogram" else name
             for name, kind in (await served()).items() if name in names}  # fmt: skip
    told = set(NAME.findall(PAGE))
    assert names - told == set()
    assert {name for name in told - names if not any(each.startswith(name) for each in names)} == set()


def test_promtool_takes_the_rules() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("Debian's prometheus is not installed")
    done = subprocess.run([tool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


DO = "kafka-gateway --check FILE names the step that fails."
AWAY_FOR_A_MINUTE = """
rule_files: [{rules}]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {{series: '{name}{{instance="alone"}}', values: "{away}x8"}}
      - {{series: '{name}{{instance="several", worker="0"}}', values: "{there}x8"}}
      - {{series: '{name}{{instance="several", worker="1"}}', values: "{away}x8"}}
      - {{series: '{name}{{instance="well"}}', values: "{there}x8"}}
    alert_rule_test:
      - eval_time: 2m
        alertname: KafkaGatewayNotReady
        exp_alerts:
          - exp_labels: {{severity: critical, instance: alone}}
            exp_annotations: {{summary: alone reaches no broker of Kafka, do: {do}}}
          - exp_labels: {{severity: critical, instance: several}}
            exp_annotations: {{summary: several reaches no broker of Kafka, do: {do}}}
"""


async def test_a_kafka_that_is_away_is_an_alert(tmp_path: Path) -> None:
    """The gauge is always there, also where no client has met a broker."""
    up = "kafka_gateway_kafka_up"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        where = f"127.0.0.1:{unused.getsockname()[1]}"
        async with gateway(**{"bootstrap.servers": where, "embedded.enable": False}) as app:

            async def told() -> Scrape | None:
                found = await scrape(app.addresses[0])
                return None if found.value(up) else found

            found = await until(told)
            assert up in found.names
            away = found.value(up)
    async with gateway() as app:
        there = (await scrape(app.addresses[0])).value(up)
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("Debian's prometheus is not installed")
    file = tmp_path / "test.yaml"
    file.write_text(AWAY_FOR_A_MINUTE.format(do=DO, rules=ALERTS, name=up, away=int(away), there=int(there)))
    command = [tool, "test", "rules", str(file)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_promtool_takes_the_metrics() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("Debian's prometheus is not installed")
    async with gateway(**ALL_ON) as app, aiohttp.ClientSession() as client:
        await (await client.get(app.addresses[0] + "/topics")).read()
        text = await (await client.get(app.addresses[0] + "/metrics")).text()
    done = await asyncio.to_thread(
        subprocess.run, [tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("wsproxy_")]
    assert wrong == []


@pytest.fixture
def prometheus(tmp_path: Path) -> tuple[Path, str]:
    """Where it reads its configuration, and its address; it is started by the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return tmp_path / "prometheus.yml", f"127.0.0.1:{port}"


@pytest.mark.slow
async def test_a_real_prometheus_scrapes_it_and_the_board_can_ask(prometheus: tuple[Path, str]) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Debian's prometheus is not installed")
    file, address = prometheus
    async with gateway(**ALL_ON) as app, aiohttp.ClientSession() as client:
        for _ in range(3):
            await (await client.get(app.addresses[0] + "/topics")).read()
        target = app.addresses[0].removeprefix("http://")
        file.write_text(
            "global: {scrape_interval: 1s}\n"
            f"rule_files: [{ALERTS}]\n"
            f"scrape_configs: [{{job_name: kafka-gateway, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        process = await asyncio.create_subprocess_exec(
            program, f"--config.file={file}", f"--web.listen-address={address}",
            f"--storage.tsdb.path={file.parent / 'data'}",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:

            async def ask(query: str) -> list[object]:
                parameters = {"query": query}
                async with client.get(f"http://{address}/api/v1/query", params=parameters) as reply:
                    told = await reply.json()
                assert told["status"] == "success", (query, told)
                return list(told["data"]["result"])

            async def scraped() -> bool:
                try:
                    return bool(await ask('kafka_gateway_requests_total{route="/topics"} == 3'))
                except (aiohttp.ClientError, AssertionError):
                    return False  # it is starting

            await until(scraped)
            assert await ask('up{job="kafka-gateway"} == 1')
            for text in expressions()[:-2]:
                if text != ALERTS.read_text():
                    await ask(text.replace("$instance", ".*").replace("$__rate_interval", "1m"))
            assert await ask("kafka_gateway_build_info")
        finally:
            process.terminate()
            await process.wait()


async def test_openmetrics_is_what_prometheus_asks_for() -> None:
    async with gateway() as app, aiohttp.ClientSession() as client:
        accept = (
            f"{OPENMETRICS},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )
        reply = await client.get(app.addresses[0] + "/metrics", headers={"Accept": accept})
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
