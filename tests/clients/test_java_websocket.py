"""The JDK's WebSocket client on every endpoint that speaks WebSocket: it sends ``Content-Length: 0`` (issue 12, 1)."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.cache import unavailable
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaUnavailableError, find_java

SOURCE = Path(__file__).parent / "java" / "WebSocketClient.java"

API_VERSIONS = "0x" + (b"\0\0\0\x0b" + b"\0\x12\0\0" + b"\0\0\0\x2a" + b"\0\x01j").hex()
"""Kafka's protocol: ApiVersions version 0, correlation id 42, client id ``j``, the Size before it."""

SOCKETS = {  # path: subprotocol, what is sent, what a message then holds
    "/": ("-", '{"id":"1","method":"GET","path":"/topics"}', '["t"]'),
    "/consumers/anywhere?X-Atmosphere-Transport=websocket&X-Atmosphere-tracking-id=0": (
        "-",
        '{"id":"1","method":"GET","path":"/topics"}',
        '["t"]',
    ),
    "/topics/t/stream?format=json&offset=earliest": ("-", "-", '"value":"first"'),
    "/topics/t/stream?format=json&offset=earliest&group=java": ("-", "-", '"value":"first"'),
    "/socket/in?clientId=java&topic=t&valType=json": (
        "-",
        '{"value":{"value":"second","format":"json"},"messageId":"m"}',
        '"messageId":"m"',
    ),
    "/socket/out?clientId=java&groupId=proxied&topic=t&valType=json": ("-", "-", '"value":"first"'),
    "/kafka": ("-", API_VERSIONS, "0000002a0000"),
    "/kafka/brokers/1": ("-", API_VERSIONS, "0000002a0000"),
}


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.timeout(180)
def test_every_endpoint() -> None:
    try:
        java = find_java()
    except KafkaUnavailableError as error:
        unavailable(str(error))
    with GatewayProcess(
        "embedded.topics=t", "transport.websocket.enable=true", "tunnel.enable=true", "embedded.enable=true"
    ) as gateway:
        _produce(gateway.url)
        address = gateway.url.replace("http", "ws", 1)
        arguments = [part for path, more in SOCKETS.items() for part in (address + path, *more)]
        done = subprocess.run([java, str(SOURCE), *arguments], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert dict(zip(SOCKETS, done.stdout.splitlines(), strict=True)) == dict.fromkeys(SOCKETS, "ok")


def _produce(url: str) -> None:
    asked = urllib.request.Request(
        f"{url}/topics/t", b'{"records":[{"value":"first"}]}', {"Content-Type": "application/vnd.kafka.json.v2+json"}
    )
    with urllib.request.urlopen(asked, timeout=20) as reply:
        assert reply.status == 200
