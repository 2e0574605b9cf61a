"""What docs/websocket-proxy.md says, tried out as it is written."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from kafka_gateway.config import load
from kafka_gateway.kafka.clients.property_table import ALLOWED
from tests.contract.test_docs import commands
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster, free_ports
from tests.keys import BUILTIN_KEYS

PAGE = ROOT / "docs" / "websocket-proxy.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROPERTIES = re.findall(r"```properties\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROPERTIES)))
def test_the_properties_load(tmp_path: Path, number: int) -> None:
    file = tmp_path / "page.properties"
    file.write_text(PROPERTIES[number])
    config = load(BUILTIN_KEYS, file)
    admin = [each for each in config.listeners() if each.transports == ("websocket-proxy-admin",)]
    assert [each.port for each in admin] == [9078]


def test_the_keys_that_are_named_exist() -> None:
    names = {key.name for key in BUILTIN_KEYS} | {f"producer.{name}" for name in ALLOWED}
    short = {name.removeprefix("kafka.ws.proxy.") for name in names}
    for part in ("session-handler", "dynamic-config-handler", "server", "producer", "consumer", "metrics", "transport"):
        for name in re.findall(rf"`({part}\.[a-z.-]+[a-z])(?:=[a-z]+)?`", TEXT):
            known = name in names | short or any(each.startswith(name) for each in names | short)
            assert known or "websocket-proxy" in name, name


def test_the_metrics_that_are_named_are_there_and_no_others() -> None:
    source = (ROOT / "services" / "websocket_proxy" / "metrics.py").read_text(encoding="utf-8")
    made = set(re.findall(r'"(wsproxy_[a-z_]+)"', source))
    named = {re.sub(r"_(total|info)$", "", name) for name in re.findall(r"`(wsproxy_[a-z_]+)`", TEXT)}
    assert made == named


@pytest.mark.broker
def test_the_commands_for_the_admin(kafka: KafkaCluster, tmp_path: Path) -> None:
    port, admin = free_ports(2)
    text = PROPERTIES[0].replace("8078", str(port))
    file = tmp_path / "page.properties"
    topics = (
        f"kafka.ws.proxy.session-handler.topic-name=page-{port}",
        f"kafka.ws.proxy.dynamic-config-handler.topic-name=page-dynamic-{port}",
        "kafka.ws.proxy.dynamic-config-handler.enabled=true",
        f"kafka.ws.proxy.server.admin.port={admin}",
    )
    file.write_text(text)
    with GatewayProcess(str(file), *topics, own_port=False, bootstrap=kafka.bootstrap):
        examples = [each for each in commands(PAGE, "curl") if any("9078" in word for word in each)]
        assert len(examples) == 2
        for arguments in examples:
            words = [word.replace(":9078", f":{admin}") for word in arguments]
            done = subprocess.run([*words, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert json.loads(done.stdout) == {"max-connections": 3, "messages-per-second": 50, "producer-id": "meter"}
