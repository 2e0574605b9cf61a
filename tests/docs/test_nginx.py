"""The nginx snippet of docs/production.md, run: every way of travel through it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator

import aiohttp
import pytest
from confluent_kafka import Producer

from tests.cache import find_program
from tests.gateway_process import ROOT, GatewayProcess
from tests.tunnel.local_process import LocalProcess, free_range
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/production.md").read_text()


def snippet(language: str) -> str:
    """The first block of that language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]  # type: ignore[index]


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("embedded.topics=orders", "tunnel.enable=true", "tunnel.refresh.ms=1000") as running:
        yield running


@pytest.fixture(scope="module")
def proxy(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an nginx in front of the gateway."""
    nginx = find_program("nginx")
    work = tmp_path_factory.mktemp("nginx")
    port = free_range(1)
    text = snippet("nginx")
    assert "listen 8080;" in text
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    text = text.replace("server 127.0.0.1:8082 ", f"server {gateway.url.partition('://')[2]} ")
    temporary = "\n".join(
        f"{each}_temp_path {work}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {work}/pid; error_log {work}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{ access_log off; {temporary}\n{text} }}\n"
    )
    if (work / "nginx.conf").owner() == "root":
        (work / "nginx.conf").write_text("user root;\n" + (work / "nginx.conf").read_text())
    command = [nginx, "-p", str(work), "-c", str(work / "nginx.conf"), "-e", str(work / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)
    try:
        wait_for(f"http://127.0.0.1:{port}/health/live")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str) -> None:
    def answers() -> bool:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return bool(reply.status == 200)

    wait_until(answers, but=OSError)


def produce(url: str, *values: object) -> dict[str, object]:
    body = json.dumps({"records": [{"value": each} for each in values]}).encode()
    kind = {"Content-Type": "application/vnd.kafka.json.v2+json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/topics/orders", body, kind)) as reply:
        found: dict[str, object] = json.load(reply)
        return found


def test_plain_requests_and_the_base_of_urls(proxy: str) -> None:
    assert "error_code" in json.dumps(produce(proxy, 1))
    kind = {"Content-Type": "application/vnd.kafka.v2+json"}
    made = urllib.request.Request(f"{proxy}/consumers/behind-nginx", b'{"format":"json"}', kind)
    with urllib.request.urlopen(made) as reply:
        assert json.load(reply)["base_uri"].startswith(f"{proxy}/consumers/behind-nginx/")


async def test_events_leave_as_they_come(proxy: str) -> None:
    url = f"{proxy}/topics/orders/stream?format=json&offset=latest"
    async with aiohttp.ClientSession() as client, client.get(url, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        while b"event: ready" not in await stream.content.readline():
            pass
        async with client.post(
            f"{proxy}/topics/orders", data=b'{"records":[{"value":"through nginx"}]}',
            headers={"Content-Type": "application/vnd.kafka.json.v2+json"},
        ) as reply:  # fmt: skip
            assert reply.status == 200
        while b"through nginx" not in await stream.content.readline():  # and the stream goes on: nothing was held back
            pass


async def test_envelopes_over_a_websocket(proxy: str) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(proxy) as socket:
        await socket.send_str('{"id":"1","method":"GET","path":"/topics"}')
        answer = (await socket.receive_str(timeout=10)).partition("}")
        assert '"code":200' in answer[0]
        assert "orders" in answer[2]


async def test_a_produce_stream_is_answered_while_it_is_sent(proxy: str) -> None:
    """v3: the first report comes before the second record goes."""
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{proxy}/v3/clusters") as reply:
            cluster = (await reply.json())["data"][0]["cluster_id"]
        first = asyncio.Event()

        async def body():  # type: ignore[no-untyped-def]
            yield b'{"value":{"type":"JSON","data":1}}\n'
            async with asyncio.timeout(20):
                await first.wait()
            yield b'{"value":{"type":"JSON","data":2}}\n'

        url = f"{proxy}/v3/clusters/{cluster}/topics/orders/records"
        async with client.post(url, data=body(), headers={"Content-Type": "application/json"}) as reply:
            assert b'"error_code":200' in await reply.content.readline()
            first.set()
            assert b'"error_code":200' in await reply.content.readline()


def test_a_tunnel(proxy: str) -> None:
    with LocalProcess(proxy, "-refresh=1s", nodes=1) as local:
        delivered: list[object] = []
        producer = Producer({"bootstrap.servers": local.bootstrap})
        producer.produce("orders", b"native", on_delivery=lambda error, record: delivered.append(error))
        assert producer.flush(20) == 0
        assert delivered == [None]
